//! The protocol of Atoll as pure values, after Amazon's Dynamo (SOSP 2007).
//!
//! Everything that decides about placement, versions, quorums, hints and membership is here, and
//! nothing here does I/O. Events, time and randomness are arguments; effects are results. The
//! services are thin shells that perform the effects; the simulation in `testing` performs them
//! on a simulated network.
//!
//! | module | what it decides |
//! |---|---|
//! | [`id`], [`time`], [`entropy`], [`limits`], [`params`] | the vocabulary |
//! | [`key`] | names of objects and their place in the hash space |
//! | [`clock`], [`codec`] | versions: dots, dotted version vectors, siblings, contexts; their binary forms |
//! | [`actor`], [`replica`] | what one replica does with its record, and under which name it mints |
//! | [`put_memory`] | which puts were applied already |
//! | [`ring`] | who owns which partition, who holds it, in which order nodes are asked |
//! | [`quorum`] | one get or put: whom to ask, when to answer, whom to repair, who stands in |
//! | [`failure_view`] | which peers are reachable, prompt, to be probed |
//! | [`freshness`] | how likely a read is to see a write of a moment ago |
//! | [`handoff`] | when hints are delivered, and when they may go |
//! | [`transfer`], [`reap`] | how partitions change hands; when the dead may be removed |
//! | [`admission`] | how much background work may run |
//! | [`merkle`] | where two replicas differ, and how they become equal again |
//! | [`conditions`], [`versions`] | what clients ask of versions, and what they see of them |
//! | [`membership`], [`cluster_view`] | the history of members, gossip, plans; what everyone works from |
//! | [`routing`] | who coordinates a request; how even the load, how healthy the partitions; who may stop |
//! | [`survey`] | backing up, restoring and verifying everything |
//! | [`wire`] | what travels between processes |
//!
//! Architecture invariants:
//! - no clock, no entropy, no file, no socket, no thread, no hash-map iteration (a lint and a
//!   dependency allow-list hold this);
//! - domain types are not wire types: JSON shapes live in [`wire`], disk shapes in `codec`;
//! - what comes from outside is parsed into a domain type once, at the door.

#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

pub mod actor;
pub mod admission;
pub mod clock;
pub mod cluster_view;
pub mod codec;
pub mod conditions;
pub mod entropy;
pub mod failure_view;
pub mod freshness;
pub mod handoff;
pub mod id;
pub mod key;
pub mod limits;
pub mod membership;
pub mod merkle;
pub mod params;
pub mod put_memory;
pub mod quorum;
pub mod reap;
pub mod replica;
pub mod ring;
pub mod routing;
pub mod survey;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod time;
pub mod transfer;
pub mod versions;
pub mod wire;

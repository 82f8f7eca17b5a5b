//! Movement of partitions (paper section 4.9): how a node comes to hold what the ring gives it, and
//! gives up what it does not need any more, while reads and writes go on.
//!
//! The destination's background worker pulls. It asks who holds the partition (the offer), copies
//! page by page from the least busy holder with a cursor that survives it (the confirmation: what
//! was copied once is not sent twice), then compares with the holders until all agree, and only
//! then the partition is held. The node that loses a partition waits until every owner holds it,
//! compares with each of them, gives it up, waits until requests under way have ended, pushes what
//! came late, and deletes.
//!
//! | module | what it decides |
//! |---|---|
//! | [`inventory`] | what a store holds of each partition, advertises, and has left over |
//! | [`holders`] | who can give a partition, and whose agreement is needed |
//! | [`progress`] | what survives the worker |
//! | [`gain`], [`give_up`] | the steps of one partition in either direction |
//! | [`mover`] | all partitions of a node: bounds, fairness, effects |
//!
//! Architecture invariants:
//! - a partition is held only after agreement with the holders under one ring (I-22);
//! - a copy is deleted only after every owner holds the partition and agreed (I-23);
//! - copying is an optimization: whatever a lost cursor, a dead source or a replaced store leaves
//!   out is found by the comparison;
//! - stale copies are harmless: nothing dead is removed anywhere while a differing copy exists
//!   ([`crate::reap`]), so what is left over may simply be brought up to date when the node is to
//!   have the partition again.
//!
//! Not here: requests, files, how two stores are compared ([`crate::merkle::exchange`]).

pub mod gain;
pub mod give_up;
pub mod holders;
pub mod inventory;
pub mod mover;
pub mod progress;
pub mod retry;

pub use inventory::{Adopted, Inventory, InventoryError, ParseInventoryError};
pub use mover::{AcceptLossError, MoveEffect, MoveEvent, Mover, Ticket};
pub use progress::{Progress, ProgressError};

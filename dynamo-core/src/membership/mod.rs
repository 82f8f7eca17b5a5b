//! Who belongs to the ring, and how all nodes come to agree on it (paper sections 4.8.1, 4.8.2).
//!
//! | module | what |
//! |---|---|
//! | [`member`] | names, zones, weights, addresses and status of a node |
//! | [`history`] | the grow-only, mergeable set of membership changes |
//! | [`fold`] | from the history to members and ring |
//! | [`state`] | what each node says about itself: address, incarnation, what it holds |
//! | [`registers`] | bucket properties and staged changes: last writer wins |
//! | [`buckets`] | bucket properties as an administrator sets them |
//! | [`view`], [`judge`] | all of it together, as one agent knows it; what is let in |
//! | [`stage`](mod@stage), [`plan`](mod@plan) | stage, plan, commit |
//! | [`auto_join`](mod@auto_join) | joining without an administrator, once |
//! | [`gossip`] | how two agents reconcile what they know |
//!
//! Invariants:
//! - changes are explicit: no failure, timeout or restart changes membership; a new node joins by
//!   itself only where it was configured to;
//! - merging is commutative, associative and idempotent, so the order of messages is irrelevant;
//! - equal histories give equal rings, on every node and in every process;
//! - nobody says of another node that it is up or down.
//!
//! Not here: files and sockets (membership-svc), and who can be reached (every process judges that
//! for itself).

pub mod auto_join;
pub mod buckets;
pub mod fold;
pub mod gossip;
pub mod history;
pub mod judge;
pub mod member;
pub mod plan;
mod reconcile;
pub mod registers;
pub mod stage;
pub mod state;
pub mod view;

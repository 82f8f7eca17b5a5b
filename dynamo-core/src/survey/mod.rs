//! Work on everything that a cluster stores: the joint page of a backup, where a restored record
//! has to go, the comparison of a verification. Each is a pure function of what several nodes
//! answered; who asks them, and how often, is the shell's business.
//!
//! Not here: finding differences cheaply and mending them, which is [`crate::merkle`].

pub mod compare;
pub mod page;
pub mod spread;

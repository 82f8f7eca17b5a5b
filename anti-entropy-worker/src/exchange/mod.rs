//! Comparing the local store with the other replicas of what it holds, and repairing what differs
//! (paper section 4.7).
//!
//! Both ends of a pair drive comparisons, each at half the rate: a pair is compared once per
//! interval, also while the worker of one end is away, and both ends know when they last agreed.
//! A comparison that was cut off left nothing behind: the next one finds by the digests where to go
//! on.
//!
//! | module | noun |
//! |---|---|
//! | [`run`](mod@run) | one comparison: performing the effects of [`dynamo_core::merkle::exchange`] |
//! | [`schedule`] | whose turn it is |
//! | [`rounds`] | the comparisons of this node, in their turns |
//! | [`repairs`] | comparisons that somebody asked for |
//! | [`agreement`] | when what was last found equal |

pub mod agreement;
pub mod repairs;
pub mod rounds;
pub mod run;
pub mod schedule;

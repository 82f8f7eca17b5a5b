//! The storage nodes, the local one among them, as the worker sees them.
//!
//! | module | noun |
//! |---|---|
//! | [`reach`] | who answers, judged from this process's own traffic |
//! | [`call`] | one call: address, headers, waiting for admission, failures |
//! | [`stores`] | the calls that there are, with their messages |

pub mod call;
pub mod reach;
pub mod stores;

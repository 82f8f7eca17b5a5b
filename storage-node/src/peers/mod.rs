//! The other storage nodes: sending them replica operations, and judging whether they are there.
//!
//! | module | what |
//! |---|---|
//! | [`sender`] | operations for one peer, many in one message |
//! | [`health`] | the failure view of this process |
//! | [`times`] | how long the peers took lately, for operators |
//! | [`probe`] | asking peers that are not trusted, out of band |

pub mod health;
pub mod probe;
pub mod sender;
pub mod times;

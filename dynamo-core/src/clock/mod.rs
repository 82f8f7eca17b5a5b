//! Versions: what was written, what was seen, and which of two records knows more.
//!
//! | module | what |
//! |---|---|
//! | [`dot`] | the name of one write event |
//! | [`dvv`] | a set of write events: version vector plus loose dots |
//! | [`record`] | clock and siblings of one key, and their join |
//! | [`hlc`] | hybrid timestamps for last-write-wins |
//! | [`context`] | the opaque, authenticated token that clients carry |
//! | [`digest`] | canonical digests of records and version sets |
//! | [`truncate`] | keeping clocks short without losing causality |
//! | [`twin`] | two versions of one put |

pub mod context;
pub mod digest;
pub mod dot;
pub mod dvv;
pub mod hlc;
pub mod record;
pub mod truncate;
pub mod twin;

//! `atoll load`: one object per line of an ndjson file.
//!
//! | module | noun |
//! |---|---|
//! | [`args`] | what can be typed |
//! | [`mod@line`] | one line: its number, its bytes, its key |
//! | [`run`](mod@run) | reading, storing, counting |
//!
//! Nothing is skipped silently: every line is stored, or is an error with its number, or is blank
//! and counted as blank.

pub mod args;
pub mod line;
mod run;

pub(crate) use run::run;

//! Backups: one archive file per partition with all records, all versions and clocks, and a
//! manifest that is written last. Made while the cluster serves, and merged back while it serves.
//!
//! | module | noun |
//! |---|---|
//! | [`mod@format`] | one archive file |
//! | [`manifest`] | what belongs to a backup, and its checksums |
//! | `backup`, `restore` | the commands |
//! | `journal` | how far a restore has come |
//!
//! What is restored is joined with what is there: a version that was superseded meanwhile stays
//! superseded, and two that are concurrent are siblings. So restoring twice changes nothing, and an
//! interrupted restore is simply run again. Keys find their place anew: the cluster may have other
//! members and another number of partitions.

pub(crate) mod backup;
pub mod format;
mod journal;
pub mod manifest;
pub(crate) mod restore;

/// Partitions that are read or written at once.
const CONCURRENCY_DEFAULT: u16 = 4;

/// Most partitions at once that can be asked for: background work is shared out by the slice, and
/// more would only wait.
const CONCURRENCY_MAX: i64 = 64;

//! Options of `atoll load`.

use std::path::PathBuf;

use atoll_client::{Durability, WriteQuorum};
use clap::Args;

/// Stores one object per line of an ndjson file: the line's bytes as they are, under the key in
/// one of its fields. A line stored again, by another run, is recognised and stored once.
#[derive(Debug, Args)]
pub struct Load {
    /// The file, or - for stdin.
    pub file: PathBuf,
    /// Bucket to store into.
    #[arg(long)]
    pub bucket: String,
    /// Field of each object that is its key: a string or a number.
    #[arg(long, value_name = "FIELD")]
    pub key: String,
    /// Puts in flight.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub concurrency: u16,
    /// Acknowledgements to wait for: a number, any, one, quorum or all.
    #[arg(long)]
    pub w: Option<WriteQuorum>,
    /// What an acknowledgement must have survived: fsync or buffered.
    #[arg(long)]
    pub durability: Option<Durability>,
    /// Read each object first, and supersede what is there. Otherwise a line under a key that is
    /// taken becomes a concurrent version.
    #[arg(long)]
    pub replace: bool,
    /// Go on after a line that is invalid or cannot be stored.
    #[arg(long)]
    pub keep_going: bool,
    /// First line to store, for going on where an earlier run stopped.
    #[arg(long, value_name = "LINE", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub start_line: u64,
}

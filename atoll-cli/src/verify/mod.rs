//! `atoll verify`: every replica of everything, listed by its node from the records themselves and
//! compared with the others. What differs is looked at again after a while, as a write may be under
//! way, and only what stays different is reported.

mod listing;
mod run;

use clap::Args;

pub(crate) use run::run;

/// Reads all replicas of everything and reports those that differ. Exit code 1 where any do, 75
/// where not every replica could be read.
#[derive(Debug, Args)]
pub struct Verify {
    /// Only this bucket.
    #[arg(long, conflicts_with = "quick")]
    pub bucket: Option<String>,
    /// Compare the roots of the Merkle trees only: quick, and blind to what a tree does not know.
    #[arg(long)]
    pub quick: bool,
    /// Partitions compared at once.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub concurrency: u16,
}

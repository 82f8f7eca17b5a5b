//! The command line of the worker.

use std::path::PathBuf;
use std::process::ExitCode;

use service_kit::config::Override;
use service_kit::launch::{self, CommonFlags};

use crate::service::WorkerService;

/// Compares replicas, repairs them, and moves partitions to their owners.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: CommonFlags,
    /// Directory of the progress of transfers
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Membership agent of this host
    #[arg(long, value_name = "HOST:PORT")]
    membership: Option<String>,
    /// Storage node of this host
    #[arg(long, value_name = "HOST:PORT")]
    storage: Option<String>,
}

/// Runs the service until it is told to stop.
#[must_use]
pub fn main(args: Args) -> ExitCode {
    let named = [
        ("data_dir", args.data_dir.map(|path| path.display().to_string())),
        ("membership", args.membership),
        ("storage", args.storage),
    ];
    let overrides = named
        .into_iter()
        .filter_map(|(key, value)| value.map(|value| Override::new(key, value)))
        .collect();
    launch::run::<WorkerService>(&args.common, overrides)
}

//! The command line of the storage node.

use std::path::PathBuf;
use std::process::ExitCode;

use service_kit::config::Override;
use service_kit::launch::{self, CommonFlags};

use crate::service::StorageService;

/// Stores replicas, coordinates requests and hands hints off.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: CommonFlags,
    /// Directory of the data
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Membership agent of this host
    #[arg(long, value_name = "HOST:PORT")]
    membership: Option<String>,
    /// File with the secret that all nodes of the cluster share
    #[arg(long, value_name = "FILE")]
    cluster_secret_file: Option<PathBuf>,
}

/// Runs the service until it is told to stop.
#[must_use]
pub fn main(args: Args) -> ExitCode {
    let path = |path: PathBuf| path.display().to_string();
    let named = [
        ("data_dir", args.data_dir.map(path)),
        ("membership", args.membership),
        ("cluster_secret_file", args.cluster_secret_file.map(path)),
    ];
    let overrides = named
        .into_iter()
        .filter_map(|(key, value)| value.map(|value| Override::new(key, value)))
        .collect();
    launch::run::<StorageService>(&args.common, overrides)
}

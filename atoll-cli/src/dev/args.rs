//! Options of `atoll dev`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

/// Hosts of one development cluster; more than that many processes serve nobody on one machine.
pub const HOSTS_MAX: u16 = 20;

/// Ports that one host takes.
pub const PORTS_PER_HOST: u16 = 100;

/// Starts a cluster on this machine and keeps it running until Ctrl-C: for each host its real
/// processes, which keep their data. Everything listens on loopback only.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Dev {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    #[command(subcommand)]
    pub(crate) action: Option<Action>,
}

/// The cluster to run.
#[derive(Debug, Clone, Args)]
pub struct ClusterArgs {
    /// Number of hosts [default: 3, or those of the data].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=i64::from(HOSTS_MAX)))]
    pub hosts: Option<u16>,
    /// Port of the first host's router; host K has the next 100 ports times K-1 [default: 7700, or
    /// that of the data].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1024..=60000))]
    pub base_port: Option<u16>,
    /// Directory of the cluster.
    #[arg(long, value_name = "DIR", default_value = ".atoll-dev")]
    pub data: PathBuf,
    /// With everything that protects a cluster: API keys, signed messages between hosts, and TLS. For
    /// the life of the directory's cluster.
    #[arg(long)]
    pub secure: bool,
    /// Delete the directory's cluster first.
    #[arg(long)]
    pub fresh: bool,
}

/// Acts on a cluster that `atoll dev` runs.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Stop a host
    Stop(StopArgs),
    /// Start a stopped host
    Start(HostArgs),
    /// Freeze a host: it keeps its connections and says nothing
    Pause(HostArgs),
    /// Wake a frozen host
    Resume(HostArgs),
    /// Start one host more, for `atoll stage join`
    AddHost(DataArgs),
    /// List hosts and processes
    List(DataArgs),
}

/// The cluster to act on.
#[derive(Debug, Clone, Args)]
pub struct DataArgs {
    /// Directory of the cluster.
    #[arg(long, value_name = "DIR", default_value = ".atoll-dev")]
    pub data: PathBuf,
}

/// The host to act on.
#[derive(Debug, Clone, Args)]
pub struct HostArgs {
    /// Number of the host, from 1.
    pub host: u16,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Only this process of the host.
    #[arg(long)]
    pub service: Option<Service>,
}

/// The host to stop.
#[derive(Debug, Clone, Args)]
pub struct StopArgs {
    #[command(flatten)]
    pub(crate) host: HostArgs,
    /// With SIGKILL: nothing is finished, nothing is closed.
    #[arg(long)]
    pub kill: bool,
}

/// The processes of a host.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// The membership agent.
    Membership,
    /// The storage node.
    StorageNode,
    /// The request router.
    Router,
    /// The anti-entropy worker.
    AntiEntropyWorker,
}

impl Service {
    /// All of them, in the order in which they are started.
    pub const ALL: [Self; 4] =
        [Self::Membership, Self::StorageNode, Self::Router, Self::AntiEntropyWorker];

    /// Its subcommand, and its name in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Membership => "membership",
            Self::StorageNode => "storage-node",
            Self::Router => "router",
            Self::AntiEntropyWorker => "anti-entropy-worker",
        }
    }
}

//! What can be typed.

use std::path::PathBuf;

use atoll_client::Mode;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::archive::{backup, restore};
use crate::cmd::membership;
use crate::{cmd, dev, exit, load, verify};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "atoll",
    version,
    about = "Atoll: an always-writeable, eventually consistent key-value store after Amazon's Dynamo",
    after_help = exit::HELP,
    propagate_version = true
)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Router to talk to; give several, and the loss of one goes unnoticed.
    #[arg(
        long = "endpoint",
        value_name = "URL",
        env = "ATOLL_ENDPOINT",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:7700",
        global = true
    )]
    pub endpoints: Vec<String>,

    /// Print JSON instead of tables.
    #[arg(long, global = true)]
    pub json: bool,

    /// Time for one request in milliseconds, retries included.
    #[arg(
        long,
        value_name = "MS",
        env = "ATOLL_TIMEOUT_MS",
        default_value_t = dynamo_core::limits::TIMEOUT_MS_DEFAULT,
        value_parser = clap::value_parser!(u64).range(1..=dynamo_core::limits::TIMEOUT_MS_MAX),
        global = true
    )]
    pub timeout_ms: u64,

    /// Which way requests for objects take.
    #[arg(long, value_enum, default_value_t = Way::Routed, global = true)]
    pub mode: Way,

    /// API key to present.
    #[arg(long, value_name = "KEY", env = "ATOLL_API_KEY", hide_env_values = true, global = true)]
    pub api_key: Option<String>,

    /// PEM file with the CA of https:// endpoints; nobody else is believed.
    #[arg(long, value_name = "FILE", env = "ATOLL_CA_FILE", global = true)]
    pub ca: Option<PathBuf>,
}

/// Which way requests for objects take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// Through a router.
    Routed,
    /// Straight to a node of the object's preference list.
    PartitionAware,
    /// Gets from the replicas themselves, puts as partition-aware.
    ClientDriven,
}

impl From<Way> for Mode {
    fn from(way: Way) -> Self {
        match way {
            Way::Routed => Self::Routed,
            Way::PartitionAware => Self::PartitionAware,
            Way::ClientDriven => Self::ClientDriven,
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a cluster on this machine, for development
    Dev(dev::args::Dev),

    /// Print an object's bytes
    Get(cmd::get::Get),
    /// Store an object
    Put(cmd::put::Put),
    /// Delete an object
    Delete(cmd::delete::Delete),
    /// Store one object per line of an ndjson file
    Load(load::args::Load),

    /// Members and their states
    Status,
    /// The ring: who owns how many partitions
    Ring(cmd::ring::Ring),
    /// Where an object belongs, and what each replica has
    Explain(cmd::explain::Explain),
    /// Stage a change of the membership, or drop what is staged
    #[command(subcommand)]
    Stage(cmd::stage::Stage),
    /// What committing the staged changes would do
    Plan,
    /// Commit the staged changes
    Commit(cmd::commit::Commit),
    /// Whether every partition can be read and written
    Health(cmd::health::Health),
    /// Hints that wait for delivery
    Hints(cmd::hints::Hints),
    /// Partitions on the move
    Transfers(cmd::transfers::Transfers),
    /// How far the replicas have been compared
    AntiEntropy,
    /// How the nodes see each other: which host is slow
    Peers,
    /// Compare all replicas now, and make them equal
    Repair(cmd::repair::Repair),
    /// Read all replicas of everything, and report those that differ
    Verify(verify::Verify),
    /// Write everything into a directory
    Backup(backup::Backup),
    /// Merge a backup into the cluster
    Restore(restore::Restore),
    /// Whether a node may stop without harm
    SafeToStop(cmd::safe_to_stop::SafeToStop),
    /// A running node joins: stage, plan and commit in one
    Join(membership::join::Join),
    /// A member leaves: stage, plan and commit in one
    Leave(membership::leave::Leave),
    /// A node takes the place of a member: stage, plan and commit in one
    Replace(membership::replace::Replace),
    /// Several members leave at once
    Decommission(membership::decommission::Decommission),
    /// Test a cluster with one key, from its client's side
    Smoke(cmd::smoke::Smoke),
    /// What the logs of the processes tell
    LogLevel(cmd::log_level::LogLevel),
    /// Properties of buckets
    #[command(subcommand)]
    Bucket(cmd::bucket::BucketCommand),

    /// API keys of clients, in a file that routers read
    #[command(subcommand)]
    Keys(cmd::keys::Keys),

    /// The log of changes that a router keeps
    #[command(subcommand)]
    Audit(cmd::audit::Audit),

    /// Measure a cluster
    Bench(cmd::bench::Bench),

    /// Run a request router
    Router(cmd::service::Router),
    /// Run a storage node
    StorageNode(cmd::service::StorageNode),
    /// Run a membership agent
    Membership(cmd::service::Membership),
    /// Run an anti-entropy worker
    AntiEntropyWorker(cmd::service::AntiEntropyWorker),

    /// Do nothing until told to stop, for containers
    Idle,
    /// Print a completion script for a shell
    Completions(cmd::completions::Completions),
    /// Print the version
    Version,
}

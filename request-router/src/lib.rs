//! The stateless, partition-aware front door of Atoll.
//!
//! A client request is parsed and checked here, sent once to a node that may coordinate it, and
//! the coordinator's answer is put into the HTTP that the API promises. The router owns no data:
//! any router serves any request, and losing one loses nothing.
//!
//! | module | what it does |
//! |---|---|
//! | [`request`] | bytes of a request to checked values |
//! | [`dispatch`], [`balance`], [`hedge_budget`], [`probe`] | the hop to a coordinator |
//! | [`answer`] | a coordinator's answer to bytes for the client |
//! | [`guard`], [`audit`] | API keys and what each route needs; the log of changes |
//! | [`api`], [`routes`], [`openapi`] | the routes and their description |
//! | [`console`] | the web console |
//! | [`agent`], [`fan_out`], [`merge`] | the membership agent, all nodes at once, records put back |
//! | [`stats`] | what clients experienced lately |
//! | [`ring_view`], [`state`], [`service`], [`config`] | what requests share, and how it starts |
//!
//! Architecture invariants:
//! - nothing here decides about replication, versions or ownership: who may coordinate, and in
//!   which order, is [`dynamo_core::routing`];
//! - a refusal with a 4xx was decided before anything was sent, or by a coordinator that did
//!   nothing;
//! - what one of our processes says to another never reaches a client unread.

pub mod agent;
pub mod answer;
pub mod api;
pub mod audit;
pub mod balance;
pub mod config;
pub mod console;
pub mod dispatch;
pub mod fan_out;
pub mod guard;
pub mod hedge_budget;
pub mod limits;
pub mod merge;
pub mod metrics;
pub mod openapi;
pub mod probe;
pub mod request;
pub mod ring_view;
pub mod routes;
pub mod service;
pub mod state;
pub mod stats;

use std::path::PathBuf;
use std::process::ExitCode;

use service_kit::config::Override;
use service_kit::launch::{self, CommonFlags};

pub use service::RequestRouter;

/// The flags of the router.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// Those that every service has.
    #[command(flatten)]
    pub common: CommonFlags,
    /// Address of the membership agent of this host
    #[arg(long, value_name = "HOST:PORT")]
    pub membership: Option<String>,
    /// Directory for the last ring seen
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Show clients what each replica answered (for development)
    #[arg(long)]
    pub expose_replicas: bool,
}

/// Runs a router until it is told to stop. 0 after an orderly stop, 78 for refused settings, 1 for
/// everything else.
#[must_use]
pub fn main(args: Args) -> ExitCode {
    let named = [
        ("membership", args.membership),
        ("data_dir", args.data_dir.map(|dir| dir.display().to_string())),
        ("expose_replicas", args.expose_replicas.then(|| "true".to_owned())),
    ];
    let extra = named
        .into_iter()
        .filter_map(|(key, value)| value.map(|value| Override::new(key, value)))
        .collect();
    launch::run::<RequestRouter>(&args.common, extra)
}

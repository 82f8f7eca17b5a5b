//! Start and stop of the agent.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use dynamo_core::entropy::Entropy;
use dynamo_core::id::NodeId;
use dynamo_core::membership::state::{NodeState, Stamp};
use dynamo_core::membership::view::Membership;
use service_kit::config::Override;
use service_kit::http::server::ServerLimits;
use service_kit::launch::{self, CommonFlags, Listeners, RunError, Service, ServiceContext};
use service_kit::peer::{PeerIdentity, ProcessRole};

use crate::agent::{Agent, Parts};
use crate::api;
use crate::config::Config;
use crate::gossip;
use crate::join;
use crate::metrics::Metrics;
use crate::seeds::Seeds;
use crate::store::{Identity, Store, StoreError};

/// Flags of the process and of the subcommand.
#[derive(Debug, Clone, Default, clap::Parser)]
#[command(name = "membership-svc", about = "The gossiping membership agent of an Atoll host")]
pub struct Args {
    #[command(flatten)]
    common: CommonFlags,
    /// Directory of the agent's file
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Name of this node
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Failure domain of this node
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// Addresses of seeds, separated by commas
    #[arg(long, value_name = "HOST:PORT,…")]
    seeds: Option<String>,
    /// DNS name and port whose addresses are seeds
    #[arg(long, value_name = "NAME:PORT")]
    seed_dns: Option<String>,
}

impl Args {
    fn overrides(&self) -> Vec<Override> {
        [
            ("data_dir", &self.data_dir),
            ("name", &self.name),
            ("zone", &self.zone),
            ("seeds", &self.seeds),
            ("seed_dns", &self.seed_dns),
        ]
        .into_iter()
        .filter_map(|(key, value)| value.as_ref().map(|value| Override::new(key, value)))
        .collect()
    }
}

/// Runs the process to its end.
pub fn main(args: Args) -> ExitCode {
    launch::run::<MembershipService>(&args.common, args.overrides())
}

/// The agent as a service.
#[derive(Debug, Clone, Copy)]
pub struct MembershipService;

impl Service for MembershipService {
    type Config = Config;
    const NAME: &'static str = "membership-svc";

    async fn run(context: ServiceContext<Config>) -> Result<(), RunError> {
        let listeners = context.bind()?;
        run(context, listeners).await
    }
}

/// Serves on `listeners` until the stop. The data directory is free when it returns.
///
/// # Errors
/// A data directory that cannot be used, or a listener that cannot be served.
pub async fn run(context: ServiceContext<Config>, listeners: Listeners) -> Result<(), RunError> {
    let config = Arc::clone(&context.config);
    let advertised = listeners.api_addr().to_string();
    let opened = {
        let (config, mut entropy) = (Arc::clone(&config), context.entropy);
        tokio::task::spawn_blocking(move || {
            Store::open(&config.data_dir, || NodeId::random(&mut entropy))
        })
    };
    let (store, identity, everything) = opened
        .await
        .map_err(|error| RunError::Failed(format!("opening the data directory: {error}")))?
        .map_err(|error| refused(&error))?;
    let mut me = first_state(&config, identity, &advertised, &mut context.entropy.clone());
    // The storage node may be running all along: what it reported last holds until it reports
    // again, so that the restart of this process is no news about it.
    me.store = everything
        .states
        .iter()
        .find(|state| state.node == me.node)
        .and_then(|state| state.store.clone());
    let mut view = Membership::new(me, context.clock.mono());
    view.apply(everything, context.clock.mono())
        .map_err(|error| RunError::Failed(format!("membership database: {error}")))?;
    let peer_identity = PeerIdentity::new(
        identity.node_id,
        identity.incarnation,
        ProcessRole::Membership,
        view.cluster(),
    )
    .proven_by(context.peer_auth.clone());
    tracing::info!(
        node = %identity.node_id,
        incarnation = identity.incarnation.0,
        ring = %view.version(),
        "membership agent starts"
    );
    let client = context.peer_client(peer_identity.clone());
    let gate = context.peer_gate(peer_identity.clone())?;
    let agent = Agent::new(Parts {
        view,
        store,
        founding: config.founding.params()?,
        identity: peer_identity,
        readiness: context.readiness.clone(),
        metrics: Metrics::register(&context.registry)?,
        clock: context.clock.clone(),
    });
    let gossiping = tokio::spawn(gossip::run(
        Arc::clone(&agent),
        client,
        Seeds::new(config.seeds.clone(), &config.seed_dns),
        Duration::from_millis(config.gossip_interval_ms),
        context.shutdown.clone(),
    ));
    let joining = config.join.auto.then(|| {
        let founders = config.join.founders.clone();
        tokio::spawn(join::run(Arc::clone(&agent), founders, context.shutdown.clone()))
    });
    let routes = api::router(Arc::clone(&agent), &gate, &context)?;
    let served = context.serve_pair(listeners, routes, ServerLimits::peer()).await;
    context.shutdown.request();
    for (task, name) in [(joining, "joining"), (Some(gossiping), "gossip")] {
        let Some(task) = task else { continue };
        if let Err(error) = task.await {
            tracing::error!(%error, name, "a task ended abnormally");
        }
    }
    agent.close().await;
    served
}

/// What this node says of itself in its new life. Its state of the last life, which is on the
/// disk, is older and does not replace it.
fn first_state(
    config: &Config,
    identity: Identity,
    listen: &str,
    entropy: &mut impl Entropy,
) -> NodeState {
    let name = if config.name.is_empty() {
        let id = identity.node_id.to_string();
        format!("node-{}", id.get(..8).unwrap_or(&id))
    } else {
        config.name.clone()
    };
    NodeState {
        node: identity.node_id,
        stamp: Stamp { incarnation: identity.incarnation, life: entropy.next_u64(), version: 1 },
        name,
        zone: config.zone(),
        weight: config.weight,
        addresses: config.addresses(listen),
        store: None,
    }
}

fn refused(error: &StoreError) -> RunError {
    match error.as_invalid() {
        Some(invalid) => RunError::Config(invalid),
        None => RunError::Failed(error.to_string()),
    }
}

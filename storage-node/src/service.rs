//! The life of the process: who am I, open the data, serve, drain, close in order.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use dynamo_core::clock::context::ContextKeys;
use dynamo_core::cluster_view::ClusterView;
use dynamo_core::id::{Incarnation, NodeId};
use dynamo_core::wire::ring::RING_PATH;
use service_kit::config::{Invalid, Secret};
use service_kit::datadir::create_private_dir;
use service_kit::http::server::ServerLimits;
use service_kit::launch::{Listeners, RunError, Service, ServiceContext};
use service_kit::peer::gate::PeerGate;
use service_kit::peer::{PeerClient, PeerConfig, PeerIdentity, ProcessRole};
use service_kit::readiness::Readiness;
use service_kit::ring_watch::{RingWatch, RingWatchConfig, RingWatchDeps, RingWatchMetrics};
use service_kit::shutdown::Shutdown;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use crate::cluster::{ClusterError, RING_READY, advertise, follow, learn_node, parse_view};
use crate::config::StorageConfig;
use crate::data_dir::{OpenError, OpenedDir, condemn_records, open_data_dir};
use crate::epoch::EpochKeeper;
use crate::handoff::{self, Handoff};
use crate::limits::READ_REPAIRS_MAX;
use crate::metrics::Metrics;
use crate::node::Node;
use crate::node_file::read_node_file;
use crate::peers::health::PeerHealth;
use crate::peers::probe::Prober;
use crate::peers::sender::Peers;
use crate::store::Store;
use crate::store::hints::{HintCaps, HintStore};
use crate::store::writer::StoreState;

/// The readiness condition: the store takes writes.
pub const STORE_READY: &str = "store";

/// File in the data directory with the last ring that was seen.
pub const RING_CACHE_FILE: &str = "ring.json";

type Context = ServiceContext<StorageConfig>;

/// The storage node as a service.
#[derive(Debug)]
pub struct StorageService;

impl Service for StorageService {
    type Config = StorageConfig;
    const NAME: &'static str = "storage-node";

    fn run(context: Context) -> impl Future<Output = Result<(), RunError>> + Send {
        run(context, |_| {})
    }
}

/// Runs until the stop. `on_bound` learns where it listens.
///
/// # Errors
/// [`RunError`]; a data directory that is not ours is a configuration error.
pub async fn run(
    context: Context,
    on_bound: impl FnOnce(&Listeners) + Send,
) -> Result<(), RunError> {
    context.readiness.require(RING_READY);
    context.readiness.require(STORE_READY);
    let secrets = context.config.secrets()?;
    let contexts = ContextKeys::derive(secrets.iter().map(Secret::expose))
        .ok_or_else(|| Invalid::new("cluster_secret", "not set"))?;
    let data_dir = context.config.data_dir.clone();
    create_private_dir(&data_dir)
        .map_err(|error| RunError::io(data_dir.display().to_string(), error))?;
    let Some(me) = identity_of(&context).await? else { return Ok(()) };
    let settings = context.config.store.clone();
    let (now, mut entropy) = (context.clock.wall(), context.entropy);
    let opening = tokio::task::spawn_blocking(move || {
        open_data_dir(&data_dir, me, &settings, now, &mut entropy)
    });
    let opened = opening
        .await
        .map_err(|error| RunError::Failed(format!("opening the data: {error}")))?
        .map_err(|error| open_failure(&error))?;
    let parts = Parts::build(&context, opened, contexts)?;
    parts.serve(&context, on_bound).await
}

/// This host's node: as the data directory says, or, where that is new, as the local agent says.
async fn identity_of(context: &Context) -> Result<Option<NodeId>, RunError> {
    let known = read_node_file(&context.config.data_dir)
        .map_err(|error| open_failure(&OpenError::NodeFile(error)))?;
    if let Some(file) = known {
        return Ok(Some(file.node_id));
    }
    // Nobody yet: the agent is asked under a name that is thrown away.
    let nobody = NodeId::random(&mut context.entropy.clone());
    let identity = PeerIdentity::new(nobody, Incarnation(0), ProcessRole::Storage, None);
    let client = client(context, identity);
    Ok(learn_node(&client, &context.config.membership, &context.shutdown).await)
}

fn client(context: &Context, identity: PeerIdentity) -> PeerClient {
    let metrics = context.peer_metrics.clone();
    PeerClient::new(PeerConfig::default(), identity, context.clock.clone(), metrics)
}

fn open_failure(error: &OpenError) -> RunError {
    if error.is_refusal() {
        RunError::Config(Invalid::new("data_dir", error.to_string()))
    } else {
        RunError::Failed(error.to_string())
    }
}

/// A node with what belongs to its process only.
struct Parts {
    node: Arc<Node>,
    identity: PeerIdentity,
    client: PeerClient,
}

impl Parts {
    fn build(
        context: &Context,
        opened: OpenedDir,
        contexts: ContextKeys,
    ) -> Result<Self, RunError> {
        let config = &context.config;
        let metrics = Metrics::register(&context.registry)?;
        let OpenedDir { file, actor, records, hints, held } = opened;
        let (me, clock) = (file.node_id, context.clock.clone());
        let (epoch, ended) = (metrics.epoch.clone(), metrics.epochs_ended.clone());
        let epochs = Arc::new(EpochKeeper::new(&config.data_dir, actor, file, epoch, ended));
        let store = Store::start(
            records,
            me,
            clock.clone(),
            Arc::clone(&epochs),
            metrics.store.clone(),
            metrics.records_file.clone(),
        )
        .map_err(|error| RunError::io("the store's writer", error))?;
        let caps = HintCaps { hints: config.hints.max, bytes: config.hints.max_bytes };
        let hints = HintStore::start(
            hints,
            caps,
            clock.clone(),
            metrics.hints.clone(),
            metrics.hints_file.clone(),
        )
        .map_err(|error| RunError::io("the hints' writer", error))?;
        let identity =
            PeerIdentity::new(me, file.incarnation, ProcessRole::Storage, file.cluster_id);
        let client = client(context, identity.clone());
        let view: Arc<ArcSwapOption<ClusterView>> = Arc::default();
        let health = Arc::new(PeerHealth::new(metrics.peers.clone()));
        let peers = Peers::new(
            client.clone(),
            clock.clone(),
            Arc::clone(&view),
            Arc::clone(&health),
            metrics.peers.clone(),
        );
        metrics
            .partitions_held
            .set(held.as_ref().map_or(0, |held| i64::try_from(held.len()).unwrap_or(i64::MAX)));
        let node = Arc::new(Node {
            me,
            clock,
            view,
            held: ArcSwapOption::from(held.map(Arc::new)),
            store,
            hints,
            epochs,
            contexts,
            peers,
            health,
            handoff: Handoff::default(),
            metrics,
            value_bytes_max: config.limits.value_bytes,
            repairs: Arc::new(Semaphore::new(READ_REPAIRS_MAX)),
            background: TaskTracker::new(),
        });
        Ok(Self { node, identity, client })
    }

    async fn serve(
        self,
        context: &Context,
        on_bound: impl FnOnce(&Listeners) + Send,
    ) -> Result<(), RunError> {
        let Self { node, identity, client } = self;
        let config = &context.config;
        let gate = PeerGate::register(identity.clone(), node.clock.clone(), &context.registry)?;
        let limits = &config.limits;
        let routes = crate::api::router(Arc::clone(&node), gate, limits, &context.registry)?;
        let listeners = context.bind()?;
        on_bound(&listeners);
        // The background stops after the API: what is in flight may still need peers and ring.
        let stop = Shutdown::new();
        let mut tasks = spawn_tasks(context, &node, identity, client, &stop)?;
        let shutdown = context.shutdown.clone();
        let mut failure = None;
        let serving = context.serve_pair(listeners, routes, ServerLimits::peer());
        tokio::pin!(serving);
        let served = loop {
            tokio::select! {
                served = &mut serving => break served,
                Some(ended) = tasks.join_next() => {
                    let ended = ended.unwrap_or_else(|error| {
                        Err(RunError::Failed(format!("a task ended: {error}")))
                    });
                    if let Err(error) = ended {
                        tracing::error!(%error, "stopping");
                        failure.get_or_insert(error);
                        shutdown.request();
                    }
                }
            }
        };
        let drain = Duration::from_millis(config.runtime.drain_timeout_ms);
        close(&node, stop, tasks, drain).await;
        match failure {
            Some(error) => Err(error),
            None => served,
        }
    }
}

/// Starts everything that runs beside the API. A task that fails stops the process.
fn spawn_tasks(
    context: &Context,
    node: &Arc<Node>,
    identity: PeerIdentity,
    client: PeerClient,
    stop: &Shutdown,
) -> Result<JoinSet<Result<(), RunError>>, RunError> {
    let config = &context.config;
    let mut watching = RingWatchConfig::new(vec![config.membership.clone()], RING_PATH);
    watching.cache_file = Some(config.data_dir.join(RING_CACHE_FILE));
    let deps = RingWatchDeps {
        clock: node.clock.clone(),
        metrics: RingWatchMetrics::register(&context.registry)?,
        shutdown: stop.clone(),
    };
    let rings =
        RingWatch::start(watching, client.clone(), deps, parse_view, |view: &ClusterView| {
            view.version().number
        });
    let changed = Arc::new(Notify::new());
    let mut tasks = JoinSet::new();
    let following = follow(
        Arc::clone(node),
        identity,
        rings.subscribe(),
        context.readiness.clone(),
        Arc::clone(&changed),
        stop.clone(),
    );
    tasks.spawn(async move { following.await.map_err(cluster_failure) });
    let telling = advertise(
        Arc::clone(node),
        client.clone(),
        config.membership.clone(),
        changed,
        stop.clone(),
    );
    tasks.spawn(async move { telling.await.map_err(cluster_failure) });
    let prober = Prober {
        client,
        clock: node.clock.clone(),
        view: Arc::clone(&node.view),
        health: Arc::clone(&node.health),
    };
    let probing = prober.run(stop.clone());
    tasks.spawn(async move {
        probing.await;
        Ok(())
    });
    let delivering = handoff::run(Arc::clone(node), stop.clone());
    tasks.spawn(async move {
        delivering.await;
        Ok(())
    });
    let max_age = Duration::from_secs(config.hints.max_age_s);
    let expiring = handoff::run_expiry(Arc::clone(node), max_age, stop.clone());
    tasks.spawn(async move {
        expiring.await;
        Ok(())
    });
    let states = node.store.watch_state();
    let data_dir = config.data_dir.clone();
    tasks.spawn(watch_store(states, data_dir, context.readiness.clone(), stop.clone()));
    Ok(tasks)
}

/// Keeps readiness true to the store, and ends the process when its file is damaged beyond
/// reading: the next start sets the file aside.
async fn watch_store(
    mut states: watch::Receiver<StoreState>,
    data_dir: PathBuf,
    readiness: Readiness,
    stop: Shutdown,
) -> Result<(), RunError> {
    loop {
        let state = *states.borrow_and_update();
        match state {
            StoreState::Healthy => readiness.set(STORE_READY),
            StoreState::Damaged => {
                readiness.clear(STORE_READY, state.as_str());
                condemn_records(&data_dir);
                return Err(RunError::Failed("the store's file is damaged".to_owned()));
            }
            StoreState::ReadOnly | StoreState::Reopening => {
                readiness.clear(STORE_READY, state.as_str());
            }
        }
        match stop.unless_requested(states.changed()).await {
            None | Some(Err(_)) => return Ok(()),
            Some(Ok(())) => {}
        }
    }
}

fn cluster_failure(error: ClusterError) -> RunError {
    match error {
        ClusterError::Foreign(error) => open_failure(&OpenError::NodeFile(error)),
        ClusterError::Fenced(_) => RunError::Failed(error.to_string()),
    }
}

/// Ends what is left of answered requests, stops the tasks, and closes the files. Only when
/// everything acknowledged is known to be on disk does the node file say "clean".
async fn close(
    node: &Arc<Node>,
    stop: Shutdown,
    mut tasks: JoinSet<Result<(), RunError>>,
    drain: Duration,
) {
    node.background.close();
    if tokio::time::timeout(drain, node.background.wait()).await.is_err() {
        tracing::warn!("some replicas were still being written; hints or repair will follow");
    }
    stop.request();
    while tasks.join_next().await.is_some() {}
    let closing = Arc::clone(node);
    let closed = tokio::task::spawn_blocking(move || {
        let hints = closing.hints.close();
        let records = closing.store.close();
        if !hints {
            tracing::warn!("the hint file was not closed in order");
        }
        records && closing.epochs.close_clean().is_ok()
    });
    match closed.await {
        Ok(true) => tracing::info!("the store is closed in order"),
        Ok(false) => tracing::warn!("the store was not closed in order; a new epoch will begin"),
        Err(error) => tracing::error!(%error, "closing the store failed"),
    }
}

//! The life of the process: who am I, open the data, serve, drain, close in order.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use dynamo_core::clock::context::ContextKeys;
use dynamo_core::cluster_view::ClusterView;
use dynamo_core::id::{Incarnation, NodeId};
use dynamo_core::wire::ring::RING_PATH;
use service_kit::audit::AuditLog;
use service_kit::auth::api_keys::ApiKeys;
use service_kit::config::{Invalid, Secret};
use service_kit::datadir::create_private_dir;
use service_kit::http::server::ServerLimits;
use service_kit::launch::{Listeners, RunError, Service, ServiceContext};
use service_kit::peer::{PeerClient, PeerIdentity, ProcessRole};
use service_kit::readiness::Readiness;
use service_kit::ring_watch::{RingWatch, RingWatchConfig, RingWatchDeps, RingWatchMetrics};
use service_kit::shutdown::Shutdown;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use crate::background::load::RecentLoad;
use crate::background::{self, Slices};
use crate::cluster::{ClusterError, RING_READY, advertise, follow, learn_node, parse_view};
use crate::config::{BackgroundSettings, StorageConfig};
use crate::data_dir::{OpenError, OpenedDir, open_data_dir};
use crate::epoch::EpochKeeper;
use crate::freshness::{self, Noted};
use crate::handoff::{self, Handoff};
use crate::limits::{AGENT_RETRY, READ_REPAIRS_MAX, STORE_READY_GRACE};
use crate::metrics::Metrics;
use crate::node::Node;
use crate::node_file::read_node_file;
use crate::peers::health::PeerHealth;
use crate::peers::probe::Prober;
use crate::peers::sender::Peers;
use crate::possession::Possession;
use crate::store::aside::FilePlace;
use crate::store::hints::{HINTS_FILE, HintCaps, HintStore};
use crate::store::space::Space;
use crate::store::writer::Home;
use crate::store::{RECORDS_FILE, Store};

/// The readiness condition: the store answers reads. One that takes no writes, or on a full disk only
/// deletes, does not take its node out of service: it still reads, and coordinators and routers turn
/// to other nodes for writes.
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
    let metrics = Metrics::register(&context.registry)?;
    let (now, mut entropy) = (context.clock.wall(), context.entropy);
    // Opening writes a little, for which the reserve of a full disk is there.
    let (dir, show, mono) = (data_dir.clone(), metrics.space.clone(), context.clock.mono());
    let space = tokio::task::spawn_blocking(move || Arc::new(Space::of_dir(dir, show, mono)));
    let space =
        space.await.map_err(|error| RunError::Failed(format!("looking at the disk: {error}")))?;
    let opening = tokio::task::spawn_blocking(move || {
        open_data_dir(&data_dir, me, &settings, now, &mut entropy)
    });
    let opened = opening
        .await
        .map_err(|error| RunError::Failed(format!("opening the data: {error}")))?
        .map_err(|error| open_failure(&error))?;
    let parts = Parts::build(&context, opened, metrics, &space, contexts)?;
    parts.serve(&context, on_bound).await
}

/// This host's node: as the data directory says, or, where that is new, as the local agent says.
async fn identity_of(context: &Context) -> Result<Option<NodeId>, RunError> {
    let known = read_node_file(&context.config.data_dir)
        .map_err(|error| open_failure(&OpenError::NodeFile(error)))?;
    if let Some(file) = known {
        return Ok(Some(file.node_id));
    }
    // Nobody yet: the agent is asked under a name that is thrown away, and as what may have any.
    let nobody = NodeId::random(&mut context.entropy.clone());
    let identity = PeerIdentity::new(nobody, Incarnation(0), ProcessRole::Router, None)
        .proven_by(context.peer_auth.clone());
    let client = context.peer_client(identity);
    Ok(learn_node(&client, &context.config.membership, &context.shutdown).await)
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
        metrics: Metrics,
        space: &Arc<Space>,
        contexts: ContextKeys,
    ) -> Result<Self, RunError> {
        let config = &context.config;
        let OpenedDir { file, actor, records, hints, inventory } = opened;
        let (me, clock) = (file.node_id, context.clock.clone());
        let (epoch, ended) = (metrics.epoch.clone(), metrics.epochs_ended.clone());
        let epochs = Arc::new(EpochKeeper::new(&config.data_dir, actor, file, epoch, ended));
        let home = |file: &str| {
            let place = FilePlace { path: config.data_dir.join(file), clock: clock.clone() };
            Home::new(place, Arc::clone(space))
        };
        let store = Store::start(
            records,
            home(RECORDS_FILE),
            clock.clone(),
            Arc::clone(&epochs),
            metrics.store.clone(),
            metrics.records_file.clone(),
        )
        .map_err(|error| RunError::io("the store's writer", error))?;
        if !config.store.tree {
            tracing::warn!(
                "the Merkle tree is off: replicas are not compared, nothing is scrubbed"
            );
            store.disable_tree();
        }
        let caps = HintCaps { hints: config.hints.max, bytes: config.hints.max_bytes };
        let hints = HintStore::start(
            hints,
            home(HINTS_FILE),
            caps,
            clock.clone(),
            metrics.hints.clone(),
            metrics.hints_file.clone(),
        )
        .map_err(|error| RunError::io("the hints' writer", error))?;
        let identity =
            PeerIdentity::new(me, file.incarnation, ProcessRole::Storage, file.cluster_id)
                .proven_by(context.peer_auth.clone());
        let client = context.peer_client(identity.clone());
        let view: Arc<ArcSwapOption<ClusterView>> = Arc::default();
        let health = Arc::new(PeerHealth::new(metrics.peers.clone()));
        let peers = Peers::new(
            client.clone(),
            clock.clone(),
            Arc::clone(&view),
            Arc::clone(&health),
            metrics.peers.clone(),
        );
        let (slices, max) = (config.background.slices(), config.background.slices_max);
        let slices = Slices::new(slices, max, clock.clone(), metrics.slices.clone());
        let node = Arc::new(Node {
            me,
            clock,
            view,
            possession: Possession::new(inventory, store.lives()),
            store,
            hints,
            epochs,
            contexts,
            peers,
            health,
            handoff: Handoff::default(),
            noted: Noted::default(),
            metrics,
            value_bytes_max: config.limits.value_bytes,
            repairs: Arc::new(Semaphore::new(READ_REPAIRS_MAX)),
            slices: Arc::new(slices),
            load: RecentLoad::default(),
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
        let gate = context.peer_gate(identity.clone())?;
        let limits = &config.limits;
        let reloads = context.reload_metrics.clone();
        let (auth, clock, registry) = (&config.auth, node.clock.clone(), &context.registry);
        let keys = ApiKeys::of_config(auth, clock, registry, reloads, AuditLog::off())?;
        let routes = crate::api::router(Arc::clone(&node), gate, keys.clone(), limits, registry)?;
        let listeners = context.bind()?;
        on_bound(&listeners);
        // The background stops after the API: what is in flight may still need peers and ring.
        let stop = Shutdown::new();
        let mut tasks = spawn_tasks(context, &node, identity, client, &stop)?;
        if let Some(keys) = keys {
            let following = keys.follow(stop.clone());
            tasks.spawn(async move {
                following.await;
                Ok(())
            });
        }
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
    let changed = Arc::clone(&node.possession.changed);
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
    let estimating = freshness::run(Arc::clone(node), stop.clone());
    tasks.spawn(async move {
        estimating.await;
        Ok(())
    });
    spawn_background(&mut tasks, &config.background, node, stop);
    let watching = watch_store(Arc::clone(node), context.readiness.clone(), stop.clone());
    tasks.spawn(async move {
        watching.await;
        Ok(())
    });
    Ok(tasks)
}

/// Starts the controller of background work, where it is on, the counting of load, and the scrub.
fn spawn_background(
    tasks: &mut JoinSet<Result<(), RunError>>,
    settings: &BackgroundSettings,
    node: &Arc<Node>,
    stop: &Shutdown,
) {
    if settings.controller {
        let run = background::control::run(Arc::clone(node), settings.start(), stop.clone());
        tasks.spawn(async move {
            run.await;
            Ok(())
        });
    }
    let counting = background::load::run(Arc::clone(node), stop.clone());
    tasks.spawn(async move {
        counting.await;
        Ok(())
    });
    let interval = Duration::from_secs(settings.scrub_interval_s);
    let scrubbing = background::scrub::run(Arc::clone(node), interval, stop.clone());
    tasks.spawn(async move {
        scrubbing.await;
        Ok(())
    });
}

/// Keeps readiness true to the store, and after the store began empty sees to it that everybody
/// learns of that: what the node holds is noted anew, and the agent is told at once.
async fn watch_store(node: Arc<Node>, readiness: Readiness, stop: Shutdown) {
    let mut states = node.store.watch_state();
    let mut life = node.store.life();
    loop {
        let state = *states.borrow_and_update();
        if state.serves_reads() {
            readiness.set(STORE_READY);
        }
        if node.store.life() != life {
            node.possession.changed.notify_one();
            if state.takes_writes() {
                life = node.store.life();
                if !hold_anew(&node, &stop).await {
                    return;
                }
            }
        }
        let changed = stop.unless_requested(states.changed());
        let changed = if state.serves_reads() {
            changed.await
        } else {
            match tokio::time::timeout(STORE_READY_GRACE, changed).await {
                Ok(changed) => changed,
                Err(_) => {
                    readiness.clear(STORE_READY, state.as_str());
                    stop.unless_requested(states.changed()).await
                }
            }
        };
        if !matches!(changed, Some(Ok(()))) {
            return;
        }
    }
}

/// Notes that the empty store holds nothing, under the ring in use. False at the stop.
async fn hold_anew(node: &Node, stop: &Shutdown) -> bool {
    let mut told = false;
    // Before a ring is known there is nothing to note; the first one does it.
    while let Some(view) = node.view.load_full() {
        match node.adopt_inventory(&view).await {
            Ok(()) => break,
            Err(error) if !told => {
                told = true;
                tracing::error!(%error, "that the store is empty could not be noted; trying again");
            }
            Err(error) => tracing::debug!(%error, "that the store is empty is still not noted"),
        }
        if stop.unless_requested(tokio::time::sleep(AGENT_RETRY)).await.is_none() {
            return false;
        }
    }
    node.possession.changed.notify_one();
    true
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

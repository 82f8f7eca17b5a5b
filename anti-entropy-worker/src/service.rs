//! The life of the process: who am I, open the progress, follow the ring, work, serve, stop.
//!
//! Everything that the worker does may be cut off anywhere: what is compared leaves nothing behind,
//! and what is moved goes on from its last note. So a stop waits for the API alone.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use dynamo_core::admission::Kind;
use dynamo_core::cluster_view::ClusterView;
use dynamo_core::id::{Incarnation, NodeId};
use dynamo_core::wire::ring::RING_PATH;
use service_kit::http::server::ServerLimits;
use service_kit::launch::{Listeners, RunError, Service, ServiceContext};
use service_kit::peer::{PeerClient, PeerIdentity, ProcessRole};
use service_kit::ring_watch::{RingWatch, RingWatchConfig, RingWatchDeps, RingWatchMetrics};
use service_kit::shutdown::Shutdown;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::agent::{Follower, RING_READY, learn_node, parse_view};
use crate::config::WorkerConfig;
use crate::exchange::rounds::Rounds;
use crate::exchange::run::Runner;
use crate::limits::{FRESH_INTERVALS, SHOW_INTERVAL};
use crate::metrics::Metrics;
use crate::movement::Movement;
use crate::pause::PauseSwitch;
use crate::peers::call::Caller;
use crate::peers::reach::Reach;
use crate::peers::stores::Stores;
use crate::progress::{ProgressError, ProgressFile};
use crate::reaper::Reaper;
use crate::worker::Worker;

/// File in the data directory with the last ring that was seen.
pub const RING_CACHE_FILE: &str = "ring.json";

type Context = ServiceContext<WorkerConfig>;

/// The anti-entropy worker as a service.
#[derive(Debug)]
pub struct WorkerService;

impl Service for WorkerService {
    type Config = WorkerConfig;
    const NAME: &'static str = "anti-entropy-worker";

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
    let listeners = context.bind()?;
    on_bound(&listeners);
    let Some(parts) = Parts::build(&context).await? else { return Ok(()) };
    parts.serve(&context, listeners).await
}

/// A worker with what belongs to its process only.
struct Parts {
    worker: Arc<Worker>,
    client: PeerClient,
    caller: Caller,
    reach: Arc<Reach>,
    progress: Arc<ProgressFile>,
    reaper: Reaper,
}

impl Parts {
    /// `None` where the process is told to stop before it knows who it is.
    async fn build(context: &Context) -> Result<Option<Self>, RunError> {
        let Some((progress, identity)) = identity_of(context).await? else { return Ok(None) };
        let config = &context.config;
        let (me, clock) = (identity.node(), context.clock.clone());
        let metrics = Metrics::register(&context.registry)?;
        let client = context.peer_client(identity.clone());
        let view: Arc<ArcSwapOption<ClusterView>> = Arc::default();
        let wake = Arc::new(Notify::new());
        let reach = Arc::new(Reach::new(Arc::clone(&wake)));
        let caller = Caller::new(
            (me, &config.storage),
            client.clone(),
            clock.clone(),
            Arc::clone(&view),
            Arc::clone(&reach),
            metrics.calls.clone(),
        );
        let pause = PauseSwitch::default();
        let runner = |kind| Runner {
            stores: Stores::new(caller.clone(), kind),
            clock: clock.clone(),
            pause: pause.clone(),
        };
        let rounds = Arc::new(Rounds::new(
            runner(Kind::Exchange),
            Arc::clone(&view),
            metrics.exchanges.clone(),
            wake,
            config.limits.exchanges,
        ));
        let movement = Movement::new(
            runner(Kind::Transfer),
            Arc::clone(&view),
            Arc::clone(&progress),
            metrics.transfers.clone(),
            metrics.exchanges.clone(),
        )
        .map_err(|error| refused(&error))?;
        let reaper = Reaper::new(
            runner(Kind::Reap),
            Arc::clone(&rounds),
            (config.tombstone_grace(), config.exchange_interval() * FRESH_INTERVALS),
            metrics.reap.clone(),
        );
        let worker = Arc::new(Worker {
            me,
            identity,
            clock,
            view,
            pause,
            rounds,
            repairs: Arc::default(),
            movement: Arc::new(movement),
        });
        Ok(Some(Self { worker, client, caller, reach, progress, reaper }))
    }

    async fn serve(self, context: &Context, listeners: Listeners) -> Result<(), RunError> {
        let worker = Arc::clone(&self.worker);
        let gate = context.peer_gate(worker.identity.clone())?;
        let routes = crate::api::router(worker, &gate, &context.registry)?;
        let stop = context.shutdown.child();
        let mut tasks = self.spawn_tasks(context, &stop)?;
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
                        context.shutdown.request();
                    }
                }
            }
        };
        stop.request();
        while tasks.join_next().await.is_some() {}
        match failure {
            Some(error) => Err(error),
            None => served,
        }
    }

    /// Starts everything that runs beside the API. A task that fails stops the process.
    fn spawn_tasks(
        self,
        context: &Context,
        stop: &Shutdown,
    ) -> Result<JoinSet<Result<(), RunError>>, RunError> {
        let Self { worker, client, caller, reach, progress, reaper } = self;
        let config = &context.config;
        let mut watching = RingWatchConfig::new(vec![config.membership.clone()], RING_PATH);
        watching.cache_file = Some(config.data_dir.join(RING_CACHE_FILE));
        let deps = RingWatchDeps {
            clock: worker.clock.clone(),
            metrics: RingWatchMetrics::register(&context.registry)?,
            shutdown: stop.clone(),
        };
        let rings = RingWatch::start(watching, client, deps, parse_view, |view: &ClusterView| {
            view.version().number
        });
        let follower = Follower {
            view: Arc::clone(&worker.view),
            identity: worker.identity.clone(),
            reach,
            progress,
            readiness: context.readiness.clone(),
            changed: Arc::clone(&worker.rounds.wake),
        };
        let mut tasks = JoinSet::new();
        let following = follower.run(rings.subscribe(), stop.clone());
        tasks.spawn(async move { following.await.map_err(|error| refused(&error)) });
        let rounds = Arc::clone(&worker.rounds);
        let repairer =
            Runner { stores: Stores::new(caller.clone(), Kind::Repair), ..rounds.runner.clone() };
        let repairing =
            Arc::clone(&worker.repairs).run(Arc::clone(&rounds), repairer, stop.clone());
        let comparing = rounds.run(config.exchange_interval(), stop.clone());
        let moving =
            Arc::clone(&worker.movement).run(Arc::clone(&worker.rounds.wake), stop.clone());
        let showing = show(worker, stop.clone());
        spawn_forever(&mut tasks, caller.probe(stop.clone()));
        spawn_forever(&mut tasks, repairing);
        spawn_forever(&mut tasks, comparing);
        spawn_forever(&mut tasks, moving);
        spawn_forever(&mut tasks, reaper.run(stop.clone()));
        spawn_forever(&mut tasks, showing);
        Ok(tasks)
    }
}

fn spawn_forever(
    tasks: &mut JoinSet<Result<(), RunError>>,
    task: impl Future<Output = ()> + Send + 'static,
) {
    tasks.spawn(async move {
        task.await;
        Ok(())
    });
}

/// Keeps the metrics that show ages and totals true.
async fn show(worker: Arc<Worker>, stop: Shutdown) {
    while stop.unless_requested(tokio::time::sleep(SHOW_INTERVAL)).await.is_some() {
        worker.rounds.show_ages();
        worker.movement.show();
    }
}

/// This host's node: as the progress file says, or, where that is new, as the local agent says.
async fn identity_of(
    context: &Context,
) -> Result<Option<(Arc<ProgressFile>, PeerIdentity)>, RunError> {
    let directory = context.config.data_dir.clone();
    let opening = tokio::task::spawn_blocking(move || ProgressFile::open(&directory));
    let progress = opening
        .await
        .map_err(|error| RunError::Failed(format!("opening the progress: {error}")))?
        .map_err(|error| refused(&error))?;
    let known = progress.node().map_err(|error| refused(&error))?;
    let me = match known {
        Some(node) => node,
        None => {
            // Nobody yet: the agent is asked under a name that is thrown away, and as what may have
            // any.
            let nobody = NodeId::random(&mut context.entropy.clone());
            let identity = PeerIdentity::new(nobody, Incarnation(0), ProcessRole::Router, None)
                .proven_by(context.peer_auth.clone());
            let client = context.peer_client(identity);
            let agent = &context.config.membership;
            match learn_node(&client, agent, &context.shutdown).await {
                Some(node) => node,
                None => return Ok(None),
            }
        }
    };
    let cluster = progress.cluster().map_err(|error| refused(&error))?;
    // Seconds of the wall clock outrun any number of restarts, also of those that were forgotten
    // with the file.
    let floor = Incarnation(context.clock.wall().0 / 1000);
    let incarnation = progress.begin(me, floor).map_err(|error| refused(&error))?;
    tracing::info!(node = %me, incarnation = incarnation.0, "anti-entropy worker starts");
    let identity = PeerIdentity::new(me, incarnation, ProcessRole::Worker, cluster)
        .proven_by(context.peer_auth.clone());
    Ok(Some((Arc::new(progress), identity)))
}

fn refused(error: &ProgressError) -> RunError {
    match error.as_invalid() {
        Some(invalid) => RunError::Config(invalid),
        None => RunError::Failed(error.to_string()),
    }
}

//! The `main` that all services share: flags, settings, logs, runtime, the service itself, and an
//! orderly end. A service says what its settings are and what runs; the order of start and stop is
//! here.
//!
//! Exit codes: 0 after an orderly stop, 78 for refused settings, 1 for everything else.

mod flags;
mod listeners;

pub use flags::CommonFlags;
pub use listeners::{BaseSettings, Listeners, Protection, RuntimeConfig};

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::auth::reloaded::ReloadMetrics;
use crate::config::{self, ConfigError, EXIT_CONFIG, Invalid, Override, Validate};
use crate::metrics::{self, MetricsError};
use crate::peer::auth::{PeerAuth, PeerAuthConfig};
use crate::peer::gate::PeerGate;
use crate::peer::{PeerClient, PeerConfig, PeerIdentity, PeerMetrics, TcpConnector};
use crate::readiness::Readiness;
use crate::rng::OsEntropy;
use crate::shutdown::Shutdown;
use crate::telemetry::{self, TelemetryConfig};
use crate::time::Clock;
use crate::tls::Tls;
use crate::tls::config::TlsConfig;

/// Time that blocking tasks and leftover tasks get after the service has returned.
const RUNTIME_STOP: Duration = Duration::from_secs(2);

/// Settings of a service. The struct has top-level `listen` and `metrics_listen`, and the tables
/// `[peer_auth]`, `[tls]`, `[runtime]` and `[telemetry]`. These are checked here for every service; its own
/// [`Validate`] checks the rest.
pub trait ServiceConfig:
    Serialize + DeserializeOwned + Default + Validate + Send + Sync + 'static
{
    /// Where it listens.
    fn base(&self) -> BaseSettings<'_>;
    /// The `[peer_auth]` table.
    fn peer_auth(&self) -> &PeerAuthConfig;
    /// The `[tls]` table.
    fn tls(&self) -> &TlsConfig;
    /// The `[runtime]` table.
    fn runtime(&self) -> &RuntimeConfig;
    /// The `[telemetry]` table.
    fn telemetry(&self) -> &TelemetryConfig;
}

/// A service: its settings, its name, and what it runs.
pub trait Service {
    /// Its settings.
    type Config: ServiceConfig;
    /// Its name in logs, metrics and traces.
    const NAME: &'static str;
    /// Runs until `context.shutdown` is requested, and cleans up.
    fn run(
        context: ServiceContext<Self::Config>,
    ) -> impl Future<Output = Result<(), RunError>> + Send;
}

/// Why a service ended otherwise than by an orderly stop.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A setting that only start-up could judge (a foreign data directory, a remote address).
    #[error("{0}")]
    Config(#[from] Invalid),
    /// The operating system refused.
    #[error("{context}: {source}")]
    Io {
        /// What was attempted.
        context: String,
        /// The refusal.
        source: std::io::Error,
    },
    /// A metric could not be registered, a mistake in the program.
    #[error("metrics: {0}")]
    Metrics(#[from] MetricsError),
    /// Anything else, on one line.
    #[error("{0}")]
    Failed(String),
}

impl RunError {
    /// An I/O error with what was attempted.
    #[must_use]
    pub fn io(context: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io { context: context.into(), source }
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => EXIT_CONFIG,
            _ => 1,
        }
    }
}

/// What a service is given.
#[derive(Debug, Clone)]
pub struct ServiceContext<C> {
    /// Its name.
    pub name: &'static str,
    /// Its settings.
    pub config: Arc<C>,
    /// The clock.
    pub clock: Clock,
    /// The entropy.
    pub entropy: OsEntropy,
    /// The registry behind `/metrics`; process and build metrics are in it already.
    pub registry: Registry,
    /// The latch behind `/readyz`, with the condition `listening`.
    pub readiness: Readiness,
    /// The request to stop.
    pub shutdown: Shutdown,
    /// How messages to and from peers are signed, for [`crate::peer::PeerIdentity`].
    pub peer_auth: PeerAuth,
    /// The certificates of the listener and of calls to peers.
    pub tls: Tls,
    /// Metrics for [`crate::auth::reloaded::Reloaded`].
    pub reload_metrics: ReloadMetrics,
    /// Metrics of [`Self::peer_client`].
    pub peer_metrics: PeerMetrics,
}

impl<C: ServiceConfig> ServiceContext<C> {
    /// A context with a registry and latch of its own.
    ///
    /// # Errors
    /// When the keys of peers or the certificates are of no use, or a metric cannot be registered.
    pub fn new(name: &'static str, config: C, shutdown: Shutdown) -> Result<Self, RunError> {
        let registry = Registry::new();
        metrics::register_process(&registry)?;
        metrics::register_build_info(&registry, name)?;
        let insecure = i64::from(config.base().protection.on == Some(false));
        metrics::register_constant(
            &registry,
            "atoll_insecure",
            "1 where the settings say explicitly that nobody is authenticated.",
            insecure,
        )?;
        let (clock, reload_metrics) = (Clock::system(), ReloadMetrics::register(&registry)?);
        let (known, reloads) = (config.peer_auth(), reload_metrics.clone());
        let callers = config.base().callers;
        let tls = Tls::load(config.tls(), callers, &clock, &registry, reloads.clone())?;
        Ok(Self {
            name,
            peer_auth: PeerAuth::load(known, clock.clone(), &registry, reloads)?,
            tls,
            reload_metrics,
            config: Arc::new(config),
            clock,
            entropy: OsEntropy,
            peer_metrics: PeerMetrics::register(&registry)?,
            registry,
            readiness: Readiness::new(&[listeners::LISTENING]),
            shutdown,
        })
    }
}

impl<C> ServiceContext<C> {
    /// A client for calls to peers in the name of `identity`, over TLS where peers speak it.
    #[must_use]
    pub fn peer_client(&self, identity: PeerIdentity) -> PeerClient {
        let connector = TcpConnector::secured_by(self.tls.clone());
        let (clock, metrics) = (self.clock.clone(), self.peer_metrics.clone());
        PeerClient::with_connector(PeerConfig::default(), identity, clock, metrics, connector)
    }

    /// The gate of messages for `identity`, which asks for certificates where peers have them.
    ///
    /// # Errors
    /// When there is one already.
    pub fn peer_gate(&self, identity: PeerIdentity) -> Result<PeerGate, MetricsError> {
        PeerGate::register(identity, &self.tls, self.clock.clone(), &self.registry)
    }
}

/// Runs a service as a process. `extra` are the settings from the service's own flags.
pub fn run<S: Service>(flags: &CommonFlags, extra: Vec<Override>) -> ExitCode {
    let config = match settings::<S::Config>(flags, extra) {
        Ok(config) => config,
        Err(error) => return refuse(S::NAME, &error, EXIT_CONFIG),
    };
    if flags.print_config {
        return print_config(S::NAME, &config);
    }
    let guard = match telemetry::init(config.telemetry(), S::NAME) {
        Ok(guard) => guard,
        Err(error) => return refuse(S::NAME, &error, EXIT_CONFIG),
    };
    let workers = config.runtime().workers();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name(S::NAME)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return refuse(S::NAME, &error, 1),
    };
    let ended = runtime.block_on(async {
        let shutdown = Shutdown::new();
        shutdown.listen_to_signals().map_err(|e| RunError::io("signal handlers", e))?;
        S::run(ServiceContext::new(S::NAME, config, shutdown)?).await
    });
    runtime.shutdown_timeout(RUNTIME_STOP);
    // Outside the runtime: the exporter's client blocks.
    drop(guard);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(S::NAME, &error, error.exit_code()),
    }
}

/// The settings that flags, environment and file give.
///
/// # Errors
/// The first key that is unknown or wrong.
pub fn settings<C: ServiceConfig>(
    flags: &CommonFlags,
    extra: Vec<Override>,
) -> Result<C, ConfigError> {
    let config: C = config::load(&flags.sources(std::env::vars_os(), extra)?)?;
    check_common(&config)?;
    Ok(config)
}

/// What every service has to get right.
fn check_common(config: &impl ServiceConfig) -> Result<(), Invalid> {
    config.telemetry().validate()?;
    config.runtime().validate()?;
    config.peer_auth().validate()?;
    config.tls().validate_for(config.base().callers)?;
    config.base().validate()
}

#[expect(clippy::print_stdout, reason = "this output is what the flag asks for")]
fn print_config(name: &str, config: &impl Serialize) -> ExitCode {
    match config::print_effective(config) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => refuse(name, &error, 1),
    }
}

#[expect(clippy::print_stderr, reason = "a refused start has one line, also without a log")]
fn refuse(name: &str, error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    let line = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    eprintln!("{name}: {line}");
    ExitCode::from(code)
}

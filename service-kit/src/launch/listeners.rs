//! The two listeners of every service, their addresses, and serving both until the stop.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use serde::{Deserialize, Serialize};

use super::{RunError, ServiceConfig, ServiceContext};
use crate::config::checks::within;
use crate::config::{Invalid, Validate};
use crate::datadir::write_atomic;
use crate::http::admin;
use crate::http::server::{BoundListener, HttpServer, ServerLimits, ServerMetrics};
use crate::limits::DRAIN_TIMEOUT_MS;
use crate::shutdown::Shutdown;
use crate::tls::config::Callers;
use crate::tls::{HandshakeMetrics, Handshakes};

/// The condition of readiness that this module owns.
pub(super) const LISTENING: &str = "listening";

/// Most worker threads; more is a mistake.
const WORKER_THREADS_MAX: usize = 256;

/// Longest drain; orchestrators kill earlier.
const DRAIN_TIMEOUT_MS_MAX: u64 = 600_000;

/// The `[runtime]` table of every service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuntimeConfig {
    /// Threads that run tasks; 0 for one per core, at least two.
    pub worker_threads: usize,
    /// Milliseconds that requests in flight get when the process stops.
    pub drain_timeout_ms: u64,
    /// File that receives the bound addresses as JSON.
    pub ports_file: Option<PathBuf>,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self { worker_threads: 0, drain_timeout_ms: DRAIN_TIMEOUT_MS, ports_file: None }
    }
}

impl RuntimeConfig {
    /// The number of worker threads.
    #[must_use]
    pub fn workers(&self) -> usize {
        match self.worker_threads {
            0 => std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2)),
            given => given,
        }
    }

    fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_timeout_ms)
    }
}

impl Validate for RuntimeConfig {
    fn validate(&self) -> Result<(), Invalid> {
        within("runtime.worker_threads", self.worker_threads, 0..=WORKER_THREADS_MAX)?;
        within("runtime.drain_timeout_ms", self.drain_timeout_ms, 0..=DRAIN_TIMEOUT_MS_MAX)
    }
}

/// Where a service listens, as its settings say.
#[derive(Debug, Clone, Copy)]
pub struct BaseSettings<'a> {
    /// `listen`: `address:port` of the API.
    pub listen: &'a str,
    /// `metrics_listen`: `address:port` of metrics and health.
    pub metrics_listen: &'a str,
    /// What the API is protected by where others than this host may connect.
    pub protection: Protection,
    /// Who connects to the API.
    pub callers: Callers,
}

/// Whether those who connect are authenticated, as a setting says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protection {
    /// The setting.
    pub setting: &'static str,
    /// Whether they are; `None` where nothing is said, and only this host may connect.
    pub on: Option<bool>,
}

impl BaseSettings<'_> {
    fn addresses(&self) -> Result<(SocketAddr, SocketAddr), Invalid> {
        Ok((
            self.address("listen", self.listen)?,
            self.address("metrics_listen", self.metrics_listen)?,
        ))
    }

    fn address(&self, key: &str, text: &str) -> Result<SocketAddr, Invalid> {
        let address: SocketAddr = text
            .parse()
            .map_err(|_| Invalid::new(key, "expected an IP address and a port, 127.0.0.1:7700"))?;
        if !is_local(address) && self.protection.on.is_none() {
            let reason = format!(
                "{address} can be reached from other hosts, and nothing authenticates them: set {}, \
                 to \"none\" only where the network keeps strangers away",
                self.protection.setting
            );
            return Err(Invalid::new(key, reason));
        }
        Ok(address)
    }
}

impl BaseSettings<'_> {
    /// Whether others than this host may connect to the API.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.listen.parse().is_ok_and(|address| !is_local(address))
    }
}

fn is_local(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

impl Validate for BaseSettings<'_> {
    fn validate(&self) -> Result<(), Invalid> {
        self.addresses().map(drop)
    }
}

/// The bound sockets of a service.
#[derive(Debug)]
pub struct Listeners {
    api: BoundListener,
    admin: BoundListener,
}

impl Listeners {
    /// Where the API really listens.
    #[must_use]
    pub fn api_addr(&self) -> SocketAddr {
        self.api.local_addr()
    }

    /// Where metrics and health really listen.
    #[must_use]
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin.local_addr()
    }
}

/// The content of a ports file.
#[derive(Debug, Serialize)]
struct Ports<'a> {
    service: &'a str,
    pid: u32,
    listen: SocketAddr,
    metrics_listen: SocketAddr,
}

impl<C: ServiceConfig> ServiceContext<C> {
    /// Binds both listeners. What connects meanwhile waits in the backlog until they are served.
    ///
    /// # Errors
    /// An address that is refused by the settings, or by the operating system.
    pub fn bind(&self) -> Result<Listeners, RunError> {
        let base = self.config.base();
        let (api, admin) = base.addresses()?;
        if base.protection.on == Some(false) {
            let setting = base.protection.setting;
            tracing::warn!(%api, "{setting} is \"none\": whoever connects is believed");
        }
        let bind = |address: SocketAddr| {
            BoundListener::bind(address).map_err(|e| RunError::io(format!("bind {address}"), e))
        };
        Ok(Listeners { api: bind(api)?, admin: bind(admin)? })
    }

    /// Serves `api` and the metrics and health routes until the stop, then drains: the API first,
    /// so that health and metrics answer to the end.
    ///
    /// # Errors
    /// When metrics cannot be registered or the ports file cannot be written.
    pub async fn serve_pair(
        &self,
        listeners: Listeners,
        api: Router,
        limits: ServerLimits,
    ) -> Result<(), RunError> {
        let drain = self.config.runtime().drain();
        let keys = tokio::spawn(self.peer_auth.clone().follow(self.shutdown.clone()));
        let certificates = tokio::spawn(self.tls.clone().follow(self.shutdown.clone()));
        let (api_addr, admin_addr) = (listeners.api_addr(), listeners.admin_addr());
        let server = |limits, name| {
            let metrics = ServerMetrics::register(&self.registry, name)?;
            Ok::<_, RunError>(HttpServer::new(limits, metrics, self.clock.clone()))
        };
        let mut api_server = server(limits, "api")?;
        if self.tls.is_on() {
            let metrics = HandshakeMetrics::register(&self.registry, "api")?;
            let handshakes = Handshakes::new(self.tls.clone(), metrics, self.clock.clone());
            api_server = api_server.secured_by(handshakes);
        }
        let admin_server = server(ServerLimits::admin(), "admin")?;
        let admin_routes = admin::router(self.registry.clone(), self.readiness.clone());
        let admin_stop = Shutdown::new();
        let admin_task = tokio::spawn(admin_server.serve(
            listeners.admin,
            admin_routes,
            admin_stop.clone(),
            Duration::from_secs(1),
        ));
        let api_task =
            tokio::spawn(api_server.serve(listeners.api, api, self.shutdown.clone(), drain));
        let announced = self.announce(api_addr, admin_addr);
        if announced.is_ok() {
            self.readiness.set(LISTENING);
        } else {
            self.shutdown.request();
        }
        self.shutdown.requested().await;
        self.readiness.clear(LISTENING, "stopping");
        let api_ended = api_task.await;
        admin_stop.request();
        let admin_ended = admin_task.await;
        let (keys_ended, certificates_ended) = (keys.await, certificates.await);
        announced?;
        let ended = [api_ended.map(drop), admin_ended.map(drop), keys_ended, certificates_ended];
        for ended in ended {
            ended.map_err(|error| RunError::Failed(format!("a task ended: {error}")))?;
        }
        tracing::info!("stopped");
        Ok(())
    }

    fn announce(&self, listen: SocketAddr, metrics_listen: SocketAddr) -> Result<(), RunError> {
        tracing::info!(%listen, %metrics_listen, "listening");
        let Some(path) = &self.config.runtime().ports_file else { return Ok(()) };
        let ports = Ports { service: self.name, pid: std::process::id(), listen, metrics_listen };
        write_ports(path, &ports).map_err(|e| RunError::io(format!("{}", path.display()), e))
    }
}

fn write_ports(path: &Path, ports: &Ports<'_>) -> std::io::Result<()> {
    write_atomic(path, &serde_json::to_vec(ports)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_local_unless_said_otherwise() {
        let cases = [
            ("127.0.0.1:0", "[::1]:7701", None, None),
            ("0.0.0.0:7700", "192.0.2.1:7701", Some(false), None),
            ("0.0.0.0:7700", "192.0.2.1:7701", Some(true), None),
            ("[::ffff:127.0.0.1]:7700", "127.0.0.1:0", None, None),
            ("nowhere", "127.0.0.1:0", None, Some("listen")),
            ("localhost:7700", "127.0.0.1:0", None, Some("listen")),
            ("127.0.0.1", "127.0.0.1:0", None, Some("listen")),
            ("0.0.0.0:7700", "127.0.0.1:0", None, Some("listen")),
            ("127.0.0.1:0", "[::]:7701", None, Some("metrics_listen")),
            ("127.0.0.1:0", "", Some(false), Some("metrics_listen")),
        ];
        for (listen, metrics_listen, on, refused) in cases {
            let protection = Protection { setting: "auth.mode", on };
            let callers = Callers::Clients;
            let base = BaseSettings { listen, metrics_listen, protection, callers };
            let key = base.validate().map_err(|invalid| invalid.key);
            assert_eq!(key.err().as_deref(), refused, "{base:?}");
        }
    }

    #[test]
    fn threads_and_drain_are_bounded() {
        let defaults = RuntimeConfig::default();
        assert_eq!(defaults.validate(), Ok(()));
        let wrong = RuntimeConfig { worker_threads: WORKER_THREADS_MAX + 1, ..defaults.clone() };
        assert_eq!(wrong.validate().unwrap_err().key, "runtime.worker_threads");
        let wrong = RuntimeConfig { drain_timeout_ms: DRAIN_TIMEOUT_MS_MAX + 1, ..defaults };
        assert_eq!(wrong.validate().unwrap_err().key, "runtime.drain_timeout_ms");
    }
}

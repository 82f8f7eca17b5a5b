//! A whole service in this process: settings, ports file, health, stop, and refusals.

use std::path::PathBuf;
use std::process::ExitCode;

use axum::Router;
use axum::routing::get;
use serde::{Deserialize, Serialize};
use service_kit::config::{EXIT_CONFIG, Invalid, Override, Validate};
use service_kit::http::server::ServerLimits;
use service_kit::launch::{
    BaseSettings, CommonFlags, RunError, RuntimeConfig, Service, ServiceConfig, ServiceContext, run,
};
use service_kit::peer::auth::{PeerAuthConfig, PeerAuthMode};
use service_kit::shutdown::Shutdown;
use service_kit::telemetry::TelemetryConfig;
use service_kit::tls::config::{Callers, TlsConfig};

use crate::harness::{PATIENCE, exchange};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    listen: String,
    metrics_listen: String,
    greeting: String,
    peer_auth: PeerAuthConfig,
    tls: TlsConfig,
    /// Who connects, as each service says of itself.
    #[serde(skip, default = "peers")]
    callers: Callers,
    runtime: RuntimeConfig,
    telemetry: TelemetryConfig,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:0".into(),
            metrics_listen: "127.0.0.1:0".into(),
            greeting: "hello".into(),
            peer_auth: PeerAuthConfig::default(),
            tls: TlsConfig::default(),
            callers: Callers::Peers,
            runtime: RuntimeConfig::default(),
            telemetry: TelemetryConfig::default(),
        }
    }
}

fn peers() -> Callers {
    Callers::Peers
}

impl Settings {
    /// With certificates, for a port of `callers`.
    pub(crate) fn secured(tls: TlsConfig, callers: Callers) -> Self {
        Self { tls, callers, ..Self::default() }
    }
}

impl Validate for Settings {
    fn validate(&self) -> Result<(), Invalid> {
        Ok(())
    }
}

impl ServiceConfig for Settings {
    fn base(&self) -> BaseSettings<'_> {
        BaseSettings {
            listen: &self.listen,
            metrics_listen: &self.metrics_listen,
            protection: self.peer_auth.protection(&self.tls),
            callers: self.callers,
        }
    }

    fn peer_auth(&self) -> &PeerAuthConfig {
        &self.peer_auth
    }

    fn tls(&self) -> &TlsConfig {
        &self.tls
    }

    fn runtime(&self) -> &RuntimeConfig {
        &self.runtime
    }

    fn telemetry(&self) -> &TelemetryConfig {
        &self.telemetry
    }
}

/// Stops itself at once, after having bound.
pub(crate) struct Brief;

impl Service for Brief {
    type Config = Settings;
    const NAME: &'static str = "brief";

    async fn run(context: ServiceContext<Settings>) -> Result<(), RunError> {
        if context.config.greeting == "fail" {
            return Err(RunError::Failed("asked to".into()));
        }
        let listeners = context.bind()?;
        context.shutdown.request();
        context.serve_pair(listeners, Router::new(), ServerLimits::client()).await
    }
}

#[test]
fn exit_codes() {
    let set = |text: &str| CommonFlags { set: vec![text.into()], ..CommonFlags::default() };
    let cases = [
        (CommonFlags::default(), vec![], 0),
        (CommonFlags { print_config: true, ..CommonFlags::default() }, vec![], 0),
        (set("peer_auth.mode=none"), vec![Override::new("listen", "0.0.0.0:0")], 0),
        (CommonFlags::default(), vec![Override::new("listen", "0.0.0.0:0")], EXIT_CONFIG),
        (set("metrics_listen=[::]:0"), vec![], EXIT_CONFIG),
        (set("listen=nowhere"), vec![], EXIT_CONFIG),
        (set("greting=x"), vec![], EXIT_CONFIG),
        (set("novalue"), vec![], EXIT_CONFIG),
        (set("runtime.worker_threads=100000"), vec![], EXIT_CONFIG),
        (set("telemetry.sample_ratio=2"), vec![], EXIT_CONFIG),
        (
            CommonFlags { config: Some("/nonexistent.toml".into()), ..CommonFlags::default() },
            vec![],
            EXIT_CONFIG,
        ),
        (set("greeting=fail"), vec![], 1),
        (set("listen=192.0.2.1:0"), vec![Override::new("peer_auth.mode", "none")], 1),
    ];
    for (flags, extra, code) in cases {
        let shown = format!("{flags:?} {extra:?}");
        assert_eq!(run::<Brief>(&flags, extra), ExitCode::from(code), "{shown}");
    }
}

#[derive(Deserialize)]
struct Ports {
    listen: std::net::SocketAddr,
    metrics_listen: std::net::SocketAddr,
    pid: u32,
}

async fn ports(path: &PathBuf) -> Ports {
    let written = async {
        loop {
            if let Ok(text) = std::fs::read(path) {
                return serde_json::from_slice(&text).expect("written whole or not at all");
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, written).await.unwrap()
}

#[tokio::test]
async fn a_service_tells_its_ports_its_health_and_stops() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ports.json");
    let mut settings = Settings::default();
    settings.peer_auth.mode = Some(PeerAuthMode::None);
    settings.runtime.ports_file = Some(path.clone());
    let shutdown = Shutdown::new();
    let context = ServiceContext::new("test", settings, shutdown.clone()).unwrap();
    context.readiness.require("ring");
    let readiness = context.readiness.clone();
    let task = tokio::spawn(async move {
        let listeners = context.bind()?;
        let greeting = context.config.greeting.clone();
        let router = Router::new().route("/", get(move || async move { greeting }));
        context.serve_pair(listeners, router, ServerLimits::client()).await
    });
    let ports = ports(&path).await;
    assert_eq!(ports.pid, std::process::id());
    let ask = async |address, path: &str| {
        let sent = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        exchange(address, sent.as_bytes(), false).await
    };
    assert!(ask(ports.listen, "/").await.ends_with("hello"));
    assert!(ask(ports.listen, "/metrics").await.starts_with("HTTP/1.1 404"));
    assert!(ask(ports.metrics_listen, "/livez").await.starts_with("HTTP/1.1 200"));
    assert!(ask(ports.metrics_listen, "/readyz").await.contains("ring: pending"));
    readiness.set("ring");
    assert!(ask(ports.metrics_listen, "/readyz").await.starts_with("HTTP/1.1 200"));
    let metrics = ask(ports.metrics_listen, "/metrics").await;
    assert!(metrics.contains("atoll_insecure 1"), "{metrics}");
    shutdown.request();
    tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap().unwrap();
}

//! One development cluster under test, started by `atoll dev` as a user would.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::eventually;
use super::http::Http;
use super::ports::free_block;

/// A process type of one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// request-router.
    Router,
    /// storage-node.
    Storage,
    /// membership-svc.
    Membership,
    /// anti-entropy-worker.
    Worker,
}

impl Service {
    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Router => "router",
            Self::Storage => "storage-node",
            Self::Membership => "membership",
            Self::Worker => "anti-entropy-worker",
        }
    }
}

/// A running cluster. Dropping it stops every process and removes its data; its log stays where the test
/// failed.
#[derive(Debug)]
pub struct Cluster {
    binary: PathBuf,
    folder: TempDir,
    hosts: u16,
    base: u16,
    secure: bool,
    env: Vec<(&'static str, String)>,
    dev: Option<Child>,
    /// A client for requests to it.
    pub http: Http,
}

impl Cluster {
    /// Starts `hosts` hosts with `binary` on fresh data and waits until they serve.
    ///
    /// # Panics
    /// Where the cluster does not come up.
    #[must_use]
    pub fn start(binary: &str, hosts: u16) -> Self {
        Self::start_with(binary, hosts, false, Vec::new())
    }

    /// As [`Self::start`], with everything that protects a cluster.
    ///
    /// # Panics
    /// Where the cluster does not come up.
    #[must_use]
    pub fn start_secure(binary: &str, hosts: u16) -> Self {
        Self::start_with(binary, hosts, true, Vec::new())
    }

    /// As [`Self::start`], with variables in the environment of every process.
    ///
    /// # Panics
    /// Where the cluster does not come up.
    #[must_use]
    pub fn start_in(binary: &str, hosts: u16, env: Vec<(&'static str, String)>) -> Self {
        Self::start_with(binary, hosts, false, env)
    }

    fn start_with(
        binary: &str,
        hosts: u16,
        secure: bool,
        env: Vec<(&'static str, String)>,
    ) -> Self {
        let folder = tempfile::Builder::new().prefix("atoll-it-").tempdir().expect("a temp dir");
        let mut cluster = Self {
            binary: binary.into(),
            folder,
            hosts,
            base: free_block(hosts),
            secure,
            env,
            dev: None,
            http: Http::new(),
        };
        cluster.launch();
        cluster
    }

    /// The cluster's data directory.
    #[must_use]
    pub fn data(&self) -> &Path {
        self.folder.path()
    }

    /// The key that may do everything; empty where nobody is asked for one.
    #[must_use]
    pub fn admin_key(&self) -> String {
        let text = std::fs::read_to_string(self.data().join("admin-key")).unwrap_or_default();
        text.trim().to_owned()
    }

    /// The CA of a cluster that is protected.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.data().join("ca.crt")
    }

    /// Number of hosts.
    #[must_use]
    pub fn hosts(&self) -> u16 {
        self.hosts
    }

    /// Base URL of the client API of host `k`, counted from 1.
    #[must_use]
    pub fn router(&self, k: u16) -> String {
        self.url(k, 0)
    }

    /// Base URL of the peer API of host `k`'s storage node.
    #[must_use]
    pub fn storage(&self, k: u16) -> String {
        self.url(k, 10)
    }

    /// Base URL on host `k` at a port offset.
    #[must_use]
    pub fn url(&self, k: u16, offset: u16) -> String {
        // Metrics and health, behind the odd offsets, are always plain.
        let scheme = if self.secure && offset.is_multiple_of(2) { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.base + 100 * (k - 1) + offset)
    }

    /// URL of an object through the router of host `k`.
    #[must_use]
    pub fn object(&self, k: u16, name: &str) -> String {
        format!("{}/v1/kv/{name}", self.router(k))
    }

    /// Runs an `atoll` command to its end.
    ///
    /// # Panics
    /// Where the binary cannot be started.
    #[must_use]
    pub fn atoll(&self, args: &[&str]) -> Output {
        let output = Command::new(&self.binary)
            .args(args)
            .env("ATOLL_ENDPOINT", self.router(1))
            .envs(self.secure.then(|| ("ATOLL_CA_FILE", self.ca_file())))
            .stdin(Stdio::null())
            .output();
        output.expect("the atoll binary starts")
    }

    /// Runs an `atoll` command that must succeed; its standard output.
    ///
    /// # Panics
    /// Where it fails.
    pub fn atoll_ok(&self, args: &[&str]) -> String {
        let output = self.atoll(args);
        assert!(
            output.status.success(),
            "atoll {args:?}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// `atoll dev VERB K`: acts on one host, or on one of its processes.
    pub fn dev(&self, verb: &str, k: u16, more: &[&str]) {
        let (k, data) = (k.to_string(), self.data().display().to_string());
        let mut args = vec!["dev", verb, &k, "--data", &data];
        args.extend(more);
        self.atoll_ok(&args);
    }

    /// Kills one process of host `k` with SIGKILL.
    pub fn kill(&self, k: u16, service: Service) {
        self.dev("stop", k, &["--kill", "--service", service.name()]);
    }

    /// Starts one process of host `k` again.
    pub fn revive(&self, k: u16, service: Service) {
        self.dev("start", k, &["--service", service.name()]);
    }

    /// Starts `atoll dev` on the data directory and waits until every router serves.
    ///
    /// # Panics
    /// Where it exits or does not come up.
    pub fn launch(&mut self) {
        let log = std::fs::File::create(self.log_file()).expect("a log file");
        let child = Command::new(&self.binary)
            .args(["dev", "--hosts", &self.hosts.to_string()])
            .args(["--base-port", &self.base.to_string()])
            .arg("--data")
            .arg(self.data())
            .args(self.secure.then_some("--secure"))
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle on the log"))
            .stderr(log)
            .spawn()
            .expect("the atoll binary starts");
        self.dev = Some(child);
        self.await_ready();
    }

    /// Waits until every host's processes are ready.
    ///
    /// # Panics
    /// Where they are not ready in time, with what `atoll dev` printed.
    pub fn await_ready(&mut self) {
        let start = Instant::now();
        if self.secure {
            let ca = self.ca_file();
            eventually("there is a CA", Duration::from_secs(30), || ca.exists());
            self.http = Http::believing(Some(&ca));
        }
        let ready = |url: String| {
            self.http.send("GET", &format!("{url}/readyz"), &[], b"").is_ok_and(|a| a.status == 200)
        };
        loop {
            let all = (1..=self.hosts)
                .all(|k| [1, 11, 21, 31].into_iter().all(|offset| ready(self.url(k, offset))));
            let founded = all && self.is_healthy();
            if founded {
                return;
            }
            let ended = self.dev.as_mut().and_then(|dev| dev.try_wait().ok().flatten());
            assert!(
                ended.is_none() && start.elapsed() < Duration::from_secs(60),
                "the cluster did not come up ({ended:?}):\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn is_healthy(&self) -> bool {
        let authorization = format!("Bearer {}", self.admin_key());
        let headers: &[(&str, &str)] =
            if self.secure { &[("authorization", &authorization)] } else { &[] };
        let url = format!("{}/v1/cluster/health", self.router(1));
        let answer = self.http.send("GET", &url, headers, b"");
        answer.is_ok_and(|a| a.json()["status"] == "healthy")
    }

    /// What `atoll dev` printed.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Beside the data, which goes with the cluster.
    fn log_file(&self) -> PathBuf {
        self.data().with_extension("log")
    }

    /// Stops the whole cluster as Ctrl-C would and returns how `atoll dev` ended.
    ///
    /// # Panics
    /// Where it does not end.
    pub fn shut_down(&mut self) -> ExitStatus {
        let mut dev = self.dev.take().expect("the cluster is running");
        signal(&dev, Signal::TERM);
        let mut status = None;
        eventually("atoll dev ends on SIGTERM", Duration::from_secs(30), || {
            status = dev.try_wait().ok().flatten();
            status.is_some()
        });
        status.expect("the loop ends with a status")
    }

    /// Kills every process of the cluster at once with SIGKILL.
    ///
    /// # Panics
    /// Where `atoll dev` cannot be killed.
    pub fn kill_everything(&mut self) {
        for k in 1..=self.hosts {
            self.dev("stop", k, &["--kill"]);
        }
        let mut dev = self.dev.take().expect("the cluster is running");
        dev.kill().expect("SIGKILL to our own child");
        dev.wait().expect("our own child ends");
    }

    /// Hints over all nodes, as a router adds them up; `None` while not all nodes answer.
    #[must_use]
    pub fn hints(&self) -> Option<u64> {
        let authorization = format!("Bearer {}", self.admin_key());
        let headers = [("authorization", authorization.as_str())];
        let headers = if self.secure { &headers[..] } else { &[] };
        let answer = self.http.send("GET", &format!("{}/v1/hints", self.router(1)), headers, b"");
        let answer = answer.ok().filter(|a| a.status == 200)?.json();
        answer["hints"].as_u64().filter(|_| answer["unreachable"] == 0)
    }

    /// The record digest of an object at host `k`'s own replica; empty where it has none.
    #[must_use]
    pub fn replica_digest(&self, k: u16, name: &str) -> String {
        let url = format!("{}/v1/replica/kv/{name}", self.storage(k));
        let answer = self.http.get(&url).json();
        answer["digest"].as_str().unwrap_or_default().to_owned()
    }
}

impl Cluster {
    /// The log of one process of host `k`, as far as it is written.
    #[must_use]
    pub fn log_of(&self, k: u16, service: Service) -> String {
        let path = self.data().join(format!("host-{k}/{}.log", service.name()));
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// Prints the end of every process's log: the first thing to read after a failure.
    #[expect(clippy::print_stdout, reason = "a failed test shows it, a passed one does not")]
    fn print_warnings(&self) {
        println!("--- what atoll dev printed stays in {}", self.log_file().display());
        for k in 1..=self.hosts {
            for name in ["membership", "storage-node", "router", "anti-entropy-worker"] {
                let path = self.data().join(format!("host-{k}/{name}.log"));
                let log = std::fs::read_to_string(&path).unwrap_or_default();
                let lines: Vec<&str> = log.lines().filter(|l| !l.contains(" DEBUG ")).collect();
                println!("--- host {k} {name}");
                for line in lines.iter().skip(lines.len().saturating_sub(30)) {
                    println!("{line}");
                }
            }
        }
    }

    /// Ends `atoll dev`, where it still runs.
    fn end(&mut self) {
        let Some(mut dev) = self.dev.take() else { return };
        signal(&dev, Signal::TERM);
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) {
            if dev.try_wait().ok().flatten().is_some() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(dev.kill());
        drop(dev.wait());
    }
}

impl Drop for Cluster {
    /// What `atoll dev` printed outlives a test that fails, and nothing else does.
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            self.print_warnings();
        }
        self.end();
        if !failed {
            drop(std::fs::remove_file(self.log_file()));
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a pid of our child");
    // The child may have ended by itself; then there is nobody to signal.
    kill_process(pid, signal).ok();
}

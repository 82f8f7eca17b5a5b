//! What scenarios share: their turn on the machine, and writers that remember what was acked.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tests::harness::{Cluster, Http, eventually};
use tokio::task::JoinHandle;

/// The binary under test.
pub(crate) const ATOLL: &str = env!("CARGO_BIN_EXE_atoll-under-test");

/// A cluster and the turn to run it.
pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    _turn: MutexGuard<'static, ()>,
}

static TURN: Mutex<()> = Mutex::new(());

/// Starts a cluster when its turn has come.
pub(crate) fn scene(hosts: u16) -> Scene {
    // A scenario that failed leaves nothing behind that the next one could trip over.
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    Scene { cluster: Cluster::start(ATOLL, hosts), _turn: turn }
}

/// A cluster with everything that protects one, when its turn has come.
pub(crate) fn secure_scene(hosts: u16) -> Scene {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    Scene { cluster: Cluster::start_secure(ATOLL, hosts), _turn: turn }
}

/// A cluster whose processes have these variables in their environment, when its turn has come.
pub(crate) fn scene_in(hosts: u16, env: Vec<(&'static str, String)>) -> Scene {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    Scene { cluster: Cluster::start_in(ATOLL, hosts, env), _turn: turn }
}

/// Writers that run until told to stop and remember every acknowledged put.
pub(crate) struct Writers {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Report>>,
    http: Http,
}

/// What the writers saw.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Acknowledged objects and their bytes.
    pub(crate) acked: BTreeMap<String, Vec<u8>>,
    /// Answers that were neither 2xx nor worth a retry elsewhere, and connection errors.
    pub(crate) refused: Vec<String>,
}

impl Writers {
    /// Starts `count` writers that put ever new keys under `bucket`, each through the routers of
    /// `hosts` in turn. A connection that fails is tried at the next host with the same
    /// idempotency key, as a client library would.
    pub(crate) fn start(cluster: &Cluster, bucket: &str, hosts: &[u16], count: usize) -> Self {
        let http = Http::new();
        let stop = Arc::new(AtomicBool::new(false));
        let (runtime, client) = http.parts();
        let bases: Vec<String> = hosts.iter().map(|k| cluster.router(*k)).collect();
        let tasks = (0..count)
            .map(|writer| {
                let (client, bases, stop) = (client.clone(), bases.clone(), stop.clone());
                let bucket = bucket.to_owned();
                runtime.spawn(async move {
                    let mut report = Report::default();
                    let mut round = 0usize;
                    while !stop.load(Ordering::Relaxed) {
                        let name = format!("{bucket}/w{writer}-{round}");
                        let body = format!("value {name} {}", "x".repeat(round % 700));
                        put(&client, &bases, writer + round, &name, &body, &mut report).await;
                        round += 1;
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                    report
                })
            })
            .collect();
        Self { stop, tasks, http }
    }

    /// Stops the writers and adds up what they saw.
    pub(crate) fn finish(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let (runtime, _) = self.http.parts();
        let mut all = Report::default();
        for task in self.tasks {
            let report = runtime.block_on(task).expect("a writer does not panic");
            all.acked.extend(report.acked);
            all.refused.extend(report.refused);
        }
        all
    }
}

async fn put(
    client: &reqwest::Client,
    bases: &[String],
    start: usize,
    name: &str,
    body: &str,
    report: &mut Report,
) {
    let id = uuid::Uuid::new_v4().to_string();
    let mut failures = Vec::new();
    for attempt in 0..2 * bases.len() {
        let base = &bases[(start + attempt) % bases.len()];
        let url = format!("{base}/v1/kv/{name}");
        let headers = [("idempotency-key", id.as_str())];
        let answer = tests::harness::send(client, "PUT", &url, &headers, body.as_bytes()).await;
        match answer {
            Ok(answer) if answer.status == 204 => {
                report.acked.insert(name.to_owned(), body.as_bytes().to_vec());
                return;
            }
            Ok(answer) => failures.push(format!("{} {}", answer.status, answer.text())),
            Err(error) => failures.push(error),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    report.refused.push(format!("{name}: {failures:?}"));
}

/// Every acknowledged object reads back byte-identical through each of `hosts`.
pub(crate) fn all_read_back(cluster: &Cluster, report: &Report, hosts: &[u16]) {
    let mut lost = Vec::new();
    for (index, (name, body)) in report.acked.iter().enumerate() {
        let host = hosts[index % hosts.len()];
        let mut answer = cluster.http.get(&cluster.object(host, name));
        // A replica may be catching up for a moment; a lost write stays lost.
        for _ in 0..40 {
            if answer.status < 500 {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
            answer = cluster.http.get(&cluster.object(host, name));
        }
        if answer.status != 200 || answer.body != *body {
            lost.push(format!("{name} at host {host}: {} {}", answer.status, answer.text()));
        }
    }
    assert!(
        lost.is_empty(),
        "{} of {} acknowledged writes lost: {:?}",
        lost.len(),
        report.acked.len(),
        &lost[..lost.len().min(5)]
    );
}

/// Waits until no node holds a hint.
pub(crate) fn hints_drain(cluster: &Cluster) {
    eventually("all hints are delivered", Duration::from_secs(60), || cluster.hints() == Some(0));
}

//! The loops: clients on connections, an optional schedule, a clock that starts after the warm-up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::{Method, StatusCode};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::connection::{Connection, Reply};
use crate::options::Options;
use crate::processes::usage;
use crate::report::{Report, Tally};
use crate::tls::Tls;
use crate::workload::{Operation, Workload};

/// Pause after a failed request, so that a dead server does not turn the generator into a spinner.
const FAILURE_PAUSE: Duration = Duration::from_millis(10);

/// Clients that write the keys before the run.
const PRELOAD_CLIENTS: u32 = 32;

/// Why a run could not be done.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A connection failed.
    #[error("connection: {0}")]
    Connection(String),
    /// The file of the CA is of no use.
    #[error("--ca: {0}")]
    Ca(String),
    /// Writing the keys before the run failed.
    #[error("preload: {0}")]
    Preload(String),
    /// A client of the generator ended abnormally.
    #[error("a client ended abnormally: {0}")]
    Client(#[from] tokio::task::JoinError),
}

impl BenchError {
    pub(crate) fn connection(error: impl std::fmt::Display) -> Self {
        Self::Connection(error.to_string())
    }
}

/// What the clients of a run share.
struct Shared {
    options: Options,
    tls: Option<Tls>,
    /// The last context known of each key, by key number. `None`: read before the next put.
    contexts: Vec<Mutex<Option<String>>>,
    start: Instant,
    measure_from: Instant,
    end: Instant,
    scheduled: AtomicU64,
}

/// Runs the benchmark that `options` describe.
///
/// # Errors
/// [`BenchError`] where the CA is of no use or keys cannot be written before the run. Failures during the run are part
/// of the report.
pub async fn run(options: Options) -> Result<Report, BenchError> {
    let contexts = (0..options.keys).map(|_| Mutex::new(None)).collect();
    let now = Instant::now();
    let tls = options.ca.as_deref().map(Tls::new).transpose()?;
    let mut shared = Shared {
        options,
        tls,
        contexts,
        start: now,
        measure_from: now,
        end: now,
        scheduled: AtomicU64::new(0),
    };
    if !shared.options.no_preload {
        shared = preload(shared).await?;
    }
    shared.start = Instant::now();
    shared.measure_from = shared.start + shared.options.warmup;
    shared.end = shared.measure_from + shared.options.duration;
    let shared = Arc::new(shared);

    let mut clients = JoinSet::new();
    for client in 0..shared.options.clients {
        clients.spawn(client_loop(Arc::clone(&shared), u64::from(client)));
    }
    tokio::time::sleep_until(shared.measure_from.into()).await;
    let before = usage(&shared.options.pids);
    let began = Instant::now();
    tokio::time::sleep_until(shared.end.into()).await;
    let after = usage(&shared.options.pids);
    let elapsed = began.elapsed();
    let mut total = Tally::default();
    while let Some(tally) = clients.join_next().await {
        total.add(&tally?);
    }
    Ok(Report::new(&shared.options, &total, elapsed, before, after))
}

/// Writes every key once.
async fn preload(shared: Shared) -> Result<Shared, BenchError> {
    let shared = Arc::new(shared);
    let mut writers = JoinSet::new();
    for writer in 0..PRELOAD_CLIENTS {
        let shared = Arc::clone(&shared);
        writers.spawn(async move {
            let mut client = Client::new(&shared, u64::from(writer) + (1 << 32));
            for key in (writer..shared.options.keys).step_by(PRELOAD_CLIENTS as usize) {
                let reply = client.read_then_put(&shared, key).await?;
                if !reply.status.is_success() {
                    return Err(BenchError::Preload(format!("key {key}: {}", reply.status)));
                }
            }
            Ok(())
        });
    }
    while let Some(done) = writers.join_next().await {
        done??;
    }
    Arc::into_inner(shared).ok_or_else(|| BenchError::Preload("a writer is left".to_owned()))
}

/// One client until the end of the run.
async fn client_loop(shared: Arc<Shared>, number: u64) -> Tally {
    let mut client = Client::new(&shared, number);
    let mut tally = Tally::default();
    loop {
        let due = match shared.options.rate {
            None => Instant::now(),
            Some(rate) => {
                let turn = shared.scheduled.fetch_add(1, Ordering::Relaxed);
                let due =
                    shared.start + Duration::from_secs_f64(turn as f64 / f64::from(rate.max(1)));
                tokio::time::sleep_until(due.into()).await;
                due
            }
        };
        if due >= shared.end {
            return tally;
        }
        let (operation, key) = client.workload.next_operation();
        let outcome = client.perform(&shared, operation, key).await;
        let done = Instant::now();
        if due < shared.measure_from || done > shared.end {
            continue;
        }
        match outcome {
            Ok(reply) if is_answer(operation, reply.status) => {
                tally.record(operation, done - due);
                tally.with_siblings += u64::from(reply.siblings > 1);
                if operation == Operation::Read {
                    let hit = reply.status != StatusCode::NOT_FOUND;
                    tally.hits += u64::from(hit);
                    tally.misses += u64::from(!hit);
                }
            }
            Ok(reply) => tally.fail(reply.status.as_u16()),
            Err(_) => {
                tally.fail(0);
                tokio::time::sleep(FAILURE_PAUSE).await;
            }
        }
    }
}

fn is_answer(operation: Operation, status: StatusCode) -> bool {
    status.is_success()
        || status == StatusCode::MULTIPLE_CHOICES
        || (operation == Operation::Read && status == StatusCode::NOT_FOUND)
}

/// One client: a connection and a stream of operations.
struct Client {
    connection: Connection,
    workload: Workload,
}

impl Client {
    fn new(shared: &Shared, number: u64) -> Self {
        let targets = &shared.options.targets;
        let target = &targets[number as usize % targets.len()];
        Self {
            connection: Connection::new(
                target,
                shared.options.api_key.as_deref(),
                shared.tls.clone(),
            ),
            workload: Workload::new(&shared.options, number),
        }
    }

    async fn perform(
        &mut self,
        shared: &Shared,
        operation: Operation,
        key: u32,
    ) -> Result<Reply, BenchError> {
        match operation {
            Operation::Read => self.get(shared, key).await,
            Operation::ReadModifyWrite => self.read_then_put(shared, key).await,
            Operation::Update => {
                let known = shared.contexts[key as usize].lock().await.clone();
                match known {
                    Some(context) => self.put(shared, key, Some(&context)).await,
                    None => self.read_then_put(shared, key).await,
                }
            }
        }
    }

    async fn read_then_put(&mut self, shared: &Shared, key: u32) -> Result<Reply, BenchError> {
        let read = self.get(shared, key).await?;
        self.put(shared, key, read.context.as_deref()).await
    }

    async fn get(&mut self, shared: &Shared, key: u32) -> Result<Reply, BenchError> {
        let path = path(&shared.options.bucket, key, &shared.options.read_query);
        self.connection.call(Method::GET, &path, None, Bytes::new()).await
    }

    async fn put(
        &mut self,
        shared: &Shared,
        key: u32,
        context: Option<&str>,
    ) -> Result<Reply, BenchError> {
        let path = path(&shared.options.bucket, key, &shared.options.write_query);
        let value = self.workload.value();
        let reply = self.connection.call(Method::PUT, &path, context, value).await?;
        // After a race the context of one writer does not cover the other: read before writing.
        let next = reply.context.clone().filter(|_| reply.siblings <= 1);
        *shared.contexts[key as usize].lock().await = next;
        Ok(reply)
    }
}

fn path(bucket: &str, key: u32, query: &str) -> String {
    if query.is_empty() {
        format!("/v1/kv/{bucket}/key-{key:09}")
    } else {
        format!("/v1/kv/{bucket}/key-{key:09}?{query}")
    }
}

//! Mixed load through the client library, as an application makes it: reads, updates of what was
//! read, blind writes and deletes, on few keys, so that they meet. Everything is remembered for
//! [`crate::history::check`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use atoll_client::{Bucket, Client, Error, Mode, Outcome as Applied};
use dynamo_core::entropy::{Entropy, SplitMix};
use tokio::task::JoinSet;

use crate::history::{Final, History, Outcome, Read, ValueId, Write};

/// Pause between two operations of one client.
const PAUSE: Duration = Duration::from_millis(5);

/// What load is made.
#[derive(Debug, Clone)]
pub struct Workload {
    /// Router URLs.
    pub endpoints: Vec<String>,
    /// The bucket.
    pub bucket: String,
    /// Number of keys.
    pub keys: u64,
    /// Concurrent clients.
    pub clients: u64,
    /// Names the run; printed, so that its operations can be repeated.
    pub seed: u64,
}

impl Workload {
    /// Runs until `stop` is set; what all clients saw.
    ///
    /// # Panics
    /// Where a client cannot be built.
    pub async fn run(&self, stop: Arc<AtomicBool>) -> History {
        let mut tasks = JoinSet::new();
        for number in 0..self.clients {
            let bucket = self.client().bucket(self.bucket.as_str());
            let mut client = OneClient {
                bucket,
                name: format!("{:x}-{number}", self.seed),
                keys: self.keys,
                chance: SplitMix::new(self.seed.wrapping_add(number)),
                count: 0,
                history: History::default(),
            };
            let stop = Arc::clone(&stop);
            tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    client.step().await;
                    tokio::time::sleep(PAUSE).await;
                }
                client.history
            });
        }
        let mut all = History::default();
        while let Some(seen) = tasks.join_next().await {
            all.extend(seen.expect("a client does not panic"));
        }
        all
    }

    /// Reads every key through all endpoints in turn, until it can be read.
    ///
    /// # Errors
    /// The keys that cannot be read.
    pub async fn read_all(&self) -> Result<Final, Vec<String>> {
        let bucket = self.client().bucket(self.bucket.as_str());
        let (mut end, mut unread) = (Final::new(), Vec::new());
        for number in 0..self.keys {
            let key = key_name(number);
            let mut read = bucket.get(&key).await;
            for _ in 0..40 {
                if read.is_ok() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
                read = bucket.get(&key).await;
            }
            match read {
                Ok(found) => {
                    let bodies = found.versions.iter().map(|v| v.value.to_vec()).collect();
                    end.insert(key, bodies);
                }
                Err(error) => unread.push(format!("{key}: {error}")),
            }
        }
        if unread.is_empty() { Ok(end) } else { Err(unread) }
    }

    fn client(&self) -> Client {
        Client::builder()
            .endpoints(self.endpoints.clone())
            .mode(Mode::Routed)
            .timeout(Duration::from_secs(10))
            .build()
            .expect("endpoints are URLs")
    }
}

fn key_name(number: u64) -> String {
    format!("key-{number}")
}

/// One client: one operation at a time.
struct OneClient {
    bucket: Bucket,
    name: String,
    keys: u64,
    chance: SplitMix,
    count: u64,
    history: History,
}

impl OneClient {
    async fn step(&mut self) {
        let key = key_name(self.chance.below(self.keys));
        match self.chance.below(100) {
            0..40 => {
                self.read(&key).await;
            }
            40..80 => {
                let Some((context, covers)) = self.read(&key).await else { return };
                let id = self.next_id();
                let put = self.bucket.put(&key, id.body()).context(context);
                let done = put.await.map(drop);
                self.note(key, Some(id), covers, done);
            }
            80..90 => {
                let id = self.next_id();
                let done = self.bucket.put(&key, id.body()).await.map(drop);
                self.note(key, Some(id), BTreeSet::new(), done);
            }
            _ => {
                // Without a context a delete covers what its coordinator happens to see, which
                // nobody can check.
                let Some((Some(context), covers)) = self.read(&key).await else { return };
                let done = self.bucket.delete(&key).context(context).await.map(drop);
                self.note(key, None, covers, done);
            }
        }
    }

    /// The context of a key and the values behind it; `None` where it could not be read.
    async fn read(
        &mut self,
        key: &str,
    ) -> Option<(Option<atoll_client::Context>, BTreeSet<ValueId>)> {
        match self.bucket.get(key).await {
            Ok(found) => {
                let bodies: Vec<Vec<u8>> =
                    found.versions.iter().map(|v| v.value.to_vec()).collect();
                let seen = bodies.iter().filter_map(|body| ValueId::of_body(body).ok()).collect();
                self.history.reads.push(Read { key: key.to_owned(), bodies });
                Some((found.context, seen))
            }
            Err(error) => {
                self.history.errors.push(format!("get {key}: {error}"));
                None
            }
        }
    }

    fn next_id(&mut self) -> ValueId {
        self.count += 1;
        ValueId(format!("{}-{}", self.name, self.count))
    }

    fn note(
        &mut self,
        key: String,
        value: Option<ValueId>,
        covers: BTreeSet<ValueId>,
        done: Result<(), Error>,
    ) {
        let outcome = match &done {
            Ok(()) => Outcome::Ok,
            Err(error) if error.outcome() == Applied::NotApplied => Outcome::Failed,
            Err(_) => Outcome::Unknown,
        };
        if let Err(error) = done {
            self.history.errors.push(format!("put {key}: {error}"));
        }
        self.history.writes.push(Write { key, value, covers, outcome });
    }
}

//! A storage node that keeps its records in memory: what a worker asks, answered as the real one
//! does, with a count of what was asked and switches to make it fail.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use dynamo_core::clock::digest::RecordDigest;
use dynamo_core::clock::record::Record;
use dynamo_core::id::{NodeId, PartitionId, StoreId};
use dynamo_core::key::ObjectKey;
use dynamo_core::merkle::{KeyEntry, Leaf, Tree};
use dynamo_core::reap::candidate::dead_since;
use dynamo_core::time::WallMs;
use dynamo_core::wire::partition::{
    DropAnswer, Page, PageRequest, PartitionInfo, PartitionsDocument, PartitionsRequest,
    encode_page,
};
use dynamo_core::wire::reap::{
    ReapAction, ReapAnswer, ReapCheckAnswer, ReapCheckRequest, ReapPresence, ReapRequest,
    ReapResult,
};
use dynamo_core::wire::replica::{ReplicaOp, ReplicaResult, decode_request, encode_response};
use dynamo_core::wire::tree::{DigestsAnswer, DigestsRequest, KeysAnswer, KeysRequest, TreeState};
use serde::Serialize;
use serde::de::DeserializeOwned;
use service_kit::http::error::{ErrorCode, Problem};

use crate::agent::{Agents, partitions};

/// N of every bucket of these tests.
pub(crate) const CLASS: u8 = 3;

/// Records of one page of a transfer: few, so that there are many pages.
const PAGE_RECORDS: usize = 5;

/// What a store has.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) id: StoreId,
    pub(crate) records: BTreeMap<Vec<u8>, (ObjectKey, Record)>,
    pub(crate) held: BTreeMap<PartitionId, u8>,
    pub(crate) leftover: BTreeMap<PartitionId, bool>,
    pub(crate) hints: Vec<ObjectKey>,
    /// Requests by what they were for and path.
    pub(crate) asked: BTreeMap<(String, String), usize>,
    /// So many requests are refused as overloaded before one is served.
    pub(crate) overloaded: usize,
    /// Whether everything is refused.
    pub(crate) broken: bool,
    /// So many pages are given, then none.
    pub(crate) pages_left: usize,
}

/// A storage node.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    pub(crate) node: NodeId,
    agents: Agents,
    content: Arc<Mutex<Content>>,
}

impl Store {
    /// A store of `node` that holds `held`.
    pub(crate) fn new(agents: &Agents, node: NodeId, held: bool) -> Self {
        let all = partitions().iter().filter(|_| held).map(|partition| (partition, 1));
        let content = Content {
            id: StoreId(node.0),
            records: BTreeMap::new(),
            held: all.collect(),
            leftover: BTreeMap::new(),
            hints: Vec::new(),
            asked: BTreeMap::new(),
            overloaded: 0,
            broken: false,
            pages_left: usize::MAX,
        };
        Self { node, agents: agents.clone(), content: Arc::new(Mutex::new(content)) }
    }

    /// Serves it.
    pub(crate) async fn start(&self) -> SocketAddr {
        let routes = Router::new().fallback(serve).with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        address
    }

    pub(crate) fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap()
    }

    /// Stores a record as a replica does.
    pub(crate) fn merge(&self, object: &ObjectKey, record: &Record) {
        let mut content = self.content();
        let entry = content.records.entry(object.storage_key());
        let (_, own) = entry.or_insert_with(|| (object.clone(), Record::default()));
        *own = own.sync(record);
    }

    /// How often a path that ends like this was asked, for this kind of work.
    pub(crate) fn asked(&self, kind: &str, path: &str) -> usize {
        let content = self.content();
        let meant = |(of, name): &(String, String)| of == kind && name.ends_with(path);
        content.asked.iter().filter(|(name, _)| meant(name)).map(|(_, count)| count).sum()
    }

    fn tree(content: &Content) -> Tree {
        let mut tree = Tree::new();
        for (object, record) in content.records.values() {
            tree.change(CLASS, object, None, Some(RecordDigest::of(record)));
        }
        tree
    }

    fn digests(&self, request: &DigestsRequest) -> DigestsAnswer {
        let content = self.content();
        let tree = Self::tree(&content);
        let prefixes = request.prefixes().unwrap();
        DigestsAnswer {
            ring: self.agents.snapshot().version,
            store: content.id,
            state: TreeState::Built,
            digests: prefixes.into_iter().map(|prefix| tree.digest(request.n, prefix)).collect(),
        }
    }

    fn keys(&self, request: &KeysRequest) -> KeysAnswer {
        let (leaves, after) = request.parse().unwrap();
        let after = after.map(|object| object.storage_key()).unwrap_or_default();
        let content = self.content();
        let here = content.records.iter().filter(|(key, (object, _))| {
            **key > after && leaves.contains(&Leaf::of(object.position()))
        });
        let now = WallMs(u64::MAX);
        let entries: Vec<KeyEntry> = here
            .map(|(_, (object, record))| KeyEntry {
                object: object.clone(),
                digest: RecordDigest::of(record),
                dead_since: dead_since(record, now),
            })
            .collect();
        KeysAnswer::new(&entries, None)
    }

    fn batch(&self, message: Bytes) -> Bytes {
        let mut results = Vec::new();
        for op in decode_request(message).unwrap() {
            results.push(match op {
                ReplicaOp::Merge { object, record, .. } => {
                    self.merge(&object, &record);
                    ReplicaResult::Merged
                }
                ReplicaOp::Read { object, unless, .. } => {
                    let content = self.content();
                    match content.records.get(&object.storage_key()) {
                        None => ReplicaResult::Absent { holds: true },
                        Some((_, own)) if unless == Some(RecordDigest::of(own)) => {
                            ReplicaResult::Same
                        }
                        Some((_, own)) => ReplicaResult::Record {
                            record: own.clone(),
                            token: None,
                            applied: None,
                        },
                    }
                }
            });
        }
        encode_response(&results).unwrap()
    }

    fn partitions(&self) -> PartitionsDocument {
        let view = self.agents.view();
        let content = self.content();
        let info = |partition| PartitionInfo {
            partition,
            wanted: view.wants(self.node, partition),
            held_from: content.held.get(&partition).copied(),
            leftover: content.leftover.contains_key(&partition),
            records: None,
        };
        PartitionsDocument {
            ring: view.version(),
            store: content.id,
            epoch: 1,
            tree: TreeState::Built,
            partitions: partitions().iter().map(info).collect(),
        }
    }

    fn page(&self, partition: PartitionId, request: &PageRequest) -> Option<Bytes> {
        let after = request.after().unwrap().map(|object| object.storage_key());
        let mut content = self.content();
        content.pages_left = content.pages_left.checked_sub(1)?;
        let here = content.records.iter().filter(|(key, (object, _))| {
            partitions().of(object.position()) == partition
                && after.as_ref().is_none_or(|after| *key > after)
        });
        let records: Vec<(ObjectKey, Record)> =
            here.map(|(_, found)| found.clone()).take(PAGE_RECORDS).collect();
        let full = records.len() == PAGE_RECORDS;
        let next = records.last().filter(|_| full).map(|(object, _)| object.clone());
        let ring = self.agents.snapshot().version;
        let page = Page { ring, store: content.id, records, unreadable: 0, next };
        Some(encode_page(&page).unwrap())
    }

    fn hold(&self, request: &PartitionsRequest) {
        let view = self.agents.view();
        for partition in &request.partitions {
            let from = view.needs_from(self.node, *partition).expect("only what is wanted");
            self.content().held.insert(*partition, from);
            self.agents.advertise(self.node, Some(*partition), true);
        }
    }

    fn release(&self, request: &PartitionsRequest) {
        for partition in &request.partitions {
            self.content().held.remove(partition);
            self.content().leftover.insert(*partition, true);
            self.agents.advertise(self.node, Some(*partition), false);
        }
    }

    fn reap_check(&self, request: &ReapCheckRequest) -> ReapCheckAnswer {
        let content = self.content();
        let presence = |object: ObjectKey| ReapPresence {
            digest: content
                .records
                .get(&object.storage_key())
                .map(|(_, record)| RecordDigest::of(record)),
            hint: content.hints.contains(&object),
        };
        ReapCheckAnswer {
            ring: self.agents.snapshot().version,
            store: content.id,
            epoch: 1,
            presence: request.objects().unwrap().into_iter().map(presence).collect(),
        }
    }

    fn reap(&self, request: ReapRequest) -> ReapAnswer {
        let mut content = self.content();
        let mut results = Vec::new();
        for item in request.items().unwrap() {
            let key = item.object.storage_key();
            let found = content.records.get(&key).map(|(_, record)| RecordDigest::of(record));
            results.push(match found {
                None => ReapResult::Absent,
                Some(digest) if digest != item.digest => ReapResult::Changed,
                Some(_) => {
                    assert_eq!(item.action, ReapAction::Remove);
                    content.records.remove(&key);
                    ReapResult::Done
                }
            });
        }
        ReapAnswer { results }
    }

    /// A refusal that was ordered for this request.
    fn refusal(&self, kind: &str, path: &str) -> Option<Problem> {
        let mut content = self.content();
        *content.asked.entry((kind.to_owned(), path.to_owned())).or_default() += 1;
        if content.broken {
            return Some(Problem::new(ErrorCode::StoreUnavailable, "broken"));
        }
        let left = content.overloaded.checked_sub(1)?;
        content.overloaded = left;
        Some(Problem::new(ErrorCode::Overloaded, "no slice").retry_after_s(0))
    }
}

async fn serve(State(store): State<Store>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    if path == "/v1/ping" {
        return "here".into_response();
    }
    let kind = request.headers().get("x-atoll-background").expect("background says so");
    if let Some(refusal) = store.refusal(kind.to_str().unwrap(), &path) {
        return refusal.into_response();
    }
    let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
    if let Some(rest) = path.strip_prefix("/v1/partitions/")
        && let Some(number) = rest.strip_suffix("/page")
    {
        let partition = PartitionId(number.parse().unwrap());
        return match store.page(partition, &read(&body)) {
            Some(page) => page.into_response(),
            None => Problem::new(ErrorCode::StoreUnavailable, "no more pages").into_response(),
        };
    }
    match path.as_str() {
        "/v1/tree/digests" => json(&store.digests(&read(&body))),
        "/v1/tree/keys" => json(&store.keys(&read(&body))),
        "/v1/replica/batch" => store.batch(body).into_response(),
        "/v1/partitions" => json(&store.partitions()),
        "/v1/partitions/hold" => {
            store.hold(&read(&body));
            json(&())
        }
        "/v1/partitions/release" => {
            store.release(&read(&body));
            json(&())
        }
        "/v1/partitions/drop" => json(&DropAnswer { done: true, dropped: 0 }),
        "/v1/reap/check" => json(&store.reap_check(&read(&body))),
        "/v1/reap" => json(&store.reap(read(&body))),
        _ => Problem::new(ErrorCode::NotFound, path).into_response(),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> T {
    serde_json::from_slice(body).unwrap()
}

fn json(answer: &impl Serialize) -> Response {
    serde_json::to_vec(answer).unwrap().into_response()
}

//! A client that talks to a chosen coordinator, as a router does.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use dynamo_core::clock::record::Record;
use dynamo_core::entropy::SplitMix;
use dynamo_core::id::{Incarnation, NodeId, PutId};
use dynamo_core::key::ObjectKey;
use dynamo_core::params::{Durability, Quorum, WriteQuorum};
use dynamo_core::ring::RingVersion;
use dynamo_core::wire::coordinate::{
    COORDINATE_GET_PATH, COORDINATE_PUT_PATH, Condition, ContentDto, GetAnswer, GetMessage,
    PutAnswer, PutMessage,
};
use dynamo_core::wire::frame::{FRAME_CONTENT_TYPE, decode_frame, encode_frame};
use dynamo_core::wire::headers::{BACKGROUND, REPEATED, RING_VERSION, SENT};
use dynamo_core::wire::replica::{
    REPLICA_BATCH_PATH, ReplicaOp, ReplicaResult, decode_response, encode_request,
};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use prometheus::Registry;
use serde::de::DeserializeOwned;
use service_kit::http::error::{ErrorCode, Problem};
use service_kit::peer::{
    PeerClient, PeerConfig, PeerIdentity, PeerMetrics, PeerRequest, PeerResponse, ProcessRole,
};
use service_kit::time::Clock;

use crate::agent::CLUSTER;

/// What was read.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) answer: GetAnswer,
    pub(crate) values: Vec<Bytes>,
}

impl Read {
    /// The values as text, sorted.
    pub(crate) fn texts(&self) -> Vec<String> {
        let mut texts: Vec<_> =
            self.values.iter().map(|v| String::from_utf8(v.to_vec()).unwrap()).collect();
        texts.sort();
        texts
    }

    pub(crate) fn context(&self) -> Option<String> {
        self.answer.versions.context.clone()
    }
}

/// What is asked besides the object.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ask {
    pub(crate) r: Option<Quorum>,
    pub(crate) w: Option<WriteQuorum>,
    pub(crate) pw: Option<Quorum>,
    pub(crate) notfound_ok: Option<bool>,
    pub(crate) explain: bool,
    pub(crate) context: Option<String>,
    pub(crate) put_id: Option<PutId>,
    pub(crate) durability: Option<Durability>,
    pub(crate) return_body: bool,
    pub(crate) condition: Option<Condition>,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) ring: Option<RingVersion>,
    /// Whether it says that it is a further attempt.
    pub(crate) repeated: bool,
    /// How long ago it says that it was sent.
    pub(crate) sent_ago: Option<Duration>,
}

/// W as a number.
pub(crate) fn w(count: u8) -> Ask {
    Ask { w: Some(WriteQuorum::Of(Quorum::Count(count))), ..Ask::default() }
}

/// R as a number.
pub(crate) fn r(count: u8) -> Ask {
    Ask { r: Some(Quorum::Count(count)), ..Ask::default() }
}

/// A put or get with this context.
pub(crate) fn with(context: Option<String>) -> Ask {
    Ask { context, ..Ask::default() }
}

pub(crate) struct Client {
    peer: PeerClient,
    entropy: std::cell::RefCell<SplitMix>,
}

impl Client {
    pub(crate) fn new(seed: u64) -> Self {
        Self::of(NodeId(0xff00 + u128::from(seed)), ProcessRole::Router, seed)
    }

    /// The background worker of a node.
    pub(crate) fn worker(node: NodeId) -> Self {
        Self::of(node, ProcessRole::Worker, 1)
    }

    fn of(node: NodeId, role: ProcessRole, seed: u64) -> Self {
        let identity = PeerIdentity::new(node, Incarnation(1), role, Some(CLUSTER));
        let metrics = PeerMetrics::register(&Registry::new()).unwrap();
        let peer = PeerClient::new(PeerConfig::default(), identity, Clock::system(), metrics);
        Self { peer, entropy: SplitMix::new(seed).into() }
    }

    pub(crate) async fn call(
        &self,
        to: SocketAddr,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
        timeout_ms: u64,
    ) -> Result<PeerResponse, Problem> {
        let request = PeerRequest {
            address: &to.to_string(),
            method,
            path,
            headers,
            body,
            timeout: Duration::from_millis(timeout_ms),
            idempotent: true,
        };
        let answer = self.peer.call(request).await;
        answer.map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))?.into_success()
    }

    pub(crate) async fn json<T: DeserializeOwned>(
        &self,
        to: SocketAddr,
        path: &str,
    ) -> Result<T, Problem> {
        let answer =
            self.call(to, Method::GET, path, HeaderMap::new(), Bytes::new(), 5_000).await?;
        Ok(serde_json::from_slice(&answer.body).unwrap())
    }

    /// Sends JSON and reads the answer's body.
    pub(crate) async fn post(
        &self,
        to: SocketAddr,
        path: &str,
        request: &impl serde::Serialize,
        background: Option<&str>,
    ) -> Result<Bytes, Problem> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(kind) = background {
            headers.insert(dynamo_core::wire::headers::BACKGROUND, kind.parse().unwrap());
        }
        let body = Bytes::from(serde_json::to_vec(request).unwrap());
        Ok(self.call(to, Method::POST, path, headers, body, 10_000).await?.body)
    }

    /// The same, for an answer in JSON.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        to: SocketAddr,
        path: &str,
        request: &impl serde::Serialize,
    ) -> Result<T, Problem> {
        let body = self.post(to, path, request, None).await?;
        Ok(serde_json::from_slice(&body).unwrap())
    }

    async fn frame(
        &self,
        to: SocketAddr,
        path: &str,
        body: Bytes,
        ask: &Ask,
    ) -> Result<PeerResponse, Problem> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(FRAME_CONTENT_TYPE));
        if let Some(ring) = ask.ring {
            headers.insert(RING_VERSION, ring.to_string().parse().unwrap());
        }
        if ask.repeated {
            headers.insert(REPEATED, HeaderValue::from_static("true"));
        }
        if let Some(ago) = ask.sent_ago {
            let ago = u64::try_from(ago.as_millis()).unwrap();
            headers.insert(SENT, HeaderValue::from(Clock::system().wall().0 - ago));
        }
        self.call(to, Method::POST, path, headers, body, ask.timeout_ms.unwrap_or(2_000)).await
    }

    pub(crate) async fn get(&self, to: SocketAddr, key: &str, ask: Ask) -> Result<Read, Problem> {
        let message = GetMessage {
            bucket: "b".to_owned(),
            key: Bytes::copy_from_slice(key.as_bytes()),
            r: ask.r,
            pr: None,
            notfound_ok: ask.notfound_ok,
            values: true,
            explain: ask.explain,
        };
        let body = encode_frame(&message, &[]).unwrap();
        let answer = self.frame(to, COORDINATE_GET_PATH, body, &ask).await?;
        let (answer, mut parts) = decode_frame::<GetAnswer>(answer.body).unwrap();
        let siblings = answer.versions.siblings.iter();
        let values = siblings.map(|sibling| parts.take(sibling.len).unwrap()).collect();
        parts.finish().unwrap();
        Ok(Read { answer, values })
    }

    pub(crate) async fn put(
        &self,
        to: SocketAddr,
        key: &str,
        value: &str,
        ask: Ask,
    ) -> Result<PutAnswer, Problem> {
        let value = Bytes::copy_from_slice(value.as_bytes());
        let content = ContentDto::Value {
            len: value.len(),
            content_type: Some("text/plain".to_owned()),
            meta: vec![("of".to_owned(), "test".to_owned())],
            expires_at: None,
        };
        self.write(to, key, content, vec![value], ask).await
    }

    pub(crate) async fn delete(
        &self,
        to: SocketAddr,
        key: &str,
        ask: Ask,
    ) -> Result<PutAnswer, Problem> {
        self.write(to, key, ContentDto::Tombstone, Vec::new(), ask).await
    }

    async fn write(
        &self,
        to: SocketAddr,
        key: &str,
        content: ContentDto,
        values: Vec<Bytes>,
        ask: Ask,
    ) -> Result<PutAnswer, Problem> {
        let fresh = PutId::random(&mut *self.entropy.borrow_mut());
        let message = PutMessage {
            bucket: "b".to_owned(),
            key: Bytes::copy_from_slice(key.as_bytes()),
            put_id: ask.put_id.unwrap_or(fresh),
            context: ask.context.clone(),
            content,
            w: ask.w,
            pw: ask.pw,
            durability: ask.durability,
            return_body: ask.return_body,
            condition: ask.condition.clone(),
        };
        let body = encode_frame(&message, &values).unwrap();
        let answer = self.frame(to, COORDINATE_PUT_PATH, body, &ask).await?;
        Ok(decode_frame::<PutAnswer>(answer.body).unwrap().0)
    }

    /// Sends a merge as a coordinator with this ring does; what became of it.
    pub(crate) async fn merge(
        &self,
        to: SocketAddr,
        key: &str,
        hint_for: Option<NodeId>,
        ring: RingVersion,
    ) -> ReplicaResult {
        self.merge_record(to, key, Record::default(), hint_for, ring).await
    }

    /// As [`Self::merge`], with something to merge.
    pub(crate) async fn merge_record(
        &self,
        to: SocketAddr,
        key: &str,
        record: Record,
        hint_for: Option<NodeId>,
        ring: RingVersion,
    ) -> ReplicaResult {
        let op = ReplicaOp::Merge {
            object: ObjectKey::parse("b", key).unwrap(),
            record,
            hint_for,
            durability: Durability::Fsync,
            puts: Vec::new(),
        };
        let body = encode_request([&op]).unwrap();
        let ask = Ask { ring: Some(ring), ..Ask::default() };
        let answer = self.frame(to, REPLICA_BATCH_PATH, body, &ask).await.unwrap();
        decode_response(answer.body, 1).unwrap().remove(0)
    }

    /// What one node's own replica is, as a coordinator asks for it or as background work does.
    pub(crate) async fn read_replica(
        &self,
        to: SocketAddr,
        key: &str,
        background: Option<&'static str>,
    ) -> ReplicaResult {
        let object = ObjectKey::parse("b", key).unwrap();
        let body =
            encode_request([&ReplicaOp::Read { object, unless: None, token: false, put: None }]);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(FRAME_CONTENT_TYPE));
        if let Some(kind) = background {
            headers.insert(BACKGROUND, HeaderValue::from_static(kind));
        }
        let answer =
            self.call(to, Method::POST, REPLICA_BATCH_PATH, headers, body.unwrap(), 2_000).await;
        decode_response(answer.unwrap().body, 1).unwrap().remove(0)
    }

    /// The status of a merge that somebody without a name sends.
    pub(crate) async fn replica_write_without_identity(&self, to: SocketAddr, key: &str) -> u16 {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let op = ReplicaOp::Merge {
            object: ObjectKey::parse("b", key).unwrap(),
            record: dynamo_core::clock::record::Record::default(),
            hint_for: None,
            durability: Durability::Fsync,
            puts: Vec::new(),
        };
        let body = encode_request([&op]).unwrap();
        let head = format!(
            "POST {REPLICA_BATCH_PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Content-Type: {FRAME_CONTENT_TYPE}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = tokio::net::TcpStream::connect(to).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// What one node itself has under a key: the values of its replica, sorted.
    pub(crate) async fn replica(&self, to: SocketAddr, key: &str) -> Vec<String> {
        let object = ObjectKey::parse("b", key).unwrap();
        let op = ReplicaOp::Read { object, unless: None, token: false, put: None };
        let body = encode_request([&op]).unwrap();
        let answer = self.frame(to, REPLICA_BATCH_PATH, body, &Ask::default()).await.unwrap();
        let mut results = decode_response(answer.body, 1).unwrap();
        let ReplicaResult::Record { record, .. } = results.remove(0) else { return Vec::new() };
        let mut texts: Vec<String> = record
            .visible(Clock::system().wall())
            .into_iter()
            .map(|sibling| match &sibling.content {
                dynamo_core::clock::record::Content::Value(value) => {
                    String::from_utf8(value.bytes.to_vec()).unwrap()
                }
                dynamo_core::clock::record::Content::Tombstone => unreachable!("visible"),
            })
            .collect();
        texts.sort();
        texts
    }

    /// Waits until a node's own replica has exactly these values.
    pub(crate) async fn until_replica(&self, to: SocketAddr, key: &str, expected: &[&str]) {
        let deadline = tokio::time::Instant::now() + crate::cluster::PATIENCE;
        loop {
            let found = self.replica(to, key).await;
            if found == expected {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{found:?}, not {expected:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

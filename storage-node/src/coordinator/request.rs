//! What every coordinated request begins with.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dynamo_core::cluster_view::ClusterView;
use dynamo_core::key::{NameError, ObjectKey};
use dynamo_core::limits::TIMEOUT_MS_DEFAULT;
use dynamo_core::params::{BucketProps, ParamError, Quorum, WriteQuorum};
use dynamo_core::ring::{ReplicaSets, RingVersion};
use dynamo_core::time::Mono;
use service_kit::http::error::{ErrorCode, Problem};

use crate::node::Node;

/// A client request at its coordinator.
#[derive(Debug, Clone)]
pub struct Request {
    /// The ring that it is answered under.
    pub view: Arc<ClusterView>,
    /// The object.
    pub object: ObjectKey,
    /// Properties of its bucket.
    pub props: BucketProps,
    /// The object's replicas.
    pub replicas: ReplicaSets,
    /// When it arrived.
    pub started: Mono,
    /// When its client stops waiting.
    pub deadline: Mono,
    /// The ring that the sender chose this node by.
    pub senders_ring: Option<RingVersion>,
}

impl Request {
    /// Places a request in the ring.
    ///
    /// # Errors
    /// `not_ready` where no ring is known, and the problems of bad names.
    pub fn new(
        node: &Node,
        bucket: &str,
        key: Bytes,
        deadline: Option<Mono>,
        senders_ring: Option<RingVersion>,
    ) -> Result<Self, Problem> {
        let view = node.ring()?;
        let bucket = bucket.parse().map_err(name_problem)?;
        let object = ObjectKey::new(bucket, key).map_err(name_problem)?;
        let props = view.bucket(object.bucket());
        let replicas = view.replica_sets(object.position(), props.n);
        let started = node.clock.mono();
        let deadline =
            deadline.unwrap_or_else(|| started.plus(Duration::from_millis(TIMEOUT_MS_DEFAULT)));
        Ok(Self { view, object, props, replicas, started, deadline, senders_ring })
    }

    /// Whether the sender used the ring that this node uses.
    #[must_use]
    pub fn is_same_ring(&self) -> bool {
        self.senders_ring == Some(self.view.version())
    }

    /// The replies that a get waits for.
    ///
    /// # Errors
    /// `bad_parameter`.
    pub fn r(&self, asked: Option<Quorum>) -> Result<u8, Problem> {
        asked.unwrap_or(self.props.r).resolve(self.props.n).map_err(|e| parameter("r", &e))
    }

    /// The replies or acknowledgements of primaries to insist on: `name` is `pr` or `pw`.
    ///
    /// # Errors
    /// `bad_parameter`.
    pub fn strict(
        &self,
        name: &'static str,
        asked: Option<Quorum>,
        default: u8,
    ) -> Result<u8, Problem> {
        asked.map_or(Ok(default), |quorum| {
            quorum.resolve(self.props.n).map_err(|e| parameter(name, &e))
        })
    }

    /// The acknowledgements that a put waits for.
    #[must_use]
    pub fn w(&self, asked: Option<WriteQuorum>) -> WriteQuorum {
        asked.unwrap_or(self.props.w)
    }
}

/// The refusal of a parameter.
#[must_use]
pub fn parameter(name: &str, error: &ParamError) -> Problem {
    Problem::new(ErrorCode::BadParameter, format!("{name}: {error}"))
}

/// The refusal of a bucket or key.
#[must_use]
pub fn name_problem(error: NameError) -> Problem {
    let code = match error {
        NameError::Bucket => ErrorCode::BadBucket,
        NameError::Reserved => ErrorCode::ReservedBucket,
        NameError::EmptyKey => ErrorCode::EmptyKey,
        NameError::KeyTooLong => ErrorCode::KeyTooLong,
        NameError::Encoding => ErrorCode::BadPercentEncoding,
    };
    Problem::new(code, error.to_string())
}

//! What a storage node wants to know of whoever calls it: the identity headers of messages
//! between processes. A client takes the part of a router.

use dynamo_core::cluster_view::ClusterView;
use dynamo_core::id::NodeId;
use dynamo_core::wire::frame::FRAME_CONTENT_TYPE;
use dynamo_core::wire::headers;
use reqwest::Method;

use crate::error::Error;
use crate::transport::exchange::{DeadlineHeader, Kind, Request};

/// The protocol version that this client speaks.
const PROTOCOL: &str = "1";

/// The role that a client has towards storage nodes.
const ROLE: &str = "router";

/// Header of the sender's role.
const ROLE_HEADER: &str = "x-atoll-role";

/// A client has one life.
const INCARNATION: &str = "1";

/// The identity of one client, random: it is nobody's peer and owns nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sender(NodeId);

impl Sender {
    pub(super) fn new() -> Self {
        Self(NodeId(uuid::Uuid::new_v4().as_u128()))
    }

    pub(super) fn node(&self) -> NodeId {
        self.0
    }

    /// A request to `POST` a frame to `path`.
    ///
    /// # Errors
    /// Those of [`Request::header`]; all values here are plain text.
    pub(super) fn request(
        &self,
        path: &str,
        view: &ClusterView,
        kind: Kind,
    ) -> Result<Request, Error> {
        let mut request = Request::new(Method::POST, path, kind);
        request.deadline = DeadlineHeader::Peer;
        request.header("content-type", FRAME_CONTENT_TYPE)?;
        request.header(headers::CLUSTER, &view.cluster().to_string())?;
        request.header(headers::SENDER, &self.0.to_string())?;
        request.header(ROLE_HEADER, ROLE)?;
        request.header(headers::INCARNATION, INCARNATION)?;
        request.header(headers::PROTOCOL, PROTOCOL)?;
        request.header(headers::RING_VERSION, &view.version().to_string())?;
        Ok(request)
    }
}

//! The ring as the router works with it: the parsed view, and the bytes that it was parsed from,
//! which are served again to client libraries without being encoded anew.

use bytes::Bytes;
use dynamo_core::cluster_view::{ClusterView, RingSnapshot, SnapshotError};
use http::HeaderValue;

/// One snapshot in all the forms that requests need. Immutable; a newer one replaces it as a whole.
#[derive(Debug)]
pub struct RingView {
    /// The parsed view.
    pub view: ClusterView,
    /// The JSON as published.
    pub encoded: Bytes,
    /// Entity tag of `encoded`.
    pub etag: HeaderValue,
    /// The ring's version, as it is sent to coordinators.
    pub version: HeaderValue,
}

/// A published snapshot that cannot be used. The one in use stays.
#[derive(Debug, thiserror::Error)]
pub enum RingViewError {
    /// Not the JSON of a snapshot.
    #[error("not a ring snapshot: {0}")]
    Json(#[from] serde_json::Error),
    /// A snapshot that does not fit together.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A tag or version that cannot be a header.
    #[error("the tag of the snapshot is not a header value")]
    Tag,
}

impl RingView {
    /// Reads a published snapshot.
    ///
    /// # Errors
    /// [`RingViewError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, RingViewError> {
        let snapshot: RingSnapshot = serde_json::from_slice(bytes)?;
        let header = |text: String| HeaderValue::try_from(text).map_err(|_| RingViewError::Tag);
        let etag = header(snapshot.etag(bytes))?;
        let version = header(snapshot.version.to_string())?;
        let view = ClusterView::from_snapshot(snapshot)?;
        Ok(Self { view, encoded: Bytes::copy_from_slice(bytes), etag, version })
    }
}

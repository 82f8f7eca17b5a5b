//! What the cluster did for an answer.

use dynamo_core::wire::coordinate;
use dynamo_core::wire::headers;
use serde::{Deserialize, Serialize};

use crate::transport::exchange::Answer;

/// What happened, as the answer's headers tell it. Everything is optional: an answer that needed
/// no replicas has no counts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Evidence {
    /// Replies or acknowledgements that counted when the answer was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acks: Option<u8>,
    /// Replies or acknowledgements that were needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<u8>,
    /// Primaries among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primaries: Option<u8>,
    /// Replicas of the object (N).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u8>,
    /// Replicas handed to fallbacks as hints so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hinted: Option<u8>,
    /// The node that coordinated; absent where this client did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coordinator: Option<String>,
    /// What the acknowledgements have survived: `fsync` or `buffered`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<String>,
    /// The id under which the server's log has the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl Evidence {
    /// Reads the headers of an answer. Missing or unreadable ones are absent: evidence informs, it
    /// never makes an answer fail.
    pub(crate) fn of_headers(answer: &Answer) -> Self {
        let pair = |name: &str| {
            let (left, right) = answer.text(name)?.split_once('/')?;
            Some((left.trim().parse().ok()?, right.trim().parse().ok()?))
        };
        let (acks, asked) = pair(headers::ACKS).unzip();
        let (primaries, n) = pair(headers::PRIMARIES).unzip();
        Self {
            acks,
            asked,
            primaries,
            n,
            hinted: answer.text(headers::HINTED).and_then(|text| text.parse().ok()),
            coordinator: answer.text(headers::COORDINATOR).map(str::to_owned),
            durability: answer.text(headers::DURABILITY).map(str::to_owned),
            request_id: answer.text(headers::REQUEST_ID).map(str::to_owned),
        }
    }

    /// What a coordinator's frame tells.
    pub(crate) fn of_frame(evidence: &coordinate::Evidence, request_id: Option<&str>) -> Self {
        Self {
            acks: Some(evidence.acks),
            asked: Some(evidence.asked),
            primaries: Some(evidence.primaries),
            n: Some(evidence.n),
            hinted: Some(evidence.hinted),
            coordinator: Some(evidence.coordinator.to_string()),
            durability: Some(evidence.durability.to_string()),
            request_id: request_id.map(str::to_owned),
        }
    }
}

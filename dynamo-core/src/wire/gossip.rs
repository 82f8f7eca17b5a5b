//! Agent to agent: what one gossip round says. Every message carries protocol version, cluster,
//! sender and a checksum over all of it: a single flipped bit in gossip once stopped a very large
//! store for eight hours (hazard C14).
//!
//! A round is at most two requests. The first compares hashes; only where they differ, digests
//! follow, then what each side lacks (push and pull):
//!
//! | | request | answer |
//! |---|---|---|
//! | 1 | [`GossipBody::Probe`] | [`GossipBody::Digest`] of what differs |
//! | 2 | [`GossipBody::Push`] | [`GossipBody::Give`] |
//!
//! The decision what to send is in [`crate::membership::gossip`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{ClusterId, Incarnation, NodeId};
use crate::membership::registers::WriteStamp;
use crate::membership::state::{STATE_RANGES, Stamp};
use crate::membership::view::Delta;
use crate::ring::RingVersion;

/// `POST` of a [`GossipMessage`], answered by one.
pub const GOSSIP_PATH: &str = "/v1/gossip";

/// The version of these messages.
pub const GOSSIP_PROTOCOL: u32 = 1;

/// Hashes of everything the sender knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Its history.
    pub history: RingVersion,
    /// Its node states, one hash per slice of the id space.
    pub states: [u64; STATE_RANGES],
    /// Its bucket properties.
    pub buckets: u64,
    /// Its staged changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged: Option<WriteStamp>,
}

/// What the answering agent knows, of the parts that differ; empty where nothing does.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Digest {
    /// Number of the last event per issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<BTreeMap<NodeId, u64>>,
    /// Stamps of the node states, per slice that differs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub states: BTreeMap<usize, BTreeMap<NodeId, Stamp>>,
    /// Stamps of all bucket entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buckets: Option<BTreeMap<String, WriteStamp>>,
    /// Stamp of the staged changes, as `[stamp]`, or `[]` for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staged: Option<Vec<WriteStamp>>,
}

/// What the sender lacks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Want {
    /// All events beyond these numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<BTreeMap<NodeId, u64>>,
    /// The states of these nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<NodeId>,
    /// The entries of these buckets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub buckets: Vec<String>,
    /// The staged changes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub staged: bool,
}

/// One step of a round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GossipBody {
    /// Opens a round.
    Probe(Summary),
    /// Answers a probe.
    Digest(Digest),
    /// What the answering agent lacks, and what it is asked for.
    Push {
        /// For the receiver.
        delta: Delta,
        /// From the receiver.
        want: Want,
    },
    /// Answers a push with what was asked for.
    Give(Delta),
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GossipMessage {
    /// [`GOSSIP_PROTOCOL`].
    pub protocol: u32,
    /// The sender's cluster; absent before it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterId>,
    /// The sending node.
    pub from: NodeId,
    /// The sending agent's incarnation.
    pub incarnation: Incarnation,
    /// The sending agent's life, see [`Stamp::life`].
    pub life: u64,
    /// CRC32C over everything else.
    pub checksum: u32,
    /// The step.
    pub body: GossipBody,
}

/// Bytes that are not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GossipDecodeError {
    /// Not the JSON of a message. The text names the place.
    #[error("not a gossip message: {0}")]
    Json(String),
    /// Written in another version of the protocol.
    #[error("gossip protocol {0} is not spoken here")]
    Protocol(u32),
    /// Damaged on the way.
    #[error("checksum mismatch")]
    Checksum,
}

/// The one field that all versions of the message share.
#[derive(Deserialize)]
struct AnyVersion {
    protocol: u32,
}

impl GossipMessage {
    /// Puts a step into the envelope of a sender.
    #[must_use]
    pub fn seal(cluster: Option<ClusterId>, from: NodeId, stamp: Stamp, body: GossipBody) -> Self {
        let mut message = Self {
            protocol: GOSSIP_PROTOCOL,
            cluster,
            from,
            incarnation: stamp.incarnation,
            life: stamp.life,
            checksum: 0,
            body,
        };
        message.checksum = message.sum();
        message
    }

    /// Reads a message and checks version and checksum. Limits of the content are checked where
    /// it is judged.
    ///
    /// # Errors
    /// [`GossipDecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, GossipDecodeError> {
        let message: Self = match serde_json::from_slice(bytes) {
            Ok(message) => message,
            Err(error) => {
                return Err(match serde_json::from_slice::<AnyVersion>(bytes) {
                    Ok(AnyVersion { protocol }) if protocol != GOSSIP_PROTOCOL => {
                        GossipDecodeError::Protocol(protocol)
                    }
                    _ => GossipDecodeError::Json(error.to_string()),
                });
            }
        };
        if message.protocol != GOSSIP_PROTOCOL {
            return Err(GossipDecodeError::Protocol(message.protocol));
        }
        if message.checksum != message.sum() {
            return Err(GossipDecodeError::Checksum);
        }
        Ok(message)
    }

    /// The bytes to send.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a message has string keys only and no failing serializer")
    }

    /// Over the canonical JSON of all fields but the checksum itself. A reader recomputes it from
    /// what it parsed, so white space may change and values may not.
    fn sum(&self) -> u32 {
        let covered =
            (self.protocol, self.cluster, self.from, self.incarnation, self.life, &self.body);
        let encoded = serde_json::to_vec(&covered)
            .expect("a message has string keys only and no failing serializer");
        crc32c::crc32c(&encoded)
    }
}

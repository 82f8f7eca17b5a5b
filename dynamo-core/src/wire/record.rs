//! Records in messages: metadata as JSON, values raw in the frame's body. Clocks name their nodes
//! by index into a table, as on disk.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::dot::Dot;
use crate::clock::dvv::{Dvv, Run};
use crate::clock::hlc::Hlc;
use crate::clock::record::{Content, Record, Sibling, Value};
use crate::id::{ActorId, NodeId, PutId};
use crate::limits::CLOCK_ENTRIES_MAX;
use crate::time::WallMs;
use crate::wire::frame::{FrameError, Parts};

/// A clock: nodes, then `[node index, epoch, counter, updated_at]` for the version vector (`v`)
/// and `[node index, epoch, first, last, updated_at]` for runs of loose dots (`d`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ClockDto {
    /// The nodes that the entries name.
    pub n: Vec<NodeId>,
    /// The version vector.
    pub v: Vec<(usize, u64, u64, WallMs)>,
    /// Loose dots.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub d: Vec<(usize, u64, u64, u64, WallMs)>,
}

/// One sibling without its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiblingDto {
    /// `[node index, epoch, counter]`.
    pub dot: (usize, u64, u64),
    /// The client put behind it.
    pub put: PutId,
    /// When it was accepted.
    pub stamp: Hlc,
    /// Bytes of the value in the frame's body; absent for a tombstone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub len: Option<usize>,
    /// Stored content type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// User metadata.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub meta: Vec<(String, String)>,
    /// Absolute expiry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<WallMs>,
}

/// A record without the bytes of its values.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RecordDto {
    /// Its clock; the siblings' dots use the same node table.
    pub clock: ClockDto,
    /// Its siblings in dot order.
    pub siblings: Vec<SiblingDto>,
}

/// Splits a record into metadata and the values that go into the frame's body, in order.
#[must_use]
pub fn record_to_wire(record: &Record) -> (RecordDto, Vec<Bytes>) {
    let mut nodes = Nodes::default();
    let mut clock = clock_entries(record.clock(), &mut nodes);
    let mut values = Vec::with_capacity(record.sibling_count());
    let siblings = record
        .siblings()
        .map(|sibling| {
            let actor = sibling.dot.actor;
            let mut dto = SiblingDto {
                dot: (nodes.index(actor.node), actor.epoch, sibling.dot.counter),
                put: sibling.put_id,
                stamp: sibling.stamp,
                len: None,
                content_type: None,
                meta: Vec::new(),
                expires_at: None,
            };
            if let Content::Value(value) = &sibling.content {
                dto.len = Some(value.bytes.len());
                dto.content_type.clone_from(&value.content_type);
                dto.meta.clone_from(&value.meta);
                dto.expires_at = value.expires_at;
                values.push(value.bytes.clone());
            }
            dto
        })
        .collect();
    clock.n = nodes.0;
    (RecordDto { clock, siblings }, values)
}

/// Puts a record together from its metadata and the values at the front of `parts`.
///
/// # Errors
/// [`FrameError::Body`] where the metadata is inconsistent or beyond its limits, or the bytes do
/// not match it.
pub fn record_from_wire(dto: RecordDto, parts: &mut Parts) -> Result<Record, FrameError> {
    let clock = clock_from_wire(&dto.clock)?;
    let mut siblings = Vec::with_capacity(dto.siblings.len());
    for sibling in dto.siblings {
        let (node, epoch, counter) = sibling.dot;
        let dot = dot(&dto.clock.n, node, epoch, counter)?;
        if !clock.covers(&dot) {
            return Err(FrameError::Body);
        }
        let content = match sibling.len {
            None => Content::Tombstone,
            Some(length) => {
                let value = Value {
                    bytes: parts.take(length)?,
                    content_type: sibling.content_type,
                    meta: sibling.meta,
                    expires_at: sibling.expires_at,
                };
                if !value.is_within_limits() {
                    return Err(FrameError::Body);
                }
                Content::Value(value)
            }
        };
        siblings.push(Sibling { dot, put_id: sibling.put, stamp: sibling.stamp, content });
    }
    let count = siblings.len();
    let record = Record::new(clock, siblings);
    if record.sibling_count() == count { Ok(record) } else { Err(FrameError::Body) }
}

/// The message form of a clock alone.
#[must_use]
pub fn clock_to_wire(clock: &Dvv) -> ClockDto {
    let mut nodes = Nodes::default();
    let mut dto = clock_entries(clock, &mut nodes);
    dto.n = nodes.0;
    dto
}

/// Reads the message form of a clock.
///
/// # Errors
/// [`FrameError::Body`] for entries that name no node, zero counters and clocks that are too long.
pub fn clock_from_wire(dto: &ClockDto) -> Result<Dvv, FrameError> {
    if dto.v.len().saturating_add(dto.d.len()) > CLOCK_ENTRIES_MAX {
        return Err(FrameError::Body);
    }
    let mut clock = Dvv::new();
    for (node, epoch, counter, at) in &dto.v {
        let dot = dot(&dto.n, *node, *epoch, *counter)?;
        clock.insert_up_to(dot.actor, dot.counter, *at);
    }
    for (node, epoch, first, last, at) in &dto.d {
        let Dot { actor, counter: first } = dot(&dto.n, *node, *epoch, *first)?;
        if first > *last {
            return Err(FrameError::Body);
        }
        clock.insert_run(Run { actor, first, last: *last, at: *at });
    }
    Ok(clock)
}

/// The node table under construction.
#[derive(Default)]
struct Nodes(Vec<NodeId>);

impl Nodes {
    fn index(&mut self, node: NodeId) -> usize {
        self.0.iter().position(|known| *known == node).unwrap_or_else(|| {
            self.0.push(node);
            self.0.len() - 1
        })
    }
}

fn clock_entries(clock: &Dvv, nodes: &mut Nodes) -> ClockDto {
    let mut v = Vec::new();
    for (actor, entry) in clock.vector() {
        v.push((nodes.index(actor.node), actor.epoch, entry.counter, entry.at));
    }
    let mut d = Vec::new();
    for run in clock.loose() {
        d.push((nodes.index(run.actor.node), run.actor.epoch, run.first, run.last, run.at));
    }
    ClockDto { n: Vec::new(), v, d }
}

fn dot(nodes: &[NodeId], index: usize, epoch: u64, counter: u64) -> Result<Dot, FrameError> {
    let node = *nodes.get(index).ok_or(FrameError::Body)?;
    if counter == 0 {
        return Err(FrameError::Body);
    }
    Ok(Dot { actor: ActorId { node, epoch }, counter })
}

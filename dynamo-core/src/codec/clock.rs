//! Binary form of a clock: a table of the nodes in it, then entries that name nodes by index.
//! Clocks repeat few node ids many times, and tokens and records are full of clocks.
//!
//! What the writer writes the reader reads: nothing is limited here but by the input's own length.
//! Limits on what others may send are checked where it comes in (see [`crate::wire::record`]).

use crate::clock::dvv::{Dvv, Run};
use crate::codec::bytes::{DecodeError, Reader, Writer};
use crate::id::{ActorId, NodeId};
use crate::time::WallMs;

/// The distinct nodes of a form, in the order of first use.
#[derive(Debug, Default)]
pub struct NodeTable {
    nodes: Vec<NodeId>,
}

impl NodeTable {
    /// The table of all nodes that `actors` name.
    pub fn of(actors: impl Iterator<Item = ActorId>) -> Self {
        let mut nodes = Vec::new();
        for actor in actors {
            if !nodes.contains(&actor.node) {
                nodes.push(actor.node);
            }
        }
        Self { nodes }
    }

    /// Writes the table.
    pub fn write(&self, out: &mut Writer) {
        out.len(self.nodes.len());
        for node in &self.nodes {
            out.u128(node.0);
        }
    }

    /// Reads a table.
    ///
    /// # Errors
    /// As the reader; [`DecodeError::Invalid`] for a repeated node.
    pub fn read(input: &mut Reader) -> Result<Self, DecodeError> {
        let count = input.items("node count")?;
        let mut nodes = Vec::new();
        for _ in 0..count {
            let node = NodeId(input.u128()?);
            if nodes.contains(&node) {
                return Err(DecodeError::Invalid("repeated node"));
            }
            nodes.push(node);
        }
        Ok(Self { nodes })
    }

    /// Writes an actor as (index of its node, epoch).
    pub fn write_actor(&self, actor: ActorId, out: &mut Writer) {
        let index = self.nodes.iter().position(|node| *node == actor.node);
        out.len(index.expect("the table was made from every actor of the form"));
        out.varint(actor.epoch);
    }

    /// Reads an actor.
    ///
    /// # Errors
    /// As the reader; [`DecodeError::Invalid`] for an index outside the table.
    pub fn read_actor(&self, input: &mut Reader) -> Result<ActorId, DecodeError> {
        let index = input.count(self.nodes.len(), "node index")?;
        let node = *self.nodes.get(index).ok_or(DecodeError::Invalid("node index"))?;
        Ok(ActorId { node, epoch: input.varint()? })
    }
}

/// All actors that a clock names.
pub fn actors(clock: &Dvv) -> impl Iterator<Item = ActorId> + '_ {
    clock.vector().map(|(actor, _)| actor).chain(clock.loose().map(|run| run.actor))
}

/// Writes a clock whose nodes are in `table`; `times` tells whether the update times go along.
pub fn write_clock(clock: &Dvv, table: &NodeTable, times: bool, out: &mut Writer) {
    out.len(clock.vector().count());
    for (actor, entry) in clock.vector() {
        table.write_actor(actor, out);
        out.varint(entry.counter);
        if times {
            out.varint(entry.at.0);
        }
    }
    out.len(clock.loose().count());
    for run in clock.loose() {
        table.write_actor(run.actor, out);
        out.varint(run.first);
        out.varint(run.last - run.first);
        if times {
            out.varint(run.at.0);
        }
    }
}

/// Reads what [`write_clock`] wrote with the same `times`.
///
/// # Errors
/// As the reader; [`DecodeError::Invalid`] for zero counters and clocks that are not in canonical
/// form (a repeated actor, a run that the vector or another run covers or touches).
pub fn read_clock(table: &NodeTable, times: bool, input: &mut Reader) -> Result<Dvv, DecodeError> {
    let mut clock = Dvv::new();
    let vector = input.items("clock entries")?;
    for _ in 0..vector {
        let actor = table.read_actor(input)?;
        let counter = read_counter(input)?;
        clock.insert_up_to(actor, counter, read_time(times, input)?);
    }
    let loose = input.items("clock runs")?;
    for _ in 0..loose {
        let actor = table.read_actor(input)?;
        let first = read_counter(input)?;
        let last = first.checked_add(input.varint()?).ok_or(DecodeError::Invalid("counter"))?;
        clock.insert_run(Run { actor, first, last, at: read_time(times, input)? });
    }
    if clock.vector().count() != vector || clock.loose().count() != loose {
        return Err(DecodeError::Invalid("clock"));
    }
    Ok(clock)
}

fn read_counter(input: &mut Reader) -> Result<u64, DecodeError> {
    match input.varint()? {
        0 => Err(DecodeError::Invalid("counter")),
        counter => Ok(counter),
    }
}

fn read_time(times: bool, input: &mut Reader) -> Result<WallMs, DecodeError> {
    if times { input.varint().map(WallMs) } else { Ok(WallMs(0)) }
}

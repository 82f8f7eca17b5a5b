//! What the worker does for the mover, and what it hears.

use crate::clock::record::Record;
use crate::id::{NodeId, PartitionId};
use crate::key::ObjectKey;
use crate::merkle::exchange::{ExchangeMode, ExchangeWitness};
use crate::ring::RingVersion;
use crate::transfer::Progress;
use crate::wire::partition::{Page, PartitionsDocument};

/// Names one step of one partition, so that late answers are known as such.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    /// The partition.
    pub partition: PartitionId,
    /// Which step of it.
    pub number: u64,
}

/// A loss that cannot be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("partition {0} is not known to be without holder")]
pub struct AcceptLossError(pub u32);

/// What is to be done. "Near" is the storage node of this host.
#[derive(Debug, Clone, PartialEq)]
pub enum MoveEffect {
    /// Ask a node what it has ([`crate::wire::partition::PARTITIONS_PATH`]); answered by
    /// [`MoveEvent::Offer`].
    AskOffer {
        /// The node.
        node: NodeId,
    },
    /// Fetch a page of what this node is to have; answered by [`MoveEvent::Page`].
    Fetch {
        /// The step.
        ticket: Ticket,
        /// From whom.
        source: NodeId,
        /// After which object.
        after: Option<ObjectKey>,
    },
    /// Merge a page into the near store, durably; answered by [`MoveEvent::Merged`]. Empty pages
    /// too.
    Merge {
        /// The step.
        ticket: Ticket,
        /// The page's records.
        records: Vec<(ObjectKey, Record)>,
    },
    /// Store the partition's progress durably; answered by [`MoveEvent::Saved`].
    Checkpoint {
        /// The step.
        ticket: Ticket,
        /// What to store.
        progress: Progress,
    },
    /// Compare the near store with a peer in these classes of the partition; answered by
    /// [`MoveEvent::Compared`].
    Compare {
        /// The step.
        ticket: Ticket,
        /// With whom.
        peer: NodeId,
        /// The classes, ascending.
        classes: Vec<u8>,
        /// Which way differences are mended.
        mode: ExchangeMode,
    },
    /// Tell the near store that the partition is complete; answered by [`MoveEvent::Done`].
    Hold {
        /// The step.
        ticket: Ticket,
        /// Under which ring.
        ring: RingVersion,
    },
    /// Tell the near store to release the partition; answered by [`MoveEvent::Done`].
    Release {
        /// The step.
        ticket: Ticket,
        /// Under which ring.
        ring: RingVersion,
    },
    /// Let the near store delete a page of what is left over; answered by [`MoveEvent::Dropped`].
    Drop {
        /// The step.
        ticket: Ticket,
        /// Under which ring.
        ring: RingVersion,
    },
    /// Delete the partition's stored progress. Not answered: it may be done at any time.
    Forget {
        /// The partition.
        partition: PartitionId,
    },
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum MoveEvent {
    /// What a node has; `None` where it did not answer.
    Offer {
        /// The node.
        node: NodeId,
        /// Its answer.
        document: Option<PartitionsDocument>,
    },
    /// The page came.
    Page {
        /// The step.
        ticket: Ticket,
        /// The page.
        page: Page,
    },
    /// The page is merged durably.
    Merged {
        /// The step.
        ticket: Ticket,
    },
    /// The progress is stored durably.
    Saved {
        /// The step.
        ticket: Ticket,
    },
    /// The comparison ended.
    Compared {
        /// The step.
        ticket: Ticket,
        /// Under what both were found equal (or, one way, nothing is left to push); `None` where
        /// they were not.
        agreed: Option<ExchangeWitness>,
    },
    /// The near store has done it.
    Done {
        /// The step.
        ticket: Ticket,
    },
    /// A page was deleted.
    Dropped {
        /// The step.
        ticket: Ticket,
        /// Whether nothing is left over any more.
        done: bool,
        /// How many records.
        dropped: u64,
    },
    /// The step failed, or was refused.
    Failed {
        /// The step.
        ticket: Ticket,
        /// Why, for status and log.
        reason: String,
    },
}

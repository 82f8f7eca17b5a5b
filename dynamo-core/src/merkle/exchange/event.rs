//! What happens to an exchange, and what it has its shell do.

use crate::clock::digest::RecordDigest;
use crate::clock::record::Record;
use crate::id::StoreId;
use crate::key::ObjectKey;
use crate::merkle::digest::TreeDigest;
use crate::merkle::exchange::outcome::ExchangeResult;
use crate::merkle::keys::KeyEntry;
use crate::merkle::prefix::{Leaf, Prefix};
use crate::ring::RingVersion;
use crate::time::Mono;
use crate::wire::tree::TreeState;

/// One of the two replicas that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The storage node on the host that runs the exchange.
    Near,
    /// Its peer.
    Far,
}

impl Side {
    /// Both, near first.
    pub const BOTH: [Self; 2] = [Self::Near, Self::Far];
}

/// A read of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordRead {
    /// The object.
    pub object: ObjectKey,
    /// Where the replica's record has this digest, [`ReadAnswer::Same`] is answer enough.
    pub unless: Option<RecordDigest>,
}

/// What became of one read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadAnswer {
    /// The replica's record.
    Record(Record),
    /// Its record is the one that `unless` named.
    Same,
    /// It has nothing under the key.
    Absent,
    /// This one was refused.
    Refused,
}

/// What became of one merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeAnswer {
    /// Merged durably.
    Merged,
    /// This one was refused.
    Refused,
}

/// What happens to an exchange. Each effect but the last is answered by exactly one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExchangeEvent {
    /// Answers [`ExchangeEffect::AskDigests`].
    Digests {
        /// Who answered.
        side: Side,
        /// The ring that the side works with.
        ring: RingVersion,
        /// Its store.
        store: StoreId,
        /// Whether its tree is complete.
        state: TreeState,
        /// One per subtree, in the order of the question.
        digests: Vec<TreeDigest>,
    },
    /// Answers [`ExchangeEffect::AskKeys`].
    Keys {
        /// Who answered.
        side: Side,
        /// The page, in scan order.
        keys: Vec<KeyEntry>,
        /// Where the next page starts; `None` at the end.
        next: Option<ObjectKey>,
    },
    /// The time of [`ExchangeEffect::Wait`] has come.
    Timer,
    /// Answers [`ExchangeEffect::ReadRecords`].
    Records {
        /// Who answered.
        side: Side,
        /// One per read, in their order.
        answers: Vec<ReadAnswer>,
    },
    /// Answers [`ExchangeEffect::Merge`].
    Merged {
        /// Who answered.
        side: Side,
        /// One per record, in their order.
        answers: Vec<MergeAnswer>,
    },
    /// Answers [`ExchangeEffect::ReadRecords`] and [`ExchangeEffect::Merge`] where request or
    /// answer would be larger than a message may be. Fewer are asked for at once then.
    TooLarge {
        /// Of which request.
        side: Side,
    },
    /// The side did not answer, or not with what can be read.
    Failed {
        /// Which side.
        side: Side,
        /// Why, for the log and the status.
        reason: String,
    },
}

/// What the shell does for an exchange. Effects that come together may run at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExchangeEffect {
    /// Ask for the digests of subtrees.
    AskDigests {
        /// Whom to ask.
        side: Side,
        /// Of which class.
        class: u8,
        /// At most [`crate::limits::TREE_PREFIXES_MAX`] subtrees.
        prefixes: Vec<Prefix>,
    },
    /// Ask for the next page of the keys of leaves.
    AskKeys {
        /// Whom to ask.
        side: Side,
        /// Of which class.
        class: u8,
        /// At most [`crate::limits::TREE_LEAVES_MAX`] leaves, ascending.
        leaves: Vec<Leaf>,
        /// Where the page before ended.
        after: Option<ObjectKey>,
    },
    /// Send [`ExchangeEvent::Timer`] at this time, and at no earlier one.
    Wait {
        /// When.
        until: Mono,
    },
    /// Read records of the replica itself. Hints that the node keeps for others must not count:
    /// they are not in its tree, and a record that is there as a hint alone would pass for stored.
    ReadRecords {
        /// Of whom.
        side: Side,
        /// At most [`crate::limits::REPLICA_BATCH_MAX`] reads.
        reads: Vec<RecordRead>,
    },
    /// Merge records into the replica, durably.
    Merge {
        /// Of whom.
        side: Side,
        /// At most [`crate::limits::REPLICA_BATCH_MAX`] records, together within
        /// [`crate::limits::EXCHANGE_BATCH_BYTES`] unless a single one is larger.
        records: Vec<(ObjectKey, Record)>,
    },
    /// The exchange is over; nothing is waited for any more.
    Done(ExchangeResult),
}

/// One thing per side.
#[derive(Debug, Clone, Default)]
pub(super) struct Sides<T> {
    pub(super) near: T,
    pub(super) far: T,
}

impl<T> Sides<T> {
    pub(super) fn get(&self, side: Side) -> &T {
        match side {
            Side::Near => &self.near,
            Side::Far => &self.far,
        }
    }

    pub(super) fn get_mut(&mut self, side: Side) -> &mut T {
        match side {
            Side::Near => &mut self.near,
            Side::Far => &mut self.far,
        }
    }
}

//! Removing what nobody needs any more: dead records, and the oldest entries of long clocks. The
//! worker asks what every node has of each key, and orders only what all answers allow
//! ([`crate::reap`]).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::digest::RecordDigest;
use crate::id::{ActorId, NodeId, StoreId};
use crate::key::{NameError, ObjectKey};
use crate::limits::{CLOCK_ENTRIES_MAX, REAP_KEYS_MAX};
use crate::ring::RingVersion;
use crate::wire::tree::ObjectDto;

/// `POST` of a [`ReapCheckRequest`], answered by a [`ReapCheckAnswer`].
pub const REAP_CHECK_PATH: &str = "/v1/reap/check";

/// `POST` of a [`ReapRequest`], answered by a [`ReapAnswer`].
pub const REAP_PATH: &str = "/v1/reap";

/// A message that breaks a limit or does not fit its question.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReapMessageError {
    /// Too many elements of one list.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// A truncation of nothing.
    #[error("a truncation names the actors to drop")]
    NoActors,
    /// Not a name of an object.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Another number of answers than of questions.
    #[error("{got} answers instead of {expected}")]
    Count {
        /// How many were asked for.
        expected: usize,
        /// How many came.
        got: usize,
    },
}

/// Asks what a node has of each object, anywhere on its disks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReapCheckRequest {
    /// The objects, at most [`REAP_KEYS_MAX`].
    pub objects: Vec<ObjectDto>,
}

impl ReapCheckRequest {
    /// The message for these objects.
    #[must_use]
    pub fn new<'a>(objects: impl IntoIterator<Item = &'a ObjectKey>) -> Self {
        Self { objects: objects.into_iter().map(ObjectDto::from).collect() }
    }

    /// The objects that are asked about.
    ///
    /// # Errors
    /// [`ReapMessageError`].
    pub fn objects(&self) -> Result<Vec<ObjectKey>, ReapMessageError> {
        at_most(self.objects.len(), REAP_KEYS_MAX, "objects")?;
        Ok(self.objects.iter().map(ObjectKey::try_from).collect::<Result<_, _>>()?)
    }
}

/// What a node has of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReapPresence {
    /// Digest of its record, also of one that is left over or that it should not have; absent where
    /// there is none. An unreadable record has the digest 0, which no record has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<RecordDigest>,
    /// Whether it keeps a hint for the object, for whomever.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hint: bool,
}

/// What a node has of the objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReapCheckAnswer {
    /// The ring that the node works with.
    pub ring: RingVersion,
    /// Its store.
    pub store: StoreId,
    /// Its present actor epoch.
    pub epoch: u64,
    /// One per object, in the order of the request.
    pub presence: Vec<ReapPresence>,
}

impl ReapCheckAnswer {
    /// Checks that there is one answer for each of `expected` objects.
    ///
    /// # Errors
    /// [`ReapMessageError::Count`].
    pub fn check(&self, expected: usize) -> Result<(), ReapMessageError> {
        one_each(self.presence.len(), expected)
    }
}

/// What is to be done with one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReapAction {
    /// Delete it.
    Remove,
    /// Drop these actors from its clock.
    Truncate(Vec<ActorId>),
}

/// What is to be done with one record if it is still the one named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReapItem {
    /// The object.
    pub object: ObjectKey,
    /// Digest of the record.
    pub digest: RecordDigest,
    /// What is to be done.
    pub action: ReapAction,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ActionDto {
    Remove,
    Truncate(Vec<(NodeId, u64)>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ItemDto {
    bucket: String,
    #[serde(with = "crate::wire::key_text")]
    key: Bytes,
    digest: RecordDigest,
    action: ActionDto,
}

/// Orders removals and truncations. The node refuses it with 409 under another ring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReapRequest {
    /// The ring under which it was decided.
    pub ring: RingVersion,
    items: Vec<ItemDto>,
}

impl ReapRequest {
    /// The message for these items.
    #[must_use]
    pub fn new<'a>(ring: RingVersion, items: impl IntoIterator<Item = &'a ReapItem>) -> Self {
        let dto = |item: &ReapItem| ItemDto {
            bucket: item.object.bucket().to_string(),
            key: item.object.key().clone(),
            digest: item.digest,
            action: match &item.action {
                ReapAction::Remove => ActionDto::Remove,
                ReapAction::Truncate(actors) => ActionDto::Truncate(
                    actors.iter().map(|actor| (actor.node, actor.epoch)).collect(),
                ),
            },
        };
        Self { ring, items: items.into_iter().map(dto).collect() }
    }

    /// The items.
    ///
    /// # Errors
    /// [`ReapMessageError`].
    pub fn items(self) -> Result<Vec<ReapItem>, ReapMessageError> {
        at_most(self.items.len(), REAP_KEYS_MAX, "items")?;
        self.items.into_iter().map(item).collect()
    }
}

fn item(dto: ItemDto) -> Result<ReapItem, ReapMessageError> {
    let object = ObjectKey::new(dto.bucket.parse()?, dto.key)?;
    let action = match dto.action {
        ActionDto::Remove => ReapAction::Remove,
        ActionDto::Truncate(actors) => {
            at_most(actors.len(), CLOCK_ENTRIES_MAX, "actors")?;
            if actors.is_empty() {
                return Err(ReapMessageError::NoActors);
            }
            let actor = |(node, epoch)| ActorId { node, epoch };
            ReapAction::Truncate(actors.into_iter().map(actor).collect())
        }
    };
    Ok(ReapItem { object, digest: dto.digest, action })
}

/// What became of one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReapResult {
    /// Done, durably.
    Done,
    /// The record is another one by now; nothing was done.
    Changed,
    /// There is no record.
    Absent,
}

/// What became of the items.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReapAnswer {
    /// One per item, in the order of the request.
    pub results: Vec<ReapResult>,
}

impl ReapAnswer {
    /// Checks that there is one result for each of `expected` items.
    ///
    /// # Errors
    /// [`ReapMessageError::Count`].
    pub fn check(&self, expected: usize) -> Result<(), ReapMessageError> {
        one_each(self.results.len(), expected)
    }
}

fn at_most(count: usize, limit: usize, what: &'static str) -> Result<(), ReapMessageError> {
    if count <= limit { Ok(()) } else { Err(ReapMessageError::TooMany(what)) }
}

fn one_each(got: usize, expected: usize) -> Result<(), ReapMessageError> {
    if got == expected { Ok(()) } else { Err(ReapMessageError::Count { expected, got }) }
}

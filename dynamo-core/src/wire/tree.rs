//! Comparing two replicas (paper section 4.7): digests of subtrees, then the keys of leaves that
//! differ. Asked by the background worker of either node; the decision what to ask is in
//! [`crate::merkle`].

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock::digest::RecordDigest;
use crate::id::StoreId;
use crate::key::{NameError, ObjectKey};
use crate::limits::{REPLICAS_MAX, TREE_KEYS_MAX, TREE_LEAVES_MAX, TREE_PREFIXES_MAX};
use crate::merkle::{KeyEntry, Leaf, Prefix, PrefixError, TreeDigest};
use crate::ring::RingVersion;
use crate::time::WallMs;

/// `POST` of a [`DigestsRequest`], answered by a [`DigestsAnswer`].
pub const TREE_DIGESTS_PATH: &str = "/v1/tree/digests";

/// `POST` of a [`KeysRequest`], answered by a [`KeysAnswer`].
pub const TREE_KEYS_PATH: &str = "/v1/tree/keys";

/// A message that breaks a limit or does not fit its question.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeMessageError {
    /// No bucket has so many copies.
    #[error("n is 1 to {REPLICAS_MAX}, not {0}")]
    Class(u8),
    /// Too many elements of one list.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// Not a subtree.
    #[error(transparent)]
    Prefix(#[from] PrefixError),
    /// Leaves out of order, or one of them twice.
    #[error("leaves are listed once each, in order")]
    LeafOrder,
    /// Not a name of an object.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Another number of digests than was asked for.
    #[error("{got} digests instead of {expected}")]
    DigestCount {
        /// How many were asked for.
        expected: usize,
        /// How many came.
        got: usize,
    },
}

/// A subtree on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefixDto {
    /// Number of top bits that its positions share: 0 to 16.
    pub bits: u8,
    /// Their value.
    pub index: u32,
}

/// Asks for the digests of subtrees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestsRequest {
    /// The class: N of the buckets whose keys are summed.
    pub n: u8,
    /// The subtrees, at most [`TREE_PREFIXES_MAX`].
    pub prefixes: Vec<PrefixDto>,
}

impl DigestsRequest {
    /// The message for these subtrees.
    #[must_use]
    pub fn new(n: u8, prefixes: &[Prefix]) -> Self {
        let dto = |prefix: &Prefix| PrefixDto { bits: prefix.bits(), index: prefix.index() };
        Self { n, prefixes: prefixes.iter().map(dto).collect() }
    }

    /// The subtrees that are asked for.
    ///
    /// # Errors
    /// [`TreeMessageError`]: a bad class, too many subtrees, or one that does not exist.
    pub fn prefixes(&self) -> Result<Vec<Prefix>, TreeMessageError> {
        check_class(self.n)?;
        if self.prefixes.len() > TREE_PREFIXES_MAX {
            return Err(TreeMessageError::TooMany("prefixes"));
        }
        self.prefixes.iter().map(|dto| Ok(Prefix::new(dto.bits, dto.index)?)).collect()
    }
}

/// Whether a tree tells the truth yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TreeState {
    /// It sums every record of the store.
    Built,
    /// The store is still being scanned; its digests are no evidence.
    Building,
}

/// The digests that were asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestsAnswer {
    /// The ring that the answering node works with.
    pub ring: RingVersion,
    /// Its store.
    pub store: StoreId,
    /// Whether its tree is complete.
    pub state: TreeState,
    /// One per subtree, in the order of the request; may be empty while the tree is being built.
    pub digests: Vec<TreeDigest>,
}

impl DigestsAnswer {
    /// Checks that there is one digest for each of `expected` subtrees, or the tree is not built.
    ///
    /// # Errors
    /// [`TreeMessageError::DigestCount`].
    pub fn check(&self, expected: usize) -> Result<(), TreeMessageError> {
        let got = self.digests.len();
        if self.state == TreeState::Building || got == expected {
            Ok(())
        } else {
            Err(TreeMessageError::DigestCount { expected, got })
        }
    }
}

/// The name of an object on the wire; as a cursor, everything up to it has been listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectDto {
    /// Its bucket.
    pub bucket: String,
    /// Its key.
    #[serde(with = "crate::wire::key_text")]
    pub key: Bytes,
}

impl From<&ObjectKey> for ObjectDto {
    fn from(object: &ObjectKey) -> Self {
        Self { bucket: object.bucket().to_string(), key: object.key().clone() }
    }
}

impl TryFrom<&ObjectDto> for ObjectKey {
    type Error = NameError;

    fn try_from(dto: &ObjectDto) -> Result<Self, NameError> {
        Self::new(dto.bucket.parse()?, dto.key.clone())
    }
}

/// Asks for the keys of leaves, page by page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysRequest {
    /// The class: N of the buckets whose keys are listed.
    pub n: u8,
    /// Numbers of the leaves, ascending, at most [`TREE_LEAVES_MAX`].
    pub leaves: Vec<u16>,
    /// Where the page before ended; absent for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<ObjectDto>,
}

impl KeysRequest {
    /// The message for these leaves.
    #[must_use]
    pub fn new(n: u8, leaves: &[Leaf], after: Option<&ObjectKey>) -> Self {
        let leaves = leaves.iter().map(|leaf| leaf.0).collect();
        Self { n, leaves, after: after.map(ObjectDto::from) }
    }

    /// The leaves that are asked for, and the name after which the page starts.
    ///
    /// # Errors
    /// [`TreeMessageError`]: a bad class, too many leaves, leaves out of order, a bad name.
    pub fn parse(&self) -> Result<(Vec<Leaf>, Option<ObjectKey>), TreeMessageError> {
        check_class(self.n)?;
        if self.leaves.len() > TREE_LEAVES_MAX {
            return Err(TreeMessageError::TooMany("leaves"));
        }
        if !self.leaves.is_sorted_by(|a, b| a < b) {
            return Err(TreeMessageError::LeafOrder);
        }
        let after = self.after.as_ref().map(ObjectKey::try_from).transpose()?;
        Ok((self.leaves.iter().map(|leaf| Leaf(*leaf)).collect(), after))
    }
}

/// One key on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyEntryDto {
    /// Its bucket.
    pub bucket: String,
    /// The key.
    #[serde(with = "crate::wire::key_text")]
    pub key: Bytes,
    /// Digest of its record.
    pub digest: RecordDigest,
    /// See [`KeyEntry::dead_since`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_since_ms: Option<WallMs>,
}

/// One page of keys in scan order ([`crate::merkle::scan_order`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysAnswer {
    /// At most [`TREE_KEYS_MAX`] keys.
    pub keys: Vec<KeyEntryDto>,
    /// Everything up to here has been listed and there may be more; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<ObjectDto>,
}

impl KeysAnswer {
    /// The message for a page.
    #[must_use]
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a KeyEntry>, next: Option<&ObjectKey>) -> Self {
        let dto = |entry: &KeyEntry| KeyEntryDto {
            bucket: entry.object.bucket().to_string(),
            key: entry.object.key().clone(),
            digest: entry.digest,
            dead_since_ms: entry.dead_since,
        };
        Self { keys: keys.into_iter().map(dto).collect(), next: next.map(ObjectDto::from) }
    }

    /// The keys and the name after which the next page starts. Whether they fit the question is
    /// judged by who asked.
    ///
    /// # Errors
    /// [`TreeMessageError`]: too many keys, or a bad name.
    pub fn parse(self) -> Result<(Vec<KeyEntry>, Option<ObjectKey>), TreeMessageError> {
        if self.keys.len() > TREE_KEYS_MAX {
            return Err(TreeMessageError::TooMany("keys"));
        }
        let entry = |dto: KeyEntryDto| {
            let object = ObjectKey::new(dto.bucket.parse()?, dto.key)?;
            Ok(KeyEntry { object, digest: dto.digest, dead_since: dto.dead_since_ms })
        };
        let keys = self.keys.into_iter().map(entry).collect::<Result<_, TreeMessageError>>()?;
        Ok((keys, self.next.as_ref().map(ObjectKey::try_from).transpose()?))
    }
}

fn check_class(n: u8) -> Result<(), TreeMessageError> {
    if (1..=REPLICAS_MAX).contains(&n) { Ok(()) } else { Err(TreeMessageError::Class(n)) }
}

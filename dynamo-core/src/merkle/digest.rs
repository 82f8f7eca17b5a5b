//! What one key adds to its leaf, and the form in which digests of the tree travel.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3::xxh3_128;

use crate::clock::digest::RecordDigest;

/// Digest of a leaf or of a subtree; 0 for an empty one. As text 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TreeDigest(pub u128);

impl TreeDigest {
    /// The digest of everything that holds no key.
    pub const EMPTY: Self = Self(0);

    /// Whether the leaf or subtree holds no key.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for TreeDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TreeDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for TreeDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TreeDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(serde::de::Error::custom("a tree digest has 32 hexadecimal digits"));
        }
        u128::from_str_radix(&text, 16).map(Self).map_err(serde::de::Error::custom)
    }
}

/// What the record of one key adds to the sum of its leaf. The key is part of it, or two keys that
/// swapped their records would go unnoticed.
#[must_use]
pub fn entry_digest(storage_key: &[u8], record: RecordDigest) -> u128 {
    let mut form = Vec::with_capacity(storage_key.len() + 16);
    form.extend_from_slice(storage_key);
    form.extend_from_slice(&record.0.to_be_bytes());
    xxh3_128(&form)
}

/// What a change of one key's record adds to the sum of its leaf; `None` stands for no record.
#[must_use]
pub fn entry_delta(
    storage_key: &[u8],
    old: Option<RecordDigest>,
    new: Option<RecordDigest>,
) -> u128 {
    if old == new {
        return 0;
    }
    let entry = |digest: Option<RecordDigest>| digest.map_or(0, |d| entry_digest(storage_key, d));
    entry(new).wrapping_sub(entry(old))
}

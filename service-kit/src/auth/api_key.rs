//! The text of an API key, `atoll_<id>_<secret>`, and its digest. The secret is 32 random bytes, so
//! that one round of SHA-256 is enough: nobody can try them.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dynamo_core::entropy::Entropy;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::limits::API_KEY_ID_BYTES_MAX;

/// What every key begins with, so that scanners of repositories and logs can find lost ones.
pub const KEY_PREFIX: &str = "atoll_";

/// Random bytes of a key.
const SECRET_BYTES: usize = 32;

/// The public name of a key: 1 to 32 of `a-z`, `0-9` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(String);

impl KeyId {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is no name of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id is 1 to {API_KEY_ID_BYTES_MAX} of a-z, 0-9 and '-'")]
pub struct InvalidKeyId;

impl FromStr for KeyId {
    type Err = InvalidKeyId;

    fn from_str(text: &str) -> Result<Self, InvalidKeyId> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=API_KEY_ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidKeyId)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for KeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// SHA-256 of the whole text of a key: what is stored of it.
#[derive(Clone, Copy)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// The digest of a key.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    /// Whether both are the same, in a time that does not depend on where they differ.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(…)")
    }
}

impl Serialize for KeyDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}", hex(&self.0)))
    }
}

impl<'de> Deserialize<'de> for KeyDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        unhex(&text)
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("a digest has 64 hexadecimal digits"))
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
        text
    })
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0u8; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// A new key of `id`. This text is the only place where its secret is.
#[must_use]
pub fn mint(id: &KeyId, entropy: &mut impl Entropy) -> String {
    let mut secret = [0u8; SECRET_BYTES];
    for part in secret.chunks_exact_mut(8) {
        part.copy_from_slice(&entropy.next_u64().to_le_bytes());
    }
    format!("{KEY_PREFIX}{id}_{}", URL_SAFE_NO_PAD.encode(secret))
}

/// The id that the text of a key names; `None` where it is no key at all.
#[must_use]
pub fn id_of(text: &str) -> Option<KeyId> {
    let (id, secret) = text.strip_prefix(KEY_PREFIX)?.split_once('_')?;
    let bytes = URL_SAFE_NO_PAD.decode(secret).ok()?;
    if bytes.len() != SECRET_BYTES {
        return None;
    }
    id.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::OsEntropy;

    #[test]
    fn a_minted_key_names_its_id_and_no_other_has_its_digest() {
        let id: KeyId = "web-1".parse().unwrap();
        let keys: Vec<String> = (0..50).map(|_| mint(&id, &mut OsEntropy)).collect();
        for (at, key) in keys.iter().enumerate() {
            assert_eq!(id_of(key), Some(id.clone()), "{key}");
            assert_eq!(key.len(), KEY_PREFIX.len() + "web-1_".len() + 43);
            for (other, text) in keys.iter().enumerate() {
                let same = KeyDigest::of(key).matches(&KeyDigest::of(text));
                assert_eq!(same, at == other);
            }
        }
    }

    #[test]
    fn what_is_no_key_names_nobody() {
        let secret = "A".repeat(43);
        let bad = [
            String::new(),
            "atoll_".into(),
            "atoll_a_".into(),
            format!("atoll__{secret}"),
            format!("Atoll_a_{secret}"),
            format!("atoll_A_{secret}"),
            format!("atoll_a_{secret}A"),
            format!("atoll_a_{}", "A".repeat(42)),
            format!("atoll_a_{}=", "A".repeat(42)),
            format!("atoll_a_{}+", "A".repeat(42)),
            format!("atoll_{}_{secret}", "a".repeat(33)),
            format!(" atoll_a_{secret}"),
        ];
        for text in bad {
            assert_eq!(id_of(&text), None, "{text:?}");
        }
        assert!(id_of(&format!("atoll_a_{secret}")).is_some());
    }

    #[test]
    fn a_digest_is_written_and_read_but_not_shown() {
        let digest = KeyDigest::of("atoll_a_b");
        let json = serde_json::to_string(&digest).unwrap();
        let read: KeyDigest = serde_json::from_str(&json).unwrap();
        assert!(read.matches(&digest));
        assert!(!format!("{digest:?}").contains(&json[1..9]));
        for bad in ["\"\"", "\"00\"", &format!("\"{}\"", "g".repeat(64)), "5"] {
            assert!(serde_json::from_str::<KeyDigest>(bad).is_err(), "{bad}");
        }
    }
}

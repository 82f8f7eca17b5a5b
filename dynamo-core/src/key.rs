//! Names of objects: a bucket and a key. Parsed once at the door; inside, a name is always valid.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::codec::bytes::DecodeError;
use crate::id::KeyHash;
use crate::limits::{BUCKET_BYTES_MAX, KEY_BYTES_MAX};
use crate::ring::token::key_hash;

/// Bytes of a key that its text form leaves alone.
const KEY_TEXT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The bucket's name breaks the grammar.
    #[error("a bucket is 1 to {BUCKET_BYTES_MAX} of a-z 0-9 . _ - and starts with a-z or 0-9")]
    Bucket,
    /// The bucket's name is reserved for Atoll itself.
    #[error("buckets that start with '_' are reserved")]
    Reserved,
    /// The key has no bytes.
    #[error("a key has at least one byte")]
    EmptyKey,
    /// The key has too many bytes.
    #[error("a key has at most {KEY_BYTES_MAX} bytes after percent-decoding")]
    KeyTooLong,
    /// The text form of a key is not valid percent-encoding.
    #[error("invalid percent-encoding")]
    Encoding,
}

/// A namespace of keys, with properties of its own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(Arc<str>);

impl Bucket {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Bucket {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        match name.as_bytes() {
            [b'_', ..] => Err(NameError::Reserved),
            [first, rest @ ..]
                if plain(*first)
                    && name.len() <= BUCKET_BYTES_MAX
                    && rest.iter().all(|b| plain(*b) || matches!(b, b'.' | b'_' | b'-')) =>
            {
                Ok(Self(name.into()))
            }
            _ => Err(NameError::Bucket),
        }
    }
}

impl Borrow<str> for Bucket {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Bucket {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bucket {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The full name of an object, with its position in the hash space computed once.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    position: KeyHash,
    bucket: Bucket,
    key: Bytes,
}

impl ObjectKey {
    /// The object `key` of `bucket`.
    ///
    /// # Errors
    /// [`NameError::EmptyKey`] and [`NameError::KeyTooLong`].
    pub fn new(bucket: Bucket, key: Bytes) -> Result<Self, NameError> {
        match key.len() {
            0 => Err(NameError::EmptyKey),
            1..=KEY_BYTES_MAX => {
                Ok(Self { position: key_hash(bucket.as_str(), &key), bucket, key })
            }
            _ => Err(NameError::KeyTooLong),
        }
    }

    /// Parses a bucket and the percent-encoded text of a key; every '%' must start an escape.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn parse(bucket: &str, key: &str) -> Result<Self, NameError> {
        Self::new(bucket.parse()?, decode_key(key)?)
    }

    /// Where the object lies in the hash space.
    #[must_use]
    pub fn position(&self) -> KeyHash {
        self.position
    }

    /// Its namespace.
    #[must_use]
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// Its key: 1 to [`KEY_BYTES_MAX`] bytes of any value.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        &self.key
    }

    /// The key in percent-encoded text, '/' left as it is: safe in URLs, logs and headers.
    #[must_use]
    pub fn key_text(&self) -> String {
        percent_encode(&self.key, KEY_TEXT).to_string()
    }

    /// The key of the storage table: position, length of the bucket, bucket, key. Records of one
    /// partition are contiguous in this order.
    #[must_use]
    pub fn storage_key(&self) -> Vec<u8> {
        let bucket = self.bucket.as_str().as_bytes();
        let mut out = Vec::with_capacity(17 + bucket.len() + self.key.len());
        out.extend_from_slice(&self.position.0.to_be_bytes());
        out.push(u8::try_from(bucket.len()).expect("a bucket has at most 64 bytes"));
        out.extend_from_slice(bucket);
        out.extend_from_slice(&self.key);
        out
    }

    /// Reads what [`ObjectKey::storage_key`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`] where the bytes are no storage key or the position is not that of the name.
    pub fn from_storage_key(stored: &[u8]) -> Result<Self, DecodeError> {
        let (position, rest) = stored.split_at_checked(16).ok_or(DecodeError::Truncated)?;
        let (length, rest) = rest.split_first().ok_or(DecodeError::Truncated)?;
        let (bucket, key) =
            rest.split_at_checked(usize::from(*length)).ok_or(DecodeError::Truncated)?;
        let bucket = std::str::from_utf8(bucket).map_err(|_| DecodeError::Invalid("bucket"))?;
        let bucket = bucket.parse().map_err(|_| DecodeError::Invalid("bucket"))?;
        let object = Self::new(bucket, Bytes::copy_from_slice(key))
            .map_err(|_| DecodeError::Invalid("key"))?;
        if object.position.0.to_be_bytes() == position {
            Ok(object)
        } else {
            Err(DecodeError::Invalid("position"))
        }
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bucket, self.key_text())
    }
}

/// Decodes the percent-encoded text of a key, strictly.
///
/// # Errors
/// [`NameError::Encoding`] for a '%' without two hexadecimal digits behind it.
pub fn decode_key(text: &str) -> Result<Bytes, NameError> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || {
            let digit = char::from(rest.next()?).to_digit(16)?;
            u8::try_from(digit).ok()
        };
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(NameError::Encoding) };
        out.push(high << 4 | low);
    }
    Ok(Bytes::from(out))
}

//! Keys in JSON: percent-encoded text, so that any bytes survive and people can read them.

use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use serde::{Deserialize, Deserializer, Serializer};

use crate::key::decode_key;

/// Writes the key as text.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(key: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&percent_encode(key, NON_ALPHANUMERIC))
}

/// Reads the key from text.
///
/// # Errors
/// Those of the deserializer, and text that is not valid percent-encoding.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    decode_key(&text).map_err(serde::de::Error::custom)
}

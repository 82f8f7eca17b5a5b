//! The name of a ring: how many events of the membership history it contains, and which.
//!
//! Two rings of one cluster with equal versions are equal. The order is total so that all processes
//! prefer the same ring of two; between histories that forked it is only a convention, which holds
//! until gossip has merged them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Version of a ring; the text form `number-hash` serves as its entity tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RingVersion {
    /// Events in the history that the ring was folded from. Grows with every change.
    pub number: u64,
    /// Hash of that history.
    pub hash: u64,
}

/// Text that is not a ring version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a ring version: a decimal number, '-' and 16 hexadecimal digits expected")]
pub struct ParseRingVersionError;

impl fmt::Display for RingVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}", self.number, self.hash)
    }
}

impl FromStr for RingVersion {
    type Err = ParseRingVersionError;

    fn from_str(text: &str) -> Result<Self, ParseRingVersionError> {
        let (number, hash) = text.split_once('-').ok_or(ParseRingVersionError)?;
        let version = Self {
            number: number.parse().map_err(|_| ParseRingVersionError)?,
            hash: u64::from_str_radix(hash, 16).map_err(|_| ParseRingVersionError)?,
        };
        // One text per version: an entity tag is compared as text.
        if version.to_string() == text { Ok(version) } else { Err(ParseRingVersionError) }
    }
}

impl Serialize for RingVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RingVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_has_exactly_one_text() {
        let version = RingVersion { number: 7, hash: 0xab };
        assert_eq!(version.to_string(), "7-00000000000000ab");
        assert_eq!("7-00000000000000ab".parse(), Ok(version));
        for bad in ["", "7", "7-ab", "07-00000000000000ab", "7-00000000000000AB", "-1-0"] {
            assert_eq!(bad.parse::<RingVersion>(), Err(ParseRingVersionError), "{bad}");
        }
    }
}

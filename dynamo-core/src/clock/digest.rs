//! Digests over canonical forms: equal knowledge has an equal digest, whatever bytes happen to
//! store it. (Hashing stored bytes makes equal replicas look different for ever once two encodings
//! of one value exist.) A dot names its value, so values themselves need no hashing.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::clock::dot::Dot;
use crate::clock::record::Record;
use crate::codec::bytes::Writer;

/// Digest of one record: sibling dots and clock, times left out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordDigest(pub u128);

impl RecordDigest {
    /// The digest of `record`.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let mut form = Writer::with_capacity(64 * (1 + record.sibling_count()));
        form.len(record.sibling_count());
        for sibling in record.siblings() {
            write_dot(&sibling.dot, &mut form);
        }
        form.len(record.clock().vector().count());
        for (actor, entry) in record.clock().vector() {
            write_dot(&Dot { actor, counter: entry.counter }, &mut form);
        }
        for run in record.clock().loose() {
            write_dot(&Dot { actor: run.actor, counter: run.first }, &mut form);
            form.varint(run.last);
        }
        Self(xxh3_128(form.as_slice()))
    }
}

impl fmt::Display for RecordDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for RecordDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for RecordDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RecordDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        if text.len() != 32 {
            return Err(serde::de::Error::custom("a record digest has 32 hexadecimal digits"));
        }
        u128::from_str_radix(&text, 16).map(Self).map_err(serde::de::Error::custom)
    }
}

/// Entity tag of a set of versions or of one version: 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Etag(pub u64);

impl Etag {
    /// The tag of the versions that `dots` name, in any order.
    #[must_use]
    pub fn of(dots: impl IntoIterator<Item = Dot>) -> Self {
        let mut dots: Vec<Dot> = dots.into_iter().collect();
        dots.sort_unstable();
        let mut form = Writer::with_capacity(40 * dots.len());
        for dot in &dots {
            write_dot(dot, &mut form);
        }
        Self(xxh3_64(form.as_slice()))
    }
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Text that is not an entity tag of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an entity tag has 16 hexadecimal digits")]
pub struct ParseEtagError;

impl FromStr for Etag {
    type Err = ParseEtagError;

    fn from_str(text: &str) -> Result<Self, ParseEtagError> {
        if text.len() != 16 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(ParseEtagError);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| ParseEtagError)
    }
}

fn write_dot(dot: &Dot, form: &mut Writer) {
    form.u128(dot.actor.node.0);
    form.varint(dot.actor.epoch);
    form.varint(dot.counter);
}

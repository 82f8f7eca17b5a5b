//! Validated knobs: N, R, W and what goes with them, per bucket and per request (paper section 6).
//! An illegal combination cannot be built.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::{REPLICAS_DEFAULT, REPLICAS_MAX};

/// Why a parameter is refused. The text names the parameter's legal values, not its name: the
/// caller knows which one it parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParamError {
    /// Neither a number nor one of the words.
    #[error("expected a number from 1 to n, or {words}")]
    Syntax {
        /// The words that are allowed here.
        words: &'static str,
    },
    /// A number outside 1..=n.
    #[error("must be 1..{n}")]
    Range {
        /// The bucket's N.
        n: u8,
    },
    /// N itself outside its limits.
    #[error("n must be 1..{REPLICAS_MAX}")]
    Replicas,
}

/// How many of the N replicas must answer: a number or a word, resolved against N.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quorum {
    /// One.
    One,
    /// A majority: N/2 + 1.
    Quorum,
    /// All N.
    All,
    /// This many, from 1.
    Count(u8),
}

impl Quorum {
    /// The number it means for `n` replicas.
    ///
    /// # Errors
    /// [`ParamError::Range`] where a number is not in 1..=n.
    pub fn resolve(self, n: u8) -> Result<u8, ParamError> {
        match self {
            Self::One => Ok(1),
            Self::Quorum => Ok(n / 2 + 1),
            Self::All => Ok(n),
            Self::Count(count) if (1..=n).contains(&count) => Ok(count),
            Self::Count(_) => Err(ParamError::Range { n }),
        }
    }
}

impl FromStr for Quorum {
    type Err = ParamError;

    fn from_str(text: &str) -> Result<Self, ParamError> {
        match text {
            "one" => Ok(Self::One),
            "quorum" => Ok(Self::Quorum),
            "all" => Ok(Self::All),
            _ => digits(text)
                .map(Self::Count)
                .ok_or(ParamError::Syntax { words: "one, quorum or all" }),
        }
    }
}

impl fmt::Display for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One => f.write_str("one"),
            Self::Quorum => f.write_str("quorum"),
            Self::All => f.write_str("all"),
            Self::Count(count) => write!(f, "{count}"),
        }
    }
}

/// How many durable replicas a put waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteQuorum {
    /// One copy on any node at all, also as nothing but a hint.
    Any,
    /// A number of replicas.
    Of(Quorum),
}

impl From<u8> for Quorum {
    /// This many; whether that is possible is for [`Quorum::resolve`] to say.
    fn from(count: u8) -> Self {
        Self::Count(count)
    }
}

impl From<Quorum> for WriteQuorum {
    fn from(quorum: Quorum) -> Self {
        Self::Of(quorum)
    }
}

impl From<u8> for WriteQuorum {
    /// This many; whether that is possible is for [`Quorum::resolve`] to say.
    fn from(count: u8) -> Self {
        Self::Of(Quorum::Count(count))
    }
}

impl FromStr for WriteQuorum {
    type Err = ParamError;

    fn from_str(text: &str) -> Result<Self, ParamError> {
        if text == "any" {
            return Ok(Self::Any);
        }
        text.parse()
            .map(Self::Of)
            .map_err(|_| ParamError::Syntax { words: "any, one, quorum or all" })
    }
}

impl fmt::Display for WriteQuorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Of(quorum) => quorum.fmt(f),
        }
    }
}

macro_rules! serde_as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self.number() {
                    Some(count) => serializer.serialize_u8(count),
                    None => serializer.collect_str(self),
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                #[derive(Deserialize)]
                #[serde(untagged)]
                enum Form {
                    Number(u8),
                    Word(String),
                }
                let text = match Form::deserialize(deserializer)? {
                    Form::Number(count) => count.to_string(),
                    Form::Word(word) => word,
                };
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

serde_as_text!(Quorum);
serde_as_text!(WriteQuorum);

impl Quorum {
    fn number(self) -> Option<u8> {
        if let Self::Count(count) = self { Some(count) } else { None }
    }
}

impl WriteQuorum {
    fn number(self) -> Option<u8> {
        if let Self::Of(quorum) = self { quorum.number() } else { None }
    }
}

/// What an acknowledged write has survived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Acknowledged after fsync.
    #[default]
    Fsync,
    /// Acknowledged from memory and written soon after (paper section 6.1).
    Buffered,
}

impl FromStr for Durability {
    type Err = ParamError;

    fn from_str(text: &str) -> Result<Self, ParamError> {
        match text {
            "fsync" => Ok(Self::Fsync),
            "buffered" => Ok(Self::Buffered),
            _ => Err(ParamError::Syntax { words: "fsync or buffered" }),
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fsync => "fsync",
            Self::Buffered => "buffered",
        })
    }
}

/// Who reconciles concurrent versions (paper section 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reconciliation {
    /// The application: all siblings are kept and returned.
    #[default]
    Siblings,
    /// The store: the latest hybrid timestamp wins between concurrent versions.
    Lww,
}

/// Properties of a bucket: what its requests use unless they say otherwise. Built by
/// [`BucketProps::validated`] only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BucketProps {
    /// Replicas of each object.
    pub n: u8,
    /// Replies that a get waits for.
    pub r: Quorum,
    /// Acknowledgements that a put waits for.
    pub w: WriteQuorum,
    /// Replies of primaries that a get insists on; 0 for none.
    pub pr: u8,
    /// Acknowledgements of primaries that a put insists on; 0 for none.
    pub pw: u8,
    /// Who reconciles concurrent versions.
    pub reconciliation: Reconciliation,
    /// What an acknowledgement has survived.
    pub durability: Durability,
    /// Seconds until a new value expires; 0 for never.
    pub ttl_s: u64,
    /// Whether a get may answer "absent" without confirmation by enough primaries.
    pub notfound_ok: bool,
}

impl Default for BucketProps {
    fn default() -> Self {
        Self {
            n: REPLICAS_DEFAULT,
            r: Quorum::Quorum,
            w: WriteQuorum::Of(Quorum::Quorum),
            pr: 0,
            pw: 0,
            reconciliation: Reconciliation::Siblings,
            durability: Durability::Fsync,
            ttl_s: 0,
            notfound_ok: false,
        }
    }
}

impl BucketProps {
    /// Checks that the properties fit together.
    ///
    /// # Errors
    /// The name of the offending property and what is wrong with it.
    pub fn validated(self) -> Result<Self, (&'static str, ParamError)> {
        if !(1..=REPLICAS_MAX).contains(&self.n) {
            return Err(("n", ParamError::Replicas));
        }
        self.r.resolve(self.n).map_err(|e| ("r", e))?;
        if let WriteQuorum::Of(w) = self.w {
            w.resolve(self.n).map_err(|e| ("w", e))?;
        }
        for (name, count) in [("pr", self.pr), ("pw", self.pw)] {
            if count > self.n {
                return Err((name, ParamError::Range { n: self.n }));
            }
        }
        Ok(self)
    }

    /// Whether reads and writes of default requests are sure to overlap while no primary is
    /// unreachable (R + W > N). A warning, not an error: some buckets want speed.
    #[must_use]
    pub fn overlaps(&self) -> bool {
        let r = self.r.resolve(self.n).unwrap_or(0);
        let w = match self.w {
            WriteQuorum::Any => 0,
            WriteQuorum::Of(w) => w.resolve(self.n).unwrap_or(0),
        };
        u16::from(r) + u16::from(w) > u16::from(self.n)
    }
}

/// A positive count in plain digits.
fn digits(text: &str) -> Option<u8> {
    let plain = !text.is_empty() && text.len() <= 3 && text.bytes().all(|b| b.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

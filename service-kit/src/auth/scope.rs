//! What a key permits: scopes, for buckets whose names match a pattern.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::BUCKET_PATTERN_BYTES_MAX;

/// One kind of effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Learn what a key holds, or whether it holds anything.
    Read,
    /// Store objects.
    Write,
    /// Delete objects.
    Delete,
    /// Learn which keys there are.
    List,
    /// Change and inspect the cluster; bound to no bucket. Backups are among it, and they contain
    /// everything.
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Read, Self::Write, Self::Delete, Self::List, Self::Admin];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::List => "list",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|scope| scope.as_str() == text)
            .ok_or_else(|| "a scope is read, write, delete, list or admin".to_owned())
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A pattern of bucket names: `*` stands for any number of characters, `?` for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketPattern(String);

impl BucketPattern {
    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `bucket` matches. Takes time for the product of both lengths at most: it returns to
    /// the last star only.
    #[must_use]
    pub fn matches(&self, bucket: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), bucket.as_bytes());
        let (mut p, mut n) = (0, 0);
        // Where the last star is, and up to where it was taken to reach.
        let mut star: Option<(usize, usize)> = None;
        while let Some(&byte) = name.get(n) {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, n));
                    p += 1;
                }
                Some(&wanted) if wanted == byte || wanted == b'?' => {
                    p += 1;
                    n += 1;
                }
                _ => {
                    let Some((at, reached)) = star else { return false };
                    star = Some((at, reached + 1));
                    p = at + 1;
                    n = reached + 1;
                }
            }
        }
        pattern.get(p..).unwrap_or_default().iter().all(|&byte| byte == b'*')
    }
}

impl FromStr for BucketPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-*?".contains(&byte)
        };
        if (1..=BUCKET_PATTERN_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "a bucket pattern is 1 to {BUCKET_PATTERN_BYTES_MAX} of a-z 0-9 . _ - and the \
             wildcards * and ?"
        ))
    }
}

impl fmt::Display for BucketPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for BucketPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for BucketPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        let cases = [
            ("*", "carts", true),
            ("carts", "carts", true),
            ("carts", "carts2", false),
            ("carts", "cart", false),
            ("cart*", "cart", true),
            ("cart*", "carts-eu", true),
            ("*-eu", "carts-eu", true),
            ("*-eu", "carts-eu-2", false),
            ("c*s*u", "carts-eu", true),
            ("c*s*x", "carts-eu", false),
            ("c?rts", "carts", true),
            ("c?rts", "crts", false),
            ("**a", "aaa", true),
            ("a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
            (".", "a", false),
        ];
        for (pattern, bucket, expected) in cases {
            let pattern: BucketPattern = pattern.parse().unwrap();
            assert_eq!(pattern.matches(bucket), expected, "{pattern} {bucket}");
        }
        for bad in ["", "Carts", "a/b", "a b", "[ab]", &"a".repeat(81)] {
            assert!(bad.parse::<BucketPattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn scopes_have_one_name_each() {
        for scope in Scope::ALL {
            assert_eq!(scope.as_str().parse(), Ok(scope));
            let json = serde_json::to_string(&scope).unwrap();
            assert_eq!(json, format!("\"{scope}\""));
        }
        assert!("all".parse::<Scope>().is_err());
    }

    proptest::proptest! {
        /// Against the definition by recursion.
        #[test]
        fn patterns_are_what_they_say(pattern in "[ab*?]{1,8}", name in "[ab]{0,8}") {
            fn naive(pattern: &[u8], name: &[u8]) -> bool {
                match (pattern.split_first(), name.split_first()) {
                    (None, None) => true,
                    (Some((b'*', rest)), _) => {
                        naive(rest, name) || (!name.is_empty() && naive(pattern, &name[1..]))
                    }
                    (Some((p, rest)), Some((n, others))) => {
                        (*p == b'?' || p == n) && naive(rest, others)
                    }
                    _ => false,
                }
            }
            let expected = naive(pattern.as_bytes(), name.as_bytes());
            assert_eq!(pattern.parse::<BucketPattern>().unwrap().matches(&name), expected);
        }
    }
}

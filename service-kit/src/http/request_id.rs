//! The id of a request: the caller's where it is short and harmless, else minted. Echoed in
//! `X-Request-Id` and in every error answer, and the key between logs of several processes.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use dynamo_core::entropy::{Entropy, SplitMix};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::limits::REQUEST_ID_BYTES_MAX;
use crate::rng::OsEntropy;

/// The header that carries it in both directions.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Identity of one request; an extension of every request that reaches a handler.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The caller's id where it is given once and of at most 64 letters, digits, `-`, `_`, `.`;
    /// else a minted one. Never an error: a bad id must not cost an answer.
    #[must_use]
    pub fn accept_or_mint(headers: &HeaderMap) -> Self {
        let mut given = headers.get_all(X_REQUEST_ID).iter();
        match (given.next(), given.next()) {
            (Some(value), None) if is_safe(value.as_bytes()) => Self(value.clone()),
            _ => Self::mint(),
        }
    }

    /// A fresh id of 16 hexadecimal digits: a counter from a random start, scrambled. Unique in a
    /// process, and unlike those of other processes; not a secret.
    #[must_use]
    pub fn mint() -> Self {
        static NEXT: OnceLock<AtomicU64> = OnceLock::new();
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let next = NEXT.get_or_init(|| AtomicU64::new(OsEntropy.next_u64()));
        let bits = SplitMix::new(next.fetch_add(1, Ordering::Relaxed)).next_u64();
        let mut text = [0u8; 16];
        for (digit, shift) in text.iter_mut().zip((0..64).step_by(4).rev()) {
            *digit = HEX[usize::try_from((bits >> shift) & 0xf).unwrap_or(0)];
        }
        // Hexadecimal digits are always a valid header value.
        Self(HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("unknown")))
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or("unknown")
    }

    /// It as the value of a header.
    #[must_use]
    pub fn to_header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn is_safe(id: &[u8]) -> bool {
    (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
        && id.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn safe_ids_are_kept_and_others_replaced() {
        let long_ok = "a".repeat(64);
        let too_long = "a".repeat(65);
        let cases: [(&[&str], bool); 6] = [
            (&["abc-1_2.Z"], true),
            (&[&long_ok], true),
            (&[&too_long], false),
            (&["a b"], false),
            (&[""], false),
            (&["a", "b"], false),
        ];
        for (given, kept) in cases {
            let mut headers = HeaderMap::new();
            for value in given {
                headers.append(X_REQUEST_ID, HeaderValue::from_str(value).unwrap());
            }
            let id = RequestId::accept_or_mint(&headers);
            assert_eq!(id.as_str() == given[0], kept, "{given:?}");
            assert!(is_safe(id.as_str().as_bytes()));
        }
    }

    #[test]
    fn minted_ids_differ() {
        let ids: BTreeSet<String> = (0..1000).map(|_| RequestId::mint().to_string()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 16));
    }
}

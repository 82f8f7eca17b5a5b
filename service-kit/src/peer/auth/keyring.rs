//! The keys that all hosts of a cluster share. Up to three, so that a new one can be given to every
//! host before the first of them signs with it, and the old one be taken away after the last.

use std::path::Path;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit};
use sha2::Sha256;

use crate::config::{Secret, read_private};
use crate::limits::{PEER_KEYS_MAX, SECRET_FILE_BYTES_MAX};

/// What HKDF makes a key for; the same secret gives other purposes other keys.
const PURPOSE_MAC: &[u8] = b"atoll peer message v1";
const PURPOSE_ID: &[u8] = b"atoll peer key id v1";

/// Names a key in messages without giving anything of it away.
pub(super) type PeerKeyId = u32;

/// One key, ready to sign.
pub(super) struct PeerKey {
    pub(super) id: PeerKeyId,
    pub(super) mac: Hmac<Sha256>,
}

/// The keys of a file: the first signs, all are believed.
pub struct PeerKeyring {
    first: PeerKey,
    others: Vec<PeerKey>,
}

impl PeerKeyring {
    /// Reads a file with one key a line. Empty lines, and lines that begin with `#`, are ignored.
    ///
    /// # Errors
    /// One line that names the file: it is not there, open to others, or has no usable keys.
    pub fn read(path: &Path) -> Result<Self, String> {
        let bytes = read_private(path, SECRET_FILE_BYTES_MAX)?;
        Self::parse(&bytes).map_err(|reason| format!("{}: {reason}", path.display()))
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let lines = bytes.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
        let secrets = lines.filter(|line| !line.is_empty() && !line.starts_with(b"#"));
        let mut keys = Vec::new();
        for secret in secrets {
            Secret::check_strength(secret)?;
            keys.push(PeerKey::derive(secret)?);
        }
        if keys.len() > PEER_KEYS_MAX {
            return Err(format!("more than {PEER_KEYS_MAX} keys"));
        }
        let mut keys = keys.into_iter();
        let first = keys.next().ok_or("no key")?;
        Ok(Self { first, others: keys.collect() })
    }

    pub(super) fn first(&self) -> &PeerKey {
        &self.first
    }

    pub(super) fn find(&self, id: PeerKeyId) -> Option<&PeerKey> {
        std::iter::once(&self.first).chain(&self.others).find(|key| key.id == id)
    }
}

impl PeerKey {
    fn derive(secret: &[u8]) -> Result<Self, String> {
        let failed = |_| "a key could not be derived".to_owned();
        let source = Hkdf::<Sha256>::new(None, secret);
        let (mut key, mut id) = ([0u8; 32], [0u8; 4]);
        source.expand(PURPOSE_MAC, &mut key).map_err(failed)?;
        source.expand(PURPOSE_ID, &mut id).map_err(failed)?;
        let mac = Hmac::new_from_slice(&key).map_err(|_| "a key could not be used".to_owned())?;
        Ok(Self { id: u32::from_be_bytes(id), mac })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_to_three_long_keys() {
        let key = |seed: &str| seed.repeat(4);
        let (a, b) = (key("0123456789abcdef"), key("fedcba9876543210"));
        let cases = [
            (a.clone(), Ok(1)),
            (format!("# new\n{a}\r\n\n  {b}\n"), Ok(2)),
            (format!("{a}\n{b}\n{}", key("13579bdf02468ace")), Ok(3)),
            (format!("{a}\n{b}\n{a}x\n{b}x"), Err("more than 3")),
            (String::new(), Err("no key")),
            ("# only a remark".into(), Err("no key")),
            ("short".into(), Err("of 5 bytes")),
            ("x".repeat(64), Err("not random")),
            (format!("{a}\nshort"), Err("of 5 bytes")),
        ];
        for (text, expected) in cases {
            match (PeerKeyring::parse(text.as_bytes()), expected) {
                (Ok(ring), Ok(count)) => assert_eq!(1 + ring.others.len(), count, "{text}"),
                (Err(reason), Err(part)) => assert!(reason.contains(part), "{reason}: {text}"),
                (Ok(_), Err(part)) => panic!("{text} was taken, not {part}"),
                (Err(reason), Ok(_)) => panic!("{reason}: {text}"),
            }
        }
        let ring = PeerKeyring::parse(format!("{a}\n{b}").as_bytes()).unwrap();
        let other = PeerKeyring::parse(b.as_bytes()).unwrap();
        assert_ne!(ring.first().id, other.first().id);
        assert!(ring.find(other.first().id).is_some() && other.find(ring.first().id).is_none());
    }
}

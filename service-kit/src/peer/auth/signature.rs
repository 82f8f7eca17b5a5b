//! The header `x-atoll-auth`, and what is under its signature.
//!
//! ```text
//! x-atoll-auth: 1 <key id> <milliseconds> <stream> <number> <receiver> <hash of the body> <MAC>
//! ```
//! Numbers are hexadecimal, hash and MAC base64url. Under the MAC are these, method and target, and
//! the headers that give a message its meaning, each behind its length.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dynamo_core::time::WallMs;
use dynamo_core::wire::headers::RING_VERSION;
use hmac::Mac;
use http::header::{CONTENT_TYPE, HeaderName, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Method, Uri};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::keyring::{PeerKey, PeerKeyId};
use crate::peer::identity::{
    X_ATOLL_CLUSTER, X_ATOLL_DEADLINE_MS, X_ATOLL_INCARNATION, X_ATOLL_PROTOCOL, X_ATOLL_ROLE,
    X_ATOLL_SENDER,
};

/// The header.
pub(super) const X_ATOLL_AUTH: HeaderName = HeaderName::from_static("x-atoll-auth");

/// The form of the header, and the first thing under its signature.
const FORM: &str = "1";

/// Headers under the signature, besides method and target.
const SIGNED: [HeaderName; 10] = [
    X_ATOLL_CLUSTER,
    X_ATOLL_SENDER,
    X_ATOLL_ROLE,
    X_ATOLL_INCARNATION,
    X_ATOLL_PROTOCOL,
    X_ATOLL_DEADLINE_MS,
    HeaderName::from_static(RING_VERSION),
    CONTENT_TYPE,
    IF_MATCH,
    IF_NONE_MATCH,
];

/// SHA-256 of a body.
#[derive(Debug, Clone, Copy)]
pub(in crate::peer) struct BodyHash([u8; 32]);

impl BodyHash {
    pub(super) fn of(body: &[u8]) -> Self {
        Self(Sha256::digest(body).into())
    }

    pub(super) fn matches(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

/// The hash of a body that comes in parts.
#[derive(Default)]
pub(super) struct BodyHasher(Sha256);

impl BodyHasher {
    pub(super) fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    pub(super) fn finish(self) -> BodyHash {
        BodyHash(self.0.finalize().into())
    }
}

/// What a signature states beyond the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) time: WallMs,
    pub(super) stream: u64,
    pub(super) number: u64,
    pub(super) receiver: u64,
}

impl Claim {
    /// The value of the header.
    pub(super) fn sign(
        &self,
        key: &PeerKey,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: &BodyHash,
    ) -> HeaderValue {
        let mac = self.mac(key, method, uri, headers, body);
        let Self { time, stream, number, receiver } = self;
        let text = format!(
            "{FORM} {:x} {:x} {stream:x} {number:x} {receiver:x} {} {}",
            key.id,
            time.0,
            URL_SAFE_NO_PAD.encode(body.0),
            URL_SAFE_NO_PAD.encode(mac),
        );
        HeaderValue::try_from(text).expect("digits and base64 are a valid header value")
    }

    fn mac(
        &self,
        key: &PeerKey,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: &BodyHash,
    ) -> [u8; 32] {
        let mut mac = key.mac.clone();
        let mut field = |bytes: &[u8]| {
            mac.update(&(bytes.len() as u64).to_be_bytes());
            mac.update(bytes);
        };
        field(FORM.as_bytes());
        field(method.as_str().as_bytes());
        field(uri.path_and_query().map_or("", |target| target.as_str()).as_bytes());
        for name in &SIGNED {
            field(headers.get(name).map_or(&[], HeaderValue::as_bytes));
        }
        for number in [self.time.0, self.stream, self.number, self.receiver] {
            mac.update(&number.to_be_bytes());
        }
        mac.update(&body.0);
        mac.finalize().into_bytes().into()
    }
}

/// A header that was received.
pub(super) struct Presented {
    pub(super) key: PeerKeyId,
    pub(super) claim: Claim,
    pub(super) body: BodyHash,
    mac: [u8; 32],
}

impl Presented {
    /// `None` where it does not have the form.
    pub(super) fn parse(value: &HeaderValue) -> Option<Self> {
        let mut parts = value.to_str().ok()?.split(' ');
        if parts.next()? != FORM {
            return None;
        }
        let key = u32::from_str_radix(parts.next()?, 16).ok()?;
        let mut number = || u64::from_str_radix(parts.next()?, 16).ok();
        let claim = Claim {
            time: WallMs(number()?),
            stream: number()?,
            number: number()?,
            receiver: number()?,
        };
        let mut bytes = || <[u8; 32]>::try_from(URL_SAFE_NO_PAD.decode(parts.next()?).ok()?).ok();
        let (body, mac) = (BodyHash(bytes()?), bytes()?);
        parts.next().is_none().then_some(Self { key, claim, body, mac })
    }

    /// Whether the message is the one that was signed with `key`. Takes the same time wherever the
    /// MACs differ.
    pub(super) fn verify(
        &self,
        key: &PeerKey,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> bool {
        let mac = self.claim.mac(key, method, uri, headers, &self.body);
        mac.ct_eq(&self.mac).into()
    }
}

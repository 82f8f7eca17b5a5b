//! The causal context that clients carry from an answer to their next put.
//!
//! Opaque to clients: base64url over a versioned binary form, bound to bucket and key, and
//! authenticated. Without authentication a client could claim to have seen writes that do not
//! exist yet, and silently supersede them when they come. A header may join several tokens with
//! a dot: a client that reads from several replicas itself (paper section 6.4) presents them all.
//!
//! ```text
//! token = base64url( version u8 = 1 │ flags u8 │ fastest node u128? │ stamp │ node table │ clock │ MAC 16 bytes )
//! MAC   = first 16 bytes of HMAC-SHA256( key, length ‖ bucket ‖ length ‖ object key ‖ form )
//! ```

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::clock::dvv::Dvv;
use crate::clock::hlc::Hlc;
use crate::codec::bytes::{DecodeError, Reader, Writer};
use crate::codec::clock::{NodeTable, actors, read_clock, write_clock};
use crate::id::NodeId;
use crate::key::ObjectKey;
use crate::limits::{CONTEXT_BYTES_MAX, CONTEXT_TOKENS_MAX};

/// The version of the form that this build writes.
pub const CONTEXT_FORMAT: u8 = 1;

const MAC_BYTES: usize = 16;
const FLAG_FASTEST: u8 = 1;

/// What a client has seen of one key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CausalContext {
    /// The write events it has seen.
    pub clock: Dvv,
    /// The latest stamp among them, so that a later write never gets an earlier one.
    pub stamp: Hlc,
    /// The node that answered the read fastest: the preferred coordinator of the put that follows
    /// (paper section 5).
    pub fastest: Option<NodeId>,
}

/// Why a context header is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// Not a token of this cluster, or not for this key, or damaged.
    #[error("the context is not one that this cluster issued for this key")]
    Invalid,
    /// Issued by a newer version.
    #[error("context format {0} is not known to this version")]
    Version(u8),
    /// Longer than a token may be.
    #[error("the context is longer than {CONTEXT_BYTES_MAX} bytes")]
    TooLong,
}

/// The keys that sign and verify contexts, derived from the cluster secrets.
#[derive(Clone)]
pub struct ContextKeys {
    keys: Vec<[u8; 32]>,
}

impl std::fmt::Debug for ContextKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ContextKeys({})", self.keys.len())
    }
}

impl ContextKeys {
    /// Keys from the cluster secrets, the signing one first; the others verify during a rotation.
    /// `None` where no secret is given.
    #[must_use]
    pub fn derive<'a>(secrets: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let keys: Vec<[u8; 32]> = secrets
            .into_iter()
            .map(|secret| {
                let mut key = [0u8; 32];
                Hkdf::<Sha256>::new(None, secret)
                    .expand(b"atoll causal context v1", &mut key)
                    .expect("32 bytes are a valid HKDF-SHA256 output length");
                key
            })
            .collect();
        (!keys.is_empty()).then_some(Self { keys })
    }

    /// The token of `context` for `object`.
    ///
    /// # Errors
    /// [`ContextError::TooLong`] where the clock has grown beyond what a token may carry.
    pub fn encode(
        &self,
        object: &ObjectKey,
        context: &CausalContext,
    ) -> Result<String, ContextError> {
        let mut form = Writer::with_capacity(128);
        form.u8(CONTEXT_FORMAT);
        form.u8(if context.fastest.is_some() { FLAG_FASTEST } else { 0 });
        if let Some(node) = context.fastest {
            form.u128(node.0);
        }
        form.varint(context.stamp.0);
        let table = NodeTable::of(actors(&context.clock));
        table.write(&mut form);
        write_clock(&context.clock, &table, false, &mut form);
        let key = self.keys.first().expect("a key ring is never empty");
        let tag = mac(key, object, form.as_slice());
        form.raw(&tag);
        let token = URL_SAFE_NO_PAD.encode(form.as_slice());
        if token.len() > CONTEXT_BYTES_MAX { Err(ContextError::TooLong) } else { Ok(token) }
    }

    /// Verifies and reads a context header for `object`: one token, or several joined by dots,
    /// whose contexts are merged (the first names the coordinator).
    ///
    /// # Errors
    /// [`ContextError`]; the put must then be refused, with nothing stored.
    pub fn decode(&self, object: &ObjectKey, header: &str) -> Result<CausalContext, ContextError> {
        let mut merged: Option<CausalContext> = None;
        for (index, token) in header.split('.').enumerate() {
            if index >= CONTEXT_TOKENS_MAX {
                return Err(ContextError::TooLong);
            }
            let context = self.decode_one(object, token)?;
            merged = Some(match merged {
                None => context,
                Some(mut all) => {
                    all.clock.merge(&context.clock);
                    all.stamp = all.stamp.max(context.stamp);
                    all
                }
            });
        }
        merged.ok_or(ContextError::Invalid)
    }

    fn decode_one(&self, object: &ObjectKey, token: &str) -> Result<CausalContext, ContextError> {
        let (version, form, tag) = open(token)?;
        if version != CONTEXT_FORMAT {
            return Err(ContextError::Version(version));
        }
        let genuine = self
            .keys
            .iter()
            .any(|key| bool::from(mac(key, object, &form).as_slice().ct_eq(tag.as_ref())));
        if !genuine {
            return Err(ContextError::Invalid);
        }
        parse(form).map_err(|_| ContextError::Invalid)
    }
}

/// The coordinator that a token prefers, read without verification: a routing hint and nothing
/// more. `None` for anything unreadable.
#[must_use]
pub fn peek_fastest(header: &str) -> Option<NodeId> {
    let token = header.split('.').next()?;
    let (version, form, _) = open(token).ok()?;
    if version != CONTEXT_FORMAT {
        return None;
    }
    let mut input = Reader::new(form);
    input.u8().ok()?;
    let flags = input.u8().ok()?;
    if flags & FLAG_FASTEST == 0 {
        return None;
    }
    input.u128().ok().map(NodeId)
}

/// Splits a token into version, form (version byte included) and MAC.
fn open(token: &str) -> Result<(u8, Bytes, Bytes), ContextError> {
    if token.len() > CONTEXT_BYTES_MAX {
        return Err(ContextError::TooLong);
    }
    let mut form = Bytes::from(URL_SAFE_NO_PAD.decode(token).map_err(|_| ContextError::Invalid)?);
    let version = *form.first().ok_or(ContextError::Invalid)?;
    let end = form.len().checked_sub(MAC_BYTES).ok_or(ContextError::Invalid)?;
    let tag = form.split_off(end);
    Ok((version, form, tag))
}

fn parse(form: Bytes) -> Result<CausalContext, DecodeError> {
    let mut input = Reader::new(form);
    input.u8()?;
    let fastest = match input.u8()? {
        0 => None,
        FLAG_FASTEST => Some(NodeId(input.u128()?)),
        _ => return Err(DecodeError::Invalid("flags")),
    };
    let stamp = Hlc(input.varint()?);
    let table = NodeTable::read(&mut input)?;
    let clock = read_clock(&table, false, &mut input)?;
    input.finish()?;
    Ok(CausalContext { clock, stamp, fastest })
}

fn mac(key: &[u8; 32], object: &ObjectKey, form: &[u8]) -> [u8; MAC_BYTES] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    // Lengths first, so that no two (bucket, key, form) triples share one input.
    mac.update(&(object.bucket().as_str().len() as u64).to_be_bytes());
    mac.update(object.bucket().as_str().as_bytes());
    mac.update(&(object.key().len() as u64).to_be_bytes());
    mac.update(object.key());
    mac.update(form);
    let full = mac.finalize().into_bytes();
    let mut tag = [0u8; MAC_BYTES];
    for (to, from) in tag.iter_mut().zip(full.iter()) {
        *to = *from;
    }
    tag
}

//! The sending side: the stream of signed messages to one address.

use std::sync::atomic::{AtomicU64, Ordering};

use dynamo_core::entropy::Entropy;
use http::{HeaderMap, StatusCode};

use super::X_ATOLL_RECEIVER;
use crate::rng::OsEntropy;

/// Numbers the messages to one address, and remembers who receives there.
#[derive(Debug)]
pub(in crate::peer) struct Stream {
    /// Unique by chance, so that no two processes need to agree on anything.
    pub(super) id: u64,
    number: AtomicU64,
    /// 0 until the first refusal tells it.
    receiver: AtomicU64,
}

impl Stream {
    pub(in crate::peer) fn new() -> Self {
        let id = OsEntropy.next_u64();
        Self { id, number: AtomicU64::new(0), receiver: AtomicU64::new(0) }
    }

    pub(super) fn next(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The life of the receiver as last heard of.
    pub(in crate::peer) fn receiver(&self) -> u64 {
        self.receiver.load(Ordering::Relaxed)
    }

    /// Learns from a refusal that somebody else than `signed_for` receives; says whether the message
    /// should be signed anew. It was refused unread, so this is safe for any message.
    pub(in crate::peer) fn learn(
        &self,
        signed_for: u64,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> bool {
        if status != StatusCode::UNAUTHORIZED {
            return false;
        }
        let stated = headers.get(X_ATOLL_RECEIVER).and_then(|value| value.to_str().ok());
        let Some(receiver) = stated.and_then(|text| text.parse::<u64>().ok()) else { return false };
        self.receiver.store(receiver, Ordering::Relaxed);
        receiver != signed_for
    }
}

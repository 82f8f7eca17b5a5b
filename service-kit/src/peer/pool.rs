//! Keep-alive connections to one address. The newest idle one is used first, so that those beyond
//! the need grow old and are closed.
//!
//! Not here: what is sent, and what a failure means ([`super::PeerClient`]).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use dynamo_core::time::Mono;
use http::HeaderValue;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use tokio::sync::Semaphore;

use super::auth::Stream;
use super::client::PeerConfig;
use crate::time::Clock;

/// A connection that is not in use.
pub(super) struct Idle {
    pub(super) sender: SendRequest<Full<Bytes>>,
    pub(super) opened: Mono,
    since: Mono,
}

/// The connections to one address.
pub(super) struct Pool {
    /// The address as the value of `Host`.
    pub(super) host: HeaderValue,
    /// One permit per connection that may be in use at once.
    pub(super) slots: Arc<Semaphore>,
    /// The signed messages to the address.
    pub(super) stream: Stream,
    idle: Mutex<Vec<Idle>>,
}

impl Pool {
    pub(super) fn new(host: HeaderValue, config: &PeerConfig) -> Self {
        Self {
            host,
            slots: Arc::new(Semaphore::new(config.connections_max)),
            stream: Stream::new(),
            idle: Mutex::new(Vec::new()),
        }
    }

    /// The newest connection that is still good.
    pub(super) fn take(&self, clock: &Clock, config: &PeerConfig) -> Option<Idle> {
        let now = clock.mono();
        let mut idle = self.lock();
        while let Some(connection) = idle.pop() {
            if !connection.sender.is_closed()
                && now.since(connection.since) < config.idle_timeout
                && now.since(connection.opened) < config.connection_age_max
            {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection whose answer was read to its end.
    pub(super) fn put(
        &self,
        sender: SendRequest<Full<Bytes>>,
        opened: Mono,
        clock: &Clock,
        config: &PeerConfig,
    ) {
        if sender.is_closed() {
            return;
        }
        let now = clock.mono();
        let mut idle = self.lock();
        if idle.len() >= config.idle_max {
            // The oldest is first, and most likely to be of no use.
            idle.remove(0);
        }
        idle.push(Idle { sender, opened, since: now });
    }

    /// Drops connections that are too old to be used, and says whether none is left.
    pub(super) fn sweep(&self, clock: &Clock, config: &PeerConfig) -> bool {
        let now = clock.mono();
        let mut idle = self.lock();
        idle.retain(|connection| {
            !connection.sender.is_closed() && now.since(connection.since) < config.idle_timeout
        });
        idle.is_empty() && self.slots.available_permits() == config.connections_max
    }

    pub(super) fn idle_len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Slices of background work (paper section 6.5): every piece of work beside the requests takes one
//! while it runs. How many there are is set by [`SliceController`] from what the requests
//! experience; who is next is decided by [`SliceQueue`].
//!
//! | module | what |
//! |---|---|
//! | [`control`] | feeding the controller once a second |
//! | [`load`] | how many operations there were lately |
//! | [`scrub`] | comparing tree and records, in time |
//!
//! Here is only the waiting: a slice is a value, and dropping it makes room for the next one.
//!
//! [`SliceController`]: dynamo_core::admission::SliceController

pub mod control;
pub mod load;
pub mod scrub;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dynamo_core::admission::{Kind, SliceQueue, Ticket};
use dynamo_core::time::Mono;
use dynamo_core::wire::headers::BACKGROUND;
use http::HeaderMap;
use service_kit::http::error::{ErrorCode, Problem};
use service_kit::time::Clock;
use tokio::sync::oneshot;

use crate::limits::{SLICE_RETRY_AFTER_S, SLICE_WAIT_MAX};
use crate::metrics::SliceMetrics;

/// Why there is no slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoSlice {
    /// Too much work of this kind waits.
    #[error("too much background work of kind {0} waits already")]
    Full(Kind),
    /// None became free in time.
    #[error("no slice for background work of kind {0} became free in time")]
    Late(Kind),
}

impl From<NoSlice> for Problem {
    fn from(error: NoSlice) -> Self {
        Self::new(ErrorCode::Overloaded, error.to_string()).retry_after_s(SLICE_RETRY_AFTER_S)
    }
}

/// The slices of one node.
#[derive(Debug)]
pub struct Slices {
    inner: Mutex<Inner>,
    clock: Clock,
    metrics: SliceMetrics,
}

#[derive(Debug)]
struct Inner {
    queue: SliceQueue,
    waiting: BTreeMap<Ticket, oneshot::Sender<()>>,
}

/// The right to run one piece of background work. Ends when dropped.
#[derive(Debug)]
#[must_use = "the work is admitted only while this is kept"]
pub struct Slice {
    slices: Arc<Slices>,
    ticket: Ticket,
}

impl Drop for Slice {
    fn drop(&mut self) {
        self.slices.finish(self.ticket);
    }
}

impl Slices {
    /// So many slices for now.
    #[must_use]
    pub fn new(slices: u32, max: u32, clock: Clock, metrics: SliceMetrics) -> Self {
        metrics.slices.set(i64::from(slices));
        metrics.slices_max.set(i64::from(max));
        let inner = Inner { queue: SliceQueue::new(slices), waiting: BTreeMap::new() };
        Self { inner: Mutex::new(inner), clock, metrics }
    }

    /// Waits for a slice, at most `wait`.
    ///
    /// # Errors
    /// [`NoSlice`].
    pub async fn take(self: &Arc<Self>, kind: Kind, wait: Duration) -> Result<Slice, NoSlice> {
        let asked = self.clock.mono();
        let (granted, answer) = oneshot::channel();
        let ticket = self.ask(kind, asked.plus(wait), granted).ok_or_else(|| {
            self.count(kind, |of| of.refused_full.inc());
            NoSlice::Full(kind)
        })?;
        // From here on dropping it gives the ticket back, also where the wait is given up.
        let slice = Slice { slices: Arc::clone(self), ticket };
        match tokio::time::timeout(wait, answer).await {
            Ok(Ok(())) => {
                self.count(kind, |of| of.granted.inc());
                let waited = self.clock.mono().since(asked);
                self.metrics.wait_seconds.observe(waited.as_secs_f64());
                Ok(slice)
            }
            Ok(Err(_)) | Err(_) => {
                self.count(kind, |of| of.refused_late.inc());
                Err(NoSlice::Late(kind))
            }
        }
    }

    /// Takes a slice for a request that says that it is background work; `None` for one that does
    /// not.
    ///
    /// # Errors
    /// 400 for a header that names no kind, 503 `overloaded` where no slice becomes free in time.
    pub async fn admit(
        self: &Arc<Self>,
        headers: &HeaderMap,
        deadline: Option<Mono>,
    ) -> Result<Option<Slice>, Problem> {
        let Some(value) = headers.get(BACKGROUND) else { return Ok(None) };
        let kind = value.to_str().ok().and_then(|text| text.parse::<Kind>().ok());
        let kind = kind.ok_or_else(|| {
            Problem::new(ErrorCode::BadRequest, format!("{BACKGROUND}: no such kind of work"))
        })?;
        let left = deadline.map_or(SLICE_WAIT_MAX, |deadline| self.clock.remaining(deadline));
        Ok(Some(self.take(kind, left.min(SLICE_WAIT_MAX)).await?))
    }

    /// Changes the number of slices.
    pub fn set(&self, slices: u32) {
        let mut inner = self.lock();
        inner.queue.set_slices(slices);
        self.grant(&mut inner);
        drop(inner);
        self.metrics.slices.set(i64::from(slices));
    }

    fn ask(&self, kind: Kind, deadline: Mono, granted: oneshot::Sender<()>) -> Option<Ticket> {
        let mut inner = self.lock();
        let ticket = inner.queue.ask(kind, deadline).ok()?;
        inner.waiting.insert(ticket, granted);
        self.grant(&mut inner);
        Some(ticket)
    }

    fn finish(&self, ticket: Ticket) {
        let mut inner = self.lock();
        inner.waiting.remove(&ticket);
        inner.queue.finish(ticket);
        self.grant(&mut inner);
    }

    fn grant(&self, inner: &mut Inner) {
        for ticket in inner.queue.grant() {
            if let Some(granted) = inner.waiting.remove(&ticket) {
                // Whoever gave up in this very moment gives the ticket back when it is dropped.
                granted.send(()).ok();
            }
        }
        self.metrics.in_use.set(i64::try_from(inner.queue.running()).unwrap_or(i64::MAX));
        self.metrics.waiting.set(i64::try_from(inner.waiting.len()).unwrap_or(i64::MAX));
    }

    fn count(&self, kind: Kind, inc: impl FnOnce(&crate::metrics::KindMetrics)) {
        if let Some(of) = self.metrics.of(kind) {
            inc(of);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;
    use crate::metrics::Metrics;

    const LONG: Duration = Duration::from_secs(60);

    fn slices(count: u32) -> Arc<Slices> {
        let metrics = Metrics::register(&Registry::new()).unwrap().slices;
        Arc::new(Slices::new(count, 16, Clock::system(), metrics))
    }

    #[tokio::test]
    async fn a_slice_is_free_again_when_it_is_dropped_also_by_who_only_waited() {
        let slices = slices(1);
        let first = slices.take(Kind::Scrub, LONG).await.unwrap();
        let late = slices.take(Kind::Scrub, Duration::ZERO).await.unwrap_err();
        assert_eq!(late, NoSlice::Late(Kind::Scrub));
        {
            let giving_up = slices.take(Kind::Hints, LONG);
            tokio::pin!(giving_up);
            assert!(futures_poll_once(giving_up.as_mut()).await.is_none());
        }
        assert_eq!(slices.metrics.waiting.get(), 0);
        drop(first);
        let _second = slices.take(Kind::Hints, Duration::from_millis(1)).await.unwrap();
        assert_eq!(slices.metrics.in_use.get(), 1);
        slices.set(2);
        let _third = slices.take(Kind::Hints, Duration::from_millis(1)).await.unwrap();
        let of = slices.metrics.of(Kind::Hints).unwrap();
        assert_eq!((of.granted.get(), of.refused_late.get()), (2, 0));
    }

    /// Polls a future once.
    async fn futures_poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        std::future::poll_fn(|context| match future.as_mut().poll(context) {
            std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        })
        .await
    }

    #[tokio::test]
    async fn headers_name_the_kind() {
        let slices = slices(1);
        let mut headers = HeaderMap::new();
        assert!(slices.admit(&headers, None).await.unwrap().is_none());
        headers.insert(BACKGROUND, "transfer".parse().unwrap());
        let held = slices.admit(&headers, None).await.unwrap();
        assert!(held.is_some());
        let past = slices.clock.mono();
        let busy = slices.admit(&headers, Some(past)).await.unwrap_err();
        assert_eq!(busy.code(), ErrorCode::Overloaded);
        for bad in ["scrub", "", "Transfer"] {
            headers.insert(BACKGROUND, bad.parse().unwrap());
            let refused = slices.admit(&headers, None).await.unwrap_err();
            assert_eq!(refused.code(), ErrorCode::BadRequest, "{bad}");
        }
    }
}

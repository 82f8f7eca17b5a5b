//! Request bodies under control: refused early where the length is announced, cut at the limit
//! where it is not, never slower than a floor, and never more in memory than the budget of the
//! process. `100 Continue` is only sent when a body is really read.
//!
//! Invariant: bytes are reserved before the first one is read, and stay reserved as long as the
//! caller keeps the [`ByteReservation`].

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, HeaderValue};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::error::{ErrorCode, Problem};
use crate::limits::{
    BODY_BUDGET_BYTES, BODY_MIN_BYTES_PER_S, BODY_RATE_GRACE, BODY_TIMEOUT, IGNORED_BODY_BYTES_MAX,
};
use crate::peer::auth::BodyForged;

/// Bytes of request bodies that may be in memory at once. Clones share the budget.
#[derive(Debug, Clone)]
pub struct ByteBudget {
    bytes: Arc<Semaphore>,
    total: usize,
}

/// A part of a [`ByteBudget`], given back when dropped.
#[derive(Debug)]
pub struct ByteReservation(Option<OwnedSemaphorePermit>);

impl ByteBudget {
    /// A budget of `bytes`.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let total = bytes.min(Semaphore::MAX_PERMITS);
        Self { bytes: Arc::new(Semaphore::new(total)), total }
    }

    /// Takes `bytes` out of the budget, at once or not at all: a request waiting for memory would
    /// hold a connection and a deadline for nothing.
    ///
    /// # Errors
    /// 503 `overloaded` where they are not there.
    pub fn reserve(&self, bytes: usize) -> Result<ByteReservation, Problem> {
        let overloaded =
            || Problem::new(ErrorCode::Overloaded, "too many request bytes are in flight").close();
        if bytes == 0 {
            return Ok(ByteReservation(None));
        }
        let permits = u32::try_from(bytes).map_err(|_| overloaded())?;
        let permit =
            Arc::clone(&self.bytes).try_acquire_many_owned(permits).map_err(|_| overloaded())?;
        Ok(ByteReservation(Some(permit)))
    }

    /// Bytes that are reserved now.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.total - self.bytes.available_permits()
    }
}

impl Default for ByteBudget {
    fn default() -> Self {
        Self::new(BODY_BUDGET_BYTES)
    }
}

/// What a body may cost.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// Bytes of one body; more: 413.
    pub bytes_max: usize,
    /// Time before [`Self::bytes_per_s_min`] is asked for.
    pub rate_grace: Duration,
    /// Slowest average rate after that; slower: 408.
    pub bytes_per_s_min: u64,
    /// Total time; longer: 408.
    pub timeout: Duration,
}

impl BodyLimits {
    /// The default times with this many bytes.
    #[must_use]
    pub fn up_to(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            rate_grace: BODY_RATE_GRACE,
            bytes_per_s_min: BODY_MIN_BYTES_PER_S,
            timeout: BODY_TIMEOUT,
        }
    }
}

/// Reads request bodies within limits and a shared budget.
#[derive(Debug, Clone)]
pub struct BodyReader {
    limits: BodyLimits,
    budget: ByteBudget,
}

/// A whole body and its share of the budget.
#[derive(Debug)]
pub struct HeldBody {
    bytes: Bytes,
    reservation: ByteReservation,
}

impl HeldBody {
    /// The body.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The body, and the reservation to be kept as long as the bytes are.
    #[must_use]
    pub fn into_parts(self) -> (Bytes, ByteReservation) {
        (self.bytes, self.reservation)
    }
}

impl BodyReader {
    /// A reader with these limits, drawing on `budget`.
    #[must_use]
    pub fn new(limits: BodyLimits, budget: ByteBudget) -> Self {
        Self { limits, budget }
    }

    /// Reads the whole body.
    ///
    /// # Errors
    /// 413 before the first byte where Content-Length tells, at the limit where it does not; 503
    /// where the budget is used up; 408 where the sender is too slow; 400 `truncated_body` where
    /// the connection ends first. All of them close the connection.
    pub async fn read(&self, headers: &HeaderMap, body: Body) -> Result<HeldBody, Problem> {
        let announced = announced_length(headers, &body)?;
        if announced.is_some_and(|bytes| bytes > self.limits.bytes_max as u64) {
            return Err(self.too_large());
        }
        // An unannounced body may come to use all it is allowed.
        let expected = announced.map_or(self.limits.bytes_max, |bytes| {
            usize::try_from(bytes).unwrap_or(self.limits.bytes_max)
        });
        let mut reservation = self.budget.reserve(expected)?;
        if expected == 0 {
            return Ok(HeldBody { bytes: Bytes::new(), reservation });
        }
        let bytes = self.collect(body, announced.map(|_| expected)).await?;
        if let Some(permit) = reservation.0.as_mut() {
            // Give back what an unannounced body did not use.
            drop(permit.split(expected.saturating_sub(bytes.len())));
        }
        Ok(HeldBody { bytes, reservation })
    }

    async fn collect(&self, mut body: Body, announced: Option<usize>) -> Result<Bytes, Problem> {
        let started = Instant::now();
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        loop {
            let received = first.len() + rest.len();
            let frame = match body.frame().await_until(self.due(started, received)).await {
                Some(Some(Ok(frame))) => frame,
                Some(Some(Err(error))) => return Err(broken(&error)),
                Some(None) => break,
                None => {
                    let detail = "the body did not arrive in time";
                    return Err(Problem::new(ErrorCode::RequestTimeout, detail).close());
                }
            };
            // Trailers carry nothing for us.
            let Ok(data) = frame.into_data() else { continue };
            if received + data.len() > self.limits.bytes_max {
                return Err(self.too_large());
            }
            if received == 0 {
                first = data;
            } else {
                if rest.is_empty() {
                    rest.reserve(announced.map_or(first.len() + data.len(), |all| all));
                    rest.extend_from_slice(&first);
                    first = Bytes::new();
                }
                rest.extend_from_slice(&data);
            }
        }
        let bytes = if rest.is_empty() { first } else { rest.freeze() };
        if announced.is_some_and(|all| all != bytes.len()) {
            return Err(truncated());
        }
        Ok(bytes)
    }

    /// When the next byte is late: after the grace, plus the time that what was received buys.
    fn due(&self, started: Instant, received: usize) -> Instant {
        let rate = self.limits.bytes_per_s_min.max(1);
        let bought = Duration::from_millis((received as u64).saturating_mul(1000) / rate);
        started + self.limits.rate_grace.saturating_add(bought).min(self.limits.timeout)
    }

    fn too_large(&self) -> Problem {
        let detail = format!("the body has more than {} bytes", self.limits.bytes_max);
        Problem::new(ErrorCode::PayloadTooLarge, detail).close()
    }
}

/// A future with a point in time after which it is given up.
trait AwaitUntil: Future + Sized {
    /// `None` where `due` comes first. A ready future costs no timer.
    async fn await_until(self, due: Instant) -> Option<Self::Output> {
        tokio::time::timeout_at(due, self).await.ok()
    }
}

impl<F: Future> AwaitUntil for F {}

/// The length that the head or the body itself states.
fn announced_length(headers: &HeaderMap, body: &Body) -> Result<Option<u64>, Problem> {
    match headers.get(CONTENT_LENGTH).map(HeaderValue::to_str) {
        Some(Ok(text)) => text
            .parse()
            .map(Some)
            .map_err(|_| Problem::new(ErrorCode::BadFraming, "Content-Length").close()),
        Some(Err(_)) => Err(Problem::new(ErrorCode::BadFraming, "Content-Length").close()),
        None => Ok(body.size_hint().exact()),
    }
}

/// Reads and drops the body of a request that has no use for one.
///
/// # Errors
/// 413 where it is larger than `IGNORED_BODY_BYTES_MAX`, 408 and 400 as for any body.
pub(crate) async fn discard(headers: &HeaderMap, body: Body) -> Result<(), Problem> {
    let reader =
        BodyReader::new(BodyLimits::up_to(IGNORED_BODY_BYTES_MAX), ByteBudget::new(1 << 30));
    reader.read(headers, body).await.map(drop)
}

fn truncated() -> Problem {
    Problem::new(ErrorCode::TruncatedBody, "the connection ended before the body did").close()
}

/// hyper's body errors: an early end, or a chunk that is none.
fn broken(error: &axum::Error) -> Problem {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = source {
        if let Some(hyper) = cause.downcast_ref::<hyper::Error>()
            && (hyper.is_incomplete_message() || hyper.is_body_write_aborted())
        {
            return truncated();
        }
        if let Some(io) = cause.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::UnexpectedEof
        {
            return truncated();
        }
        if let Some(forged) = cause.downcast_ref::<BodyForged>() {
            return Problem::new(ErrorCode::Unauthorized, forged.to_string()).close();
        }
        source = cause.source();
    }
    Problem::new(ErrorCode::BadFraming, "the body's chunks are malformed").close()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_given_back() {
        let budget = ByteBudget::new(100);
        let first = budget.reserve(60).unwrap();
        assert_eq!(budget.reserve(60).unwrap_err().code(), ErrorCode::Overloaded);
        assert_eq!(budget.in_use(), 60);
        drop(first);
        assert!(budget.reserve(100).is_ok());
        assert_eq!(budget.in_use(), 0);
    }

    #[tokio::test]
    async fn bodies_without_a_connection() {
        let budget = ByteBudget::new(100);
        let reader = BodyReader::new(BodyLimits::up_to(10), budget.clone());
        for (len, expected) in [(0, Ok(0)), (10, Ok(10)), (11, Err(ErrorCode::PayloadTooLarge))] {
            let got = reader.read(&HeaderMap::new(), Body::from(vec![7u8; len])).await;
            assert_eq!(got.map(|b| b.bytes().len()).map_err(|p| p.code()), expected);
        }
        let held = reader.read(&HeaderMap::new(), Body::from("abc")).await.unwrap();
        assert_eq!(budget.in_use(), 3);
        drop(held);
        assert_eq!(budget.in_use(), 0);

        let mut lying = HeaderMap::new();
        lying.insert(CONTENT_LENGTH, HeaderValue::from_static("5"));
        let got = reader.read(&lying, Body::from("abc")).await;
        assert_eq!(got.unwrap_err().code(), ErrorCode::TruncatedBody);
    }
}

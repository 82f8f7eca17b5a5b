//! One accepted connection below hyper: what it is doing and since when (for the timeouts that
//! hyper does not have), and two repairs of how hyper ends one:
//! - hyper answers a malformed head with an empty body; here it becomes a problem like any other;
//! - a refusal sent while the client is still sending would be lost when the kernel resets the
//!   connection; here the rest is read and dropped for a moment first.
//!
//! Not here: which requests are refused ([`super::strict`]), and the loop that accepts.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use dynamo_core::time::Mono;
use http::StatusCode;
use hyper::body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::error::{ErrorCode, Problem};
use super::request_id::RequestId;
use crate::time::Clock;

/// Time for which a refused client may go on sending before the connection is dropped.
const LINGER: Duration = Duration::from_secs(1);

/// Bytes of a refused client that are read and dropped meanwhile.
const LINGER_BYTES_MAX: usize = 1024 * 1024;

/// What a connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// A request head is expected or has begun to arrive.
    Head = 0,
    /// A request is being handled.
    Busy = 1,
    /// The answer is on its way, or the connection is idle after it.
    Answered = 2,
    /// The last answer is written; what still comes is dropped.
    Closing = 3,
}

/// What should happen to a connection now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing for at least this long.
    Wait(Duration),
    /// Finish the request in flight, then close.
    CloseGently,
    /// Close now.
    Drop,
}

/// Bounds of the phases of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct PhaseLimits {
    pub(super) head: Duration,
    pub(super) idle: Duration,
}

/// Shared between the stream, the service and the task of one connection. All of them run on that
/// one task, hence relaxed atomics.
#[derive(Debug)]
pub(super) struct Activity {
    clock: Clock,
    phase: AtomicU8,
    since_us: AtomicU64,
    /// The request line of the current head is complete.
    line_done: AtomicBool,
    /// The socket does not take what we write.
    write_blocked: AtomicBool,
    /// The client was refused and may still be sending.
    linger: AtomicBool,
    /// Some of an answer of ours is not written yet. Only when nothing is can a write be hyper's
    /// own: a body may contain what looks like an answer of hyper.
    answer_open: AtomicBool,
    /// The last byte of the answer is in hyper's hands; the next flush writes it.
    answer_ended: AtomicBool,
}

impl Activity {
    pub(super) fn new(clock: Clock) -> Arc<Self> {
        let now = clock.mono();
        Arc::new(Self {
            clock,
            phase: AtomicU8::new(Phase::Head as u8),
            since_us: AtomicU64::new(now.0),
            line_done: AtomicBool::new(false),
            write_blocked: AtomicBool::new(false),
            linger: AtomicBool::new(false),
            answer_open: AtomicBool::new(false),
            answer_ended: AtomicBool::new(false),
        })
    }

    pub(super) fn request_begins(&self) {
        self.phase.store(Phase::Busy as u8, Ordering::Relaxed);
        self.answer_ended.store(false, Ordering::Relaxed);
        self.answer_open.store(true, Ordering::Relaxed);
    }

    /// hyper calls flush on the stream only when it has written all that it holds.
    fn flushed(&self) {
        if self.answer_ended.load(Ordering::Relaxed) {
            self.answer_open.store(false, Ordering::Relaxed);
        }
    }

    fn is_refusal_of_hyper(&self, bytes: &[u8]) -> bool {
        !self.answer_open.load(Ordering::Relaxed) && is_bare_refusal(bytes)
    }

    pub(super) fn request_answered(&self, refused_and_closed: bool) {
        if refused_and_closed {
            self.linger.store(true, Ordering::Relaxed);
        }
        self.enter(Phase::Answered);
    }

    /// What is due. `Busy` has no bound here: bodies and handlers have their own.
    pub(super) fn verdict(&self, limits: PhaseLimits) -> Verdict {
        let since = Mono(self.since_us.load(Ordering::Relaxed));
        let passed = self.clock.mono().since(since);
        let (limit, late) = match self.phase() {
            Phase::Busy => return Verdict::Wait(limits.head),
            Phase::Head => (limits.head, Verdict::Drop),
            Phase::Closing => (LINGER, Verdict::Drop),
            Phase::Answered if self.write_blocked.load(Ordering::Relaxed) => {
                (limits.idle, Verdict::Drop)
            }
            Phase::Answered => (limits.idle, Verdict::CloseGently),
        };
        match limit.checked_sub(passed) {
            // A head may begin at any moment: look again in time for its shorter bound.
            Some(left) if !left.is_zero() => Verdict::Wait(left.min(limits.head)),
            _ => late,
        }
    }

    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Head,
            1 => Phase::Busy,
            2 => Phase::Answered,
            _ => Phase::Closing,
        }
    }

    fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.touch();
    }

    fn touch(&self) {
        self.since_us.store(self.clock.mono().0, Ordering::Relaxed);
    }

    fn received(&self, bytes: &[u8]) {
        match self.phase() {
            Phase::Answered => {
                self.line_done.store(bytes.contains(&b'\n'), Ordering::Relaxed);
                self.enter(Phase::Head);
            }
            Phase::Head if !self.line_done.load(Ordering::Relaxed) => {
                self.line_done.store(bytes.contains(&b'\n'), Ordering::Relaxed);
            }
            _ => {}
        }
    }

    fn wrote(&self, blocked: bool) {
        self.write_blocked.store(blocked, Ordering::Relaxed);
        if !blocked && self.phase() != Phase::Busy {
            self.touch();
        }
    }
}

/// The body of an answer, which says when hyper has taken all of it.
pub(super) struct AnswerBody {
    body: Body,
    activity: Arc<Activity>,
}

impl AnswerBody {
    pub(super) fn new(body: Body, activity: Arc<Activity>) -> Self {
        Self { body, activity }
    }
}

impl hyper::body::Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        self.activity.answer_ended.store(true, Ordering::Relaxed);
    }
}

/// The stream of an accepted connection.
#[derive(Debug)]
pub(super) struct ConnectionIo<S> {
    stream: S,
    activity: Arc<Activity>,
    /// The problem that replaces an empty answer of hyper, and how much of it is written.
    replacement: Option<(Vec<u8>, usize)>,
    drained: usize,
}

impl<S> ConnectionIo<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity, replacement: None, drained: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ConnectionIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let received = buf.filled().get(before..).unwrap_or_default();
        if !received.is_empty() {
            self.activity.received(received);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ConnectionIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if self.replacement.is_some() || self.activity.is_refusal_of_hyper(buf) {
            return self.poll_replacement(cx, buf);
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.activity.wrote(written.is_pending());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let head: &[u8] = bufs.iter().find(|b| !b.is_empty()).map_or(&[], |b| b);
        if self.replacement.is_some() || self.activity.is_refusal_of_hyper(head) {
            return self.poll_replacement(cx, head);
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.activity.wrote(written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.activity.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        if !self.activity.linger.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        if self.activity.phase() != Phase::Closing {
            self.activity.enter(Phase::Closing);
        }
        let mut scratch = [0u8; 4096];
        while self.drained < LINGER_BYTES_MAX {
            let mut buf = ReadBuf::new(&mut scratch);
            // An error here means that the client is gone, which is what is waited for.
            let Ok(()) = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf)) else { break };
            match buf.filled().len() {
                0 => break,
                received => self.drained += received,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> ConnectionIo<S> {
    /// Writes the problem in place of `bare`; when all of it is out, `bare` counts as written.
    fn poll_replacement(
        &mut self,
        cx: &mut Context<'_>,
        bare: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let line_done = self.activity.line_done.load(Ordering::Relaxed);
        let (answer, written) =
            self.replacement.get_or_insert_with(|| (full_refusal(bare, line_done), 0));
        while let Some(rest) = answer.get(*written..)
            && !rest.is_empty()
        {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into())),
                more => *written += more,
            }
        }
        self.replacement = None;
        self.activity.linger.store(true, Ordering::Relaxed);
        Poll::Ready(Ok(bare.len()))
    }
}

/// True for the answer that hyper itself writes to a head it cannot parse.
fn is_bare_refusal(bytes: &[u8]) -> bool {
    bytes.starts_with(b"HTTP/1.1 4")
        && !bytes.windows(12).any(|window| window == b"x-request-id")
        && bytes.windows(17).any(|window| window == b"content-length: 0")
}

/// The problem that says the same as hyper's empty answer.
fn full_refusal(bare: &[u8], line_done: bool) -> Vec<u8> {
    let status = bare.get(9..12).and_then(|digits| StatusCode::from_bytes(digits).ok());
    let (code, detail) = match status.map(|s| s.as_u16()) {
        Some(431) if !line_done => (ErrorCode::UriTooLong, "the request line is too long"),
        Some(414) => (ErrorCode::UriTooLong, "the request target is too long"),
        Some(431) => (ErrorCode::HeaderTooLarge, "the request head is too large"),
        _ => (ErrorCode::BadRequest, "this is not a well-formed HTTP/1.1 request head"),
    };
    let id = RequestId::mint();
    let json = Problem::new(code, detail).request_id(id.as_str()).to_json();
    let status = code.status();
    let head = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
         connection: close\r\nx-request-id: {id}\r\n\r\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or("Error"),
        json.len(),
    );
    [head.into_bytes(), json].concat()
}

#[cfg(test)]
mod tests {
    use dynamo_core::time::WallMs;

    use super::*;

    #[test]
    fn each_phase_has_its_bound() {
        let (clock, hand) = Clock::manual(WallMs(0));
        let limits = PhaseLimits { head: Duration::from_secs(5), idle: Duration::from_secs(60) };
        let activity = Activity::new(clock);
        assert_eq!(activity.verdict(limits), Verdict::Wait(Duration::from_secs(5)));
        hand.advance(Duration::from_secs(5));
        assert_eq!(activity.verdict(limits), Verdict::Drop, "silent from the start");
        activity.request_begins();
        hand.advance(Duration::from_secs(600));
        assert_eq!(
            activity.verdict(limits),
            Verdict::Wait(limits.head),
            "handlers take their time"
        );
        activity.request_answered(false);
        hand.advance(Duration::from_secs(59));
        assert_eq!(activity.verdict(limits), Verdict::Wait(Duration::from_secs(1)));
        activity.received(b"GET / HT");
        assert_eq!(activity.verdict(limits), Verdict::Wait(limits.head));
        hand.advance(Duration::from_secs(5));
        assert_eq!(activity.verdict(limits), Verdict::Drop, "a head that does not end");
        activity.request_answered(false);
        hand.advance(Duration::from_secs(60));
        assert_eq!(activity.verdict(limits), Verdict::CloseGently);
        activity.wrote(true);
        assert_eq!(activity.verdict(limits), Verdict::Drop, "a client that does not read");
    }

    #[test]
    fn only_empty_answers_of_hyper_are_replaced() {
        let bare = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\r\n";
        assert!(is_bare_refusal(bare));
        assert!(full_refusal(bare, true).starts_with(b"HTTP/1.1 431 "));
        assert!(full_refusal(bare, false).starts_with(b"HTTP/1.1 414 "));
        assert!(!is_bare_refusal(
            b"HTTP/1.1 404 Not Found\r\nx-request-id: a\r\ncontent-length: 0\r\n\r\n"
        ));
        assert!(!is_bare_refusal(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
    }
}

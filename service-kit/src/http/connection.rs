//! The stream of one accepted connection, below hyper. It shows the bytes that come to
//! [`super::framing`], and repairs how hyper ends a connection:
//! - hyper answers a malformed head with an empty body; [`super::refusal`] takes its place;
//! - hyper waits for ever for the rest of an absurdly large chunk; here it is cut off;
//! - a refusal sent while the client is still sending would be lost when the kernel resets the
//!   connection; here the rest is read and dropped for a moment first.
//!
//! Not here: which requests are refused ([`super::strict`]), and the loop that accepts.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::Activity;
use super::refusal::{full_refusal, is_bare_refusal};

/// Bytes of a refused client that are read and dropped before the connection closes.
const LINGER_BYTES_MAX: usize = 1024 * 1024;

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
        self.activity.answer_taken();
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

    /// Only when nothing of ours is on its way can a write be hyper's own: a body may contain what
    /// looks like an answer of hyper.
    fn is_refusal_of_hyper(&self, bytes: &[u8]) -> bool {
        self.activity.is_answered() && is_bare_refusal(bytes)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ConnectionIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.activity.framing().has_absurd_chunk() {
            // hyper has been given all that came before, and waits for the rest of that chunk.
            let reason = "a chunk is larger than any body may be";
            return Poll::Ready(Err(std::io::Error::new(std::io::ErrorKind::InvalidData, reason)));
        }
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
        if self.replacement.is_some() || self.is_refusal_of_hyper(buf) {
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
        if self.replacement.is_some() || self.is_refusal_of_hyper(head) {
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
        if !self.activity.lingers() {
            return Poll::Ready(Ok(()));
        }
        self.activity.closes();
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
        let activity = &self.activity;
        let (answer, written) =
            self.replacement.get_or_insert_with(|| (full_refusal(bare, &activity.framing()), 0));
        while let Some(rest) = answer.get(*written..)
            && !rest.is_empty()
        {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into())),
                more => *written += more,
            }
        }
        self.replacement = None;
        self.activity.refused_and_closed();
        Poll::Ready(Ok(bare.len()))
    }
}

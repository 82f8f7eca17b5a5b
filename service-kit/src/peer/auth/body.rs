//! A body whose hash was signed. It passes through as it comes, without being copied, and its end is
//! only seen where the hash is the signed one.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use prometheus::IntCounter;

use super::signature::{BodyHash, BodyHasher};

/// The body is not the one that was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is not the one that was signed")]
pub(crate) struct BodyForged;

/// A body on its way to a handler.
pub(super) struct VerifiedBody {
    inner: Body,
    hasher: BodyHasher,
    signed: BodyHash,
    ended: bool,
    forged: IntCounter,
}

impl VerifiedBody {
    /// `None` where the body is empty and was not signed as such: nobody would read it to its end.
    #[expect(clippy::new_ret_no_self, reason = "a body of a request is of one type")]
    pub(super) fn new(
        inner: Body,
        signed: BodyHash,
        forged: impl FnOnce() -> IntCounter,
    ) -> Option<Body> {
        if inner.is_end_stream() {
            return signed.matches(&BodyHash::of(b"")).then(Body::empty);
        }
        let (hasher, forged) = (BodyHasher::default(), forged());
        Some(Body::new(Self { inner, hasher, signed, ended: false, forged }))
    }
}

impl HttpBody for VerifiedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.hasher.update(data);
                }
            }
            None if !self.ended => {
                self.ended = true;
                if !std::mem::take(&mut self.hasher).finish().matches(&self.signed) {
                    self.forged.inc();
                    return Poll::Ready(Some(Err(axum::Error::new(BodyForged))));
                }
            }
            _ => {}
        }
        Poll::Ready(frame)
    }

    /// Never before the check: whoever asks this instead of reading on must not miss it.
    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

//! The way of an object request to a coordinator and back.

use axum::response::Response;
use dynamo_core::clock::context::peek_fastest;
use dynamo_core::key::ObjectKey;
use dynamo_core::params::BucketProps;
use dynamo_core::routing::Purpose;
use dynamo_core::wire::coordinate::{Evidence, VersionsView};
use dynamo_core::wire::frame::{FRAME_CONTENT_TYPE, FrameError, decode_frame, encode_frame};
use dynamo_core::wire::headers::REPEATED;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method};
use serde::Serialize;
use serde::de::DeserializeOwned;
use service_kit::http::error::{ErrorCode, Outcome, Problem};
use service_kit::http::request_id::X_REQUEST_ID;
use service_kit::telemetry::trace::propagate;
use std::time::Duration;

use crate::answer::{Found, Trip};
use crate::api::call::Call;
use crate::dispatch::{Forward, Forwarded, Refused};
use crate::request::path;

/// A message to a coordinator, and what its answer is made of.
pub(super) trait Errand: Serialize {
    const PATH: &'static str;
    const PURPOSE: Purpose;
    /// What may have happened where the answer cannot be read.
    const UNREAD: Outcome;
    type Answer: DeserializeOwned;
    /// What the answer has besides versions and evidence.
    type Rest;
    fn split(answer: Self::Answer) -> (VersionsView, Evidence, Self::Rest);
}

/// What a coordinator is asked for, besides the message.
pub(super) struct Terms<'a> {
    pub(super) object: &'a ObjectKey,
    /// The context given, whose fastest reader is preferred.
    pub(super) context: Option<&'a str>,
    pub(super) timeout: Duration,
    /// Replies or acknowledgements that are waited for.
    pub(super) required: u32,
}

impl Call<'_> {
    /// The answer; refusals are counted on the way out.
    pub(super) fn conclude_object(self, result: Result<Response, impl Into<Refused>>) -> Response {
        let result = result.map_err(Into::into);
        if let Err(refused) = &result {
            self.app.metrics.refused(&refused.problem);
        }
        self.conclude(result)
    }

    pub(super) fn is_head(&self) -> bool {
        *self.method() == Method::HEAD
    }

    /// The object that the path names.
    pub(super) fn object(&self) -> Result<ObjectKey, Problem> {
        path::object(self.path())
    }

    /// The properties of the bucket of `object`, by the newest ring.
    pub(super) fn props(&self, object: &ObjectKey) -> Result<BucketProps, Problem> {
        Ok(self.app.ring()?.view.bucket(object.bucket()))
    }

    /// Sends `message` with `value` to a coordinator and reads what it answers.
    pub(super) async fn coordinate<M: Errand>(
        &self,
        message: &M,
        value: Option<&bytes::Bytes>,
        terms: Terms<'_>,
    ) -> Result<(Found, M::Rest, Forwarded), Refused> {
        let message = encode_frame(message, value).map_err(|error| {
            tracing::error!(%error, "a message could not be encoded");
            Problem::new(ErrorCode::Internal, "the request could not be passed on")
                .outcome(Outcome::NotApplied)
        })?;
        let forward = Forward {
            object: terms.object,
            purpose: M::PURPOSE,
            preferred: terms.context.and_then(peek_fastest),
            path: M::PATH,
            headers: self.message_headers(),
            message,
            deadline: self.started().plus(terms.timeout),
            required: terms.required,
        };
        let forwarded = self.app.forward(forward).await?;
        match self.read::<M>(&forwarded) {
            Ok((found, rest)) => Ok((found, rest, forwarded)),
            Err(error) => {
                tracing::warn!(node = %forwarded.node, %error, "unreadable answer of a coordinator");
                let detail = "a storage node gave an answer that cannot be read";
                Err(Problem::new(ErrorCode::Internal, detail).outcome(M::UNREAD).into())
            }
        }
    }

    fn read<M: Errand>(&self, forwarded: &Forwarded) -> Result<(Found, M::Rest), FrameError> {
        let (answer, parts) = decode_frame::<M::Answer>(forwarded.response.body.clone())?;
        let (versions, evidence, rest) = M::split(answer);
        let trip = Trip {
            coordinator: forwarded.node,
            coordination: forwarded.took,
            total: self.app.clock.mono().since(self.started()),
        };
        Ok((Found::read(versions, evidence, parts, trip)?, rest))
    }

    /// The headers that go with a message: ours, and with room for those that the peer client adds.
    fn message_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(16);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(FRAME_CONTENT_TYPE));
        if let Some(id) = self.id() {
            headers.insert(X_REQUEST_ID, id.to_header());
        }
        propagate(self.headers(), &mut headers);
        if self.headers().contains_key(REPEATED) {
            headers.insert(REPEATED, HeaderValue::from_static("true"));
        }
        headers
    }
}

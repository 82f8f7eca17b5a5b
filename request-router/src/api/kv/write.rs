//! PUT, POST and DELETE of objects. Everything that can be refused is refused before the body is
//! read, and everything about the body before anything is sent.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use dynamo_core::clock::context::peek_fastest;
use dynamo_core::id::PutId;
use dynamo_core::key::ObjectKey;
use dynamo_core::params::BucketProps;
use dynamo_core::routing::Purpose;
use dynamo_core::time::Mono;
use dynamo_core::wire::coordinate::{
    COORDINATE_PUT_PATH, Condition, ContentDto, PutAnswer, PutMessage,
};
use dynamo_core::wire::frame::encode_frame;
use http::HeaderMap;
use service_kit::http::body::{BodyLimits, BodyReader, ByteReservation};
use service_kit::http::error::{ErrorCode, Outcome, Problem};
use service_kit::http::request_id::RequestId;
use service_kit::rng::OsEntropy;
use std::time::Duration;

use super::{decode, location, message_headers, new_key, unreadable};
use crate::answer::{self, Found, Trip};
use crate::dispatch::{Forward, Refused};
use crate::request::accept::{Accept, OCTET_STREAM, not_acceptable};
use crate::request::params::{DELETE_PARAMETERS, POST_PARAMETERS, PUT_PARAMETERS, PutParams};
use crate::request::{conditions, digest, headers, path};
use crate::state::App;

/// A write whose head was found to be valid.
struct Writing<'a> {
    app: &'a App,
    object: ObjectKey,
    params: PutParams,
    headers: &'a HeaderMap,
    id: Option<&'a RequestId>,
    started: Mono,
    props: BucketProps,
    put_id: PutId,
    context: Option<String>,
    condition: Option<Condition>,
}

/// Answers a PUT.
pub(super) async fn put(
    app: &App,
    request: Request,
    id: Option<&RequestId>,
) -> Result<Response, Refused> {
    let started = app.clock.mono();
    let (parts, body) = request.into_parts();
    let object = path::object(parts.uri.path())?;
    let head = Head { query: parts.uri.query(), headers: &parts.headers, id, started };
    let given = headers::put_id(&parts.headers)?;
    let writing = Writing::new(app, object, &head, &PUT_PARAMETERS, given)?;
    let accept = Accept::parse(&parts.headers)?;
    let content_type = headers::content_type(&parts.headers)?;
    let offered = content_type.as_deref().unwrap_or(OCTET_STREAM);
    if writing.params.return_body && !accept.takes(offered) {
        return Err(not_acceptable(offered).into());
    }
    let found = writing.store(content_type, body).await?;
    if writing.params.return_body {
        return Ok(answer::write::with_versions(&found, &accept)?);
    }
    Ok(answer::write::done(&found))
}

/// Answers a POST to a bucket.
pub(super) async fn post(
    app: &App,
    request: Request,
    id: Option<&RequestId>,
) -> Result<Response, Refused> {
    let started = app.clock.mono();
    let (parts, body) = request.into_parts();
    let bucket = path::bucket(parts.uri.path(), path::KV_PREFIX)?;
    let given = headers::put_id(&parts.headers)?;
    let object = path::named(bucket.as_str(), new_key(app, given))?;
    let location = location(&object).ok_or_else(|| {
        Problem::new(ErrorCode::Internal, "the new key has no path").outcome(Outcome::NotApplied)
    })?;
    let head = Head { query: parts.uri.query(), headers: &parts.headers, id, started };
    let writing = Writing::new(app, object, &head, &POST_PARAMETERS, given)?;
    let content_type = headers::content_type(&parts.headers)?;
    let found = writing.store(content_type, body).await?;
    Ok(answer::write::created(&found, location))
}

/// Answers a DELETE.
pub(super) async fn delete(
    app: &App,
    request: Request,
    id: Option<&RequestId>,
) -> Result<Response, Refused> {
    let started = app.clock.mono();
    let (parts, _) = request.into_parts();
    let object = path::object(parts.uri.path())?;
    let head = Head { query: parts.uri.query(), headers: &parts.headers, id, started };
    let given = headers::put_id(&parts.headers)?;
    let writing = Writing::new(app, object, &head, &DELETE_PARAMETERS, given)?;
    let found = writing.coordinate(ContentDto::Tombstone, &Bytes::new()).await?;
    Ok(answer::write::done(&found))
}

/// What the head of a write says besides its path.
struct Head<'a> {
    query: Option<&'a str>,
    headers: &'a HeaderMap,
    id: Option<&'a RequestId>,
    started: Mono,
}

impl<'a> Writing<'a> {
    fn new(
        app: &'a App,
        object: ObjectKey,
        head: &Head<'a>,
        known: &[&'static str],
        put_id: Option<PutId>,
    ) -> Result<Self, Problem> {
        let props = app.ring()?.view.bucket(object.bucket());
        Ok(Self {
            app,
            params: PutParams::read(head.query, head.headers, &props, known)?,
            object,
            headers: head.headers,
            id: head.id,
            started: head.started,
            props,
            put_id: put_id.unwrap_or_else(|| PutId::random(&mut OsEntropy)),
            context: headers::context(head.headers)?,
            condition: conditions::parse(head.headers)?,
        })
    }

    /// Reads the value and has it stored.
    async fn store(&self, content_type: Option<String>, body: Body) -> Result<Found, Refused> {
        let meta = headers::meta(self.headers)?;
        let (value, reservation) = self.value(body).await?;
        digest::check(self.headers, &value)?;
        #[expect(clippy::cast_precision_loss, reason = "a histogram of sizes")]
        self.app.metrics.value_bytes_in.observe(value.len() as f64);
        let ttl = (self.params.ttl_s > 0).then(|| Duration::from_secs(self.params.ttl_s));
        let content = ContentDto::Value {
            len: value.len(),
            content_type,
            meta,
            expires_at: ttl.map(|ttl| self.app.clock.wall().plus(ttl)),
        };
        let found = self.coordinate(content, &value).await;
        drop(reservation);
        self.show_bytes_in_flight();
        found
    }

    /// The body, within the deadline, the size of a value and the budget of the process.
    async fn value(&self, body: Body) -> Result<(Bytes, ByteReservation), Problem> {
        let mut limits = BodyLimits::up_to(self.app.config.limits.value_bytes);
        let left = self.app.clock.remaining(self.started.plus(self.params.timeout));
        limits.timeout = limits.timeout.min(left);
        let reader = BodyReader::new(limits, self.app.budget.clone());
        let held = reader.read(self.headers, body).await?;
        self.show_bytes_in_flight();
        Ok(held.into_parts())
    }

    fn show_bytes_in_flight(&self) {
        let bytes = i64::try_from(self.app.budget.in_use()).unwrap_or(i64::MAX);
        self.app.metrics.bytes_in_flight.set(bytes);
    }

    async fn coordinate(&self, content: ContentDto, value: &Bytes) -> Result<Found, Refused> {
        let message = PutMessage {
            bucket: self.object.bucket().as_str().to_owned(),
            key: self.object.key().clone(),
            put_id: self.put_id,
            context: self.context.clone(),
            content,
            w: self.params.w,
            pw: self.params.pw,
            durability: self.params.durability,
            return_body: self.params.return_body,
            condition: self.condition.clone(),
        };
        let message = encode_frame(&message, [value]).map_err(|error| {
            tracing::error!(%error, "a message could not be encoded");
            Problem::new(ErrorCode::Internal, "the request could not be passed on")
                .outcome(Outcome::NotApplied)
        })?;
        let forward = Forward {
            object: &self.object,
            purpose: Purpose::Write,
            preferred: self.context.as_deref().and_then(peek_fastest),
            path: COORDINATE_PUT_PATH,
            headers: message_headers(self.headers, self.id),
            message,
            deadline: self.started.plus(self.params.timeout),
            required: self.params.required(&self.props),
        };
        let forwarded = self.app.forward(forward).await?;
        let (answer, parts) = decode::<PutAnswer>(&forwarded, Outcome::Unknown)?;
        let trip = Trip {
            coordinator: forwarded.node,
            coordination: forwarded.took,
            total: self.app.clock.mono().since(self.started),
        };
        Found::read(answer.versions, answer.evidence, parts, trip)
            .map_err(|error| unreadable(forwarded.node, &error, Outcome::Unknown).into())
    }
}

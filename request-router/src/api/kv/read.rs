//! GET and HEAD of an object.

use axum::extract::Request;
use axum::response::Response;
use dynamo_core::clock::context::peek_fastest;
use dynamo_core::key::ObjectKey;
use dynamo_core::params::BucketProps;
use dynamo_core::routing::Purpose;
use dynamo_core::time::Mono;
use dynamo_core::wire::coordinate::{COORDINATE_GET_PATH, GetAnswer, GetMessage, ReplicaView};
use dynamo_core::wire::frame::encode_frame;
use dynamo_core::wire::headers::CONTEXT;
use http::{HeaderMap, Method};
use service_kit::http::error::{ErrorCode, Outcome, Problem};
use service_kit::http::request_id::RequestId;

use super::{decode, message_headers, not_implemented, unreadable};
use crate::answer::{self, Found, Trip};
use crate::dispatch::{Forward, Forwarded, Refused};
use crate::request::accept::{Accept, JSON, not_acceptable};
use crate::request::params::GetParams;
use crate::request::{conditions, path};
use crate::state::App;

/// A read on its way.
struct Reading<'a> {
    app: &'a App,
    object: &'a ObjectKey,
    params: &'a GetParams,
    headers: &'a HeaderMap,
    id: Option<&'a RequestId>,
    started: Mono,
    props: BucketProps,
}

/// Answers a GET or HEAD.
pub(super) async fn read(
    app: &App,
    request: Request,
    id: Option<&RequestId>,
) -> Result<Response, Refused> {
    let started = app.clock.mono();
    let (parts, _) = request.into_parts();
    let object = path::object(parts.uri.path())?;
    let ring = app.ring()?;
    let props = ring.view.bucket(object.bucket());
    let params = GetParams::read(parts.uri.query(), &parts.headers, &props)?;
    if params.watch {
        return Err(not_implemented("watching a key is not part of this version").into());
    }
    let accept = Accept::parse(&parts.headers)?;
    if params.explain && !accept.takes(JSON) {
        return Err(not_acceptable(JSON).into());
    }
    let condition = conditions::parse(&parts.headers)?;
    let reading = Reading {
        app,
        object: &object,
        params: &params,
        headers: &parts.headers,
        id,
        started,
        props,
    };
    let head = parts.method == Method::HEAD;
    let (mut found, mut replicas, mut forwarded) =
        reading.coordinate(!head && !params.explain).await?;
    if params.explain {
        return Ok(answer::explain::respond(&ring, &object, &found, &replicas, &forwarded)?);
    }
    let wish =
        answer::read::Wish { params: &params, accept: &accept, condition: condition.as_ref() };
    if head && found.versions.siblings.len() > 1 {
        // The length of a document of siblings is only known by writing it.
        (found, replicas, forwarded) = reading.coordinate(true).await?;
    }
    drop((replicas, forwarded));
    app.metrics
        .siblings
        .observe(f64::from(u32::try_from(found.versions.sibling_count).unwrap_or(u32::MAX)));
    answer::read::respond(&found, wish)
}

impl Reading<'_> {
    async fn coordinate(
        &self,
        values: bool,
    ) -> Result<(Found, Vec<ReplicaView>, Forwarded), Refused> {
        let message = GetMessage {
            bucket: self.object.bucket().as_str().to_owned(),
            key: self.object.key().clone(),
            r: self.params.r,
            pr: self.params.pr,
            notfound_ok: self.params.notfound_ok,
            values,
            explain: self.params.explain,
        };
        let message = encode_frame(&message, &[]).map_err(|error| {
            tracing::error!(%error, "a message could not be encoded");
            Problem::new(ErrorCode::Internal, "the request could not be passed on")
                .outcome(Outcome::NotApplied)
        })?;
        let context = self.headers.get(CONTEXT).and_then(|value| value.to_str().ok());
        let forward = Forward {
            object: self.object,
            purpose: Purpose::Read,
            preferred: context.and_then(peek_fastest),
            path: COORDINATE_GET_PATH,
            headers: message_headers(self.headers, self.id),
            message,
            deadline: self.started.plus(self.params.timeout),
            required: self.params.required(&self.props),
        };
        let forwarded = self.app.forward(forward).await?;
        let (GetAnswer { versions, evidence, replicas }, parts) =
            decode::<GetAnswer>(&forwarded, Outcome::NotApplied)?;
        let trip = Trip {
            coordinator: forwarded.node,
            coordination: forwarded.took,
            total: self.app.clock.mono().since(self.started),
        };
        let found = Found::read(versions, evidence, parts, trip)
            .map_err(|error| unreadable(forwarded.node, &error, Outcome::NotApplied))?;
        let bytes: usize = found.values.iter().map(bytes::Bytes::len).sum();
        #[expect(clippy::cast_precision_loss, reason = "a histogram of sizes")]
        self.app.metrics.value_bytes_out.observe(bytes as f64);
        Ok((found, replicas, forwarded))
    }
}

//! GET and HEAD of an object.

use axum::response::Response;
use dynamo_core::key::ObjectKey;
use dynamo_core::routing::Purpose;
use dynamo_core::wire::coordinate::{
    COORDINATE_GET_PATH, Evidence, GetAnswer, GetMessage, ReplicaView, VersionsView,
};
use dynamo_core::wire::headers::CONTEXT;
use service_kit::http::error::Outcome;

use super::coordinate::{Errand, Terms};
use crate::answer::{self, Found};
use crate::api::call::{Call, not_implemented};
use crate::dispatch::{Forwarded, Refused};
use crate::request::accept::{Accept, JSON, not_acceptable};
use crate::request::conditions;
use crate::request::params::GetParams;

impl Errand for GetMessage {
    const PATH: &'static str = COORDINATE_GET_PATH;
    const PURPOSE: Purpose = Purpose::Read;
    const UNREAD: Outcome = Outcome::NotApplied;
    type Answer = GetAnswer;
    type Rest = Vec<ReplicaView>;

    fn split(answer: GetAnswer) -> (VersionsView, Evidence, Vec<ReplicaView>) {
        (answer.versions, answer.evidence, answer.replicas)
    }
}

/// Answers a GET or HEAD.
pub(super) async fn read(call: &Call<'_>) -> Result<Response, Refused> {
    let object = call.object()?;
    let ring = call.app.ring()?;
    let props = ring.view.bucket(object.bucket());
    let params = GetParams::read(call.query(), call.headers(), &props)?;
    if params.explain {
        // It shows nodes, and what each of them has.
        call.permit_admin()?;
    }
    if params.watch {
        return Err(not_implemented("watching a key is not part of this version").into());
    }
    let accept = Accept::parse(call.headers())?;
    if params.explain && !accept.takes(JSON) {
        return Err(not_acceptable(JSON).into());
    }
    let condition = conditions::parse(call.headers())?;
    let required = params.required(&props);
    let coordinate = |values| coordinate(call, &object, &params, required, values);
    let (mut found, replicas, forwarded) = coordinate(!call.is_head() && !params.explain).await?;
    if params.explain {
        return Ok(answer::explain::respond(&ring, &object, &found, &replicas, &forwarded)?);
    }
    drop((replicas, forwarded));
    if call.is_head() && found.versions.siblings.len() > 1 {
        // The length of a document of siblings is only known by writing it.
        found = coordinate(true).await?.0;
    }
    let siblings = u32::try_from(found.versions.sibling_count).unwrap_or(u32::MAX);
    call.app.metrics.siblings.observe(f64::from(siblings));
    let wish =
        answer::read::Wish { params: &params, accept: &accept, condition: condition.as_ref() };
    answer::read::respond(&found, wish)
}

async fn coordinate(
    call: &Call<'_>,
    object: &ObjectKey,
    params: &GetParams,
    required: u32,
    values: bool,
) -> Result<(Found, Vec<ReplicaView>, Forwarded), Refused> {
    let message = GetMessage {
        bucket: object.bucket().as_str().to_owned(),
        key: object.key().clone(),
        r: params.r,
        pr: params.pr,
        notfound_ok: params.notfound_ok,
        values,
        explain: params.explain,
    };
    let context = call.headers().get(CONTEXT).and_then(|value| value.to_str().ok());
    let terms = Terms { object, context, timeout: params.timeout, required };
    let answered = call.coordinate(&message, None, terms).await?;
    let bytes: usize = answered.0.values.iter().map(bytes::Bytes::len).sum();
    #[expect(clippy::cast_precision_loss, reason = "a histogram of sizes")]
    call.app.metrics.value_bytes_out.observe(bytes as f64);
    Ok(answered)
}

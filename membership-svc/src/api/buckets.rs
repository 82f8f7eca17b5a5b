//! Properties of buckets.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use dynamo_core::key::{Bucket, NameError};
use dynamo_core::membership::buckets::{self, BucketError};
use dynamo_core::membership::view::Membership;
use dynamo_core::params::BucketProps;
use dynamo_core::wire::membership::{BucketDocument, BucketsDocument};
use http::StatusCode;
use service_kit::http::error::{ErrorCode, Problem};
use service_kit::http::json::StrictJson;

use super::{ApiState, no_query, problem};

/// `GET /v1/buckets`.
///
/// # Errors
/// 503 `not_ready` before the founding.
pub async fn list(
    State(state): State<ApiState>,
    RawQuery(query): RawQuery,
) -> Result<Json<BucketsDocument>, Problem> {
    no_query(query.as_deref())?;
    let view = state.agent.view();
    let defaults = view.fold().map(|fold| fold.defaults).ok_or_else(not_founded)?;
    let own = view.registers().buckets.iter();
    let buckets: BTreeMap<String, BucketProps> =
        own.filter_map(|(name, entry)| Some((name.clone(), entry.props?))).collect();
    Ok(Json(BucketsDocument { defaults, buckets }))
}

/// `GET /v1/buckets/{bucket}`.
///
/// # Errors
/// 400 for an invalid name, 503 `not_ready` before the founding.
pub async fn get(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<BucketDocument>, Problem> {
    no_query(query.as_deref())?;
    document(&state.agent.view(), &parse(&name)?).map(Json)
}

/// `PUT /v1/buckets/{bucket}`: the whole properties; absent ones get their documented default.
///
/// # Errors
/// 400 for an invalid name, 422 for properties that do not fit together or the cluster.
pub async fn put(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    StrictJson(props): StrictJson<BucketProps>,
) -> Result<Json<BucketDocument>, Problem> {
    no_query(query.as_deref())?;
    let bucket = parse(&name)?;
    set(&state, &bucket, Some(props)).await?;
    document(&state.agent.view(), &bucket).map(Json)
}

/// `DELETE /v1/buckets/{bucket}`: back to the defaults.
///
/// # Errors
/// 400 for an invalid name, 503 `not_ready` before the founding.
pub async fn delete(
    State(state): State<ApiState>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<StatusCode, Problem> {
    no_query(query.as_deref())?;
    set(&state, &parse(&name)?, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn set(state: &ApiState, bucket: &Bucket, props: Option<BucketProps>) -> Result<(), Problem> {
    let agent = &state.agent;
    let wall = agent.clock.wall();
    let setting = agent.change(|view| buckets::set(view, bucket, props, wall));
    let changed = setting.await.map_err(|error| problem(error, |error| refused(&error)))?;
    if changed {
        tracing::info!(target: "audit", %bucket, own = props.is_some(), "bucket properties set");
    }
    Ok(())
}

fn document(view: &Membership, bucket: &Bucket) -> Result<BucketDocument, Problem> {
    let props = view.bucket(bucket).ok_or_else(not_founded)?;
    let entry = view.registers().buckets.get(bucket.as_str());
    Ok(BucketDocument {
        bucket: bucket.to_string(),
        own: entry.is_some_and(|entry| entry.props.is_some()),
        props,
        warnings: buckets::warnings(view, &props),
    })
}

fn parse(name: &str) -> Result<Bucket, Problem> {
    name.parse().map_err(|error: NameError| {
        let code = match error {
            NameError::Reserved => ErrorCode::ReservedBucket,
            _ => ErrorCode::BadBucket,
        };
        Problem::new(code, error.to_string())
    })
}

fn not_founded() -> Problem {
    refused(&BucketError::NotFounded)
}

fn refused(error: &BucketError) -> Problem {
    let code = match error {
        BucketError::NotFounded => ErrorCode::NotReady,
        BucketError::Props(..) | BucketError::Members { .. } => ErrorCode::Unprocessable,
        BucketError::TooMany => ErrorCode::Conflict,
    };
    Problem::new(code, error.to_string())
}

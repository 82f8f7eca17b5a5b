//! `/v1/kv/…`: objects. The key is the rest of the raw path, so the path is taken apart here and
//! not by the router's patterns.

mod coordinate;
mod read;
mod write;

use axum::extract::{Request, State};
use axum::response::Response;
use service_kit::http::error::{ErrorCode, Problem};

use super::call::{Call, not_implemented};
use crate::request::{params, path, query};
use crate::state::App;

/// Read an object
///
/// The key is the rest of the path: any bytes, percent-encoded; a raw '/' belongs to it.
#[utoipa::path(get, path = "/v1/kv/{bucket}/{key}", tag = "objects",
    params(
        ("bucket" = String, Path, description = "1 to 64 of a-z 0-9 . _ -"),
        ("key" = String, Path, description = "1 to 1,024 bytes, percent-encoded"),
        ("r" = Option<String>, Query, description = "replies to wait for: 1..n, one, quorum or all"),
        ("pr" = Option<String>, Query, description = "replies of primaries to insist on"),
        ("timeout_ms" = Option<u32>, Query, description = "1 to 60,000; default 2,000"),
        ("notfound_ok" = Option<bool>, Query, description = "answer 404 even where absence is not confirmed"),
        ("resolve" = Option<String>, Query, description = "lww: the latest sibling stands for all"),
        ("sibling" = Option<String>, Query, description = "entity tag of the one sibling wanted"),
        ("explain" = Option<bool>, Query, description = "a JSON account of what each replica has"),
        ("If-None-Match" = Option<String>, Header, description = "304 where the version set is one of these"),
        ("If-Match" = Option<String>, Header, description = "412 where the version set is none of these"),
    ),
    responses(
        (status = 200, description = "The value as it was stored", content_type = "application/octet-stream"),
        (status = 300, description = "Several siblings", body = crate::answer::siblings::Siblings),
        (status = 304, description = "Not modified"),
        (status = 400, description = "Malformed request; nothing happened"),
        (status = 404, description = "Absent, or deleted (X-Atoll-Deleted: true, with the context)"),
        (status = 406, description = "No representation matches Accept"),
        (status = 412, description = "If-Match does not hold"),
        (status = 503, description = "quorum_unavailable, absence_unconfirmed or overloaded"),
        (status = 504, description = "deadline_exceeded"),
    ))]
pub async fn get(State(app): State<App>, request: Request) -> Response {
    let (call, _) = Call::begin(&app, request);
    let result = read::read(&call).await;
    call.conclude_object(result)
}

/// Read an object's headers
///
/// As GET, without the body.
#[utoipa::path(head, path = "/v1/kv/{bucket}/{key}", tag = "objects",
    params(
        ("bucket" = String, Path, description = "1 to 64 of a-z 0-9 . _ -"),
        ("key" = String, Path, description = "1 to 1,024 bytes, percent-encoded"),
    ),
    responses(
        (status = 200, description = "The headers of the value"),
        (status = 300, description = "Several siblings"),
        (status = 404, description = "Absent or deleted"),
    ))]
pub async fn head(state: State<App>, request: Request) -> Response {
    get(state, request).await
}

/// Store an object
///
/// With the context of an earlier answer it replaces what that answer showed; without one it is a
/// blind write, concurrent with what is there. The body is stored as it is.
#[utoipa::path(put, path = "/v1/kv/{bucket}/{key}", tag = "objects",
    params(
        ("bucket" = String, Path, description = "1 to 64 of a-z 0-9 . _ -"),
        ("key" = String, Path, description = "1 to 1,024 bytes, percent-encoded"),
        ("w" = Option<String>, Query, description = "acknowledgements to wait for: 1..n, one, quorum, all or any"),
        ("pw" = Option<String>, Query, description = "acknowledgements of primaries to insist on"),
        ("durability" = Option<String>, Query, description = "fsync or buffered; dw for short"),
        ("dw" = Option<String>, Query, description = "fsync or buffered; short for durability"),
        ("timeout_ms" = Option<u32>, Query, description = "1 to 60,000; default 2,000"),
        ("return_body" = Option<bool>, Query, description = "answer with the resulting versions"),
        ("ttl_s" = Option<u64>, Query, description = "seconds until the value expires"),
        ("X-Atoll-Context" = Option<String>, Header, description = "context of an earlier answer"),
        ("Idempotency-Key" = Option<String>, Header, description = "retries with the same key are applied once"),
        ("If-Match" = Option<String>, Header, description = "checked by the coordinator against what it sees"),
        ("If-None-Match" = Option<String>, Header, description = "checked by the coordinator against what it sees"),
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream",
        description = "At most 1 MiB; the Content-Type is stored with it"),
    responses(
        (status = 200, description = "return_body: the one resulting value"),
        (status = 204, description = "Stored; the new context is in X-Atoll-Context"),
        (status = 300, description = "return_body: the resulting siblings"),
        (status = 400, description = "Malformed request; nothing happened"),
        (status = 409, description = "too_many_siblings, with the context that resolves them"),
        (status = 412, description = "The condition does not hold"),
        (status = 413, description = "The value is too large"),
        (status = 422, description = "The idempotency key was used with another value"),
        (status = 503, description = "quorum_unavailable or overloaded; outcome says whether it may be applied"),
        (status = 504, description = "deadline_exceeded; outcome says whether it may be applied"),
    ))]
pub async fn put(State(app): State<App>, request: Request) -> Response {
    let (call, body) = Call::begin(&app, request);
    let result = write::put(&call, body).await;
    call.conclude_object(result)
}

/// Delete an object
///
/// With a context it deletes what that context shows; without one, what the coordinator sees.
/// Deleting what is not there is no error.
#[utoipa::path(delete, path = "/v1/kv/{bucket}/{key}", tag = "objects",
    params(
        ("bucket" = String, Path, description = "1 to 64 of a-z 0-9 . _ -"),
        ("key" = String, Path, description = "1 to 1,024 bytes, percent-encoded"),
        ("w" = Option<String>, Query, description = "acknowledgements to wait for: 1..n, one, quorum, all or any"),
        ("pw" = Option<String>, Query, description = "acknowledgements of primaries to insist on"),
        ("durability" = Option<String>, Query, description = "fsync or buffered; dw for short"),
        ("timeout_ms" = Option<u32>, Query, description = "1 to 60,000; default 2,000"),
        ("X-Atoll-Context" = Option<String>, Header, description = "context of an earlier answer"),
        ("Idempotency-Key" = Option<String>, Header, description = "retries with the same key are applied once"),
    ),
    responses(
        (status = 204, description = "Deleted; the new context is in X-Atoll-Context"),
        (status = 400, description = "Malformed request; nothing happened"),
        (status = 412, description = "The condition does not hold"),
        (status = 503, description = "quorum_unavailable or overloaded"),
        (status = 504, description = "deadline_exceeded"),
    ))]
pub async fn delete(State(app): State<App>, request: Request) -> Response {
    let (call, _) = Call::begin(&app, request);
    let result = write::delete(&call).await;
    call.conclude_object(result)
}

/// Store an object under a new key
///
/// The key is a UUID version 7, or with an Idempotency-Key one that follows from it, so that a
/// retry does not make a second object.
#[utoipa::path(post, path = "/v1/kv/{bucket}", tag = "objects",
    params(
        ("bucket" = String, Path, description = "1 to 64 of a-z 0-9 . _ -"),
        ("w" = Option<String>, Query, description = "acknowledgements to wait for"),
        ("pw" = Option<String>, Query, description = "acknowledgements of primaries to insist on"),
        ("durability" = Option<String>, Query, description = "fsync or buffered; dw for short"),
        ("timeout_ms" = Option<u32>, Query, description = "1 to 60,000; default 2,000"),
        ("ttl_s" = Option<u64>, Query, description = "seconds until the value expires"),
        ("Idempotency-Key" = Option<String>, Header, description = "retries with the same key are applied once"),
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 201, description = "Stored; Location names it"),
        (status = 400, description = "Malformed request; nothing happened"),
        (status = 413, description = "The value is too large"),
    ))]
pub async fn post(State(app): State<App>, request: Request) -> Response {
    let (call, body) = Call::begin(&app, request);
    let result = write::post(&call, body).await;
    call.conclude_object(result)
}

/// List the keys of a bucket
///
/// Not part of this version.
#[utoipa::path(get, path = "/v1/kv/{bucket}", tag = "objects",
    params(("bucket" = String, Path, description = "1 to 64 of a-z 0-9 . _ -")),
    responses((status = 501, description = "Not part of this version")))]
pub async fn list(State(app): State<App>, request: Request) -> Response {
    let (call, _) = Call::begin(&app, request);
    let result = path::bucket(call.path(), path::KV_PREFIX)
        .and_then(|_| query::Query::parse(call.query(), &params::LIST_PARAMETERS).map(drop))
        .and_then(|()| Err(not_implemented("listing keys is not part of this version")));
    call.conclude_object(result)
}

/// `/v1/kv/{bucket}/` names no object, whatever the method.
pub async fn empty_key(State(app): State<App>, request: Request) -> Response {
    let (call, _) = Call::begin(&app, request);
    let result = call
        .object()
        .and_then(|_| Err(Problem::new(ErrorCode::EmptyKey, "a key has at least one byte")));
    call.conclude_object(result)
}

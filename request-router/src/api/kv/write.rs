//! PUT, POST and DELETE of objects. Everything that can be refused is refused before the body is
//! read, and everything about the body before anything is sent.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use dynamo_core::entropy::Entropy;
use dynamo_core::id::PutId;
use dynamo_core::key::ObjectKey;
use dynamo_core::routing::Purpose;
use dynamo_core::wire::coordinate::{
    COORDINATE_PUT_PATH, Condition, ContentDto, Evidence, PutAnswer, PutMessage, VersionsView,
};
use http::HeaderValue;
use service_kit::auth::scope::Scope;
use service_kit::http::body::{BodyLimits, BodyReader, ByteReservation};
use service_kit::http::error::{ErrorCode, Outcome, Problem};
use service_kit::rng::OsEntropy;
use std::time::Duration;
use uuid::Uuid;

use super::coordinate::{Errand, Terms};
use crate::answer::{self, Found};
use crate::api::call::Call;
use crate::dispatch::Refused;
use crate::request::accept::{Accept, OCTET_STREAM, not_acceptable};
use crate::request::params::{DELETE_PARAMETERS, POST_PARAMETERS, PUT_PARAMETERS, PutParams};
use crate::request::{conditions, digest, headers, path};
use crate::state::App;

impl Errand for PutMessage {
    const PATH: &'static str = COORDINATE_PUT_PATH;
    const PURPOSE: Purpose = Purpose::Write;
    const UNREAD: Outcome = Outcome::Unknown;
    type Answer = PutAnswer;
    type Rest = ();

    fn split(answer: PutAnswer) -> (VersionsView, Evidence, ()) {
        (answer.versions, answer.evidence, ())
    }
}

/// Answers a PUT.
pub(super) async fn put(call: &Call<'_>, body: Body) -> Result<Response, Refused> {
    let object = call.object()?;
    let put_id = headers::put_id(call.headers())?;
    let writing = Writing::new(call, object, &PUT_PARAMETERS, put_id)?;
    let accept = Accept::parse(call.headers())?;
    let content_type = headers::content_type(call.headers())?;
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
pub(super) async fn post(call: &Call<'_>, body: Body) -> Result<Response, Refused> {
    let bucket = path::bucket(call.path(), path::KV_PREFIX)?;
    let put_id = headers::put_id(call.headers())?;
    let object = path::named(bucket.as_str(), new_key(call.app, put_id))?;
    let location = location(&object)?;
    let writing = Writing::new(call, object, &POST_PARAMETERS, put_id)?;
    let content_type = headers::content_type(call.headers())?;
    let found = writing.store(content_type, body).await?;
    Ok(answer::write::created(&found, location))
}

/// Answers a DELETE.
pub(super) async fn delete(call: &Call<'_>) -> Result<Response, Refused> {
    let object = call.object()?;
    let put_id = headers::put_id(call.headers())?;
    let writing = Writing::new(call, object, &DELETE_PARAMETERS, put_id)?;
    let found = writing.coordinate(ContentDto::Tombstone, &Bytes::new()).await?;
    Ok(answer::write::done(&found))
}

/// A write whose head was found to be valid.
struct Writing<'a> {
    call: &'a Call<'a>,
    object: ObjectKey,
    params: PutParams,
    /// Acknowledgements that are waited for.
    required: u32,
    put_id: PutId,
    context: Option<String>,
    condition: Option<Condition>,
}

impl<'a> Writing<'a> {
    fn new(
        call: &'a Call<'a>,
        object: ObjectKey,
        known: &[&'static str],
        put_id: Option<PutId>,
    ) -> Result<Self, Problem> {
        let props = call.props(&object)?;
        let params = PutParams::read(call.query(), call.headers(), &props, known)?;
        let condition = conditions::parse(call.headers())?;
        // Both tell what is stored: the one shows it, the other answers guesses.
        if params.return_body || condition.is_some() {
            call.permit(Scope::Read, object.bucket())?;
        }
        Ok(Self {
            call,
            object,
            required: params.required(&props),
            params,
            put_id: put_id.unwrap_or_else(|| PutId::random(&mut OsEntropy)),
            context: headers::context(call.headers())?,
            condition,
        })
    }

    /// Reads the value and has it stored.
    async fn store(&self, content_type: Option<String>, body: Body) -> Result<Found, Refused> {
        let app = self.call.app;
        let meta = headers::meta(self.call.headers())?;
        let (value, reservation) = self.value(body).await?;
        digest::check(self.call.headers(), &value)?;
        #[expect(clippy::cast_precision_loss, reason = "a histogram of sizes")]
        app.metrics.value_bytes_in.observe(value.len() as f64);
        let ttl = (self.params.ttl_s > 0).then(|| Duration::from_secs(self.params.ttl_s));
        let content = ContentDto::Value {
            len: value.len(),
            content_type,
            meta,
            expires_at: ttl.map(|ttl| app.clock.wall().plus(ttl)),
        };
        let found = self.coordinate(content, &value).await;
        drop(reservation);
        show_bytes_in_flight(app);
        found
    }

    /// The body, within the deadline, the size of a value and the budget of the process.
    async fn value(&self, body: Body) -> Result<(Bytes, ByteReservation), Problem> {
        let app = self.call.app;
        let mut limits = BodyLimits::up_to(app.config.limits.value_bytes);
        limits.timeout = limits.timeout.min(self.call.left(self.params.timeout));
        let reader = BodyReader::new(limits, app.budget.clone());
        let held = reader.read(self.call.headers(), body).await?;
        show_bytes_in_flight(app);
        Ok(held.into_parts())
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
        let terms = Terms {
            object: &self.object,
            context: self.context.as_deref(),
            timeout: self.params.timeout,
            required: self.required,
        };
        let (found, (), _) = self.call.coordinate(&message, Some(value), terms).await?;
        Ok(found)
    }
}

fn show_bytes_in_flight(app: &App) {
    let bytes = i64::try_from(app.budget.in_use()).unwrap_or(i64::MAX);
    app.metrics.bytes_in_flight.set(bytes);
}

/// The place of a new object on this server.
fn location(object: &ObjectKey) -> Result<HeaderValue, Problem> {
    let path = format!("{}{}/{}", path::KV_PREFIX, object.bucket(), object.key_text());
    HeaderValue::try_from(path).map_err(|_| {
        Problem::new(ErrorCode::Internal, "the new key has no path").outcome(Outcome::NotApplied)
    })
}

/// A new key: of the client's own id of the put where it gave one, else a UUID version 7.
fn new_key(app: &App, given: Option<PutId>) -> Bytes {
    let uuid = match given {
        Some(id) => Uuid::from_u128(id.0),
        None => {
            let mut random = [0u8; 10];
            let bits = [OsEntropy.next_u64(), OsEntropy.next_u64()];
            for (to, from) in random.iter_mut().zip(bits.iter().flat_map(|b| b.to_be_bytes())) {
                *to = from;
            }
            uuid::Builder::from_unix_timestamp_millis(app.clock.wall().0, &random).into_uuid()
        }
    };
    Bytes::from(uuid.hyphenated().to_string())
}

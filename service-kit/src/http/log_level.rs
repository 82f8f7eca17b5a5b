//! `/v1/admin/log-level` of every process: what its logs tell, which may be changed while it runs. Who
//! may ask is decided in front of it.

use axum::Json;
use axum::body::Body;
use dynamo_core::wire::log_level::{LogLevelChange, LogLevelDocument};
use http::HeaderMap;

use super::body::{BodyLimits, BodyReader, ByteBudget};
use super::error::{ErrorCode, Problem};
use super::json::{parse_strict, require_json};
use crate::limits::LOG_LEVEL_BODY_BYTES_MAX;
use crate::telemetry::level::{self, LogLevel};

/// `GET`.
///
/// # Errors
/// 503 where the process has no log of its own.
pub async fn read() -> Result<Json<LogLevelDocument>, Problem> {
    level::log_level().map(Json)
}

/// `PUT`.
///
/// # Errors
/// 422 for what is no level, and those of [`read`].
pub async fn change(headers: HeaderMap, body: Body) -> Result<Json<LogLevelDocument>, Problem> {
    require_json(&headers)?;
    let limits = BodyLimits::up_to(LOG_LEVEL_BODY_BYTES_MAX);
    let held = BodyReader::new(limits, ByteBudget::default()).read(&headers, body).await?;
    let change: LogLevelChange = parse_strict(held.bytes())?;
    apply(change.level.as_deref()).map(Json)
}

/// Changes the level of this process; without one it is that of the settings again.
///
/// # Errors
/// Those of [`change`].
pub fn apply(text: Option<&str>) -> Result<LogLevelDocument, Problem> {
    let level = text.map(checked).transpose()?;
    level::set_log_level(level.as_ref())
}

/// The level that a text names.
///
/// # Errors
/// 422 where it names none.
pub fn checked(text: &str) -> Result<LogLevel, Problem> {
    text.parse().map_err(|error: level::InvalidLogLevel| {
        Problem::new(ErrorCode::Unprocessable, error.to_string())
    })
}

//! What the logs of this process tell, which may be changed while it runs. A change is gone with the
//! process: the next start follows the settings again.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use dynamo_core::wire::log_level::LogLevelDocument;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::{Registry, reload};

use crate::http::error::{ErrorCode, Problem, escape_echo};
use crate::limits::LOG_LEVEL_BYTES_MAX;

/// A level for everything, levels for parts, or both: `info,storage_node=debug`.
///
/// Narrower than what [`EnvFilter`] takes: there, a word that is no level is the name of a part, and a
/// slip of the pen would silence everything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLevel(String);

/// Why a text is no level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is neither a level (off, error, warn, info, debug, trace) nor a part with one \
     (storage_node=debug)"
)]
pub struct InvalidLogLevel(String);

impl LogLevel {
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The filter that it means.
    pub(super) fn filter(&self) -> EnvFilter {
        // Each part was checked, so nothing is ignored here.
        EnvFilter::builder().with_default_directive(LevelFilter::OFF.into()).parse_lossy(&self.0)
    }
}

impl FromStr for LogLevel {
    type Err = InvalidLogLevel;

    fn from_str(text: &str) -> Result<Self, InvalidLogLevel> {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        let refused = |part: &str| InvalidLogLevel(escape_echo(part.as_bytes()));
        if text.len() > LOG_LEVEL_BYTES_MAX {
            return Err(refused(text));
        }
        for part in text.split(',') {
            let (target, level) = part.rsplit_once('=').unwrap_or(("all", part));
            let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':');
            if target.is_empty() || !target.bytes().all(named) || !LEVELS.contains(&level) {
                return Err(refused(part));
            }
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The filter of this process's logs, once they are set up.
static LOGS: OnceLock<Logs> = OnceLock::new();

struct Logs {
    handle: reload::Handle<EnvFilter, Registry>,
    configured: String,
    current: std::sync::Mutex<String>,
}

/// The filter, which is kept for changes.
pub(super) fn changeable(
    filter: EnvFilter,
    configured: &str,
) -> reload::Layer<EnvFilter, Registry> {
    let (filter, handle) = reload::Layer::new(filter);
    let (configured, current) = (configured.to_owned(), configured.to_owned().into());
    if LOGS.set(Logs { handle, configured, current }).is_err() {
        // A second service in one process, which has no logs of its own.
        tracing::debug!("the log level is that of the first service");
    }
    filter
}

fn logs() -> Result<&'static Logs, Problem> {
    LOGS.get()
        .ok_or_else(|| Problem::new(ErrorCode::NotReady, "this process has no log of its own"))
}

/// The level in force.
///
/// # Errors
/// 503 where somebody else set up the logs of this process.
pub fn log_level() -> Result<LogLevelDocument, Problem> {
    let logs = logs()?;
    let level = logs.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
    Ok(LogLevelDocument { level, configured: logs.configured.clone() })
}

/// Changes it, without a level to that of the settings.
///
/// # Errors
/// 503 where somebody else set up the logs of this process.
pub fn set_log_level(level: Option<&LogLevel>) -> Result<LogLevelDocument, Problem> {
    let logs = logs()?;
    let mut current = logs.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (text, filter) = match level {
        Some(level) => (level.as_str().to_owned(), level.filter()),
        None => (logs.configured.clone(), EnvFilter::new(&logs.configured)),
    };
    logs.handle.reload(filter).map_err(|error| {
        tracing::error!(%error, "the log level could not be changed");
        Problem::new(ErrorCode::Internal, "the log level could not be changed")
    })?;
    tracing::warn!(from = %*current, to = %text, "the log level was changed");
    current.clone_from(&text);
    drop(current);
    log_level()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_what_it_says_or_nothing() {
        let long = format!("info,{}=debug", "x".repeat(LOG_LEVEL_BYTES_MAX));
        let cases = [
            ("info", true),
            ("off", true),
            ("info,storage_node=debug", true),
            ("storage_node::store=trace,warn", true),
            ("", false),
            ("debgu", false),
            ("INFO", false),
            ("info,", false),
            ("=debug", false),
            ("storage_node", false),
            ("storage_node=", false),
            ("storage_node=loud", false),
            ("a=b=info", false),
            ("[span{field=1}]=debug", false),
            ("info\n", false),
            (long.as_str(), false),
        ];
        for (text, good) in cases {
            assert_eq!(text.parse::<LogLevel>().is_ok(), good, "{text}");
        }
        let filter = "info,a::b=debug".parse::<LogLevel>().unwrap().filter();
        assert_eq!(filter.to_string(), "a::b=debug,info");
    }
}

//! What the commands on objects share: how contexts come in and go out, and how objects are shown.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use atoll_client::{Context, Siblings, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::exit;
use crate::output::{Failure, table, trimmed};

/// The context of a put or delete.
#[derive(Debug, Clone, Args)]
pub(crate) struct ContextArgs {
    /// Causal context of an earlier answer.
    #[arg(long, value_name = "TOKEN", conflicts_with = "context_file")]
    pub(crate) context: Option<String>,
    /// File that keeps the context: read before (where it exists), written after.
    #[arg(long, value_name = "FILE")]
    pub(crate) context_file: Option<PathBuf>,
}

impl ContextArgs {
    /// The context to send.
    ///
    /// # Errors
    /// Where the file is there and cannot be read.
    pub(crate) fn read(&self) -> Result<Option<Context>, Failure> {
        if let Some(token) = &self.context {
            return Ok(Some(Context::from_token(token.trim())));
        }
        let Some(path) = &self.context_file else { return Ok(None) };
        match std::fs::read_to_string(path) {
            Ok(token) if token.trim().is_empty() => Ok(None),
            Ok(token) => Ok(Some(Context::from_token(token.trim()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unreadable(path, &error)),
        }
    }

    /// Keeps the context of the answer.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub(crate) fn write(&self, context: Option<&Context>) -> Result<(), Failure> {
        keep_context(self.context_file.as_deref(), context)
    }
}

/// Writes `context` to `path`, where both are given.
pub(crate) fn keep_context(path: Option<&Path>, context: Option<&Context>) -> Result<(), Failure> {
    let (Some(path), Some(context)) = (path, context) else { return Ok(()) };
    std::fs::write(path, format!("{context}\n")).map_err(|error| {
        Failure::new(exit::FAILURE, format!("cannot write {}: {error}", path.display()))
    })
}

pub(crate) fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(exit::FAILURE, format!("cannot read {}: {error}", path.display()))
}

/// A version as JSON: the value as text where it is text.
pub(crate) fn version_json(version: &Version) -> Value {
    let (name, value) = match std::str::from_utf8(&version.value) {
        Ok(text) => ("value", text.to_owned()),
        Err(_) => ("value_base64", STANDARD.encode(&version.value)),
    };
    json!({
        "etag": version.etag,
        "content_type": version.content_type,
        "last_modified_ms": version.last_modified.map(unix_ms),
        "meta": version.meta,
        name: value,
    })
}

fn unix_ms(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn rfc3339(at: SystemTime) -> String {
    // Fails for years beyond 9999 only, and then the number is as good.
    OffsetDateTime::from(at).format(&Rfc3339).unwrap_or_else(|_| unix_ms(at).to_string())
}

/// A listing of siblings for people.
pub(crate) fn listing(versions: &Siblings) -> String {
    let mut listing = table(vec!["SIBLING", "BYTES", "CONTENT-TYPE", "LAST-MODIFIED"]);
    for version in versions {
        listing.add_row(vec![
            version.etag.clone().unwrap_or_else(|| "-".to_owned()),
            version.value.len().to_string(),
            version.content_type.clone().unwrap_or_else(|| "-".to_owned()),
            version.last_modified.map_or_else(|| "-".to_owned(), rfc3339),
        ]);
    }
    trimmed(&listing)
}

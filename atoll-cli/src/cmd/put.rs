//! `atoll put`.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use atoll_client::{Client, Durability, PutId, PutResult, Quorum, WriteQuorum};
use bytes::Bytes;
use clap::Args;
use dynamo_core::limits::VALUE_BYTES_MAX;
use serde_json::json;

use crate::cmd::object::{ContextArgs, unreadable};
use crate::exit;
use crate::output::{Done, Failure, Output};

/// What a put or delete waits for.
#[derive(Debug, Clone, Args)]
pub(crate) struct WriteArgs {
    /// Acknowledgements to wait for: a number, any, one, quorum or all.
    #[arg(long)]
    pub w: Option<WriteQuorum>,
    /// Acknowledgements of primaries to insist on.
    #[arg(long)]
    pub pw: Option<Quorum>,
    /// What an acknowledgement must have survived: fsync or buffered.
    #[arg(long)]
    pub durability: Option<Durability>,
    /// Only where the versions have this etag.
    #[arg(long, value_name = "ETAG")]
    pub if_match: Option<String>,
    /// Name of the write: sent again with the same one, it is applied once (a UUID).
    #[arg(long, value_name = "UUID")]
    pub idempotency_key: Option<PutId>,
}

impl WriteArgs {
    /// Sets these options on a put or delete.
    pub(crate) fn apply(&self, mut put: atoll_client::Put) -> atoll_client::Put {
        if let Some(w) = self.w {
            put = put.w(w);
        }
        if let Some(pw) = self.pw {
            put = put.pw(pw);
        }
        if let Some(durability) = self.durability {
            put = put.durability(durability);
        }
        if let Some(etag) = &self.if_match {
            put = put.if_match(etag.trim_matches('"'));
        }
        if let Some(id) = self.idempotency_key {
            put = put.idempotency_key(id);
        }
        put
    }
}

/// Stores an object. With the context of an earlier get it supersedes what that get showed;
/// without one it is concurrent with whatever is there.
#[derive(Debug, Args)]
pub struct Put {
    /// Bucket
    pub bucket: String,
    /// Key
    pub key: String,
    /// The value itself, @FILE for a file's content, or - for stdin. (A value that starts with
    /// '@' goes through stdin.)
    #[arg(allow_hyphen_values = true)]
    pub value: String,
    #[command(flatten)]
    write: WriteArgs,
    #[command(flatten)]
    context: ContextArgs,
    /// Only where nothing is there.
    #[arg(long, conflicts_with = "if_match")]
    pub if_absent: bool,
    /// Content type to store with the value.
    #[arg(long, value_name = "TYPE")]
    pub content_type: Option<String>,
    /// User metadata.
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub meta: Vec<(String, String)>,
    /// Seconds after which the object is gone.
    #[arg(long, value_name = "SECONDS")]
    pub ttl_s: Option<u64>,
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("NAME=VALUE expected".to_owned()),
    }
}

impl Put {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Done {
        let value = value(&self.value)?;
        let mut put = client.bucket(&self.bucket).put(&self.key, value);
        put = self.write.apply(put).context(self.context.read()?);
        if self.if_absent {
            put = put.if_absent();
        }
        if let Some(name) = self.content_type {
            put = put.content_type(name);
        }
        for (name, value) in self.meta {
            put = put.meta(name, value);
        }
        if let Some(seconds) = self.ttl_s {
            put = put.ttl(Duration::from_secs(seconds));
        }
        let done = put.await?;
        self.context.write(done.context.as_ref())?;
        print(&self.bucket, &self.key, "stored", &done, output)
    }
}

/// The bytes that an argument names.
fn value(argument: &str) -> Result<Bytes, Failure> {
    // One byte more than may be: enough to see that it is too much, without reading it all.
    let limit = VALUE_BYTES_MAX as u64 + 1;
    let mut bytes = Vec::new();
    if argument == "-" {
        std::io::stdin()
            .lock()
            .take(limit)
            .read_to_end(&mut bytes)
            .map_err(|error| unreadable(Path::new("standard input"), &error))?;
    } else if let Some(path) = argument.strip_prefix('@') {
        let path = Path::new(path);
        std::fs::File::open(path)
            .and_then(|file| file.take(limit).read_to_end(&mut bytes))
            .map_err(|error| unreadable(path, &error))?;
    } else {
        bytes = argument.as_bytes().to_vec();
    }
    if bytes.len() > VALUE_BYTES_MAX {
        let message = format!("a value has at most {VALUE_BYTES_MAX} bytes");
        return Err(Failure::new(exit::USAGE, message));
    }
    Ok(bytes.into())
}

/// Tells what a put or delete has done.
pub(crate) fn print(bucket: &str, key: &str, verb: &str, done: &PutResult, output: Output) -> Done {
    if output.is_json() {
        output.document(&json!({
            "bucket": bucket,
            "key": key,
            "context": done.context,
            "etag": done.etag,
            "siblings": done.siblings,
            "put_id": done.put_id,
            "evidence": done.evidence,
        }))?;
        return Ok(exit::OK);
    }
    let evidence = &done.evidence;
    let mut line = format!("{verb} {bucket}/{key}");
    if let (Some(acks), Some(asked)) = (evidence.acks, evidence.asked) {
        line.push_str(&format!("  acks {acks}/{asked}"));
    }
    if let Some(hinted) = evidence.hinted.filter(|hinted| *hinted > 0) {
        line.push_str(&format!("  hinted {hinted}"));
    }
    if let Some(count) = done.siblings.filter(|count| *count > 1) {
        line.push_str(&format!("  now {count} concurrent versions"));
    }
    output.line(line)?;
    if let Some(context) = &done.context {
        output.line(format!("context {context}"))?;
    }
    Ok(exit::OK)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn values_come_from_the_argument_or_a_file() {
        assert_eq!(value("{\"a\":1}").unwrap(), "{\"a\":1}");
        assert_eq!(value("").unwrap(), "");
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"\0\xff").unwrap();
        let argument = format!("@{}", file.path().display());
        assert_eq!(value(&argument).unwrap(), &b"\0\xff"[..]);
        file.write_all(&vec![0; VALUE_BYTES_MAX]).unwrap();
        assert_eq!(value(&argument).unwrap_err().exit, exit::USAGE);
        assert_eq!(value("@/nonexistent/file").unwrap_err().exit, exit::FAILURE);
    }

    #[test]
    fn metadata_needs_a_name() {
        assert_eq!(name_and_value("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(name_and_value("a="), Ok(("a".into(), String::new())));
        assert!(name_and_value("=b").is_err());
        assert!(name_and_value("a").is_err());
    }
}

//! `atoll get`.

use std::path::PathBuf;

use atoll_client::{Client, GetResult, Quorum, Version, merge};
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::cmd::object::{keep_context, listing, version_json};
use crate::exit;
use crate::output::{Done, Failure, Output, complain};

/// Which version to take where there are several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Resolve {
    /// The latest by its coordinator's time.
    Lww,
}

/// Prints an object's bytes on stdout, as they were stored. Of several concurrent versions none
/// is printed: they are listed on stderr, and the exit code is 4.
#[derive(Debug, Args)]
pub struct Get {
    /// Bucket
    pub bucket: String,
    /// Key
    pub key: String,
    /// Replies to wait for: a number, one, quorum or all.
    #[arg(long)]
    pub r: Option<Quorum>,
    /// Replies of primaries to insist on.
    #[arg(long)]
    pub pr: Option<Quorum>,
    /// Take "not there" without confirmation by enough primaries.
    #[arg(long)]
    pub notfound_ok: bool,
    /// Print this one of several versions.
    #[arg(long, value_name = "ETAG", conflicts_with = "resolve")]
    pub sibling: Option<String>,
    /// Print one of several versions, chosen so.
    #[arg(long, value_name = "HOW")]
    pub resolve: Option<Resolve>,
    /// File to keep the context in, for the put that follows.
    #[arg(long, value_name = "FILE")]
    pub context_file: Option<PathBuf>,
    /// Print the context on stderr.
    #[arg(long)]
    pub show_context: bool,
}

impl Get {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Done {
        let mut get = client.bucket(&self.bucket).get(&self.key);
        if let Some(r) = self.r {
            get = get.r(r);
        }
        if let Some(pr) = self.pr {
            get = get.pr(pr);
        }
        if self.notfound_ok {
            get = get.notfound_ok(true);
        }
        let read = get.await?;
        keep_context(self.context_file.as_deref(), read.context.as_ref())?;
        if let (true, Some(context)) = (self.show_context, &read.context) {
            complain(context);
        }
        if output.is_json() {
            return self.print_json(&read, output);
        }
        match self.choose(&read)? {
            Some(version) => {
                output.bytes(&version.value)?;
                Ok(exit::OK)
            }
            None if read.versions.is_empty() => {
                let what = if read.deleted { "deleted" } else { "not found" };
                let message = format!("{}/{}: {what}", self.bucket, self.key);
                Err(Failure::new(exit::NOT_FOUND, message))
            }
            None => {
                complain(listing(&read.versions));
                let count = read.versions.len();
                let message = format!(
                    "{}/{} has {count} concurrent versions: choose one with --sibling or \
                     --resolve lww, or put a merged one with the context of this get",
                    self.bucket, self.key
                );
                Err(Failure::new(exit::CONFLICT, message))
            }
        }
    }

    /// The version to print; `None` where there is none, or no rule to choose among several.
    fn choose<'r>(&self, read: &'r GetResult) -> Result<Option<&'r Version>, Failure> {
        if let Some(tag) = &self.sibling {
            let tag = tag.trim_matches('"');
            let named = read.versions.iter().find(|version| version.etag.as_deref() == Some(tag));
            return match named {
                Some(version) => Ok(Some(version)),
                None => {
                    complain(listing(&read.versions));
                    Err(Failure::new(exit::NOT_FOUND, format!("no version has the etag {tag}")))
                }
            };
        }
        match self.resolve {
            Some(Resolve::Lww) => Ok(merge::lww(&read.versions)),
            None => Ok(read.versions.only()),
        }
    }

    fn print_json(&self, read: &GetResult, output: Output) -> Done {
        let chosen = if self.sibling.is_some() || self.resolve.is_some() {
            self.choose(read)?.map(|version| vec![version_json(version)]).unwrap_or_default()
        } else {
            read.versions.iter().map(version_json).collect()
        };
        let exit = match chosen.len() {
            0 => exit::NOT_FOUND,
            1 => exit::OK,
            _ => exit::CONFLICT,
        };
        output.document(&json!({
            "bucket": self.bucket,
            "key": self.key,
            "versions": chosen,
            "deleted": read.deleted,
            "etag": read.etag,
            "context": read.context,
            "evidence": read.evidence,
        }))?;
        Ok(exit)
    }
}

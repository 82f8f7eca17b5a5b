//! `atoll explain`.

use atoll_client::Client;
use clap::Args;
use serde_json::{Value, json};

use crate::exit;
use crate::output::{Done, Failure, Output, cell, table};

/// Where an object belongs, who is reachable, and what each replica has.
#[derive(Debug, Args)]
pub struct Explain {
    /// Bucket
    pub bucket: String,
    /// Key
    pub key: String,
}

impl Explain {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Done {
        let cluster = client.cluster();
        let preference = cluster.preference(&self.bucket, &self.key).await?;
        // The list is worth showing, in particular, while the object cannot be read.
        let explained = cluster.explain(&self.bucket, &self.key).await;
        if output.is_json() {
            let replicas = match &explained {
                Ok(document) => document.clone(),
                Err(error) => json!({ "error": error.to_string(), "problem": error.problem() }),
            };
            output.document(&json!({ "preference": preference, "object": replicas }))?;
        } else {
            output.line(format!(
                "{}/{}  partition {}",
                self.bucket, self.key, preference.partition
            ))?;
            let replicas = explained.as_ref().ok().and_then(|doc| doc["replicas"].as_array());
            let mut rows =
                table(vec!["NODE", "ROLE", "HOLDS", "REACHABLE", "HAS", "DIGEST", "VERSIONS"]);
            for entry in &preference.list {
                let has = |name: &str| {
                    let of = |view: &&Value| view["node"] == json!(entry.node);
                    let view = replicas.and_then(|all| all.iter().find(of));
                    view.map_or_else(|| "-".to_owned(), |view| cell(&view[name]))
                };
                rows.add_row(vec![
                    entry.name.clone(),
                    entry.role.clone(),
                    yes_no(entry.holder),
                    yes_no(entry.reachable),
                    has("result"),
                    has("digest"),
                    has("siblings"),
                ]);
            }
            output.table(&rows)?;
            if let Ok(document) = &explained {
                print_versions(document, output)?;
            }
        }
        match explained {
            Ok(_) => Ok(exit::OK),
            Err(error) => Err(Failure::from(error)),
        }
    }
}

fn print_versions(document: &Value, output: Output) -> std::io::Result<()> {
    let versions = document["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    if versions.is_empty() {
        let deleted = document["deleted"] == json!(true);
        return output.line(if deleted { "deleted" } else { "not found" });
    }
    let mut rows = table(vec!["VERSION", "BYTES", "CONTENT-TYPE", "LAST-MODIFIED"]);
    for version in versions {
        let fields = ["etag", "bytes", "content_type", "last_modified"];
        rows.add_row(fields.map(|name| cell(&version[name])).to_vec());
    }
    output.table(&rows)
}

fn yes_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

//! `atoll bucket`.

use atoll_client::{
    BucketDocument, BucketProps, Client, Durability, Quorum, Reconciliation, WriteQuorum,
};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::exit;
use crate::output::{Done, Failure, Output, cell, table};

/// Properties of buckets: what their requests use unless they say otherwise.
#[derive(Debug, Subcommand)]
pub enum BucketCommand {
    /// Buckets that have properties of their own
    List,
    /// Show a bucket's properties
    Get {
        /// Bucket
        bucket: String,
    },
    /// Change some of a bucket's properties
    Set(Set),
    /// Give a bucket the default properties again
    Reset {
        /// Bucket
        bucket: String,
    },
}

/// Properties to change; the others stay as they are.
#[derive(Debug, Args)]
pub struct Set {
    /// Bucket
    pub bucket: String,
    /// Replicas of each object.
    #[arg(long)]
    pub n: Option<u8>,
    /// Replies that a get waits for.
    #[arg(long)]
    pub r: Option<Quorum>,
    /// Acknowledgements that a put waits for.
    #[arg(long)]
    pub w: Option<WriteQuorum>,
    /// Replies of primaries that a get insists on.
    #[arg(long)]
    pub pr: Option<u8>,
    /// Acknowledgements of primaries that a put insists on.
    #[arg(long)]
    pub pw: Option<u8>,
    /// Who reconciles concurrent versions: siblings (the application) or lww (the store).
    #[arg(long, value_parser = reconciliation)]
    pub reconciliation: Option<Reconciliation>,
    /// What an acknowledgement has survived: fsync or buffered.
    #[arg(long)]
    pub durability: Option<Durability>,
    /// Seconds until a new value expires; 0 for never.
    #[arg(long)]
    pub ttl_s: Option<u64>,
    /// Whether "not there" may be answered without confirmation by enough primaries.
    #[arg(long)]
    pub notfound_ok: Option<bool>,
}

fn reconciliation(text: &str) -> Result<Reconciliation, String> {
    match text {
        "siblings" => Ok(Reconciliation::Siblings),
        "lww" => Ok(Reconciliation::Lww),
        _ => Err("siblings or lww expected".to_owned()),
    }
}

impl Set {
    /// `props` with the changes.
    fn apply(&self, props: BucketProps) -> BucketProps {
        BucketProps {
            n: self.n.unwrap_or(props.n),
            r: self.r.unwrap_or(props.r),
            w: self.w.unwrap_or(props.w),
            pr: self.pr.unwrap_or(props.pr),
            pw: self.pw.unwrap_or(props.pw),
            reconciliation: self.reconciliation.unwrap_or(props.reconciliation),
            durability: self.durability.unwrap_or(props.durability),
            ttl_s: self.ttl_s.unwrap_or(props.ttl_s),
            notfound_ok: self.notfound_ok.unwrap_or(props.notfound_ok),
        }
    }
}

impl BucketCommand {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Done {
        let cluster = client.cluster();
        match self {
            Self::List => {
                let buckets = cluster.buckets().await?;
                if output.is_json() {
                    output.document(&buckets)?;
                } else {
                    for (name, props) in &buckets.buckets {
                        output.line(format!("{name}  {}", summary(props)))?;
                    }
                    if buckets.buckets.is_empty() {
                        output.note("no bucket has properties of its own");
                    }
                }
            }
            Self::Get { bucket } => {
                print(&cluster.bucket_props(&bucket).await?, output)?;
            }
            Self::Set(set) => {
                let props = set.apply(cluster.bucket_props(&set.bucket).await?.props);
                let props = props.validated().map_err(|(name, error)| {
                    Failure::new(exit::USAGE, format!("{name} {error}"))
                })?;
                print(&cluster.set_bucket_props(&set.bucket, &props).await?, output)?;
            }
            Self::Reset { bucket } => {
                cluster.reset_bucket_props(&bucket).await?;
                print(&cluster.bucket_props(&bucket).await?, output)?;
            }
        }
        Ok(exit::OK)
    }
}

fn summary(props: &BucketProps) -> String {
    let reconciliation = cell(&json!(props.reconciliation));
    format!("n={} r={} w={} {reconciliation} {}", props.n, props.r, props.w, props.durability)
}

fn print(document: &BucketDocument, output: Output) -> Result<(), Failure> {
    if output.is_json() {
        output.document(document)?;
        return Ok(());
    }
    let origin = if document.own { "its own properties" } else { "the cluster's defaults" };
    output.line(format!("{}: {origin}", document.bucket))?;
    let mut rows = table(vec!["PROPERTY", "VALUE"]);
    if let serde_json::Value::Object(fields) = json!(document.props) {
        for (name, value) in fields {
            rows.add_row(vec![name, cell(&value)]);
        }
    }
    output.table(&rows)?;
    for warning in &document.warnings {
        output.note(format!("warning: {warning}"));
    }
    Ok(())
}

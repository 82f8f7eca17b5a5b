//! `atoll delete`.

use atoll_client::Client;
use clap::Args;

use crate::cmd::object::ContextArgs;
use crate::cmd::put::{WriteArgs, print};
use crate::output::{Done, Output};

/// Deletes an object: what the context covers, or what the coordinator sees where none is given.
#[derive(Debug, Args)]
pub struct Delete {
    /// Bucket
    pub bucket: String,
    /// Key
    pub key: String,
    #[command(flatten)]
    write: WriteArgs,
    #[command(flatten)]
    context: ContextArgs,
}

impl Delete {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Done {
        let delete = client.bucket(&self.bucket).delete(&self.key);
        let done = self.write.apply(delete).context(self.context.read()?).await?;
        self.context.write(done.context.as_ref())?;
        print(&self.bucket, &self.key, "deleted", &done, output)
    }
}

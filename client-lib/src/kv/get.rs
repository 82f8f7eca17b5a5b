//! Reading an object.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use dynamo_core::key::{NameError, ObjectKey};
use dynamo_core::params::Quorum;

use crate::client::Client;
use crate::context::Context;
use crate::error::Error;
use crate::kv::evidence::Evidence;
use crate::kv::operation::GetOperation;
use crate::kv::version::{Siblings, Version};

/// A boxed future, so that builders can be awaited as they are.
pub(crate) type Call<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// What a get found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GetResult {
    /// The live versions; empty where the object is absent or deleted.
    pub versions: Siblings,
    /// What this read has seen, for the put that follows. Absent where nothing was ever written.
    pub context: Option<Context>,
    /// Whether the object was there once and has been deleted (or has expired).
    pub deleted: bool,
    /// Entity tag of the set of versions, for [`if_match`](crate::Put::if_match).
    pub etag: Option<String>,
    /// What the cluster did for the answer.
    pub evidence: Evidence,
}

impl GetResult {
    /// The only version, or `None` where the object is absent or deleted.
    ///
    /// # Errors
    /// [`Error::Siblings`] where there are several.
    pub fn into_one(self) -> Result<Option<Version>, Error> {
        let count = self.versions.len();
        if count > 1 {
            return Err(Error::Siblings { count, context: self.context });
        }
        Ok(self.versions.into_iter().next())
    }
}

/// A get in the making: `.await` it, or set options first.
#[derive(Debug)]
#[must_use = "a get does nothing until it is awaited"]
pub struct Get {
    client: Client,
    object: Result<ObjectKey, NameError>,
    r: Option<Quorum>,
    pr: Option<Quorum>,
    notfound_ok: Option<bool>,
    timeout: Option<Duration>,
}

impl Get {
    pub(crate) fn new(client: Client, object: Result<ObjectKey, NameError>) -> Self {
        Self { client, object, r: None, pr: None, notfound_ok: None, timeout: None }
    }

    /// Replies to wait for (R); the bucket's setting otherwise.
    pub fn r(mut self, r: impl Into<Quorum>) -> Self {
        self.r = Some(r.into());
        self
    }

    /// Replies of primaries to insist on (PR); the bucket's setting otherwise.
    pub fn pr(mut self, pr: impl Into<Quorum>) -> Self {
        self.pr = Some(pr.into());
        self
    }

    /// Whether "absent" may be answered without confirmation by enough primaries.
    pub fn notfound_ok(mut self, yes: bool) -> Self {
        self.notfound_ok = Some(yes);
        self
    }

    /// Time for the whole call, retries included; the client's otherwise.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    async fn run(self) -> Result<GetResult, Error> {
        let operation = GetOperation {
            object: self.object?,
            r: self.r,
            pr: self.pr,
            notfound_ok: self.notfound_ok,
            timeout: self.client.timeout_or(self.timeout)?,
        };
        self.client.get(operation).await
    }
}

impl IntoFuture for Get {
    type Output = Result<GetResult, Error>;
    type IntoFuture = Call<'static, GetResult>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

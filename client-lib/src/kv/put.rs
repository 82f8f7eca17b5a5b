//! Writing and deleting an object.

use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::time::Duration;

use bytes::Bytes;
use dynamo_core::id::PutId;
use dynamo_core::key::{NameError, ObjectKey};
use dynamo_core::params::{Durability, Quorum, WriteQuorum};
use dynamo_core::wire::coordinate::Condition;

use crate::client::Client;
use crate::context::Context;
use crate::error::Error;
use crate::kv::evidence::Evidence;
use crate::kv::get::Call;
use crate::kv::operation::{PutContent, PutOperation};

/// What a put or delete left behind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PutResult {
    /// What the writer has now seen: its own context and its own write, never a sibling that it
    /// has not read. For its next put to the same key.
    pub context: Option<Context>,
    /// Entity tag of the set of versions after the put, where the answer tells.
    pub etag: Option<String>,
    /// Versions of the object after the put, as the coordinator sees them. More than one: there
    /// are concurrent versions that a get will show.
    pub siblings: Option<usize>,
    /// The id of the put, under which it may be repeated.
    pub put_id: Option<PutId>,
    /// What the cluster did for the answer.
    pub evidence: Evidence,
}

/// A put or delete in the making: `.await` it, or set options first.
///
/// Each has an id from the beginning, so its retries are applied once.
#[derive(Debug)]
#[must_use = "a put does nothing until it is awaited"]
pub struct Put {
    client: Client,
    object: Result<ObjectKey, NameError>,
    put_id: PutId,
    content: PutContent,
    context: Option<Context>,
    w: Option<WriteQuorum>,
    pw: Option<Quorum>,
    durability: Option<Durability>,
    condition: Option<Condition>,
    timeout: Option<Duration>,
}

impl Put {
    pub(crate) fn value(
        client: Client,
        object: Result<ObjectKey, NameError>,
        bytes: Bytes,
    ) -> Self {
        let content =
            PutContent::Value { bytes, content_type: None, meta: BTreeMap::new(), ttl: None };
        Self::new(client, object, content)
    }

    pub(crate) fn delete(client: Client, object: Result<ObjectKey, NameError>) -> Self {
        Self::new(client, object, PutContent::Delete)
    }

    fn new(client: Client, object: Result<ObjectKey, NameError>, content: PutContent) -> Self {
        Self {
            client,
            object,
            put_id: PutId(uuid::Uuid::new_v4().as_u128()),
            content,
            context: None,
            w: None,
            pw: None,
            durability: None,
            condition: None,
            timeout: None,
        }
    }

    /// What the writer has seen: the put supersedes exactly that. Without one the put is
    /// concurrent with whatever is there.
    pub fn context(mut self, context: impl Into<Option<Context>>) -> Self {
        self.context = context.into();
        self
    }

    /// Acknowledgements to wait for (W); the bucket's setting otherwise.
    pub fn w(mut self, w: impl Into<WriteQuorum>) -> Self {
        self.w = Some(w.into());
        self
    }

    /// Acknowledgements of primaries to insist on (PW); the bucket's setting otherwise.
    pub fn pw(mut self, pw: impl Into<Quorum>) -> Self {
        self.pw = Some(pw.into());
        self
    }

    /// What acknowledgements must have survived; the bucket's setting otherwise.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// Time after which the value reads as absent, in whole seconds (rounded up). No effect on
    /// deletes.
    pub fn ttl(mut self, after: Duration) -> Self {
        if let PutContent::Value { ttl, .. } = &mut self.content {
            *ttl = Some(after);
        }
        self
    }

    /// Content type to store. No effect on deletes.
    pub fn content_type(mut self, name: impl Into<String>) -> Self {
        if let PutContent::Value { content_type, .. } = &mut self.content {
            *content_type = Some(name.into());
        }
        self
    }

    /// Adds user metadata: a name of letters, digits and '-', and a printable value. Names are
    /// stored in lower case. No effect on deletes.
    pub fn meta(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        if let PutContent::Value { meta, .. } = &mut self.content {
            meta.insert(name.into().to_ascii_lowercase(), value.into());
        }
        self
    }

    /// Puts only where the set of versions has this entity tag. Checked by the coordinator against
    /// what its read quorum knows: it narrows races, it does not order concurrent writers.
    pub fn if_match(mut self, etag: impl Into<String>) -> Self {
        self.condition = Some(Condition::Matches(vec![etag.into()]));
        self
    }

    /// Puts only where something is there. Checked as [`Put::if_match`] is.
    pub fn if_exists(mut self) -> Self {
        self.condition = Some(Condition::Exists);
        self
    }

    /// Puts only where nothing is there. Checked as [`Put::if_match`] is.
    pub fn if_absent(mut self) -> Self {
        self.condition = Some(Condition::Absent);
        self
    }

    /// Names the put, so that it is applied once however often it is sent, also by another
    /// process. A random name otherwise.
    pub fn idempotency_key(mut self, id: PutId) -> Self {
        self.put_id = id;
        self
    }

    /// Time for the whole call, retries included; the client's otherwise.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    async fn run(self) -> Result<PutResult, Error> {
        let put_id = self.put_id;
        let operation = PutOperation {
            object: self.object?,
            put_id,
            content: self.content,
            context: self.context,
            w: self.w,
            pw: self.pw,
            durability: self.durability,
            condition: self.condition,
            timeout: self.client.timeout_or(self.timeout)?,
        };
        let mut result = self.client.put(operation).await?;
        result.put_id = Some(put_id);
        Ok(result)
    }
}

impl IntoFuture for Put {
    type Output = Result<PutResult, Error>;
    type IntoFuture = Call<'static, PutResult>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

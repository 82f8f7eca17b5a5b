//! Read, merge, write: the loop that every application of an eventually consistent store needs,
//! once and tested.

use bytes::Bytes;
use serde::Serialize;

use crate::error::Error;
use crate::kv::bucket::Bucket;
use crate::kv::put::PutResult;
use crate::kv::version::Siblings;
use crate::limits::UPDATE_ROUNDS_MAX;

/// What a merge function wants to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// This value, in place of all versions it was shown.
    Put {
        /// The bytes.
        value: Bytes,
        /// Their content type; none stored where absent.
        content_type: Option<String>,
    },
    /// The object's deletion.
    Delete,
    /// Nothing: leave it as it is.
    Keep,
}

impl Update {
    /// Writes raw bytes.
    #[must_use]
    pub fn put(value: impl Into<Bytes>) -> Self {
        Self::Put { value: value.into(), content_type: None }
    }

    /// Writes `value` as JSON.
    ///
    /// # Errors
    /// [`Error::Merge`] where it cannot be written as JSON.
    pub fn json(value: &impl Serialize) -> Result<Self, Error> {
        let value = serde_json::to_vec(value)
            .map_err(|error| Error::Merge(format!("cannot be written as JSON: {error}")))?;
        Ok(Self::Put { value: value.into(), content_type: Some("application/json".to_owned()) })
    }
}

/// Runs the loop behind [`Bucket::update`].
pub(crate) async fn update<F>(
    bucket: &Bucket,
    key: &[u8],
    exclusive: bool,
    mut merge: F,
) -> Result<PutResult, Error>
where
    F: FnMut(&Siblings) -> Result<Update, Error>,
{
    let mut round = 0;
    loop {
        round += 1;
        let read = bucket.get(key).await?;
        let put = match merge(&read.versions)? {
            Update::Keep => {
                return Ok(PutResult {
                    context: read.context,
                    etag: read.etag,
                    siblings: Some(read.versions.len()),
                    put_id: None,
                    evidence: read.evidence,
                });
            }
            Update::Put { value, content_type } => {
                let put = bucket.put(key, value);
                if let Some(name) = content_type { put.content_type(name) } else { put }
            }
            Update::Delete => bucket.delete(key),
        };
        let put = put.context(read.context);
        let put = match (exclusive, read.etag) {
            (false, _) => put,
            (true, Some(etag)) => put.if_match(etag),
            (true, None) => put.if_absent(),
        };
        match put.await {
            Err(error) if is_conflict(&error) => {
                if round >= UPDATE_ROUNDS_MAX {
                    return Err(Error::Contention { rounds: round, last: Box::new(error) });
                }
                tracing::debug!(round, %error, "update meets a concurrent writer; reading again");
                bucket.client().pause(round - 1).await;
            }
            done => return done,
        }
    }
}

/// Whether a fresh read and merge can help: the condition failed, or the key has so many siblings
/// that only a put which has seen them all is taken.
fn is_conflict(error: &Error) -> bool {
    matches!(error.code(), Some("precondition_failed" | "too_many_siblings" | "conflict"))
}

//! A bucket: the handle through which objects are read and written.

use bytes::Bytes;
use dynamo_core::key::{NameError, ObjectKey};

use crate::client::Client;
use crate::error::Error;
use crate::kv::get::Get;
use crate::kv::put::{Put, PutResult};
use crate::kv::update::{self, Update};
use crate::kv::version::{Siblings, Version};

/// A namespace of objects. Cheap to clone; no request is made to get one.
#[derive(Debug, Clone)]
pub struct Bucket {
    client: Client,
    name: String,
}

impl Bucket {
    pub(crate) fn new(client: Client, name: String) -> Self {
        Self { client, name }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Reads an object with all its concurrent versions.
    ///
    /// ```no_run
    /// # async fn example(client: atoll_client::Client) -> Result<(), atoll_client::Error> {
    /// let read = client.bucket("carts").get("alice").r(2u8).await?;
    /// for version in &read.versions {
    ///     println!("{} bytes", version.value.len());
    /// }
    /// # Ok(()) }
    /// ```
    pub fn get(&self, key: impl AsRef<[u8]>) -> Get {
        Get::new(self.client.clone(), self.object(key.as_ref()))
    }

    /// Reads an object that is expected to have one version, `None` where it is absent or deleted.
    ///
    /// # Errors
    /// [`Error::Siblings`] where there are several, and those of a get.
    pub async fn get_one(&self, key: impl AsRef<[u8]>) -> Result<Option<Version>, Error> {
        self.get(key).await?.into_one()
    }

    /// Writes an object.
    ///
    /// ```no_run
    /// # async fn example(client: atoll_client::Client) -> Result<(), atoll_client::Error> {
    /// let carts = client.bucket("carts");
    /// let read = carts.get("alice").await?;
    /// carts.put("alice", "{\"book\":1}").context(read.context).w(2u8).await?;
    /// # Ok(()) }
    /// ```
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Put {
        Put::value(self.client.clone(), self.object(key.as_ref()), value.into())
    }

    /// Deletes an object: the versions that the context covers, or those that the coordinator
    /// sees where none is given. A concurrent put survives.
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Put {
        Put::delete(self.client.clone(), self.object(key.as_ref()))
    }

    /// Reads an object, merges its versions with `merge`, and writes the result with their
    /// context. Concurrent updates leave siblings, which the next update merges: no write is lost
    /// and none is refused. `merge` may run more than once.
    ///
    /// ```no_run
    /// # async fn example(client: atoll_client::Client) -> Result<(), atoll_client::Error> {
    /// use atoll_client::{Update, merge};
    ///
    /// let tags = client.bucket("tags");
    /// tags.update("post-1", |versions| {
    ///     let mut all = merge::union(versions)?;
    ///     all.push("rust".into());
    ///     Update::json(&all)
    /// })
    /// .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of get, put and `merge`; [`Error::Contention`] after several rounds.
    pub async fn update<F>(&self, key: impl AsRef<[u8]>, merge: F) -> Result<PutResult, Error>
    where
        F: FnMut(&Siblings) -> Result<Update, Error>,
    {
        update::update(self, key.as_ref(), false, merge).await
    }

    /// Like [`Bucket::update`], but the write is conditional on the versions that were read, and
    /// the whole is done again where they have changed. Fewer siblings under contention, at the
    /// price of refusals while a quorum cannot be read.
    ///
    /// # Errors
    /// Those of [`Bucket::update`].
    pub async fn update_exclusive<F>(
        &self,
        key: impl AsRef<[u8]>,
        merge: F,
    ) -> Result<PutResult, Error>
    where
        F: FnMut(&Siblings) -> Result<Update, Error>,
    {
        update::update(self, key.as_ref(), true, merge).await
    }

    fn object(&self, key: &[u8]) -> Result<ObjectKey, NameError> {
        ObjectKey::new(self.name.parse()?, Bytes::copy_from_slice(key))
    }
}

//! Versions as the application sees them.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::error::Error;

/// One version of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The value, exactly as it was put.
    pub value: Bytes,
    /// The stored content type; `None` where the answer did not say.
    pub content_type: Option<String>,
    /// User metadata, names in lower case.
    pub meta: BTreeMap<String, String>,
    /// When its coordinator accepted it. For display and for last-write-wins, never for order
    /// between causally related versions.
    pub last_modified: Option<SystemTime>,
    /// Entity tag of this version alone.
    pub etag: Option<String>,
}

impl Version {
    /// The value as JSON.
    ///
    /// # Errors
    /// [`Error::Merge`] where it is not the JSON that `T` expects; the name fits because this is
    /// mostly called from merge functions.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.value)
            .map_err(|error| Error::Merge(format!("a version is not the expected JSON: {error}")))
    }
}

/// The live versions of an object that nothing has superseded. Usually one; several after
/// concurrent puts; none where the object is absent or deleted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Siblings(Vec<Version>);

impl Siblings {
    /// These versions.
    #[must_use]
    pub fn new(versions: Vec<Version>) -> Self {
        Self(versions)
    }

    /// The only version; `None` where there is none or more than one.
    #[must_use]
    pub fn only(&self) -> Option<&Version> {
        if let [version] = self.0.as_slice() { Some(version) } else { None }
    }

    /// Whether there is more than one version to be merged.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.0.len() > 1
    }

    /// The versions.
    pub fn iter(&self) -> std::slice::Iter<'_, Version> {
        self.0.iter()
    }

    /// Their number.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The versions, owned.
    #[must_use]
    pub fn into_vec(self) -> Vec<Version> {
        self.0
    }
}

impl<'a> IntoIterator for &'a Siblings {
    type Item = &'a Version;
    type IntoIter = std::slice::Iter<'a, Version>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for Siblings {
    type Item = Version;
    type IntoIter = std::vec::IntoIter<Version>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

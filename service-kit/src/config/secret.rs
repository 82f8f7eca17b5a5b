//! Values that are never shown: not in logs, not in `--print-config`, not in debug output.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Invalid;
use crate::limits::{
    SECRET_FILE_BYTES_MAX, SHARED_SECRET_BYTES_MIN, SHARED_SECRET_DISTINCT_BYTES_MIN,
};

/// What is shown in place of a secret.
const REDACTED: &str = "<redacted>";

/// Bytes that are a secret. Empty means not set.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// A secret with this content.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The content, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// True where it is not set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Refuses what can be guessed: short secrets, and placeholders of few characters.
    ///
    /// # Errors
    /// What is wrong with it, without any of it.
    pub fn check_strength(secret: &[u8]) -> Result<(), String> {
        if secret.len() < SHARED_SECRET_BYTES_MIN {
            return Err(format!(
                "a secret of {} bytes is too short, at least {SHARED_SECRET_BYTES_MIN} are needed \
                 (openssl rand -hex 32)",
                secret.len()
            ));
        }
        let distinct = secret.iter().collect::<BTreeSet<_>>().len();
        if distinct < SHARED_SECRET_DISTINCT_BYTES_MIN {
            return Err("a secret is not random (openssl rand -hex 32)".to_owned());
        }
        Ok(())
    }

    /// The secret given inline, or the content of `file` without its last line end. `key` names
    /// the inline setting; that of the file is `{key}_file`.
    ///
    /// # Errors
    /// When both are given, or the file is not there, empty, too large, or readable by others.
    pub fn resolve(inline: &Self, file: Option<&Path>, key: &str) -> Result<Self, Invalid> {
        let Some(path) = file else { return Ok(inline.clone()) };
        let file_key = format!("{key}_file");
        if !inline.is_empty() {
            return Err(Invalid::new(file_key, format!("given together with {key}")));
        }
        read_line(path).map(Self).map_err(|reason| Invalid::new(file_key, reason))
    }
}

/// The content without its last line end.
fn read_line(path: &Path) -> Result<Vec<u8>, String> {
    let mut content = read_private(path, SECRET_FILE_BYTES_MAX)?;
    if content.last() == Some(&b'\n') {
        content.pop();
        if content.last() == Some(&b'\r') {
            content.pop();
        }
    }
    if content.is_empty() {
        return Err(format!("{}: empty", path.display()));
    }
    Ok(content)
}

/// The content of a file that nobody else may read, of at most `bytes_max` bytes.
///
/// # Errors
/// One line that names the file: it is not there, too large, or open to others.
pub(crate) fn read_private(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let file = std::fs::File::open(path).map_err(|error| format!("{shown}: {error}"))?;
    let metadata = file.metadata().map_err(|error| format!("{shown}: {error}"))?;
    if !is_private(metadata.mode(), metadata.uid()) {
        return Err(format!("{shown}: others than the owner may access it (chmod 600)"));
    }
    if !metadata.is_file() {
        return Err(format!("{shown}: not a file"));
    }
    let mut content = Vec::new();
    file.take(bytes_max + 1)
        .read_to_end(&mut content)
        .map_err(|error| format!("{shown}: {error}"))?;
    if content.len() as u64 > bytes_max {
        return Err(format!("{shown}: larger than {bytes_max} bytes"));
    }
    Ok(content)
}

/// Whether a file with these permissions is for its owner alone, or mounted as Kubernetes mounts the
/// secrets of a process that is not root: root's, unchangeable, readable for the group of the pod.
fn is_private(mode: u32, owner: u32) -> bool {
    mode & 0o077 == 0 || (owner == 0 && mode & 0o777 == 0o440)
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "" } else { REDACTED })
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A type error of serde repeats the value; this one must not.
        String::deserialize(deserializer)
            .map(|text| Self(text.into_bytes()))
            .map_err(|_| serde::de::Error::custom("a secret must be a string"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_or_the_group_of_the_pod_may_read() {
        let cases = [
            (0o600, 1000, true),
            (0o400, 0, true),
            (0o440, 0, true),
            (0o440, 1000, false),
            (0o640, 0, false),
            (0o444, 0, false),
            (0o644, 1000, false),
        ];
        for (mode, owner, private) in cases {
            // The upper bits say that it is a regular file.
            assert_eq!(is_private(0o100_000 | mode, owner), private, "{mode:o} of {owner}");
        }
    }
}

//! The JSON form of API keys. Only digests are in it, so it gives nobody a key; whoever can change
//! it can give himself any, so it is read only where nobody but its owner could.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use dynamo_core::time::WallMs;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::api_key::{KeyDigest, KeyId};
use super::reloaded::files_of;
use super::scope::{BucketPattern, Scope};
use crate::config::read_private;
use crate::limits::{
    API_KEY_BUCKETS_MAX, API_KEY_FILE_BYTES_MAX, API_KEY_FILES_MAX, API_KEY_VERSIONS_MAX,
    API_KEYS_MAX,
};

/// The format that is written and read.
pub const KEY_FILE_FORMAT: u32 = 1;

/// A moment, written as RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub WallMs);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = i64::try_from(self.0.0 / 1000).unwrap_or(i64::MAX);
        let text = OffsetDateTime::from_unix_timestamp(seconds)
            .ok()
            .and_then(|moment| moment.format(&Rfc3339).ok());
        // Beyond the year 9999 there is no such text.
        f.write_str(text.as_deref().unwrap_or("9999-12-31T23:59:59Z"))
    }
}

impl std::str::FromStr for Timestamp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let moment = OffsetDateTime::parse(text, &Rfc3339)
            .map_err(|_| "a time is written as 2027-01-31T12:00:00Z".to_owned())?;
        let ms = moment.unix_timestamp_nanos() / 1_000_000;
        Ok(Self(WallMs(u64::try_from(ms.max(0)).unwrap_or(u64::MAX))))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The content of a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFile {
    /// [`KEY_FILE_FORMAT`].
    pub format: u32,
    /// The keys.
    pub keys: Vec<KeyEntry>,
}

/// One key: what it may do, and the texts by which it is known.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// Its public name.
    pub id: KeyId,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// In which buckets.
    pub buckets: Vec<BucketPattern>,
    /// Requests per second; none for no limit of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_s: Option<u32>,
    /// Requests at once; none for no limit of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_at_once: Option<u32>,
    /// The texts, of which several are valid during a rotation.
    pub versions: Vec<KeyVersion>,
}

/// One text of a key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyVersion {
    /// Its number, from 1.
    pub version: u32,
    /// SHA-256 of the whole text.
    pub sha256: KeyDigest,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when it is not valid any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

impl KeyVersion {
    /// Whether it is valid at `now`.
    #[must_use]
    pub fn is_active(&self, now: WallMs) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end.0)
    }
}

impl KeyFile {
    /// A file without keys.
    #[must_use]
    pub fn empty() -> Self {
        Self { format: KEY_FILE_FORMAT, keys: Vec::new() }
    }

    /// Reads and checks a file.
    ///
    /// # Errors
    /// One line that names the file and what is wrong, also where others than its owner may read it.
    pub fn read(path: &Path) -> Result<Self, String> {
        let wrong = |reason: String| format!("{}: {reason}", path.display());
        let bytes = read_private(path, API_KEY_FILE_BYTES_MAX)?;
        let file: Self = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
        file.check().map_err(wrong)?;
        Ok(file)
    }

    /// Reads a file, or all files of a directory as one.
    ///
    /// # Errors
    /// As [`Self::read`], and where two files have the same key.
    pub fn read_all(path: &Path) -> Result<Self, String> {
        let files = files_of(path)?;
        if files.len() > API_KEY_FILES_MAX {
            return Err(format!("{}: more than {API_KEY_FILES_MAX} files", path.display()));
        }
        let mut all = Self::empty();
        for file in files {
            all.keys.extend(Self::read(&file)?.keys);
        }
        all.check().map_err(|reason| format!("{}: {reason}", path.display()))?;
        Ok(all)
    }

    /// As it is written.
    ///
    /// # Errors
    /// Where it cannot be represented, a mistake in the program.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        Ok(json)
    }

    fn check(&self) -> Result<(), String> {
        if self.format != KEY_FILE_FORMAT {
            return Err(format!("format {} is not known, {KEY_FILE_FORMAT} is", self.format));
        }
        if self.keys.len() > API_KEYS_MAX {
            return Err(format!("more than {API_KEYS_MAX} keys"));
        }
        let mut ids = BTreeMap::new();
        for key in &self.keys {
            key.check().map_err(|reason| format!("key '{}': {reason}", key.id))?;
            if ids.insert(&key.id, ()).is_some() {
                return Err(format!("key '{}' is there twice", key.id));
            }
        }
        Ok(())
    }
}

impl KeyEntry {
    fn check(&self) -> Result<(), String> {
        if self.scopes.is_empty() {
            return Err("no scopes".to_owned());
        }
        if self.buckets.is_empty() && self.scopes.iter().any(|scope| *scope != Scope::Admin) {
            return Err("no buckets".to_owned());
        }
        if self.buckets.len() > API_KEY_BUCKETS_MAX {
            return Err(format!("more than {API_KEY_BUCKETS_MAX} bucket patterns"));
        }
        if self.versions.len() > API_KEY_VERSIONS_MAX {
            return Err(format!("more than {API_KEY_VERSIONS_MAX} versions"));
        }
        if self.requests_per_s == Some(0) || self.requests_at_once == Some(0) {
            return Err("a limit of 0 allows nothing; revoke the key instead".to_owned());
        }
        let mut numbers: Vec<u32> = self.versions.iter().map(|version| version.version).collect();
        numbers.sort_unstable();
        numbers.dedup();
        if numbers.len() != self.versions.len() {
            return Err("two versions with one number".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn write(path: &Path, content: &str, mode: u32) {
        std::fs::write(path, content).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn key(id: &str, rest: &str) -> String {
        let digest = "0".repeat(64);
        format!(
            r#"{{"id":"{id}","scopes":["read"],"buckets":["*"],"versions":[{{"version":1,
            "sha256":"{digest}","created_at":"2026-11-30T08:00:00Z"}}]{rest}}}"#
        )
    }

    #[test]
    fn what_is_wrong_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.json");
        let file = |keys: &str| format!(r#"{{"format":1,"keys":[{keys}]}}"#);
        let (one, two) = (key("a", ""), key("b", ""));
        let cases: [(String, Result<usize, &str>); 10] = [
            (file(""), Ok(0)),
            (file(&format!("{one},{two}")), Ok(2)),
            (file(&format!("{one},{one}")), Err("twice")),
            (file(&key("A", "")), Err("an id is")),
            (file(&key("a", r#","requests_per_s":0"#)), Err("allows nothing")),
            (file(&key("a", r#","expires":"2026-11-30T08:00:00Z""#)), Err("unknown field")),
            (file(&one.replace("[\"read\"]", "[]")), Err("no scopes")),
            (file(&one.replace("[\"*\"]", "[]")), Err("no buckets")),
            (r#"{"format":2,"keys":[]}"#.into(), Err("format 2")),
            ("{".into(), Err("EOF")),
        ];
        for (content, expected) in cases {
            write(&path, &content, 0o600);
            match (KeyFile::read_all(&path), expected) {
                (Ok(read), Ok(count)) => assert_eq!(read.keys.len(), count, "{content}"),
                (Err(reason), Err(part)) => assert!(reason.contains(part), "{reason} {content}"),
                (got, _) => panic!("{got:?} {content}"),
            }
        }
        write(&path, &file(""), 0o644);
        assert!(KeyFile::read(&path).unwrap_err().contains("chmod 600"));
    }

    #[test]
    fn a_directory_is_one_set() {
        let dir = tempfile::tempdir().unwrap();
        let file = |id: &str| format!(r#"{{"format":1,"keys":[{}]}}"#, key(id, ""));
        write(&dir.path().join("one.json"), &file("a"), 0o600);
        write(&dir.path().join("two.json"), &file("b"), 0o600);
        assert_eq!(KeyFile::read_all(dir.path()).unwrap().keys.len(), 2);
        write(&dir.path().join("three.json"), &file("a"), 0o600);
        assert!(KeyFile::read_all(dir.path()).unwrap_err().contains("twice"));
    }

    #[test]
    fn times_are_written_as_they_are_read() {
        for text in ["2026-11-30T08:00:00Z", "1970-01-01T00:00:00Z"] {
            assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), text);
        }
        let moved: Timestamp = "2026-11-30T09:00:00+01:00".parse().unwrap();
        assert_eq!(moved.to_string(), "2026-11-30T08:00:00Z");
        for bad in ["", "tomorrow", "2026-11-30", "2026-13-30T08:00:00Z"] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_version_ends_by_time_or_by_hand() {
        let version = |expires: Option<u64>, revoked: Option<u64>| KeyVersion {
            version: 1,
            sha256: KeyDigest::of("x"),
            created_at: Timestamp(WallMs(0)),
            expires_at: expires.map(|ms| Timestamp(WallMs(ms))),
            revoked_at: revoked.map(|ms| Timestamp(WallMs(ms))),
        };
        let now = WallMs(100);
        assert!(version(None, None).is_active(now));
        assert!(version(Some(101), None).is_active(now));
        assert!(!version(Some(100), None).is_active(now));
        assert!(!version(None, Some(1000)).is_active(now), "revoked is revoked at once");
    }
}

//! `atoll keys`: the file of API keys. It is only ever replaced as a whole, and routers read it again
//! by themselves.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use dynamo_core::time::WallMs;
use serde_json::json;
use service_kit::auth::api_key::{KeyDigest, KeyId, mint};
use service_kit::auth::key_file::{KeyEntry, KeyFile, KeyVersion, Timestamp};
use service_kit::auth::scope::{BucketPattern, Scope};
use service_kit::datadir::write_atomic;
use service_kit::limits::API_KEY_VERSIONS_MAX;
use service_kit::rng::OsEntropy;
use service_kit::time::Clock;

use crate::exit;
use crate::output::{Done, Failure, Output, table};

/// API keys of clients, in a file that routers read.
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Make a key, or a further version of one, and print it: it is shown only this once
    New(New),
    /// Keys and their versions
    List(File),
    /// Refuse a key from now on
    // `--version` is that of the key here.
    #[command(disable_version_flag = true)]
    Revoke(Revoke),
}

/// The file.
#[derive(Debug, Args)]
pub struct File {
    /// The file of keys (`auth.keys_file` of the routers).
    #[arg(long, value_name = "FILE")]
    pub file: PathBuf,
}

/// A key to make.
#[derive(Debug, Args)]
pub struct New {
    /// Name of the key. One that is there gets a further version, valid beside the others.
    pub id: KeyId,
    #[command(flatten)]
    pub(crate) file: File,
    /// What it may do: read, write, delete, list, admin (new keys only).
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',')]
    pub scopes: Vec<Scope>,
    /// In which buckets: names with * and ? (new keys only) [default: *].
    #[arg(long = "bucket", value_name = "PATTERN", value_delimiter = ',')]
    pub buckets: Vec<BucketPattern>,
    /// Requests that it may make per second (new keys only).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub requests_per_s: Option<u32>,
    /// Requests that it may have in flight (new keys only).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub requests_at_once: Option<u32>,
    /// Until when the version is valid: 30d, 12h, or a time such as 2027-01-31T12:00:00Z.
    #[arg(long, value_name = "WHEN", value_parser = parse_end)]
    pub expires: Option<End>,
}

/// A key to revoke.
#[derive(Debug, Args)]
pub struct Revoke {
    /// Name of the key.
    pub id: KeyId,
    #[command(flatten)]
    pub(crate) file: File,
    /// Only this version; all of them where none is given.
    #[arg(long)]
    pub version: Option<u32>,
}

/// When something ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// So long after now.
    After(Duration),
    /// Then.
    At(Timestamp),
}

fn parse_end(text: &str) -> Result<End, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];
    for (unit, seconds) in units {
        if let Some(count) = text.strip_suffix(unit).and_then(|n| n.parse::<u32>().ok()) {
            return Ok(End::After(Duration::from_secs(u64::from(count) * seconds)));
        }
    }
    text.parse().map(End::At).map_err(|_| {
        "expected a time from now such as 30d or 12h, or one such as 2027-01-31T12:00:00Z"
            .to_owned()
    })
}

impl End {
    fn from(self, now: WallMs) -> Timestamp {
        match self {
            Self::After(time) => Timestamp(now.plus(time)),
            Self::At(moment) => moment,
        }
    }
}

impl Keys {
    pub(crate) fn run(self, output: Output) -> Done {
        let now = Clock::system().wall();
        match self {
            Self::New(args) => args.run(now, output),
            Self::List(args) => list(&read(&args.file)?, now, output),
            Self::Revoke(args) => args.run(now, output),
        }
    }
}

impl New {
    fn run(self, now: WallMs, output: Output) -> Done {
        let path = self.file.file.clone();
        let text = mint(&self.id, &mut OsEntropy);
        let (id, version) = change(&path, |file| {
            let version = KeyVersion {
                version: 1,
                sha256: KeyDigest::of(&text),
                created_at: Timestamp(now),
                expires_at: self.expires.map(|end| end.from(now)),
                revoked_at: None,
            };
            let id = self.id.clone();
            let number = self.add_to(file, version, now)?;
            Ok((id, number))
        })?;
        if output.is_json() {
            output.document(&json!({ "id": id, "version": version, "key": text }))?;
        } else {
            output.note(format!("key '{id}' version {version}; it is shown only this once:"));
            output.line(text)?;
        }
        Ok(exit::OK)
    }

    /// Adds `version` to its key, and returns its number.
    fn add_to(
        self,
        file: &mut KeyFile,
        mut version: KeyVersion,
        now: WallMs,
    ) -> Result<u32, Failure> {
        if let Some(entry) = file.keys.iter_mut().find(|entry| entry.id == self.id) {
            let changed = !self.scopes.is_empty()
                || !self.buckets.is_empty()
                || self.requests_per_s.is_some()
                || self.requests_at_once.is_some();
            if changed {
                return Err(usage(format!(
                    "key '{}' is there: a further version may do what the others may",
                    self.id
                )));
            }
            let last = entry.versions.iter().map(|version| version.version).max();
            version.version = last.unwrap_or(0) + 1;
            make_room(entry, now)?;
            entry.versions.push(version);
            return Ok(last.unwrap_or(0) + 1);
        }
        if self.scopes.is_empty() {
            return Err(usage("a new key needs --scope".to_owned()));
        }
        let all = || vec!["*".parse().expect("a star is a pattern")];
        file.keys.push(KeyEntry {
            id: self.id,
            scopes: self.scopes,
            buckets: if self.buckets.is_empty() { all() } else { self.buckets },
            requests_per_s: self.requests_per_s,
            requests_at_once: self.requests_at_once,
            versions: vec![version],
        });
        Ok(1)
    }
}

/// Forgets the oldest version that is not valid any more, where there are as many as may be.
fn make_room(entry: &mut KeyEntry, now: WallMs) -> Result<(), Failure> {
    if entry.versions.len() < API_KEY_VERSIONS_MAX {
        return Ok(());
    }
    let Some(old) = entry.versions.iter().position(|version| !version.is_active(now)) else {
        return Err(usage(format!(
            "key '{}' has {API_KEY_VERSIONS_MAX} valid versions: revoke one first",
            entry.id
        )));
    };
    entry.versions.remove(old);
    Ok(())
}

impl Revoke {
    fn run(self, now: WallMs, output: Output) -> Done {
        let revoked = change(&self.file.file, |file| self.apply(file, now))?;
        if output.is_json() {
            output.document(&json!({ "id": self.id, "revoked": revoked }))?;
        } else {
            let numbers: Vec<String> = revoked.iter().map(u32::to_string).collect();
            let numbers = if numbers.is_empty() { "none".to_owned() } else { numbers.join(", ") };
            output.line(format!("key '{}': revoked versions: {numbers}", self.id))?;
        }
        Ok(exit::OK)
    }

    fn apply(&self, file: &mut KeyFile, now: WallMs) -> Result<Vec<u32>, Failure> {
        let not_there = |what: String| Failure::new(exit::NOT_FOUND, what);
        let entry = file
            .keys
            .iter_mut()
            .find(|entry| entry.id == self.id)
            .ok_or_else(|| not_there(format!("there is no key '{}'", self.id)))?;
        if let Some(number) = self.version
            && !entry.versions.iter().any(|version| version.version == number)
        {
            return Err(not_there(format!("key '{}' has no version {number}", self.id)));
        }
        let meant = |version: &&mut KeyVersion| {
            version.revoked_at.is_none() && self.version.is_none_or(|n| n == version.version)
        };
        let mut revoked = Vec::new();
        for version in entry.versions.iter_mut().filter(meant) {
            version.revoked_at = Some(Timestamp(now));
            revoked.push(version.version);
        }
        Ok(revoked)
    }
}

fn list(file: &KeyFile, now: WallMs, output: Output) -> Done {
    if output.is_json() {
        output.document(file)?;
        return Ok(exit::OK);
    }
    let mut rows = table(["ID", "VERSION", "STATE", "SCOPES", "BUCKETS", "CREATED", "EXPIRES"]);
    for entry in &file.keys {
        for version in &entry.versions {
            let state = match (version.revoked_at, version.is_active(now)) {
                (Some(_), _) => "revoked",
                (None, true) => "valid",
                (None, false) => "expired",
            };
            rows.add_row([
                entry.id.to_string(),
                version.version.to_string(),
                state.to_owned(),
                joined(&entry.scopes),
                joined(&entry.buckets),
                version.created_at.to_string(),
                version.expires_at.map_or("-".to_owned(), |end| end.to_string()),
            ]);
        }
    }
    output.table(&rows)?;
    Ok(exit::OK)
}

fn joined(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn usage(message: String) -> Failure {
    Failure::new(exit::USAGE, message)
}

fn read(path: &Path) -> Result<KeyFile, Failure> {
    KeyFile::read(path).map_err(|reason| Failure::new(exit::CONFIG, reason))
}

/// Changes the file as a whole, after whoever else is changing it; makes it where it is not there.
fn change<T>(
    path: &Path,
    edit: impl FnOnce(&mut KeyFile) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let broken = |error: &dyn std::fmt::Display| {
        Failure::new(exit::CONFIG, format!("{}: {error}", path.display()))
    };
    let name = path.file_name().ok_or_else(|| broken(&"names no file"))?;
    // Beside the file, which is replaced; hidden, so that it is no file of keys in a directory.
    let lock_path = path.with_file_name(format!(".{}.lock", name.to_string_lossy()));
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&lock_path)
        .map_err(|error| broken(&error))?;
    lock.lock().map_err(|error| broken(&error))?;
    let mut file = if path.exists() { read(path)? } else { KeyFile::empty() };
    let done = edit(&mut file)?;
    let json = file.to_json().map_err(|error| broken(&error))?;
    write_atomic(path, &json).map_err(|error| broken(&error))?;
    Ok(done)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NOW: WallMs = WallMs(1_800_000_000_000);

    fn new(path: &Path, id: &str, scopes: &[Scope]) -> New {
        New {
            id: id.parse().unwrap(),
            file: File { file: path.to_owned() },
            scopes: scopes.to_vec(),
            buckets: Vec::new(),
            requests_per_s: None,
            requests_at_once: None,
            expires: None,
        }
    }

    fn revoke(path: &Path, id: &str, version: Option<u32>) -> Revoke {
        Revoke { id: id.parse().unwrap(), file: File { file: path.to_owned() }, version }
    }

    fn states(path: &Path) -> Vec<(u32, bool)> {
        let file = KeyFile::read(path).unwrap();
        let versions = file.keys.iter().flat_map(|entry| &entry.versions);
        versions.map(|version| (version.version, version.is_active(NOW))).collect()
    }

    #[test]
    fn a_key_is_made_rotated_and_revoked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.json");
        let output = Output::new(true);
        assert_eq!(new(&path, "app", &[]).run(NOW, output).unwrap_err().exit, exit::USAGE);
        assert!(!path.exists(), "nothing is written for a mistake");
        new(&path, "app", &[Scope::Read]).run(NOW, output).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let widened = new(&path, "app", &[Scope::Admin]).run(NOW, output).unwrap_err();
        assert_eq!(widened.exit, exit::USAGE);
        new(&path, "app", &[]).run(NOW, output).unwrap();
        assert_eq!(states(&path), [(1, true), (2, true)]);
        revoke(&path, "app", Some(1)).run(NOW, output).unwrap();
        assert_eq!(states(&path), [(1, false), (2, true)]);
        for missing in [revoke(&path, "app", Some(9)), revoke(&path, "who", None)] {
            assert_eq!(missing.run(NOW, output).unwrap_err().exit, exit::NOT_FOUND);
        }
        revoke(&path, "app", None).run(NOW, output).unwrap();
        assert_eq!(states(&path), [(1, false), (2, false)]);
    }

    #[test]
    fn old_versions_make_room() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.json");
        let output = Output::new(true);
        new(&path, "app", &[Scope::Read]).run(NOW, output).unwrap();
        for _ in 1..API_KEY_VERSIONS_MAX {
            new(&path, "app", &[]).run(NOW, output).unwrap();
        }
        assert_eq!(new(&path, "app", &[]).run(NOW, output).unwrap_err().exit, exit::USAGE);
        revoke(&path, "app", Some(3)).run(NOW, output).unwrap();
        new(&path, "app", &[]).run(NOW, output).unwrap();
        let numbers: Vec<u32> = states(&path).into_iter().map(|(number, _)| number).collect();
        assert_eq!(numbers, [1, 2, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn ends_are_spans_or_moments() {
        let moment = "2027-01-31T12:00:00Z";
        let cases = [
            ("30d", Some(End::After(Duration::from_secs(30 * 86_400)))),
            ("12h", Some(End::After(Duration::from_secs(12 * 3600)))),
            (moment, Some(End::At(moment.parse().unwrap()))),
            ("30", None),
            ("-1d", None),
            ("soon", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_end(text).ok(), expected, "{text}");
        }
    }
}

//! The audit log: who changed what, in a file of JSON lines of which each has the hash of the one before
//! it, so that a line cannot be changed or taken out later without a trace.
//!
//! Invariants: an entry is on the disk when [`AuditLog::record`] returns; a line that was cut off by a
//! crash was never confirmed, and is removed at the next start. Whoever can write the file can write a
//! new chain: keep the last hash, which `atoll audit verify` prints, elsewhere.
//!
//! Not here: which requests are entered, and rotation: rename the file and restart the process.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::auth::key_file::Timestamp;
use crate::limits::{AUDIT_FIELD_BYTES_MAX, AUDIT_LINE_BYTES_MAX};
use crate::time::Clock;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    /// Id of the API key; empty where nobody was asked for one, or gave a valid one.
    pub principal: String,
    /// Address of the client; empty where the process itself acted.
    pub source: String,
    /// What was asked for.
    pub action: String,
    /// What became of it.
    pub outcome: String,
    /// Id of the request; empty where there was none.
    pub request_id: String,
}

/// One line of the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    seq: u64,
    time: Timestamp,
    principal: String,
    source: String,
    action: String,
    outcome: String,
    request_id: String,
    /// SHA-256 of the line before, without its end; zeros for the first.
    previous: String,
}

/// The file, or none. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct AuditLog(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    clock: Clock,
    tail: Mutex<Tail>,
}

/// Where the chain ends.
#[derive(Debug)]
struct Tail {
    file: File,
    /// Bytes of whole lines.
    bytes: u64,
    seq: u64,
    hash: String,
}

impl AuditLog {
    /// Nothing is entered anywhere.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    /// Goes on with the file at `path`, or begins it, with mode 0600.
    ///
    /// # Errors
    /// Where it cannot be opened, or its end is no line of an audit log.
    pub fn open(path: &Path, clock: Clock) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let tail = Mutex::new(Tail::find(file)?);
        Ok(Self(Some(Arc::new(Shared { clock, tail }))))
    }

    /// Whether entries are kept.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Enters what happened; it is on the disk when this returns.
    ///
    /// # Errors
    /// Those of writing. Nothing of the entry is kept then.
    pub async fn record(&self, event: Event) -> io::Result<()> {
        let Some(shared) = self.0.clone() else { return Ok(()) };
        let entered = tokio::task::spawn_blocking(move || {
            let time = Timestamp(shared.clock.wall());
            shared.tail.lock().unwrap_or_else(PoisonError::into_inner).append(event, time)
        });
        entered.await.map_err(io::Error::other)?
    }

    /// Enters what happened, when there is time for it. A failure is logged.
    pub fn note(&self, event: Event) {
        if !self.is_on() {
            return;
        }
        let log = self.clone();
        tokio::spawn(async move {
            if let Err(error) = log.record(event).await {
                tracing::error!(%error, "an entry of the audit log could not be written");
            }
        });
    }
}

impl Tail {
    fn find(mut file: File) -> io::Result<Self> {
        let length = file.seek(SeekFrom::End(0))?;
        let window = length.min(2 * AUDIT_LINE_BYTES_MAX);
        file.seek(SeekFrom::Start(length - window))?;
        let mut end = Vec::new();
        (&file).take(window).read_to_end(&mut end)?;
        let cut = end.iter().rev().take_while(|&&byte| byte != b'\n').count();
        let whole = end.get(..end.len() - cut).unwrap_or_default();
        let bytes = length - cut as u64;
        if cut > 0 {
            if whole.is_empty() && length > window {
                return Err(io::Error::other("the file is no audit log"));
            }
            tracing::warn!(
                bytes = cut,
                "an unfinished line at the end of the audit log is removed"
            );
            file.set_len(bytes)?;
        }
        let Some(line) = whole.strip_suffix(b"\n") else {
            return Ok(Self { file, bytes, seq: 0, hash: hash_of_nothing() });
        };
        let line = line.rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
        let parsed: Line = serde_json::from_slice(line)
            .map_err(|error| io::Error::other(format!("its last line is no entry: {error}")))?;
        Ok(Self { file, bytes, seq: parsed.seq, hash: hash(line) })
    }

    fn append(&mut self, event: Event, time: Timestamp) -> io::Result<()> {
        let line = Line {
            seq: self.seq + 1,
            time,
            principal: bounded(event.principal),
            source: bounded(event.source),
            action: bounded(event.action),
            outcome: bounded(event.outcome),
            request_id: bounded(event.request_id),
            previous: self.hash.clone(),
        };
        let mut bytes = serde_json::to_vec(&line)?;
        let hash = hash(&bytes);
        bytes.push(b'\n');
        // Over whatever an earlier failure may have left of a line.
        self.file.set_len(self.bytes)?;
        self.file.seek(SeekFrom::Start(self.bytes))?;
        self.file.write_all(&bytes)?;
        self.file.sync_data()?;
        self.bytes += bytes.len() as u64;
        self.seq = line.seq;
        self.hash = hash;
        Ok(())
    }
}

/// What a whole chain amounts to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Its entries.
    pub entries: u64,
    /// The hash of the last one, to be kept elsewhere.
    pub last_hash: String,
}

/// Why a file is no unbroken chain.
#[derive(Debug, thiserror::Error)]
pub enum BrokenChain {
    /// It cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A line is wrong, or one before it was changed or taken out.
    #[error("line {line}: {reason}")]
    Line {
        /// Its number, from 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
}

/// Reads a file from its beginning and checks every link.
///
/// # Errors
/// The first line that does not follow from the one before it.
pub fn verify(path: &Path) -> Result<Verified, BrokenChain> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut verified = Verified { entries: 0, last_hash: hash_of_nothing() };
    loop {
        let mut bytes = Vec::new();
        reader.by_ref().take(2 * AUDIT_LINE_BYTES_MAX).read_until(b'\n', &mut bytes)?;
        if bytes.is_empty() {
            return Ok(verified);
        }
        let number = verified.entries + 1;
        let broken = |reason: String| BrokenChain::Line { line: number, reason };
        let line = bytes.strip_suffix(b"\n").ok_or_else(|| broken("it does not end".into()))?;
        let parsed: Line =
            serde_json::from_slice(line).map_err(|error| broken(error.to_string()))?;
        if parsed.previous != verified.last_hash {
            return Err(broken("it does not follow the line before it".into()));
        }
        if parsed.seq != number {
            return Err(broken(format!("it says that it is entry {}", parsed.seq)));
        }
        verified = Verified { entries: number, last_hash: hash(line) };
    }
}

fn hash(line: &[u8]) -> String {
    let digest: [u8; 32] = Sha256::digest(line).into();
    crate::auth::api_key::hex(&digest)
}

fn hash_of_nothing() -> String {
    "0".repeat(64)
}

fn bounded(mut text: String) -> String {
    if text.len() > AUDIT_FIELD_BYTES_MAX {
        let end = (0..=AUDIT_FIELD_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
    }
    text
}

#[cfg(test)]
mod tests {
    use dynamo_core::time::WallMs;

    use super::*;

    fn event(action: &str) -> Event {
        Event { action: action.into(), principal: "admin".into(), ..Event::default() }
    }

    fn log(path: &Path, actions: &[&str]) {
        let (clock, _) = Clock::manual(WallMs(1_800_000_000_000));
        let log = AuditLog::open(path, clock).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for action in actions {
            runtime.block_on(log.record(event(action))).unwrap();
        }
    }

    #[test]
    fn a_chain_goes_on_over_restarts_and_torn_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        log(&path, &["a", "b"]);
        log(&path, &["c"]);
        let three = verify(&path).unwrap();
        assert_eq!(three.entries, 3);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"seq\":4,\"ti").unwrap();
        drop(file);
        assert!(verify(&path).is_err());
        log(&path, &[]);
        assert_eq!(verify(&path).unwrap(), three, "what was never confirmed is gone");
        log(&path, &[&"long ".repeat(10_000)]);
        log(&path, &["d"]);
        assert_eq!(verify(&path).unwrap().entries, 5);
    }

    #[test]
    fn every_change_breaks_the_chain() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        log(&path, &["a", "b", "c"]);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let cases: [(String, u64); 5] = [
            (text.replace("\"action\":\"a\"", "\"action\":\"x\""), 2),
            (text.replace("\"action\":\"b\"", "\"action\":\"x\""), 3),
            (format!("{}\n{}\n", lines[0], lines[2]), 2),
            (format!("{}\n{}\n", lines[1], lines[2]), 1),
            (format!("{}\n{}\n{}\n", lines[0], lines[0], lines[1]), 2),
        ];
        for (changed, at) in cases {
            std::fs::write(&path, &changed).unwrap();
            match verify(&path) {
                Err(BrokenChain::Line { line, .. }) => assert_eq!(line, at, "{changed}"),
                other => panic!("{other:?}: {changed}"),
            }
        }
        std::fs::write(&path, "no log\n").unwrap();
        let (clock, _) = Clock::manual(WallMs(0));
        assert!(AuditLog::open(&path, clock).is_err(), "a file of something else stays as it is");
    }
}

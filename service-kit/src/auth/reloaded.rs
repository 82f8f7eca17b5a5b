//! The newest good content of a file, or of a directory of files, that may be replaced at any time:
//! keys and certificates change while the process runs.
//!
//! A new content that cannot be read or makes no sense never replaces a good one: it is logged once,
//! counted, and shown by a gauge until it is mended. A change is seen by the identity, size and
//! time of the files behind the names, so it does not matter whether a file is written, renamed over,
//! or behind a link that is moved, as Kubernetes does.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

use crate::limits::RELOAD_INTERVAL;
use crate::metrics::MetricsError;
use crate::shutdown::Shutdown;

/// Metrics of all such files of a process.
#[derive(Debug, Clone)]
pub struct ReloadMetrics {
    reloads: IntCounterVec,
    stale: IntGaugeVec,
}

impl ReloadMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When they are registered already.
    pub fn register(registry: &Registry) -> Result<Self, MetricsError> {
        let reloads = IntCounterVec::new(
            Opts::new("atoll_file_reloads_total", "Changed files that were read again."),
            &["file", "result"],
        )?;
        let stale = IntGaugeVec::new(
            Opts::new(
                "atoll_file_stale",
                "1 where a file has changed and its new content cannot be used.",
            ),
            &["file"],
        )?;
        registry.register(Box::new(reloads.clone()))?;
        registry.register(Box::new(stale.clone()))?;
        Ok(Self { reloads, stale })
    }
}

/// How a content is read from its one file.
pub type Read<T> = fn(&Path) -> Result<T, String>;

/// A content that follows its file, or the files that belong together.
pub struct Reloaded<T> {
    name: &'static str,
    paths: Vec<PathBuf>,
    read: Box<dyn Fn() -> Result<T, String> + Send + Sync>,
    current: ArcSwap<T>,
    seen: Mutex<Seen>,
    metrics: ReloadMetrics,
}

impl<T: Send + Sync + 'static> Reloaded<T> {
    /// Reads `path` for the first time. `name` is the file's word in metrics and logs.
    ///
    /// # Errors
    /// Where it cannot be read or makes no sense: a process must not start with it.
    pub fn load(
        name: &'static str,
        path: &Path,
        read: Read<T>,
        metrics: ReloadMetrics,
    ) -> Result<Self, String> {
        let one = path.to_owned();
        Self::load_all(name, vec![path.to_owned()], move || read(&one), metrics)
    }

    /// As [`Self::load`], for a content that `read` makes of all files at `paths`.
    ///
    /// # Errors
    /// Those of [`Self::load`].
    pub fn load_all(
        name: &'static str,
        paths: Vec<PathBuf>,
        read: impl Fn() -> Result<T, String> + Send + Sync + 'static,
        metrics: ReloadMetrics,
    ) -> Result<Self, String> {
        let seen = Fingerprint::of_all(&paths)?;
        let current = read()?;
        metrics.stale.with_label_values(&[name]).set(0);
        // They are there before the first reload, so that the first one is seen to count.
        for result in ["ok", "failed"] {
            metrics.reloads.with_label_values(&[name, result]).reset();
        }
        Ok(Self {
            name,
            paths,
            read: Box::new(read),
            current: ArcSwap::from_pointee(current),
            seen: Mutex::new(Seen { files: seen, stale: false }),
            metrics,
        })
    }

    /// The newest good content.
    #[must_use]
    pub fn current(&self) -> arc_swap::Guard<Arc<T>> {
        self.current.load()
    }

    /// Reads the file again where it has changed, or was of no use so far: a certificate may become
    /// valid. Says whether the content is a new one. Blocks.
    pub fn check(&self) -> bool {
        // Taken before the content is read: a change in between is seen the next time.
        let now = Fingerprint::of_all(&self.paths);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = Fingerprint(Vec::new());
        let files = now.as_ref().unwrap_or(&missing);
        let changed = seen.files != *files;
        if !changed && !seen.stale {
            return false;
        }
        seen.files.clone_from(files);
        let (name, stale) = (self.name, self.metrics.stale.with_label_values(&[self.name]));
        match now.and_then(|_| (self.read)()) {
            Ok(content) => {
                self.current.store(Arc::new(content));
                seen.stale = false;
                stale.set(0);
                self.metrics.reloads.with_label_values(&[name, "ok"]).inc();
                tracing::info!(file = name, "a changed file is in use");
                true
            }
            // Told already.
            Err(_) if !changed => false,
            Err(reason) => {
                seen.stale = true;
                stale.set(1);
                self.metrics.reloads.with_label_values(&[name, "failed"]).inc();
                tracing::error!(file = name, %reason, "a changed file is of no use; its last content stays");
                false
            }
        }
    }

    /// Looks at the file again and again until the process stops, and tells of each new content.
    pub async fn follow(self: Arc<Self>, shutdown: Shutdown, changed: impl Fn() + Send) {
        while shutdown.unless_requested(tokio::time::sleep(RELOAD_INTERVAL)).await.is_some() {
            let this = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || this.check()).await {
                Ok(true) => changed(),
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(file = self.name, %error, "looking at a file ended abnormally");
                }
            }
        }
    }
}

impl<T> std::fmt::Debug for Reloaded<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloaded").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What was last looked at.
#[derive(Debug)]
struct Seen {
    files: Fingerprint,
    /// Whether it was of no use.
    stale: bool,
}

/// What tells one state of files from another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fingerprint(Vec<(PathBuf, [i64; 5])>);

impl Fingerprint {
    fn of_all(paths: &[PathBuf]) -> Result<Self, String> {
        let each = paths.iter().map(|path| Self::of(path).map(|found| found.0));
        Ok(Self(each.collect::<Result<Vec<_>, _>>()?.concat()))
    }

    fn of(path: &Path) -> Result<Self, String> {
        let mut files = Vec::new();
        for file in files_of(path)? {
            let found =
                std::fs::metadata(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            let number = |value: u64| value.cast_signed();
            let state = [
                number(found.ino()),
                number(found.size()),
                found.mtime(),
                found.mtime_nsec(),
                i64::from(found.mode()),
            ];
            files.push((file, state));
        }
        Ok(Self(files))
    }
}

/// The file itself, or the files of a directory by name. Hidden ones are left out: editors and
/// Kubernetes keep their own there.
///
/// # Errors
/// Where there is nothing at the path.
pub(super) fn files_of(path: &Path) -> Result<Vec<PathBuf>, String> {
    let wrong = |error: std::io::Error| format!("{}: {error}", path.display());
    if !std::fs::metadata(path).map_err(wrong)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        // Through links: the files of a mounted Secret are some.
        if !hidden && std::fs::metadata(entry.path()).is_ok_and(|found| found.is_file()) {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn number(path: &Path) -> Result<u32, String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        text.trim().parse().map_err(|_| "not a number".to_owned())
    }

    #[test]
    fn a_good_content_replaces_and_a_bad_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n");
        let registry = Registry::new();
        let metrics = ReloadMetrics::register(&registry).unwrap();
        assert!(Reloaded::load("n", &path, number, metrics.clone()).is_err(), "missing");
        std::fs::write(&path, "1").unwrap();
        let file = Reloaded::load("n", &path, number, metrics.clone()).unwrap();
        let stale = || metrics.stale.with_label_values(&["n"]).get();
        // Content, whether it is new, what is in use, stale.
        type Case = (Option<&'static str>, bool, u32, i64);
        let cases: [Case; 7] = [
            (Some("1"), false, 1, 0),
            (Some("22"), true, 22, 0),
            (Some("bad"), false, 22, 1),
            (None, false, 22, 1),
            (Some("bad again"), false, 22, 1),
            (Some("333"), true, 333, 0),
            (Some("333"), false, 333, 0),
        ];
        let mut last = Some("1");
        for (content, new, used, is_stale) in cases {
            if content != last {
                std::fs::remove_file(&path)
                    .or_else(|error| match error.kind() {
                        std::io::ErrorKind::NotFound => Ok(()),
                        _ => Err(error),
                    })
                    .unwrap();
                if let Some(content) = content {
                    std::fs::write(&path, content).unwrap();
                }
                last = content;
            }
            assert_eq!(file.check(), new, "{content:?}");
            assert_eq!((**file.current(), stale()), (used, is_stale), "{content:?}");
        }
        assert_eq!(metrics.reloads.with_label_values(&["n", "failed"]).get(), 3);
        assert_eq!(metrics.reloads.with_label_values(&["n", "ok"]).get(), 2);
    }

    #[test]
    fn what_becomes_good_by_itself_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n");
        std::fs::write(&path, "1").unwrap();
        let metrics = ReloadMetrics::register(&Registry::new()).unwrap();
        let clock = Arc::new(AtomicU32::new(1));
        let (now, file) = (Arc::clone(&clock), path.clone());
        let read = move || match number(&file)? {
            early if early > now.load(Ordering::SeqCst) => Err("not valid yet".to_owned()),
            good => Ok(good),
        };
        let file = Reloaded::load_all("n", vec![path.clone()], read, metrics.clone()).unwrap();
        std::fs::write(&path, "22").unwrap();
        // The time, whether the content is new, what is in use.
        for (time, new, used) in [(1, false, 1), (1, false, 1), (22, true, 22), (22, false, 22)] {
            clock.store(time, Ordering::SeqCst);
            assert_eq!((file.check(), **file.current()), (new, used), "at {time}");
        }
        assert_eq!(metrics.reloads.with_label_values(&["n", "failed"]).get(), 1, "told once");
    }

    #[test]
    fn a_directory_is_its_visible_files_through_links() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("..data_1");
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("b"), "1").unwrap();
        std::os::unix::fs::symlink(data.join("b"), dir.path().join("b")).unwrap();
        std::fs::write(dir.path().join("a"), "1").unwrap();
        std::fs::write(dir.path().join(".hidden"), "1").unwrap();
        let names = files_of(dir.path()).unwrap();
        assert_eq!(names, [dir.path().join("a"), dir.path().join("b")]);
        let before = Fingerprint::of(dir.path()).unwrap();
        assert_eq!(before, Fingerprint::of(dir.path()).unwrap());
        std::fs::write(data.join("b2"), "longer").unwrap();
        std::fs::remove_file(dir.path().join("b")).unwrap();
        std::os::unix::fs::symlink(data.join("b2"), dir.path().join("b")).unwrap();
        assert_ne!(before, Fingerprint::of(dir.path()).unwrap());
    }
}

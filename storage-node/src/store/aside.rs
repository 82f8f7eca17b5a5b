//! Files that are set aside: a damaged file gets a name with the time, so that an operator can look
//! at it, and an empty one takes its place. The name is the whole note: a start that finds the
//! place empty begins empty.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use dynamo_core::time::WallMs;
use service_kit::time::Clock;

use super::suspect::Mark;
use crate::limits::SET_ASIDE_MAX;

/// What comes between the name of a file and the time at which it was set aside.
const MARK: &str = ".damaged-";

/// Where a file lies, and what happens to it as a whole.
pub(crate) trait Place: std::fmt::Debug + Send + Sync {
    /// Puts the closed file out of the way, durably; where there is none, nothing is done.
    fn set_aside(&self, why: &str) -> io::Result<()>;

    /// Makes a file that was created here durable in its directory.
    fn settle(&self) -> io::Result<()>;
}

/// A file of a data directory.
#[derive(Debug)]
pub struct FilePlace {
    /// The file.
    pub path: PathBuf,
    /// Tells the time for the name.
    pub clock: Clock,
}

impl Place for FilePlace {
    fn set_aside(&self, why: &str) -> io::Result<()> {
        set_aside(&self.path, self.clock.wall(), why)
    }

    fn settle(&self) -> io::Result<()> {
        sync_dir(directory_of(&self.path))
    }
}

/// Renames the closed file at `path`, durably, without its mark of a suspect, and removes the oldest such files beyond
/// [`SET_ASIDE_MAX`]. Nothing is done where there is no file.
///
/// # Errors
/// When the file cannot be renamed; it is then where it was.
pub(crate) fn set_aside(path: &Path, now: WallMs, why: &str) -> io::Result<()> {
    let directory = directory_of(path);
    let aside = (now.0..).map(|at| with_suffix(path, at)).find(|name| !name.exists());
    let Some(aside) = aside else { return Err(io::ErrorKind::AlreadyExists.into()) };
    match std::fs::rename(path, &aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed?,
    }
    Mark::of(path).remove()?;
    sync_dir(directory)?;
    tracing::error!(why, ?aside, "a damaged file was set aside; an empty one takes its place");
    // The file is out of the way; one too many does no harm.
    if let Err(error) = remove_oldest(path) {
        tracing::warn!(%error, "older files that were set aside could not be removed");
    }
    Ok(())
}

fn with_suffix(path: &Path, at: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!("{MARK}{at}"));
    PathBuf::from(name)
}

fn remove_oldest(path: &Path) -> io::Result<()> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.unwrap_or_default();
    let mut all = all_aside(directory_of(path))?;
    all.retain(|(of, ..)| *of == name);
    let surplus = all.len().saturating_sub(SET_ASIDE_MAX);
    for (_, _, path) in all.into_iter().take(surplus) {
        std::fs::remove_file(&path)?;
        tracing::warn!(?path, "an older file that was set aside was removed");
    }
    Ok(())
}

/// Files set aside in a directory: the name of what each was, when, and where it is; oldest first.
fn all_aside(directory: &Path) -> io::Result<Vec<(String, u64, PathBuf)>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((of, at)) = name.rsplit_once(MARK) else { continue };
        if let Ok(at) = at.parse() {
            all.push((of.to_owned(), at, entry.path()));
        }
    }
    all.sort();
    Ok(all)
}

/// Number of files set aside in a directory.
pub(crate) fn count_aside(directory: &Path) -> io::Result<usize> {
    Ok(all_aside(directory)?.len())
}

/// Removes every file set aside in a directory; how many.
///
/// # Errors
/// When one cannot be removed.
pub(crate) fn remove_all_aside(directory: &Path) -> io::Result<usize> {
    let all = all_aside(directory)?;
    for (_, _, path) in &all {
        std::fs::remove_file(path)?;
        tracing::warn!(?path, "a file that was set aside was removed to make room");
    }
    if !all.is_empty() {
        sync_dir(directory)?;
    }
    Ok(all.len())
}

/// Makes names that were created, changed or removed in a directory durable.
pub(crate) fn sync_dir(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_few_are_kept_per_file() {
        let dir = tempfile::tempdir().unwrap();
        let (records, hints) = (dir.path().join("records.redb"), dir.path().join("hints.redb"));
        set_aside(&records, WallMs(1), "nothing is there").unwrap();
        assert_eq!(count_aside(dir.path()).unwrap(), 0);
        for at in [5, 100, 20, 100] {
            std::fs::write(&records, format!("{at}")).unwrap();
            set_aside(&records, WallMs(at), "test").unwrap();
            assert!(!records.exists());
        }
        std::fs::write(&hints, "h").unwrap();
        set_aside(&hints, WallMs(1), "test").unwrap();
        let names = all_aside(dir.path()).unwrap();
        let times: Vec<_> = names.iter().map(|(of, at, _)| (of.as_str(), *at)).collect();
        assert_eq!(times, [("hints.redb", 1), ("records.redb", 100), ("records.redb", 101)]);
        assert_eq!(remove_all_aside(dir.path()).unwrap(), 3);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

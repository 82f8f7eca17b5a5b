//! A file in whose use the engine panicked. Such a panic is caught, and the file checked; but one
//! that comes while the engine cleans up after another ends the process, and a process that is
//! started anew would go on with the damaged file until it ends like that again. So the first panic
//! leaves a mark beside the file, before anything is cleaned up; whoever opens a file that has one
//! checks it page by page.
//!
//! Not here: what follows from the check (`data_dir` at the start, [`super::writer`] later).

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

/// What is added to a file's name for the name of its mark.
const MARK: &str = ".suspect";

thread_local! {
    /// The mark of the file that this thread is using.
    static IN_USE: RefCell<Option<Arc<Path>>> = const { RefCell::new(None) };
}

/// The mark of one file, made or not.
#[derive(Debug, Clone)]
pub(crate) struct Mark(Arc<Path>);

impl Mark {
    /// The mark of the file at `path`.
    pub(crate) fn of(path: &Path) -> Self {
        let mut name = path.as_os_str().to_owned();
        name.push(MARK);
        Self(PathBuf::from(name).into())
    }

    /// Whether the engine has panicked over the file since it was checked last.
    pub(crate) fn is_made(&self) -> bool {
        self.0.exists()
    }

    /// The file was checked, or is not in use any more.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match std::fs::remove_file(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Runs `work` with the file; a panic in it makes the mark.
    pub(crate) fn watch<T>(&self, work: impl FnOnce() -> T) -> T {
        static HOOK: Once = Once::new();
        HOOK.call_once(install);
        let before = IN_USE.replace(Some(Arc::clone(&self.0)));
        let _restored = Restore(before);
        work()
    }
}

/// Puts back what was in use before, also after a panic.
struct Restore(Option<Arc<Path>>);

impl Drop for Restore {
    fn drop(&mut self) {
        IN_USE.set(self.0.take());
    }
}

/// Has every panic make the mark of the file in use, before it is reported as ever.
fn install() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let mark = IN_USE.with(|mark| mark.try_borrow().ok().and_then(|mark| mark.clone()));
        if let Some(mark) = mark
            && let Err(error) = File::create(&mark).and_then(|file| file.sync_all())
        {
            tracing::error!(%error, ?mark, "a file could not be marked as suspect");
        }
        report(panic);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_marks_the_file_in_use_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (Mark::of(&dir.path().join("one")), Mark::of(&dir.path().join("other")));
        let caught = std::panic::catch_unwind(|| {
            other.watch(|| one.watch(|| panic!("a damaged page")));
        });
        assert!(caught.is_err());
        assert!(one.is_made() && !other.is_made());
        one.remove().unwrap();
        one.remove().unwrap();
        assert!(!one.is_made());
        assert!(std::panic::catch_unwind(|| panic!("something else")).is_err());
        assert!(!one.is_made() && !other.is_made());
    }
}

//! Room on the disk. A copy-on-write file needs space even to delete from it, so some is set apart:
//! the *reserve*, a file whose blocks are really allocated. It is given back when the disk is full,
//! so that deletes go on, and made anew when there is space again.
//!
//! | level | which writes are taken |
//! |---|---|
//! | ample | all |
//! | low | those that add no values: deletes, bookkeeping |
//! | exhausted | none: not even a delete found space, and every failed commit ends an epoch |
//!
//! Free space as the file system states it is a hint only (quotas, files with holes): a commit that
//! finds no space counts, and a level is left upwards only after the space was really allocated.
//! Files that were set aside for an operator go first: live data matters more than evidence.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use dynamo_core::time::Mono;
use rustix::fs::{FallocateFlags, fallocate, statvfs};

use super::aside::{count_aside, remove_all_aside, sync_dir};
use crate::limits::{
    SPACE_CHECK_INTERVAL, SPACE_COMMIT_BYTES, SPACE_LOW_BYTES, SPACE_RESERVE_BYTES,
};
use crate::metrics::SpaceMetrics;

/// Name of the reserve in the data directory.
pub const RESERVE_FILE: &str = "reserve";

/// Bytes written at once where the file system cannot allocate otherwise.
const ZEROS: usize = 256 * 1024;

/// What a disk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// Bytes that may still be written.
    pub(crate) free: u64,
    /// Bytes of the file system.
    pub(crate) total: u64,
}

/// The disk under a data directory.
pub(crate) trait Volume: Debug + Send + Sync {
    /// How much room there is.
    fn room(&self) -> io::Result<Room>;

    /// Bytes of the reserve.
    fn reserved(&self) -> io::Result<u64>;

    /// Makes the reserve this large, its blocks allocated; where that fails it stays as it is.
    fn reserve(&self, bytes: u64) -> io::Result<()>;

    /// Gives the reserve back.
    fn release(&self) -> io::Result<()>;

    /// Number of files that are kept for an operator only.
    fn aside(&self) -> io::Result<usize>;

    /// Removes what is kept for an operator only; how many files that were.
    fn remove_aside(&self) -> io::Result<usize>;
}

/// How much room there is for writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Level {
    /// For everything.
    Ample = 0,
    /// For what adds no values.
    Low = 1,
    /// For nothing.
    Exhausted = 2,
}

/// The marks of a file system: those of a large one, and fractions of a small one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Marks {
    reserve: u64,
    low: u64,
    commit: u64,
}

impl Marks {
    fn of(total: u64) -> Self {
        Self {
            reserve: SPACE_RESERVE_BYTES.min(total / 16),
            low: SPACE_LOW_BYTES.min(total / 20),
            commit: SPACE_COMMIT_BYTES.min(total / 64),
        }
    }
}

/// The room under one data directory, shared by the writers of its files.
#[derive(Debug)]
pub struct Space {
    volume: Box<dyn Volume>,
    metrics: SpaceMetrics,
    level: AtomicU8,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    checked: Option<Mono>,
    /// Whether the last look failed, so that it is logged once.
    blind: bool,
}

impl Space {
    /// The room under the data directory `dir`. Makes the reserve where there is room for it.
    #[must_use]
    pub fn of_dir(dir: PathBuf, metrics: SpaceMetrics, now: Mono) -> Self {
        Self::new(Box::new(DirVolume { dir }), metrics, now)
    }

    pub(crate) fn new(volume: Box<dyn Volume>, metrics: SpaceMetrics, now: Mono) -> Self {
        let level = AtomicU8::new(Level::Ample as u8);
        let space = Self { volume, metrics, level, inner: Mutex::default() };
        space.check(now);
        space
    }

    /// The level as of the last look.
    pub(crate) fn level(&self) -> Level {
        match self.level.load(Ordering::Acquire) {
            0 => Level::Ample,
            1 => Level::Low,
            _ => Level::Exhausted,
        }
    }

    /// Looks at the disk, where that was not done a moment ago.
    pub(crate) fn check(&self, now: Mono) -> Level {
        let mut inner = self.lock();
        if inner.checked.is_none_or(|at| now.since(at) >= SPACE_CHECK_INTERVAL) {
            inner.checked = Some(now);
            match self.look() {
                Ok(()) => inner.blind = false,
                Err(error) => {
                    if !std::mem::replace(&mut inner.blind, true) {
                        tracing::warn!(%error, "the free space of the disk is not known");
                    }
                }
            }
        }
        self.level()
    }

    /// A write found no space: whatever can be given back is given back.
    pub(crate) fn ran_out(&self, now: Mono) {
        let mut inner = self.lock();
        inner.checked = Some(now);
        self.metrics.ran_out.inc();
        let level = match self.give_back() {
            Ok(true) => Level::Low,
            Ok(false) => Level::Exhausted,
            Err(error) => {
                tracing::error!(%error, "the reserve of the disk could not be given back");
                Level::Exhausted
            }
        };
        self.set(level, "a write found no space");
    }

    /// Gives back files set aside and the reserve. True where there was something.
    fn give_back(&self) -> io::Result<bool> {
        let files = self.volume.remove_aside()?;
        let reserve = self.volume.reserved()?;
        if reserve > 0 {
            self.volume.release()?;
        }
        self.metrics.reserve_bytes.set(0);
        if files > 0 || reserve > 0 {
            tracing::warn!(files, reserve, "space was given back to the disk");
        }
        Ok(files > 0 || reserve > 0)
    }

    fn look(&self) -> io::Result<()> {
        let mut room = self.volume.room()?;
        let reserve = self.volume.reserved()?;
        let marks = Marks::of(room.total);
        if room.free < marks.low && self.volume.aside()? > 0 {
            let files = self.volume.remove_aside()?;
            tracing::warn!(files, "the disk is nearly full: files set aside were removed");
            room = self.volume.room()?;
        }
        let level = self.level();
        if level == Level::Ample {
            if room.free < marks.low {
                self.set(Level::Low, "little free space is left");
            } else if reserve < marks.reserve && room.free >= marks.reserve + marks.low {
                self.volume.reserve(marks.reserve)?;
            }
        } else {
            let missing = marks.reserve.saturating_sub(reserve);
            if room.free >= missing + 2 * marks.low && self.grows_again(marks) {
                self.set(Level::Ample, "there is space again");
            }
        }
        if self.level() != Level::Ample {
            if room.free < marks.commit && reserve > 0 {
                self.give_back()?;
                self.set(Level::Low, "the reserve is in use");
            } else if level == Level::Exhausted && self.could_commit(reserve, marks)? {
                self.set(Level::Low, "there is space for deletes");
            }
        }
        self.show()
    }

    fn show(&self) -> io::Result<()> {
        let show = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.metrics.free_bytes.set(show(self.volume.room()?.free));
        self.metrics.reserve_bytes.set(show(self.volume.reserved()?));
        self.metrics.set_aside.set(show(self.volume.aside()? as u64));
        Ok(())
    }

    /// Makes the reserve anew, and proves that more than that could be written.
    fn grows_again(&self, marks: Marks) -> bool {
        let proved = self.volume.reserve(marks.reserve + marks.low);
        proved.and_then(|()| self.volume.reserve(marks.reserve)).is_ok()
    }

    /// Proves that one commit could be written.
    fn could_commit(&self, reserve: u64, marks: Marks) -> io::Result<bool> {
        if self.volume.reserve(reserve + marks.commit).is_err() {
            return Ok(false);
        }
        self.volume.release()?;
        Ok(true)
    }

    fn set(&self, level: Level, why: &str) {
        let before = self.level();
        if before == level {
            return;
        }
        self.level.store(level as u8, Ordering::Release);
        match level {
            Level::Ample => tracing::info!(why, "the disk takes all writes again"),
            Level::Low => tracing::error!(why, "the disk takes deletes only"),
            Level::Exhausted => tracing::error!(why, "the disk takes no writes"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Two plain values, each valid at any time.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The file system that a directory lies on.
#[derive(Debug)]
pub(crate) struct DirVolume {
    pub(crate) dir: PathBuf,
}

impl DirVolume {
    fn path(&self) -> PathBuf {
        self.dir.join(RESERVE_FILE)
    }
}

impl Volume for DirVolume {
    fn room(&self) -> io::Result<Room> {
        let stat = statvfs(&self.dir)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Room { free: bytes(stat.f_bavail), total: bytes(stat.f_blocks) })
    }

    fn reserved(&self) -> io::Result<u64> {
        match std::fs::metadata(self.path()) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        let path = self.path();
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        let before = file.metadata()?.len();
        if bytes <= before {
            return file.set_len(bytes);
        }
        let grown = allocate(&file, before, bytes).and_then(|()| file.sync_all());
        match grown {
            Ok(()) => sync_dir(&self.dir),
            Err(error) if before == 0 => {
                std::fs::remove_file(&path)?;
                Err(error)
            }
            Err(error) => {
                file.set_len(before)?;
                Err(error)
            }
        }
    }

    fn release(&self) -> io::Result<()> {
        match std::fs::remove_file(self.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            // Blocks of a removed file may be free only after this.
            _ => sync_dir(&self.dir),
        }
    }

    fn aside(&self) -> io::Result<usize> {
        count_aside(&self.dir)
    }

    fn remove_aside(&self) -> io::Result<usize> {
        remove_all_aside(&self.dir)
    }
}

/// Allocates the blocks from `from` to `to`, as the file system can or by writing them.
fn allocate(file: &File, from: u64, to: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), from, to - from) {
        Ok(()) => return Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
        Err(error) => return Err(error.into()),
    }
    use std::os::unix::fs::FileExt;
    let zeros = vec![0u8; ZEROS];
    let mut at = from;
    while at < to {
        let length = usize::try_from(to - at).unwrap_or(ZEROS).min(ZEROS);
        let (part, _) = zeros.split_at(length);
        file.write_all_at(part, at)?;
        at += length as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests;

//! Levels over a disk of numbers, and the reserve on a real one.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;

use super::*;
use crate::metrics::Metrics;

const MIB: u64 = 1024 * 1024;

#[derive(Debug, Default)]
struct Numbers {
    free: Mutex<u64>,
    reserve: Mutex<u64>,
    aside: Mutex<usize>,
    /// Bytes that may really be written, whatever is said to be free.
    quota: Mutex<Option<u64>>,
}

impl Volume for Arc<Numbers> {
    fn room(&self) -> io::Result<Room> {
        Ok(Room { free: *self.free.lock().unwrap(), total: 100_000 * MIB })
    }

    fn reserved(&self) -> io::Result<u64> {
        Ok(*self.reserve.lock().unwrap())
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        if self.quota.lock().unwrap().is_some_and(|quota| bytes > quota) {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        *self.reserve.lock().unwrap() = bytes;
        Ok(())
    }

    fn release(&self) -> io::Result<()> {
        *self.reserve.lock().unwrap() = 0;
        Ok(())
    }

    fn aside(&self) -> io::Result<usize> {
        Ok(*self.aside.lock().unwrap())
    }

    fn remove_aside(&self) -> io::Result<usize> {
        Ok(std::mem::take(&mut *self.aside.lock().unwrap()))
    }
}

/// Something that happens, and the level and the reserve after it.
enum Step {
    Free(u64),
    RanOut,
    Quota(Option<u64>),
}

#[test]
fn levels_fall_at_once_and_rise_when_space_was_proved() {
    use Level::{Ample, Exhausted, Low};
    let steps = [
        (Step::Free(1_000), Ample, true, "plenty"),
        (Step::Free(64), Ample, true, "just enough"),
        (Step::Free(63), Low, true, "the reserve is not needed yet"),
        (Step::Free(100), Low, true, "not twice the mark"),
        (Step::Free(128), Ample, true, "twice the mark"),
        (Step::Free(0), Low, false, "the reserve is given back"),
        (Step::RanOut, Exhausted, false, "and used up"),
        (Step::Free(1_000), Ample, true, "space again"),
        (Step::RanOut, Low, false, "a quota that nobody told of"),
        (Step::Quota(Some(20 * MIB)), Low, false, "there is said to be space, and is none"),
        (Step::RanOut, Exhausted, false, "nor for deletes"),
        (Step::Quota(Some(100)), Exhausted, false, "still none"),
        (Step::Quota(Some(2 * MIB)), Low, false, "for deletes"),
        (Step::Quota(None), Ample, true, "for all"),
    ];
    let volume = Arc::new(Numbers { free: Mutex::new(1_000 * MIB), ..Numbers::default() });
    let metrics = Metrics::register(&Registry::new()).unwrap().space;
    let mut now = Mono(0);
    let space = Space::new(Box::new(Arc::clone(&volume)), metrics, now);
    for (step, level, reserved, what) in steps {
        now = now.plus(Duration::from_secs(2));
        match step {
            Step::Free(mib) => *volume.free.lock().unwrap() = mib * MIB,
            Step::Quota(quota) => *volume.quota.lock().unwrap() = quota,
            Step::RanOut => space.ran_out(now),
        }
        if !matches!(step, Step::RanOut) {
            space.check(now);
        }
        let has = volume.reserved().unwrap() == SPACE_RESERVE_BYTES;
        assert_eq!((space.level(), has), (level, reserved), "{what}");
    }
}

#[test]
fn evidence_goes_before_the_reserve() {
    let volume = Arc::new(Numbers { free: Mutex::new(1_000 * MIB), ..Numbers::default() });
    *volume.aside.lock().unwrap() = 2;
    let metrics = Metrics::register(&Registry::new()).unwrap().space;
    let space = Space::new(Box::new(Arc::clone(&volume)), metrics.clone(), Mono(0));
    assert_eq!((metrics.set_aside.get(), metrics.reserve_bytes.get() > 0), (2, true));
    *volume.free.lock().unwrap() = 63 * MIB;
    space.check(Mono(0).plus(Duration::from_secs(2)));
    assert_eq!((metrics.set_aside.get(), metrics.reserve_bytes.get() > 0), (0, true));
}

#[test]
fn the_reserve_has_its_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let volume = DirVolume { dir: dir.path().to_owned() };
    assert_eq!(volume.reserved().unwrap(), 0);
    volume.release().unwrap();
    for bytes in [MIB, 3 * MIB, 2 * MIB] {
        volume.reserve(bytes).unwrap();
        let metadata = std::fs::metadata(volume.path()).unwrap();
        assert_eq!(metadata.len(), bytes);
        assert!(metadata.blocks() * 512 >= bytes, "not sparse");
    }
    let room = volume.room().unwrap();
    assert!(room.free > 0 && room.free < room.total);
    let too_much = volume.reserve(room.total.saturating_mul(2));
    assert!(too_much.is_err());
    assert_eq!(volume.reserved().unwrap(), 2 * MIB, "it stays as it was");
    volume.release().unwrap();
    assert_eq!(volume.reserved().unwrap(), 0);
}

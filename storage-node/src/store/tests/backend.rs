//! A file in memory that can lose power and fail. What was written and not synced may be lost in
//! any part, sector by sector.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use dynamo_core::entropy::{Entropy, SplitMix};
use dynamo_core::time::Mono;
use redb::StorageBackend;

use super::super::aside::Place;
use super::super::engine::Engine;
use super::super::error::EngineError;
use super::super::redb_engine::RedbEngine;
use super::super::space::{Room, Space, Volume};
use super::super::writer::Home;
use crate::metrics::Metrics;

const SECTOR: usize = 512;

/// What the file system allocates at a time.
const BLOCK: usize = 4096;

/// Which operations fail, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Fault {
    #[default]
    None,
    /// The next sync fails, and every one after it until healed.
    Sync,
    /// Writing and growing fail for want of space.
    Full,
    /// The disk does not give or take anything any more.
    Broken,
    /// Reads fail.
    Read,
}

#[derive(Debug, Default)]
struct Disk {
    durable: Vec<u8>,
    current: Vec<u8>,
    /// Sectors that differ, or may differ, from the durable content.
    dirty: BTreeSet<usize>,
    fault: Fault,
    /// Blocks that were written, of which there are `capacity` bytes.
    blocks: BTreeSet<usize>,
    capacity: Option<u64>,
    /// Bytes that others use.
    others: u64,
    reserve: u64,
    /// Times that the file was set aside.
    aside: usize,
    /// Number of writes until the power fails.
    writes_left: Option<u64>,
    dead: bool,
    /// Power cuts so far: a database from before one may not touch what comes after it.
    cuts: u64,
}

/// The disk; clones share it. It outlives the databases on it.
#[derive(Debug, Clone, Default)]
pub(crate) struct FaultyDisk(Arc<Mutex<Disk>>);

/// The disk as one database sees it.
#[derive(Debug)]
struct Session {
    disk: FaultyDisk,
    cuts: u64,
}

impl FaultyDisk {
    /// Opens a database on the disk.
    pub(crate) fn open(&self) -> Result<Arc<dyn Engine>, EngineError> {
        let disk = self.clone();
        let open = Box::new(move |builder: &redb::Builder| {
            let cuts = disk.0.lock().unwrap().cuts;
            builder.create_with_backend(Session { disk: disk.clone(), cuts })
        });
        // Power cuts meet files with and without quick repair, and those that change over.
        let disk = self.clone();
        let bytes = Box::new(move || {
            let cuts = disk.0.lock().unwrap().cuts;
            if cuts.is_multiple_of(2) { 0 } else { u64::MAX }
        });
        Ok(Arc::new(RedbEngine::open(open, bytes, 4 * 1024 * 1024, super::MAIN_TABLES, None)?))
    }

    /// Where the database lives.
    pub(crate) fn home(&self, metrics: &Metrics) -> Home {
        let space = Space::new(Box::new(self.clone()), metrics.space.clone(), Mono(0));
        Home { place: Arc::new(self.clone()), space: Arc::new(space) }
    }

    /// There are so many bytes, of which others use some.
    pub(crate) fn set_capacity(&self, capacity: u64, others: u64) {
        let mut disk = self.0.lock().unwrap();
        (disk.capacity, disk.others) = (Some(capacity), others);
    }

    /// Times that the file was set aside.
    pub(crate) fn times_aside(&self) -> usize {
        self.0.lock().unwrap().aside
    }

    pub(crate) fn set_fault(&self, fault: Fault) {
        self.0.lock().unwrap().fault = fault;
    }

    /// The power fails at the write after `writes` more.
    pub(crate) fn fail_power_after(&self, writes: u64) {
        self.0.lock().unwrap().writes_left = Some(writes);
    }

    /// The power fails now. Of what was not synced, a random part survives.
    pub(crate) fn lose_power(&self, random: &mut SplitMix) {
        let mut disk = self.0.lock().unwrap();
        let grown = disk.current.len().max(disk.durable.len());
        // The length is metadata: it may or may not have reached the disk.
        let length = if random.chance(1, 2) { disk.current.len() } else { disk.durable.len() };
        let mut after = disk.durable.clone();
        after.resize(grown, 0);
        for sector in disk.dirty.clone() {
            if random.chance(1, 2) {
                let from = sector * SECTOR;
                let to = (from + SECTOR).min(disk.current.len());
                if from < to {
                    after[from..to].copy_from_slice(&disk.current[from..to]);
                }
            }
        }
        after.truncate(length);
        let cuts = disk.cuts + 1;
        let (capacity, others, reserve) = (disk.capacity, disk.others, disk.reserve);
        let blocks = disk.blocks.iter().copied().filter(|b| b * BLOCK < after.len()).collect();
        *disk = Disk {
            durable: after.clone(),
            current: after,
            cuts,
            blocks,
            capacity,
            others,
            reserve,
            ..Disk::default()
        };
    }

    /// Replaces the bytes `from` by `to` wherever they are; how often that was.
    pub(crate) fn replace(&self, from: &[u8], to: &[u8]) -> usize {
        let mut disk = self.0.lock().unwrap();
        let places: Vec<usize> = disk
            .current
            .windows(from.len())
            .enumerate()
            .filter(|(_, w)| *w == from)
            .map(|(i, _)| i)
            .collect();
        for place in &places {
            disk.current[*place..*place + to.len()].copy_from_slice(to);
        }
        disk.durable = disk.current.clone();
        places.len()
    }
}

impl Place for FaultyDisk {
    fn set_aside(&self, _: &str) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        disk.check(&[])?;
        // Whoever has it open still must not touch what comes after it.
        disk.cuts += 1;
        disk.aside += 1;
        disk.durable.clear();
        disk.current.clear();
        disk.dirty.clear();
        disk.blocks.clear();
        Ok(())
    }

    fn settle(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Volume for FaultyDisk {
    fn room(&self) -> io::Result<Room> {
        let disk = self.0.lock().unwrap();
        Ok(Room { free: disk.free(), total: disk.capacity.unwrap_or(u64::MAX / 2) })
    }

    fn reserved(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().reserve)
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        if bytes > disk.reserve + disk.free() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        disk.reserve = bytes;
        Ok(())
    }

    fn release(&self) -> io::Result<()> {
        self.0.lock().unwrap().reserve = 0;
        Ok(())
    }

    fn aside(&self) -> io::Result<usize> {
        Ok(0)
    }

    fn remove_aside(&self) -> io::Result<usize> {
        Ok(0)
    }
}

impl Disk {
    fn free(&self) -> u64 {
        let used = (self.blocks.len() * BLOCK) as u64 + self.others + self.reserve;
        self.capacity.unwrap_or(u64::MAX / 2).saturating_sub(used)
    }

    /// Allocates the blocks of a write. A file with holes takes space only where it is written.
    fn allocate(&mut self, from: usize, to: usize) -> io::Result<()> {
        let blocks = from / BLOCK..=to.saturating_sub(1) / BLOCK;
        let new: Vec<usize> = blocks.filter(|block| !self.blocks.contains(block)).collect();
        if (new.len() * BLOCK) as u64 > self.free() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.blocks.extend(new);
        Ok(())
    }

    /// Everything written so far becomes durable. Sector by sector: the file is much larger than
    /// what one commit changes.
    fn keep_dirty(&mut self) {
        self.durable.resize(self.current.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            let from = sector * SECTOR;
            let to = (from + SECTOR).min(self.current.len());
            if from < to {
                self.durable[from..to].copy_from_slice(&self.current[from..to]);
            }
        }
    }

    fn check(&mut self, fails: &[Fault]) -> io::Result<()> {
        if self.dead {
            return Err(io::Error::other("no power"));
        }
        if self.fault == Fault::Broken {
            return Err(io::Error::from_raw_os_error(5));
        }
        if fails.contains(&self.fault) {
            return Err(match self.fault {
                Fault::Full => io::ErrorKind::StorageFull.into(),
                _ => io::Error::other("injected"),
            });
        }
        Ok(())
    }

    fn spend_write(&mut self) -> io::Result<()> {
        if let Some(left) = &mut self.writes_left {
            if *left == 0 {
                self.dead = true;
                return Err(io::Error::other("no power"));
            }
            *left -= 1;
        }
        Ok(())
    }
}

impl Session {
    fn lock(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let disk = self.disk.0.lock().unwrap();
        if disk.cuts == self.cuts { Ok(disk) } else { Err(io::Error::other("no power")) }
    }
}

impl StorageBackend for Session {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock()?.current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut disk = self.lock()?;
        disk.check(&[Fault::Read])?;
        let from = usize::try_from(offset).unwrap();
        let bytes = disk.current.get(from..from + out.len());
        out.copy_from_slice(bytes.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut disk = self.lock()?;
        disk.check(&[Fault::Full])?;
        disk.spend_write()?;
        let (old, new) = (disk.current.len(), usize::try_from(len).unwrap());
        disk.current.resize(new, 0);
        disk.blocks.retain(|block| block * BLOCK < new);
        let touched = old.min(new) / SECTOR..=old.max(new) / SECTOR;
        disk.dirty.extend(touched);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.lock()?;
        disk.check(&[Fault::Sync])?;
        disk.keep_dirty();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut disk = self.lock()?;
        disk.check(&[Fault::Full])?;
        let from = usize::try_from(offset).unwrap();
        let to = from + data.len();
        let torn = disk.spend_write();
        if torn.is_err() {
            // The last write before the dark is on the wire in part.
            let part = data.len() / 2 / SECTOR * SECTOR;
            if disk.current.len() >= from + part {
                disk.current[from..from + part].copy_from_slice(&data[..part]);
                disk.dirty.extend(from / SECTOR..=(from + part) / SECTOR);
            }
            return torn;
        }
        if disk.current.len() < to {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        disk.allocate(from, to)?;
        disk.current[from..to].copy_from_slice(data);
        disk.dirty.extend(from / SECTOR..=to.saturating_sub(1) / SECTOR);
        Ok(())
    }
}

//! Files that rot while nobody has them open: every start succeeds, no wrong byte is ever read, and
//! the store takes writes.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::path::Path;

use dynamo_core::entropy::{Entropy, SplitMix};
use dynamo_core::params::Durability;

use super::super::error::EngineError;
use super::super::hints::HINTS_FILE;
use super::super::suspect::Mark;
use super::super::writer::StoreState;
use super::super::{RECORDS, RECORDS_FILE, Store};
use super::faults::wait_for;
use super::quarantine::{close, open};
use super::{command, object, put, texts};
use crate::node_file::{NODE_FILE_NAME, read_node_file};

const KEYS: u128 = 40;

fn text(id: u128) -> String {
    format!("value {id} {}", "x".repeat(500))
}

/// The files of a data directory.
#[derive(Clone)]
struct Image {
    node: Vec<u8>,
    records: Vec<u8>,
    hints: Vec<u8>,
}

impl Image {
    fn of(dir: &Path) -> Self {
        let read = |name: &str| std::fs::read(dir.join(name)).unwrap();
        Self { node: read(NODE_FILE_NAME), records: read(RECORDS_FILE), hints: read(HINTS_FILE) }
    }

    fn write(&self, dir: &Path) {
        std::fs::write(dir.join(NODE_FILE_NAME), &self.node).unwrap();
        std::fs::write(dir.join(RECORDS_FILE), &self.records).unwrap();
        std::fs::write(dir.join(HINTS_FILE), &self.hints).unwrap();
    }
}

fn filled(dir: &Path) -> Store {
    let (store, _, opened) = open(dir, 1);
    for id in 0..KEYS {
        put(&store, &format!("k{id}"), command(id, &text(id), None), Durability::Fsync).unwrap();
    }
    drop(opened);
    store
}

/// A directory that was closed in order, and one that was not.
fn images() -> [Image; 2] {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    let unclosed = Image::of(dir.path());
    close(&store);
    [Image::of(dir.path()), unclosed]
}

/// Starts on the files as they are, reads everything, writes, and starts once more.
fn check(image: &Image, what: &str) -> (usize, bool) {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    image.write(dir);
    let before = read_node_file(dir).unwrap().unwrap();
    let (store, metrics, opened) = open(dir, 2);
    drop(opened.hints);
    let mut intact = 0;
    for id in 0..KEYS {
        // A key that vanished is found by the scrub; here it is enough that it is not another one.
        if let Ok(Some(record)) = store.read(&object(&format!("k{id}"))) {
            assert_eq!(texts(&record), [text(id)], "{what}: wrong bytes");
            intact += 1;
        }
    }
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while put(&store, "new", command(1_000, "new", None), Durability::Fsync).is_err() {
        assert!(std::time::Instant::now() < deadline, "{what}: never takes writes");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    wait_for(&store, StoreState::Healthy);
    let after = store.shared.epochs.file();
    let replaced = after.store_id != before.store_id;
    let doubted = replaced || !before.clean || metrics.store.corrupt_records.get() > 0;
    if doubted {
        assert!(store.shared.epochs.actor().epoch > before.epoch, "{what}: the epoch goes on");
    }
    store.close();
    (intact, replaced)
}

/// Where a file has content: most of it is empty space, in which a flip shows nothing.
fn written(file: &[u8]) -> Vec<usize> {
    let pages = file.chunks(4096).enumerate();
    pages.filter(|(_, page)| page.iter().any(|byte| *byte != 0)).map(|(at, _)| at * 4096).collect()
}

fn flip(file: &mut [u8], random: &mut SplitMix) {
    let pages = written(file);
    let pick =
        |random: &mut SplitMix, below: usize| usize::try_from(random.below(below as u64)).unwrap();
    // Every fourth flip is in the header, which is small and decides much.
    let page = if random.chance(1, 4) { 0 } else { pages[pick(random, pages.len())] };
    let length = if page == 0 { 512 } else { 4096 };
    let at = page + pick(random, length.min(file.len() - page));
    file[at] ^= 1 << random.below(8);
}

#[test]
fn a_flipped_bit_never_shows_and_never_stops_a_start() {
    const FLIPS: u64 = 150;
    let images = images();
    let (mut whole, mut partial, mut replaced) = (0, 0, 0);
    for seed in 0..FLIPS {
        for (image, kind) in images.iter().zip(["closed", "unclosed"]) {
            let mut random = SplitMix::new(seed);
            let mut image = image.clone();
            flip(&mut image.records, &mut random);
            flip(&mut image.hints, &mut random);
            let (intact, anew) = check(&image, &format!("seed {seed}, {kind}"));
            if anew {
                replaced += 1;
            } else if intact == usize::try_from(KEYS).unwrap() {
                whole += 1;
            } else {
                partial += 1;
            }
        }
    }
    assert!(whole > 0 && partial > 0 && replaced > 0, "{whole} {partial} {replaced}");
}

/// Regression: a key that a flipped bit had put out of its order sent a scan back to where it had
/// been before, for ever: the scrub went round, and the store was never compared again.
#[test]
fn a_damaged_key_ends_every_scan() {
    let image = images()[0].clone();
    let (mut found, mut scans) = (0, 0);
    for id in 0..KEYS {
        let key = object(&format!("k{id}")).storage_key();
        let places = image.records.windows(key.len()).enumerate();
        let places: Vec<usize> =
            places.filter(|(_, bytes)| *bytes == key.as_slice()).map(|(at, _)| at).collect();
        assert!(!places.is_empty(), "{id}");
        let mut image = image.clone();
        for at in places {
            image.records[at] ^= 1 << (id % 8);
        }
        let dir = tempfile::tempdir().unwrap();
        image.write(dir.path());
        let (store, _, _) = open(dir.path(), 2);
        for rows in [1, 3] {
            let (mut from, mut pages) = (Bound::Unbounded, 0);
            scans += 1;
            loop {
                pages += 1;
                assert!(pages <= KEYS + 1, "{id}: a scan goes round");
                match store.engine.page(RECORDS, (from, Bound::Unbounded), rows, 1 << 20) {
                    Ok(page) => match page.last() {
                        Some((last, _)) => from = Bound::Excluded(last.to_vec()),
                        None => break,
                    },
                    Err(EngineError::Damaged(_)) => {
                        found += 1;
                        break;
                    }
                    Err(error) => panic!("{id}: {error}"),
                }
            }
        }
        store.close();
    }
    assert!(0 < found && found < scans, "{found} of {scans}: in order and not");
}

/// Regression: redb panicked while it cleaned up after another panic, which ends the process; each
/// next one went on with the damaged file, until it ended the same way.
#[test]
fn a_file_that_ended_the_process_is_checked_at_the_next_start() {
    let good = images()[0].clone();
    let mut rotten = good.clone();
    let value = text(7).into_bytes();
    let at = rotten.records.windows(value.len()).position(|bytes| bytes == value).unwrap();
    rotten.records[at + 100] ^= 1;
    for (image, marked, kept) in
        [(&good, true, true), (&rotten, false, true), (&rotten, true, false)]
    {
        let dir = tempfile::tempdir().unwrap();
        image.write(dir.path());
        let before = read_node_file(dir.path()).unwrap().unwrap();
        let mark = Mark::of(&dir.path().join(RECORDS_FILE));
        if marked {
            std::fs::write(dir.path().join("records.redb.suspect"), b"").unwrap();
            assert!(mark.is_made());
        }
        let (store, _, opened) = open(dir.path(), 2);
        assert_eq!(opened.file.store_id == before.store_id, kept);
        assert!(!mark.is_made());
        store.close();
    }
}

#[test]
fn torn_truncated_and_foreign_files_never_stop_a_start() {
    const CASES: u64 = 40;
    let images = images();
    let mut kinds = BTreeSet::new();
    for seed in 0..CASES {
        let mut random = SplitMix::new(seed);
        let mut image = images[usize::try_from(seed % 2).unwrap()].clone();
        let kind = seed / 2 % 5;
        for file in [&mut image.records, &mut image.hints] {
            let at = usize::try_from(random.below(file.len() as u64)).unwrap();
            match kind {
                0 => file.truncate(at),
                1 => file.clear(),
                2 => {
                    let page = at / 4096 * 4096;
                    let end = (page + 4096).min(file.len());
                    file[page..end].fill(0);
                }
                3 => file[..4096].fill(0xaa),
                _ => *file = b"this is no database, and was never one".repeat(200),
            }
        }
        kinds.insert((kind, check(&image, &format!("seed {seed}, kind {kind}")).1));
    }
    for gone in [1, 3, 4] {
        assert!(kinds.contains(&(gone, true)) && !kinds.contains(&(gone, false)), "{kinds:?}");
    }
}

#[test]
fn a_file_that_went_back_in_time_is_no_store_of_ours() {
    let [closed, unclosed] = images();
    // As it was before its last commit, which was the seal.
    let rolled_back = Image { records: unclosed.records.clone(), ..closed.clone() };
    assert_eq!(check(&rolled_back, "rolled back"), (0, true));
    // As it was in an earlier life of the node.
    let dir = tempfile::tempdir().unwrap();
    closed.write(dir.path());
    let (store, _, _) = open(dir.path(), 2);
    close(&store);
    drop(store);
    let next = Image::of(dir.path());
    assert_eq!(check(&next, "nothing happened"), (usize::try_from(KEYS).unwrap(), false));
    let old = Image { records: closed.records.clone(), ..next };
    assert_eq!(check(&old, "an old copy"), (0, true));
}

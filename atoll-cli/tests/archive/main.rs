//! The form of backups: what is written is read back, what is damaged is refused, and the form does
//! not change unnoticed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall end")]

mod manifest;

use atoll_cli::archive::format::{ArchiveError, BLOCK_BYTES_MAX, Header, Reader, Summary, Writer};
use dynamo_core::clock::record::Record;
use dynamo_core::id::{ClusterId, PartitionId, StoreId};
use dynamo_core::key::ObjectKey;
use dynamo_core::ring::RingVersion;
use dynamo_core::testing::strategy::{object_keys, records};
use dynamo_core::testing::values::{node, put, text};
use dynamo_core::wire::partition::Page;
use proptest::prelude::*;

/// A file of version 1, as hexadecimal text.
const GOLDEN: &str = include_str!("golden/archive_v1.txt");

fn page(records: Vec<(ObjectKey, Record)>) -> Page {
    let (ring, store) = (RingVersion { number: 3, hash: 4 }, StoreId(5));
    Page { ring, store, records, unreadable: 0, next: None }
}

fn header() -> Header {
    Header { cluster: ClusterId(0xab), partitions: 64, partition: PartitionId(7) }
}

fn write(pages: &[Page]) -> (Vec<u8>, Summary) {
    let mut writer = Writer::new(Vec::new(), header()).unwrap();
    for page in pages {
        writer.page(page).unwrap();
    }
    writer.finish().unwrap()
}

fn read(file: &[u8]) -> Result<(Header, Vec<Page>, Summary), ArchiveError> {
    let mut reader = Reader::open(file)?;
    let (header, mut pages) = (reader.header(), Vec::new());
    while let Some(page) = reader.page()? {
        pages.push(page);
    }
    Ok((header, pages, reader.summary()?))
}

/// Records that look the same for ever.
fn example() -> Vec<Page> {
    use dynamo_core::actor::Actor;
    use dynamo_core::params::Reconciliation;
    use dynamo_core::replica::{PutCommand, coordinate_put};
    use dynamo_core::time::WallMs;
    let mut actor = Actor::restarted(node(1), 0);
    let mut store = |key: &str, value: &str| {
        let command = PutCommand {
            content: text(value),
            reconciliation: Reconciliation::Siblings,
            ..put(9, None)
        };
        let minted =
            coordinate_put(&Record::default(), &command, &mut actor, WallMs(1_000)).unwrap();
        (ObjectKey::parse("carts", key).unwrap(), minted.record)
    };
    vec![page(vec![store("alice", "book"), store("bob", "")]), page(vec![store("a/b", "x")])]
}

fn hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.chunks(32).map(<[String]>::concat).collect::<Vec<_>>().join("\n") + "\n"
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

#[test]
fn the_form_is_that_of_version_1() {
    let (file, summary) = write(&example());
    assert_eq!(hex(&file), GOLDEN);
    let (read_header, pages, read_summary) = read(&unhex(GOLDEN)).unwrap();
    assert_eq!((read_header, pages, read_summary), (header(), example(), summary));
    assert_eq!((summary.records, summary.bytes), (3, file.len() as u64));
    assert_eq!(summary.crc32c, crc32c::crc32c(&file));
}

#[test]
fn an_empty_partition_has_a_file_too() {
    let (file, summary) = write(&[page(Vec::new())]);
    assert_eq!(summary.records, 0);
    assert_eq!(read(&file).unwrap(), (header(), Vec::new(), summary));
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    let (file, _) = write(&example());
    for bit in 0..file.len() * 8 {
        let mut damaged = file.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&damaged).is_err(), "bit {bit}");
    }
    for length in 0..file.len() {
        assert!(matches!(read(&file[..length]), Err(ArchiveError::Truncated)), "{length} bytes");
    }
    let mut longer = file.clone();
    longer.push(0);
    assert!(matches!(read(&longer), Err(ArchiveError::Trailing)));
}

#[test]
fn blocks_can_not_be_moved_doubled_or_left_out() {
    let (file, _) = write(&example());
    let length = |at: usize| u32::from_be_bytes(file[at..at + 4].try_into().unwrap()) as usize + 8;
    let first = 36..36 + length(36);
    let second = first.end..first.end + length(first.end);
    let (head, end) = (&file[..36], &file[second.end..]);
    let (a, b) = (&file[first], &file[second]);
    assert!(read(&[head, a, b, end].concat()).is_ok());
    for blocks in [[b, a].concat(), a.to_vec(), b.to_vec(), [a, b, b].concat(), Vec::new()] {
        assert!(read(&[head, &blocks, end].concat()).is_err());
    }
    assert!(matches!(read(b"not an archive"), Err(ArchiveError::Magic)));
}

#[test]
fn foreign_versions_and_giant_blocks_are_refused_before_they_are_believed() {
    let (mut file, _) = write(&example());
    let giant = u32::try_from(BLOCK_BYTES_MAX + 1).unwrap();
    let mut large = file.clone();
    large[36..40].copy_from_slice(&giant.to_be_bytes());
    assert!(matches!(read(&large), Err(ArchiveError::BlockTooLarge(_))));
    file[4..6].copy_from_slice(&2u16.to_be_bytes());
    assert!(matches!(read(&file), Err(ArchiveError::Version(2))));
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        pages in prop::collection::vec(prop::collection::vec((object_keys(), records()), 1..5), 0..4),
    ) {
        let pages: Vec<Page> = pages.into_iter().map(page).collect();
        let (file, summary) = write(&pages);
        prop_assert_eq!(read(&file).unwrap(), (header(), pages, summary));
    }
}

//! The manifest.

use std::collections::BTreeMap;

use atoll_cli::archive::manifest::{FILE, FileEntry, Manifest, ManifestError, file_name};
use dynamo_core::id::{ClusterId, PartitionId};
use dynamo_core::params::BucketProps;
use dynamo_core::ring::RingVersion;

fn manifest(partitions: u32) -> Manifest {
    let file = |partition| FileEntry {
        partition: PartitionId(partition),
        file: file_name(PartitionId(partition)),
        records: 10,
        bytes: 100,
        crc32c: "00000000".to_owned(),
    };
    Manifest {
        cluster: ClusterId(1),
        ring: RingVersion { number: 3, hash: 4 },
        began_at: "2026-01-01T00:00:00Z".to_owned(),
        ended_at: "2026-01-01T00:01:00Z".to_owned(),
        written_by: "0.1.0".to_owned(),
        partitions,
        defaults: BucketProps::default(),
        buckets: BTreeMap::from([(
            "carts".to_owned(),
            BucketProps { n: 5, ..BucketProps::default() },
        )]),
        hints: Some(2),
        unreadable: 0,
        files: (0..partitions).map(file).collect(),
    }
}

#[test]
fn it_is_written_whole_and_read_back() {
    let directory = tempfile::tempdir().unwrap();
    assert!(matches!(Manifest::read(directory.path()), Err(ManifestError::Missing)));
    let written = manifest(8);
    written.write(directory.path()).unwrap();
    let names: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, [FILE]);
    assert_eq!(Manifest::read(directory.path()).unwrap(), written);
    assert_eq!((written.records(), written.bytes()), (80, 800));
}

#[test]
fn damage_is_found() {
    let text = manifest(2).encode().unwrap();
    for bit in 0..text.len() * 8 {
        let mut damaged = text.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(Manifest::decode(&damaged).is_err(), "bit {bit}");
    }
    for length in 0..text.len() {
        assert!(Manifest::decode(&text[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn every_partition_has_one_file_under_its_own_name() {
    type Edit = fn(&mut Manifest);
    let edits: [Edit; 4] = [
        |m| drop(m.files.pop()),
        |m| m.files[1].partition = PartitionId(0),
        |m| m.files[1].file = "../../etc/passwd".to_owned(),
        |m| m.partitions = 3,
    ];
    for edit in edits {
        let mut changed = manifest(2);
        edit(&mut changed);
        let read = Manifest::decode(&changed.encode().unwrap());
        assert!(matches!(read, Err(ManifestError::Partitions)), "{changed:?}");
    }
}

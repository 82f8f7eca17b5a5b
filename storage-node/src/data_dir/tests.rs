use dynamo_core::entropy::SplitMix;

use super::*;
use crate::store::seal::{Seal, write_seal_of};

const ME: NodeId = NodeId(1);

fn open(dir: &Path, engine: EngineKind, seed: u64) -> Result<OpenedDir, OpenError> {
    let settings = StoreSettings { engine, ..StoreSettings::default() };
    open_data_dir(dir, ME, &settings, WallMs(1), &mut SplitMix::new(seed))
}

/// Closes as the service does.
fn mark_clean(dir: &Path) {
    let file = read_node_file(dir).unwrap().unwrap();
    let settings = StoreSettings::default();
    let records = open_records(settings.engine, dir, settings.cache_bytes).unwrap();
    let seal = Seal::new(file.store_id, file.incarnation, true);
    write_seal_of(records.as_ref(), seal).unwrap();
    write_node_file(dir, &NodeFile { clean: true, ..file }).unwrap();
}

#[test]
fn each_life_counts_and_only_an_unclean_one_costs_an_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), EngineKind::Redb, 1).unwrap();
    assert_eq!((first.file.epoch, first.file.incarnation.0, first.inventory), (1, 1, None));
    drop((first.records, first.hints));
    mark_clean(dir.path());
    let second = open(dir.path(), EngineKind::Redb, 2).unwrap();
    assert_eq!((second.file.epoch, second.file.incarnation.0), (1, 2));
    assert_eq!((second.file.store_id, second.file.clean), (first.file.store_id, false));
    drop((second.records, second.hints));
    let third = open(dir.path(), EngineKind::Redb, 3).unwrap();
    assert_eq!((third.file.epoch, third.file.incarnation.0), (2, 3));
}

#[test]
fn a_directory_in_use_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let held = open(dir.path(), EngineKind::Redb, 1).unwrap();
    let before = read_node_file(dir.path()).unwrap();
    let refused = open(dir.path(), EngineKind::Redb, 2).unwrap_err();
    assert!(matches!(refused, OpenError::Engine { source: EngineError::Locked, .. }));
    assert!(!refused.is_refusal(), "it may be free a moment later");
    assert_eq!(read_node_file(dir.path()).unwrap(), before);
    drop(held);
}

#[test]
fn a_first_start_may_end_at_any_point() {
    let dir = tempfile::tempdir().unwrap();
    // The node file is written, and nothing else yet; or an empty main file as well.
    known_node(dir.path(), ME, WallMs(1), &mut SplitMix::new(1)).unwrap();
    let settings = StoreSettings::default();
    drop(open_records(settings.engine, dir.path(), settings.cache_bytes).unwrap());
    let opened = open(dir.path(), EngineKind::Redb, 2).unwrap();
    assert_eq!((opened.file.epoch, opened.file.incarnation.0, opened.inventory), (1, 1, None));
}

#[test]
fn a_start_may_end_before_it_wrote_the_node_file() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), EngineKind::Redb, 1).unwrap();
    let store = first.file.store_id;
    drop((first.records, first.hints));
    // The next life has sealed the file and ended.
    let settings = StoreSettings::default();
    let records = open_records(settings.engine, dir.path(), settings.cache_bytes).unwrap();
    seal_open(records.as_ref(), store, Incarnation(2)).unwrap();
    drop(records);
    for clean in [true, false] {
        let file = read_node_file(dir.path()).unwrap().unwrap();
        write_node_file(dir.path(), &NodeFile { clean, incarnation: Incarnation(1), ..file })
            .unwrap();
        let next = open(dir.path(), EngineKind::Redb, 2).unwrap();
        assert_eq!((next.file.store_id, next.file.incarnation.0), (store, 2));
        assert_eq!(next.file.epoch, file.epoch + u64::from(!clean));
    }
}

#[test]
fn memory_is_a_new_store_each_time_also_after_a_clean_end() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), EngineKind::Memory, 1).unwrap();
    mark_clean(dir.path());
    let second = open(dir.path(), EngineKind::Memory, 2).unwrap();
    assert_ne!(first.file.store_id, second.file.store_id);
    assert_eq!(second.file.epoch, first.file.epoch + 1);
}

#[test]
fn another_nodes_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), EngineKind::Redb, 1).unwrap());
    let before = read_node_file(dir.path()).unwrap();
    let settings = StoreSettings::default();
    let stranger = NodeId(2);
    let mut entropy = SplitMix::new(2);
    let refused =
        open_data_dir(dir.path(), stranger, &settings, WallMs(1), &mut entropy).unwrap_err();
    assert!(refused.is_refusal());
    assert_eq!(read_node_file(dir.path()).unwrap(), before);
}

//! Power cuts: what was acknowledged durably is there, whatever part of the rest survives.

use std::collections::BTreeMap;

use dynamo_core::actor::Actor;
use dynamo_core::entropy::{Entropy, SplitMix};
use dynamo_core::params::Durability;

use super::backend::FaultyDisk;
use super::{ME, command, context, object, put, store, texts};

const TRIALS: u64 = 300;
const KEYS: u64 = 8;

/// What a client knows of a key: the last value acknowledged, and those tried since.
#[derive(Default)]
struct Known {
    acknowledged: Option<String>,
    tried: Vec<String>,
}

#[test]
fn acknowledged_puts_survive_power_cuts() {
    for seed in 0..TRIALS {
        trial(seed);
    }
}

fn trial(seed: u64) {
    let mut random = SplitMix::new(seed);
    let disk = FaultyDisk::default();
    let dir = tempfile::tempdir().unwrap();
    let mut known: BTreeMap<String, Known> = BTreeMap::new();
    let mut put_id = 0u128;
    let mut epoch = 0;
    for life in 0..3 {
        let engine = disk.open().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let (store, _) = store(engine, dir.path(), Actor::restarted(ME, epoch));
        for (key, known) in &mut known {
            let record = store.read(&object(key)).unwrap().unwrap_or_default();
            let found = texts(&record);
            let allowed = |text: &String| {
                known.acknowledged.as_ref() == Some(text) || known.tried.contains(text)
            };
            assert!(found.iter().all(allowed), "seed {seed}: {key} has {found:?}");
            let kept = found.is_empty() && known.acknowledged.is_none() || !found.is_empty();
            assert!(kept, "seed {seed} life {life}: {key} lost {:?}", known.acknowledged);
            // Whatever survived is what the key is from now on.
            if let Some(text) = found.first() {
                known.acknowledged = Some(text.clone());
                known.tried.clear();
            }
        }
        disk.fail_power_after(random.below(400));
        for _ in 0..random.below(60) {
            put_id += 1;
            let key = format!("k{}", random.below(KEYS));
            let text = format!("v{put_id}");
            let Ok(before) = store.read(&object(&key)) else { break };
            let seen = before.as_ref().map(context);
            let known = known.entry(key.clone()).or_default();
            known.tried.push(text.clone());
            match put(&store, &key, command(put_id, &text, seen), Durability::Fsync) {
                Ok(_) => {
                    known.acknowledged = Some(text);
                    known.tried.clear();
                }
                Err(_) => break,
            }
        }
        disk.lose_power(&mut random);
        epoch = store.shared.epochs.actor().epoch;
    }
}

#[test]
fn buffered_puts_are_read_at_once_and_durable_soon() {
    let disk = FaultyDisk::default();
    let dir = tempfile::tempdir().unwrap();
    let (first, metrics) = store(disk.open().unwrap(), dir.path(), Actor::restarted(ME, 0));
    put(&first, "before", command(2, "v", None), Durability::Fsync).unwrap();
    let before = metrics.records_file.commit_seconds.get_sample_count();
    put(&first, "k", command(1, "v", None), Durability::Buffered).unwrap();
    assert_eq!(texts(&first.read(&object("k")).unwrap().unwrap()), ["v"]);
    // The commit after the buffered one is the sync.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while metrics.records_file.commit_seconds.get_sample_count() < before + 2 {
        assert!(std::time::Instant::now() < deadline, "never synced");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    disk.lose_power(&mut SplitMix::new(1));
    drop(first);
    let (second, _) = store(disk.open().unwrap(), dir.path(), Actor::restarted(ME, 1));
    assert_eq!(texts(&second.read(&object("k")).unwrap().unwrap()), ["v"]);
}

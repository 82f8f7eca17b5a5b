//! What one agent lets in, and what it shows.

use dynamo_core::clock::hlc::Hlc;
use dynamo_core::cluster_view::{ClusterView, SnapshotError};
use dynamo_core::id::{Incarnation, KeyHash, StoreId};
use dynamo_core::limits::{BUCKETS_MAX, CANDIDATES_MAX, CLOCK_SKEW_MS_MAX};
use dynamo_core::membership::buckets::{self, BucketError};
use dynamo_core::membership::judge::Refusal;
use dynamo_core::membership::member::MemberStatus;
use dynamo_core::membership::registers::{BucketEntry, StagedEntry, WriteStamp};
use dynamo_core::membership::state::{NodeState, Stamp};
use dynamo_core::membership::view::{Delta, Membership, ReportError};
use dynamo_core::params::{BucketProps, Quorum};
use dynamo_core::ring::PartitionSet;
use dynamo_core::time::{Mono, WallMs};
use dynamo_core::wire::membership::LocalStorage;
use dynamo_core::wire::ring::RingSnapshot;
use proptest::prelude::*;

use crate::support::{WALL, founded, node, partitions, state, store};

const NOW: Mono = Mono(1);

fn cluster(members: usize) -> Membership {
    let mut view = Membership::new(state(0), NOW);
    let events = founded(members).events().map(|event| (**event).clone()).collect();
    let states = (1..members).map(state).collect();
    view.apply(Delta { events, states, ..Delta::default() }, NOW).unwrap();
    view
}

fn entry(at: Hlc, by: usize, n: Option<u8>) -> BucketEntry {
    let props = n.map(|n| BucketProps { n, ..BucketProps::default() });
    BucketEntry { stamp: WriteStamp { at, by: node(by) }, props }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// States and registers merge to the same whatever the order and however often they come.
    #[test]
    fn merging_states_and_registers_is_a_join(
        order in Just((0..24_usize).collect::<Vec<_>>()).prop_shuffle(),
        again in 0..24_usize,
    ) {
        let fresh = cluster(3);
        let delta = |index: usize| {
            let mut said = state(1 + index % 3);
            said.stamp.version = (index / 6) as u64;
            said.stamp.incarnation = Incarnation(1 + (index % 2) as u64);
            said.weight = index as u32;
            let at = Hlc::at(WallMs(WALL.0 + (index % 5) as u64));
            let by = index % 4;
            let register = entry(at, by, (!index.is_multiple_of(3)).then_some(1 + (index % 7) as u8));
            let staged = StagedEntry {
                stamp: register.stamp,
                cluster: fresh.cluster(),
                changes: Vec::new(),
            };
            Delta {
                states: vec![said],
                buckets: [(format!("b{}", index % 2), register)].into(),
                staged: Some(staged),
                ..Delta::default()
            }
        };
        let merge = |indexes: &[usize]| {
            let mut view = fresh.clone();
            for index in indexes {
                let judged = view.judge(delta(*index), true, WALL);
                assert_eq!(judged.refused, []);
                view.apply(judged.accept, NOW).unwrap();
            }
            view.everything()
        };
        let sorted: Vec<usize> = (0..24).collect();
        let mut repeated = order.clone();
        repeated.push(again);
        prop_assert_eq!(merge(&order), merge(&sorted));
        prop_assert_eq!(merge(&repeated), merge(&sorted));
    }
}

/// Row 111 and C13: the far future is refused, and never drags the clock along.
#[test]
fn the_future_is_refused() {
    let view = cluster(3);
    let ten_years = WallMs(WALL.0 + 10 * 365 * 24 * 3600 * 1000);
    let at = |wall: WallMs| Hlc::at(wall);
    let judge = |stamp: Hlc| {
        let buckets = [("carts".to_owned(), entry(stamp, 1, Some(2)))].into();
        let staged = Some(StagedEntry {
            stamp: WriteStamp { at: stamp, by: node(1) },
            cluster: view.cluster(),
            changes: Vec::new(),
        });
        view.judge(Delta { buckets, staged, ..Delta::default() }, true, WALL)
    };
    let judged = judge(at(ten_years));
    assert!(judged.accept.is_empty());
    assert_eq!(judged.refused, [Refusal::ClockSkew, Refusal::ClockSkew]);
    let edge = judge(at(WallMs(WALL.0 + CLOCK_SKEW_MS_MAX)));
    assert_eq!(edge.refused, []);
    assert!(view.stamp(WALL).at <= at(WallMs(WALL.0 + 1)));
}

#[test]
fn invalid_parts_are_named_and_the_rest_is_taken() {
    let view = cluster(3);
    let bad_state = |change: &dyn Fn(&mut NodeState)| {
        let mut said = state(5);
        change(&mut said);
        let judged = view.judge(Delta::of_state(said), true, WALL);
        assert!(judged.accept.is_empty());
        assert!(matches!(judged.refused[..], [Refusal::State { .. }]), "{:?}", judged.refused);
    };
    bad_state(&|said| said.name = "x".repeat(65));
    bad_state(&|said| said.name = node(1).to_string());
    bad_state(&|said| said.zone = Some("\n".into()));
    bad_state(&|said| said.weight = u32::MAX);
    bad_state(&|said| said.addresses.storage = Some("http://x/".into()));
    bad_state(&|said| said.stamp.version = u64::MAX);
    bad_state(&|said| said.stamp.incarnation = Incarnation(u64::MAX));
    let mixed = Delta {
        states: vec![state(5)],
        buckets: [
            ("_system".to_owned(), entry(Hlc::at(WALL), 1, Some(2))),
            ("ok".to_owned(), entry(Hlc::at(WALL), 1, Some(2))),
            ("zero".to_owned(), entry(Hlc::at(WALL), 1, Some(0))),
        ]
        .into(),
        ..Delta::default()
    };
    let judged = view.judge(mixed, true, WALL);
    assert_eq!(judged.refused, [Refusal::Bucket, Refusal::Bucket]);
    assert_eq!(judged.accept.states.len(), 1);
    assert_eq!(judged.accept.buckets.keys().collect::<Vec<_>>(), ["ok"]);
}

#[test]
fn candidates_and_buckets_are_bounded() {
    let mut view = cluster(3);
    for index in 3..(3 + CANDIDATES_MAX) {
        let judged = view.judge(Delta::of_state(state(index)), true, WALL);
        assert_eq!(judged.refused, []);
        view.apply(judged.accept, NOW).unwrap();
    }
    let judged = view.judge(Delta::of_state(state(9_999)), true, WALL);
    assert_eq!(judged.refused, [Refusal::TooManyCandidates]);
    let many = (0..=BUCKETS_MAX)
        .map(|index| (format!("b{index}"), entry(Hlc::at(WALL), 1, Some(2))))
        .collect();
    let judged = view.judge(Delta { buckets: many, ..Delta::default() }, true, WALL);
    assert_eq!(judged.refused, [Refusal::TooManyBuckets]);
    assert_eq!(judged.accept.buckets.len(), BUCKETS_MAX);
}

#[test]
fn somebody_who_speaks_in_our_name_is_outdone() {
    let mut view = cluster(3);
    let mut forged = view.my_state().clone();
    forged.stamp.version += 5;
    forged.weight = 1;
    let judged = view.judge(Delta::of_state(forged.clone()), true, WALL);
    assert_eq!(judged.fenced, None);
    view.apply(judged.accept, NOW).unwrap();
    assert!(view.my_state().stamp.version > forged.stamp.version);
    assert_eq!(view.my_state().weight, 100);
}

#[test]
fn reports_of_the_storage_node_become_states() {
    let mut view = cluster(3);
    let report = LocalStorage {
        node: node(0),
        store_id: StoreId(1),
        epoch: 4,
        incarnation: Incarnation(9),
        holds: Some(PartitionSet::full(partitions())),
        leftover: false,
        bytes: Some(1000),
    };
    let delta = view.report(report.clone()).unwrap().unwrap();
    view.apply(delta, NOW).unwrap();
    let said = view.my_state().store.clone().unwrap();
    assert_eq!((said.epoch, said.incarnation, said.bytes), (4, Incarnation(9), Some(1024)));
    assert_eq!(view.report(report.clone()), Ok(None), "the same again is no news");
    let slightly_more = LocalStorage { bytes: Some(1001), ..report.clone() };
    assert_eq!(view.report(slightly_more), Ok(None), "neither is steady growth");
    let other = LocalStorage { node: node(1), ..report.clone() };
    assert_eq!(view.report(other), Err(ReportError::OtherNode));
    let old = LocalStorage { incarnation: Incarnation(8), ..report.clone() };
    assert_eq!(view.report(old), Err(ReportError::Stale));
    let new_disk =
        LocalStorage { store_id: StoreId(77), incarnation: Incarnation(1), ..report.clone() };
    assert!(view.report(new_disk).unwrap().is_some(), "a new store counts anew");
    let absurd = LocalStorage { epoch: u64::MAX, ..report };
    assert!(matches!(view.report(absurd), Err(ReportError::State(_))));
}

#[test]
fn bucket_properties_fit_the_cluster() {
    let mut view = cluster(3);
    let bucket = "carts".parse().unwrap();
    let props = |n| BucketProps { n, ..BucketProps::default() };
    let set = |view: &Membership, props| buckets::set(view, &bucket, props, WALL);
    assert_eq!(set(&Membership::new(state(0), NOW), Some(props(1))), Err(BucketError::NotFounded));
    assert!(matches!(set(&view, Some(props(5))), Err(BucketError::Members { .. })));
    let bad = BucketProps { r: Quorum::Count(9), ..props(3) };
    assert!(matches!(set(&view, Some(bad)), Err(BucketError::Props("r", _))));
    let delta = set(&view, Some(props(2))).unwrap().unwrap();
    view.apply(delta, NOW).unwrap();
    assert_eq!(view.bucket(&bucket).unwrap().n, 2);
    assert_eq!(set(&view, Some(props(2))), Ok(None));
    // A slow clock does not lose against its own past.
    let delta = buckets::set(&view, &bucket, None, WallMs(5)).unwrap().unwrap();
    view.apply(delta, NOW).unwrap();
    assert_eq!(view.bucket(&bucket).unwrap(), BucketProps::default());
    assert!(view.snapshot().unwrap().buckets.is_empty());
}

#[test]
fn the_snapshot_is_the_whole_view() {
    let mut view = cluster(4);
    let mut said = state(2);
    said.stamp.version += 1;
    said.store = Some(store(2, Some(PartitionSet::full(partitions()))));
    view.apply(Delta { states: vec![said, state(6)], ..Delta::default() }, NOW).unwrap();
    let snapshot = view.snapshot().unwrap();
    let json = serde_json::to_vec(&snapshot).unwrap();
    let read: RingSnapshot = serde_json::from_slice(&json).unwrap();
    assert_eq!(read, snapshot);
    let cluster = ClusterView::from_snapshot(read).unwrap();
    assert_eq!(cluster.to_snapshot(), snapshot);
    assert_eq!(cluster.version(), view.version());
    assert_eq!(cluster.ring(), &*view.fold().unwrap().ring);
    assert_eq!(cluster.members().count(), 4);
    assert_eq!(cluster.node(node(6)).unwrap().status, MemberStatus::Candidate);
    assert_eq!(cluster.resolve("n6"), Some(node(6)));
    assert_eq!(cluster.resolve("n9"), None);
    assert!(cluster.is_founding_store(node(2), store(2, None).store_id));
    assert!(!cluster.is_founding_store(node(2), StoreId(99)));
    let sets = cluster.replica_sets(KeyHash(0), 3);
    assert_eq!(sets.owners.len(), 3);
    assert!(sets.holders.contains(&node(2)), "it advertises everything");
}

#[test]
fn bad_snapshots_are_refused() {
    let good = cluster(3).snapshot().unwrap();
    let check = |change: &dyn Fn(&mut RingSnapshot)| {
        let mut bad = good.clone();
        change(&mut bad);
        ClusterView::from_snapshot(bad).unwrap_err()
    };
    assert_eq!(check(&|s| s.format = 2), SnapshotError::Format(2));
    assert_eq!(check(&|s| s.nodes.reverse()), SnapshotError::NodeOrder);
    assert!(matches!(check(&|s| s.owners.truncate(3)), SnapshotError::Ring(_)));
    assert!(matches!(check(&|s| s.owners[0] = Some(99)), SnapshotError::Ring(_)));
    let demoted = |s: &mut RingSnapshot| s.nodes[0].status = MemberStatus::Candidate;
    assert!(matches!(check(&demoted), SnapshotError::Owner(_)));
    assert!(matches!(check(&|s| s.nodes[0].weight = u32::MAX), SnapshotError::Node { .. }));
    let bucket = |s: &mut RingSnapshot| {
        s.buckets.insert("_x".into(), BucketProps::default());
    };
    assert!(matches!(check(&bucket), SnapshotError::BucketName(_)));
}

#[test]
fn stamps_order_lives_before_versions() {
    let stamp =
        |incarnation, life, version| Stamp { incarnation: Incarnation(incarnation), life, version };
    assert!(stamp(1, 5, 100) < stamp(2, 0, 0));
    assert!(stamp(1, 5, 100) < stamp(1, 6, 0));
    assert!(stamp(1, 5, 100).is_fenced_by(stamp(1, 6, 0)));
    assert!(!stamp(1, 5, 1).is_fenced_by(stamp(1, 5, 9)));
}

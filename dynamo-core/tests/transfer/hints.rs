//! Hints follow the ring: who gave a key away since a hint was kept for it gets it no more.

use dynamo_core::cluster_view::ClusterView;
use dynamo_core::id::{NodeId, PartitionId};
use dynamo_core::key::ObjectKey;

use crate::world::World;

const P: PartitionId = PartitionId(0);

fn receivers(view: &ClusterView, target: NodeId, object: &ObjectKey) -> Vec<NodeId> {
    view.replica_sets(object.position(), 3).hint_receivers(target)
}

/// Regression: hints for a host that had left its partitions were refused by it for ever.
#[test]
fn a_hint_goes_to_its_target_while_that_takes_part_and_then_to_the_owners() {
    let mut world = World::new(1, 5, &[0, 1, 2, 3]);
    let object = (0..)
        .map(|i| ObjectKey::new("b".parse().unwrap(), format!("{i}").into()).unwrap())
        .find(|object: &ObjectKey| world.view.ring().partition_of(object.position()) == P)
        .unwrap();
    let ids: Vec<NodeId> = world.hosts.iter().map(|host| host.id).collect();
    assert_eq!(receivers(&world.view, ids[0], &object), [ids[0]], "an owner");
    let owners = receivers(&world.view, ids[4], &object);
    assert_eq!(owners.len(), 3, "a stranger's hint goes to all owners");
    assert!(owners.iter().all(|owner| ids[..4].contains(owner)));

    world.change(&[4, 1, 2, 3]);
    let pending = world.view.ring().preference_list(P).primaries(3).to_vec();
    assert!(pending.contains(&ids[4]));
    assert_eq!(receivers(&world.view, ids[4], &object), [ids[4]], "a pending owner takes writes");
    let everybody = receivers(&world.view, NodeId(99), &object);
    for holder in world.view.replica_sets(object.position(), 3).holders {
        assert!(everybody.contains(&holder), "former holders answer reads, so they get it too");
    }
}

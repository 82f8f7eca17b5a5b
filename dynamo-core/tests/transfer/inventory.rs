//! What a store holds, advertises, and has left over.

use dynamo_core::id::PartitionId;
use dynamo_core::transfer::{Inventory, InventoryError, ParseInventoryError};

use crate::world::{World, partitions};

const P: PartitionId = PartitionId(0);

#[test]
fn holding_has_a_depth() {
    // Host 1 is second in line for partition 0, then first, then third, then not at all.
    let mut world = World::new(1, 5, &[0, 1, 2, 3]);
    let held = |world: &World, at: usize| world.hosts[at].inventory.held_from(P);
    let says = |world: &World, at: usize| world.hosts[at].inventory.advertised().contains(P);
    assert_eq!((held(&world, 0), held(&world, 1), held(&world, 2)), (Some(1), Some(2), Some(3)));
    assert_eq!(held(&world, 3), None);
    world.change(&[1, 2, 3, 0]);
    assert_eq!(held(&world, 1), Some(1), "no bucket has one copy: nothing is missing");
    assert!(says(&world, 1));
    assert_eq!(held(&world, 2), Some(3), "it never got the bucket with two copies");
    assert!(!says(&world, 2), "so it does not hold what it is to have");
    let second = &world.hosts[2].inventory;
    assert!(second.confirms(P, 3) && !second.confirms(P, 2), "its word is good for the others");
    assert!(says(&world, 0), "the former holder goes on answering");
    world.change(&[2, 3, 1, 0]);
    let first = &mut world.hosts[1].inventory;
    assert_eq!(first.held_from(P), Some(1), "what is not needed any more is held until released");
    assert_eq!(first.release(P), Ok(true));
    assert_eq!((first.held_from(P), first.is_leftover(P)), (Some(3), true));
    assert_eq!(first.may_drop(P), Ok(Some(3)), "only the bucket with two copies");
    assert_eq!(first.release(P), Ok(false), "twice is once");
    first.dropped(P);
    assert_eq!(first.may_drop(P), Err(InventoryError::NothingLeft(0)));
    assert_eq!(first.release(P), Err(InventoryError::Needed(0)));
    assert_eq!(world.hosts[4].inventory.hold(P), Err(InventoryError::NotWanted(0)));
}

#[test]
fn what_was_on_its_way_is_left_over_when_it_is_not_wanted_any_more() {
    let mut world = World::new(1, 5, &[0, 1, 2, 3]);
    world.change(&[4, 1, 2, 3]);
    let joiner = &world.hosts[4].inventory;
    assert_eq!((joiner.held_from(P), joiner.is_leftover(P)), (None, false));
    world.change(&[0, 1, 2, 3]);
    assert!(world.hosts[4].inventory.is_leftover(P));
    assert_eq!(world.hosts[4].inventory.may_drop(P), Ok(None));
    assert!(!world.hosts[4].inventory.is_empty());
    world.change(&[4, 1, 2, 3]);
    assert!(!world.hosts[4].inventory.is_leftover(P), "it is brought up to date, not deleted");
}

/// A coordinator that stands in keeps a copy of what it wrote. Where its hints are not needed, or it
/// dies before it clears the copy away, nobody knew of it, and no tombstone of the key could ever be
/// removed anywhere.
#[test]
fn a_stray_record_is_left_over_from_when_it_is_found() {
    let mut world = World::new(1, 5, &[0, 1, 2, 3]);
    let owner = &mut world.hosts[1].inventory;
    assert!(!owner.found_stray(P, 3), "it belongs there");
    assert!(!owner.is_leftover(P));
    let other = &mut world.hosts[4].inventory;
    assert!(other.found_stray(P, 3));
    assert!(!other.found_stray(P, 3), "twice is once");
    assert_eq!((other.is_leftover(P), other.may_drop(P)), (true, Ok(None)));
    assert!(!other.advertised().contains(P) && !other.confirms(P, 3), "its word is no evidence");
}

#[test]
fn a_gain_ends_the_epoch() {
    let mut world = World::new(1, 5, &[0, 1, 2, 3]);
    world.change(&[4, 1, 2, 3]);
    let view = world.view.clone();
    let mut fresh = Inventory::empty(partitions());
    let adopted = fresh.adopt(&view, world.hosts[4].id);
    assert!(adopted.changed && adopted.gained);
    let again = fresh.adopt(&view, world.hosts[4].id);
    assert!(!again.changed && !again.gained);
}

#[test]
fn the_stored_form_is_golden_and_strict() {
    let mut world = World::new(1, 5, &[0, 1, 2, 3]);
    world.change(&[1, 2, 3, 0]);
    let inventory = &mut world.hosts[0].inventory;
    inventory.release(P).unwrap();
    let golden = r#"{"format":1,"needed":"0321","held":"0031","leftover":"v1:4:1"}"#;
    assert_eq!(String::from_utf8(inventory.encode()).unwrap(), golden);
    assert_eq!(Inventory::decode(golden.as_bytes()).as_ref(), Ok(&*inventory));
    let cases = [
        (golden.replace("\"format\":1", "\"format\":2"), ParseInventoryError::Format(2)),
        (golden.replace("0031", "003"), ParseInventoryError::Depths),
        (golden.replace("0031", "0038"), ParseInventoryError::Depths),
        (golden.replace("0031", "00 1"), ParseInventoryError::Depths),
    ];
    for (text, error) in cases {
        assert_eq!(Inventory::decode(text.as_bytes()), Err(error), "{text}");
    }
    assert!(matches!(Inventory::decode(b"v1:4:f"), Err(ParseInventoryError::Json(_))));
    let old = Inventory::holding(&world.hosts[1].inventory.advertised());
    assert!(old.confirms(P, 1), "a store of an earlier build");
}

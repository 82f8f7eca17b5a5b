use super::{ConditionFailed, check_condition};
use crate::clock::dot::Dot;
use crate::clock::dvv::Dvv;
use crate::clock::hlc::Hlc;
use crate::clock::record::{Content, Record, Sibling, Value};
use crate::id::{ActorId, NodeId, PutId};
use crate::put_memory::{AppliedPut, fingerprint};
use crate::time::WallMs;
use crate::versions::version_set_etag;
use crate::wire::coordinate::Condition;

const NOW: WallMs = WallMs(1000);

fn sibling(node: u128, content: Content) -> Sibling {
    let dot = Dot { actor: ActorId { node: NodeId(node), epoch: 1 }, counter: 1 };
    Sibling { dot, put_id: PutId(node), stamp: Hlc::at(NOW), content }
}

fn value(node: u128) -> Sibling {
    sibling(node, Content::Value(Value::default()))
}

fn record(siblings: impl IntoIterator<Item = Sibling>) -> Record {
    Record::new(Dvv::new(), siblings)
}

fn expired() -> Sibling {
    let value = Value { expires_at: Some(NOW), ..Value::default() };
    sibling(3, Content::Value(value))
}

fn tag(record: &Record) -> String {
    version_set_etag(record, NOW).unwrap().to_string()
}

fn check(condition: &Condition, record: &Record, holds: bool) {
    let checked = check_condition(condition, record, PutId(99), None, NOW);
    let failed = ConditionFailed { present: version_set_etag(record, NOW) };
    assert_eq!(checked, if holds { Ok(()) } else { Err(failed) }, "{condition:?}");
}

#[test]
fn stars_ask_whether_anything_is_there() {
    let gone = [record([]), record([sibling(1, Content::Tombstone)]), record([expired()])];
    for record in gone {
        check(&Condition::Exists, &record, false);
        check(&Condition::Absent, &record, true);
    }
    check(&Condition::Exists, &record([value(1)]), true);
    check(&Condition::Absent, &record([value(1)]), false);
    check(&Condition::Exists, &record([value(1), sibling(2, Content::Tombstone)]), true);
}

#[test]
fn tags_name_the_whole_version_set() {
    let (one, two) = (record([value(1)]), record([value(1), value(2)]));
    let other = "0123456789abcdef".to_owned();
    let matches = |tags: &[&String]| {
        let tags: Vec<String> = tags.iter().map(|tag| (*tag).clone()).collect();
        (Condition::Matches(tags.clone()), Condition::MatchesNone(tags))
    };
    for (tags, record, named) in [
        (vec![&tag(&one)], &one, true),
        (vec![&tag(&one)], &two, false),
        (vec![&other, &tag(&two)], &two, true),
        (vec![&other], &one, false),
        (vec![&tag(&one)], &self::record([]), false),
        (vec![&"not a tag".to_owned()], &one, false),
        (vec![], &one, false),
    ] {
        let (matches, matches_none) = matches(&tags);
        check(&matches, record, named);
        check(&matches_none, record, !named);
    }
}

#[test]
fn a_retry_of_an_applied_put_passes() {
    let (one, two) = (value(7), value(8));
    let applied = |sibling: &Sibling| {
        Some(AppliedPut { dot: sibling.dot, content: fingerprint(&sibling.content) })
    };
    let present = record([one.clone()]);
    let mut past = Dvv::new();
    past.insert(one.dot, NOW);
    let superseded = Record::new(past, [two.clone()]);
    // Since the record of the put was lost.
    let renewed = record([two.clone()]);
    for (record, put, applied, passes) in [
        (&present, one.put_id, None, true),
        (&present, one.put_id, applied(&one), true),
        (&present, two.put_id, None, false),
        (&superseded, one.put_id, applied(&one), true),
        (&superseded, one.put_id, None, false),
        (&renewed, one.put_id, applied(&one), false),
    ] {
        let checked = check_condition(&Condition::Absent, record, put, applied, NOW);
        assert_eq!(checked.is_ok(), passes, "{record:?} {put:?} {applied:?}");
    }
}

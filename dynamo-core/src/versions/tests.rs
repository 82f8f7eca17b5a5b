use std::convert::Infallible;

use bytes::Bytes;

use super::{put_view, read_view, version_set_etag, write_context};
use crate::actor::Actor;
use crate::clock::context::CausalContext;
use crate::clock::record::{Content, Record, Value};
use crate::id::{NodeId, PutId};
use crate::params::Reconciliation;
use crate::replica::{Minted, PutCommand, coordinate_put};
use crate::time::WallMs;

const NOW: WallMs = WallMs(1_000_000);

fn put(local: &Record, node: u128, context: Option<&CausalContext>, content: Content) -> Minted {
    let command = PutCommand {
        put_id: PutId(node * 1000 + local.clock().len() as u128),
        context: context.cloned(),
        content,
        reconciliation: Reconciliation::Siblings,
    };
    coordinate_put(local, &command, &mut Actor::resumed(NodeId(node), 1), NOW).unwrap()
}

fn text(value: &'static str) -> Content {
    Content::Value(Value { bytes: Bytes::from(value), ..Value::default() })
}

/// Stands for signing: the clock in the debug form.
fn token(context: &CausalContext) -> Result<String, Infallible> {
    Ok(format!("{:?}", context.clock))
}

fn token_of(record: &Record) -> String {
    format!("{:?}", record.clock())
}

#[test]
fn a_reader_sees_live_versions_and_a_context_for_all() {
    let one = put(&Record::default(), 1, None, text("one")).record;
    let two = put(&one, 2, None, text("two")).record;
    let (view, values) = read_view(&two, NOW, true, None, token).unwrap();
    assert_eq!(values, ["one", "two"]);
    assert_eq!((view.sibling_count, view.siblings.len(), view.deleted), (2, 2, false));
    assert_eq!(view.context, Some(token_of(&two)));
    assert_eq!(view.etag, version_set_etag(&two, NOW).map(|tag| tag.to_string()));
    let lens: Vec<usize> = view.siblings.iter().map(|sibling| sibling.len).collect();
    assert_eq!(lens, [3, 3]);
}

#[test]
fn head_carries_no_values() {
    let one = put(&Record::default(), 1, None, text("one")).record;
    let (view, values) = read_view(&one, NOW, false, None, token).unwrap();
    assert!(values.is_empty() && !view.values);
    assert_eq!(view.siblings.first().unwrap().len, 3);
}

#[test]
fn absent_and_deleted_differ_in_the_context() {
    let (absent, _) = read_view(&Record::default(), NOW, true, None, token).unwrap();
    assert_eq!((absent.context, absent.etag, absent.deleted), (None, None, false));
    let gone = put(&Record::default(), 1, None, Content::Tombstone).record;
    let (deleted, values) = read_view(&gone, NOW, true, None, token).unwrap();
    assert_eq!((deleted.context, deleted.etag), (Some(token_of(&gone)), None));
    assert!(deleted.deleted && values.is_empty() && deleted.sibling_count == 0);
}

#[test]
fn an_expired_value_reads_as_deleted() {
    let value = Value { expires_at: Some(NOW), ..Value::default() };
    let record = put(&Record::default(), 1, None, Content::Value(value)).record;
    let (view, values) = read_view(&record, NOW, true, None, token).unwrap();
    assert!(view.deleted && values.is_empty() && view.etag.is_none());
}

#[test]
fn the_context_of_a_put_covers_no_sibling_that_its_client_did_not_see() {
    let seen = put(&Record::default(), 1, None, text("seen")).record;
    let context = CausalContext { clock: seen.clock().clone(), ..CausalContext::default() };
    let unseen = put(&seen, 2, None, text("unseen"));
    let minted = put(&unseen.record, 1, Some(&context), text("new"));
    let after = write_context(Some(&context), &minted, NodeId(1));
    assert!(after.clock.covers(&minted.dot) && after.clock.descends(seen.clock()));
    assert!(!after.clock.covers(&unseen.dot));
    assert_eq!(after.fastest, Some(NodeId(1)));
    assert_eq!(after.stamp, minted.record.sibling(&minted.dot).unwrap().stamp);

    let (view, values) = put_view(&minted, Some(&context), NOW, false, NodeId(1), token).unwrap();
    assert_eq!(view.context, Some(format!("{:?}", after.clock)));
    assert_eq!((view.sibling_count, view.siblings.len(), values.len()), (2, 0, 0));
}

#[test]
fn with_the_body_the_context_covers_what_is_returned() {
    let unseen = put(&Record::default(), 2, None, text("unseen"));
    let minted = put(&unseen.record, 1, None, text("new"));
    let (view, values) = put_view(&minted, None, NOW, true, NodeId(1), token).unwrap();
    assert_eq!(view.context, Some(token_of(&minted.record)));
    assert_eq!(values, ["new", "unseen"]);
}

#[test]
fn a_signing_error_is_passed_on() {
    let one = put(&Record::default(), 1, None, text("one")).record;
    assert_eq!(read_view(&one, NOW, true, None, |_| Err("too long")), Err("too long"));
}

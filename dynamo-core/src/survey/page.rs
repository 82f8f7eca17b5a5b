//! One page of a partition out of the pages of several holders. A single holder may lack a write
//! that was acknowledged by the others a moment ago; a backup must not.

use crate::clock::record::Record;
use crate::key::ObjectKey;
use crate::limits::{TRANSFER_PAGE_BYTES_MAX, TRANSFER_PAGE_RECORDS_MAX};
use crate::merkle::scan_order;
use crate::wire::partition::Page;

/// Joins pages that were all asked for after the same name: up to where the shortest of them ends,
/// every object that any of them has, with the versions of all of them. `None` for no pages.
///
/// The result keeps to the limits of a page; what does not fit comes with the next. `unreadable` is
/// the sum: a record that one holder cannot read is most likely in the page all the same.
#[must_use]
pub fn join_pages(pages: Vec<Page>) -> Option<Page> {
    let first = pages.first()?;
    let (ring, store) = (first.ring, first.store);
    let mut end = pages.iter().filter_map(|page| page.next.clone()).min_by(scan_order);
    let unreadable = pages.iter().map(|page| page.unreadable).sum();
    let mut all: Vec<(ObjectKey, Record)> =
        pages.into_iter().flat_map(|page| page.records).collect();
    if let Some(end) = &end {
        all.retain(|(object, _)| scan_order(object, end).is_le());
    }
    all.sort_by(|(a, _), (b, _)| scan_order(a, b));
    let mut records: Vec<(ObjectKey, Record)> = Vec::with_capacity(all.len());
    let mut bytes = 0;
    for (object, record) in all {
        if let Some((last, known)) = records.last_mut()
            && *last == object
        {
            bytes -= size(last, known);
            *known = known.sync(&record);
            bytes += size(last, known);
            continue;
        }
        let more = size(&object, &record);
        let full = records.len() >= TRANSFER_PAGE_RECORDS_MAX
            || (!records.is_empty() && bytes + more > TRANSFER_PAGE_BYTES_MAX);
        if full {
            end = records.last().map(|(object, _)| object.clone());
            break;
        }
        bytes += more;
        records.push((object, record));
    }
    Some(Page { ring, store, records, unreadable, next: end })
}

/// The first half of a page whose metadata has no room in one message; the rest comes with the next
/// page. `None` where there is only one record.
#[must_use]
pub fn halve(mut page: Page) -> Option<Page> {
    let half = page.records.len() / 2;
    page.records.truncate(half);
    let (last, _) = page.records.last()?;
    page.next = Some(last.clone());
    Some(page)
}

fn size(object: &ObjectKey, record: &Record) -> usize {
    object.key().len() + record.payload_bytes()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::clock::dot::Dot;
    use crate::clock::dvv::Dvv;
    use crate::clock::hlc::Hlc;
    use crate::clock::record::{Content, Sibling, Value};
    use crate::id::{ActorId, NodeId, PutId, StoreId};
    use crate::ring::RingVersion;
    use crate::time::WallMs;

    fn object(index: u32) -> ObjectKey {
        ObjectKey::parse("b", &format!("k{index}")).unwrap()
    }

    fn record(node: u128, bytes: usize) -> Record {
        let dot = Dot { actor: ActorId { node: NodeId(node), epoch: 1 }, counter: 1 };
        let mut clock = Dvv::new();
        clock.insert_up_to(dot.actor, 1, WallMs(1));
        let value = Value {
            bytes: Bytes::from(vec![7; bytes]),
            content_type: None,
            meta: Vec::new(),
            expires_at: None,
        };
        let sibling = Sibling {
            dot,
            put_id: PutId(1),
            stamp: Hlc::default(),
            content: Content::Value(value),
        };
        Record::new(clock, [sibling])
    }

    /// The page of a holder with `objects`, at most `max` of them, after `after`.
    fn page(holder: u128, objects: &[u32], max: usize, after: Option<&ObjectKey>) -> Page {
        let mut names: Vec<ObjectKey> = objects.iter().map(|index| object(*index)).collect();
        names.sort_by(scan_order);
        names.retain(|name| after.is_none_or(|after| scan_order(name, after).is_gt()));
        let more = names.len() > max;
        names.truncate(max);
        let next = if more { names.last().cloned() } else { None };
        Page {
            ring: RingVersion::default(),
            store: StoreId(holder),
            records: names.into_iter().map(|name| (name, record(holder, 3))).collect(),
            unreadable: 0,
            next,
        }
    }

    #[test]
    fn no_pages_make_none() {
        assert_eq!(join_pages(Vec::new()), None);
    }

    #[test]
    fn half_a_page_goes_on_where_it_ends() {
        let whole = page(1, &[1, 2, 3], 9, None);
        let half = halve(whole.clone()).unwrap();
        assert_eq!(half.records, whole.records[..1]);
        assert_eq!(half.next.as_ref(), whole.records.first().map(|(object, _)| object));
        assert_eq!(halve(half), None);
    }

    #[test]
    fn a_page_that_is_too_large_ends_early() {
        let half = TRANSFER_PAGE_BYTES_MAX / 2;
        let mut pages: Vec<Page> = (1..=3).map(|holder| page(holder, &[], 9, None)).collect();
        let mut names: Vec<ObjectKey> = (0..3).map(object).collect();
        names.sort_by(scan_order);
        for (page, name) in pages.iter_mut().zip(&names) {
            page.records = vec![(name.clone(), record(1, half))];
        }
        let joined = join_pages(pages).unwrap();
        // Two halves and two names are more than the limit.
        assert_eq!(joined.records.len(), 1);
        assert_eq!(joined.next.as_ref(), names.first());
    }

    proptest! {
        #[test]
        fn paging_through_gives_the_union_of_all_holders(
            holders in prop::collection::vec(prop::collection::btree_set(0u32..60, 0..40), 1..4),
            max in 1usize..9,
        ) {
            let mut expected: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
            for name in holders.iter().flatten() {
                *expected.entry(object(*name).storage_key()).or_default() += 1;
            }
            let mut after: Option<ObjectKey> = None;
            let mut got = BTreeMap::new();
            for _ in 0..200 {
                let pages = (1u128..).zip(&holders).map(|(id, names)| {
                    let names: Vec<u32> = names.iter().copied().collect();
                    page(id, &names, max, after.as_ref())
                });
                let joined = join_pages(pages.collect()).unwrap();
                prop_assert!(joined.records.is_sorted_by(|a, b| scan_order(&a.0, &b.0).is_lt()));
                for (name, record) in joined.records {
                    let fresh = got.insert(name.storage_key(), record.sibling_count());
                    prop_assert!(fresh.is_none(), "{name:?} came twice");
                }
                after = joined.next;
                if after.is_none() {
                    break;
                }
            }
            prop_assert!(after.is_none(), "paging never ended");
            prop_assert_eq!(got, expected);
        }
    }
}

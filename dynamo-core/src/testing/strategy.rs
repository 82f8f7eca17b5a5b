//! Random domain values for property tests. They obey the invariants of their types and reach for
//! the corners: empty and full, small and greatest numbers, few nodes so that clocks overlap.

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof};

use crate::clock::context::CausalContext;
use crate::clock::dot::Dot;
use crate::clock::dvv::{Dvv, Run};
use crate::clock::hlc::Hlc;
use crate::clock::record::{Content, Record, Sibling, Value};
use crate::id::{ActorId, NodeId, PutId};
use crate::key::ObjectKey;
use crate::limits::{BUCKET_BYTES_MAX, CONTENT_TYPE_BYTES_MAX, KEY_BYTES_MAX};
use crate::testing::values::node;
use crate::time::WallMs;

/// A node: one of four, so that clocks have nodes in common, or any.
pub fn nodes() -> impl Strategy<Value = NodeId> {
    prop_oneof![4 => (0u128..4).prop_map(node), 1 => any::<u128>().prop_map(NodeId)]
}

/// An actor.
pub fn actors() -> impl Strategy<Value = ActorId> {
    let epoch = prop_oneof![6 => 0u64..3, 1 => any::<u64>()];
    (nodes(), epoch).prop_map(|(node, epoch)| ActorId { node, epoch })
}

/// A counter: mostly small, sometimes at the end of its range.
pub fn counters() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 1u64..12, 1 => any::<u64>().prop_map(|n| n.max(1)), 1 => Just(u64::MAX)]
}

/// A clock.
pub fn clocks() -> impl Strategy<Value = Dvv> {
    let at = any::<u32>().prop_map(|ms| WallMs(u64::from(ms)));
    let run = (actors(), counters(), 0u64..4, at).prop_map(|(actor, first, length, at)| Run {
        actor,
        first,
        last: first.saturating_add(length),
        at,
    });
    vec(run, 0..12).prop_map(|runs| {
        let mut clock = Dvv::new();
        for run in runs {
            clock.insert_run(run);
        }
        clock
    })
}

/// An object within its limits.
pub fn objects() -> impl Strategy<Value = Value> {
    let meta = btree_map("[a-z][a-z0-9-]{0,20}", "[ -~]{0,60}", 0..8);
    let content_type = option::of(prop_oneof![
        4 => "[a-z]{1,12}/[a-z+.-]{1,12}".prop_map(String::from),
        1 => Just("x".repeat(CONTENT_TYPE_BYTES_MAX)),
    ]);
    let expiry = option::of(prop_oneof![4 => any::<u32>().prop_map(u64::from), 1 => Just(0)]);
    (vec(any::<u8>(), 0..200), content_type, meta, expiry).prop_map(
        |(bytes, content_type, meta, expiry)| Value {
            bytes: Bytes::from(bytes),
            content_type,
            meta: meta.into_iter().collect(),
            expires_at: expiry.map(WallMs),
        },
    )
}

/// A value or a tombstone.
pub fn contents() -> impl Strategy<Value = Content> {
    prop_oneof![4 => objects().prop_map(Content::Value), 1 => Just(Content::Tombstone)]
}

/// A record: a clock and siblings with dots of their own.
pub fn records() -> impl Strategy<Value = Record> {
    let dots = (actors(), counters()).prop_map(|(actor, counter)| Dot { actor, counter });
    let sibling = (any::<u128>(), any::<u64>(), contents());
    (clocks(), btree_map(dots, sibling, 0..5)).prop_map(|(clock, siblings)| {
        let siblings = siblings.into_iter().map(|(dot, (put, stamp, content))| Sibling {
            dot,
            put_id: PutId(put),
            stamp: Hlc(stamp),
            content,
        });
        Record::new(clock, siblings)
    })
}

/// A causal context.
pub fn contexts() -> impl Strategy<Value = CausalContext> {
    (clocks(), any::<u64>(), option::of(nodes()))
        .prop_map(|(clock, stamp, fastest)| CausalContext { clock, stamp: Hlc(stamp), fastest })
}

/// The name of an object: any bytes, short and as long as allowed.
pub fn object_keys() -> impl Strategy<Value = ObjectKey> {
    let bucket = prop_oneof![
        4 => "[a-z0-9][a-z0-9._-]{0,12}".prop_map(String::from),
        1 => Just("b".repeat(BUCKET_BYTES_MAX)),
    ];
    let key = prop_oneof![
        4 => vec(any::<u8>(), 1..40),
        1 => vec(any::<u8>(), KEY_BYTES_MAX..=KEY_BYTES_MAX),
    ];
    (bucket, key).prop_map(|(bucket, key)| {
        let bucket = bucket.parse().expect("the strategy follows the grammar of buckets");
        ObjectKey::new(bucket, Bytes::from(key)).expect("the strategy follows the limits of keys")
    })
}

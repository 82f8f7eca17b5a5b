//! What survives the worker.

use bytes::Bytes;
use dynamo_core::id::{NodeId, StoreId};
use dynamo_core::key::ObjectKey;
use dynamo_core::limits::{BUCKET_BYTES_MAX, KEY_BYTES_MAX, PROGRESS_BYTES_MAX};
use dynamo_core::transfer::{Progress, ProgressError};
use proptest::prelude::*;

prop_compose! {
    fn progress()(
        store in any::<u128>(),
        source in proptest::option::of(any::<u128>()),
        cursor in proptest::option::of(proptest::collection::vec(any::<u8>(), 1..=KEY_BYTES_MAX)),
        copied in any::<bool>(),
        counts in any::<(u64, u64, u64, u32)>(),
    ) -> Progress {
        let bucket: dynamo_core::key::Bucket = "b".repeat(BUCKET_BYTES_MAX).parse().unwrap();
        let (records, bytes, unreadable, restarts) = counts;
        Progress {
            store: StoreId(store),
            source: source.map(NodeId),
            cursor: cursor.map(|key| ObjectKey::new(bucket, Bytes::from(key)).unwrap()),
            copied,
            records,
            bytes,
            unreadable,
            restarts,
        }
    }
}

proptest! {
    #[test]
    fn every_progress_round_trips_within_its_bound(progress in progress()) {
        let stored = progress.encode();
        prop_assert!(stored.len() <= PROGRESS_BYTES_MAX, "{}", stored.len());
        prop_assert_eq!(Progress::decode(&stored), Ok(progress));
    }

    #[test]
    fn other_bytes_are_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Progress::decode(&bytes).is_err());
    }
}

#[test]
fn the_form_is_golden() {
    let progress = Progress {
        source: Some(NodeId(2)),
        cursor: Some(ObjectKey::parse("cart", "a%2Fb").unwrap()),
        records: 3,
        bytes: 4,
        unreadable: 1,
        restarts: 5,
        ..Progress::new(StoreId(1))
    };
    let golden = concat!(
        r#"{"format":1,"store":"00000000000000000000000000000001","#,
        r#""source":"00000000000000000000000000000002","#,
        r#""cursor":{"bucket":"cart","key":"a%2Fb"},"copied":false,"#,
        r#""records":3,"bytes":4,"unreadable":1,"restarts":5}"#
    );
    assert_eq!(String::from_utf8(progress.encode()).unwrap(), golden);
    assert_eq!(Progress::decode(golden.as_bytes()), Ok(progress));
    let newer = golden.replace("\"format\":1", "\"format\":2");
    assert_eq!(Progress::decode(newer.as_bytes()), Err(ProgressError::Format(2)));
    let bad = golden.replace("cart", "_cart");
    assert_eq!(Progress::decode(bad.as_bytes()), Err(ProgressError::Cursor));
    let long = vec![b' '; PROGRESS_BYTES_MAX + 1];
    assert_eq!(Progress::decode(&long), Err(ProgressError::TooLong));
}

//! What the outside may say for numbers, quorums and names, as tables.

use dynamo_core::key::{Bucket, NameError, ObjectKey};
use dynamo_core::limits::{BUCKET_BYTES_MAX, KEY_BYTES_MAX, REPLICAS_MAX};
use dynamo_core::params::{BucketProps, Durability, ParamError, Quorum, WriteQuorum};

#[test]
fn quorums_are_words_or_plain_digits() {
    let good: [(&str, Quorum, Option<u8>); 9] = [
        ("one", Quorum::One, Some(1)),
        ("quorum", Quorum::Quorum, Some(2)),
        ("all", Quorum::All, Some(3)),
        ("1", Quorum::Count(1), Some(1)),
        ("3", Quorum::Count(3), Some(3)),
        ("03", Quorum::Count(3), Some(3)),
        // Numbers, but not of three replicas.
        ("0", Quorum::Count(0), None),
        ("4", Quorum::Count(4), None),
        ("255", Quorum::Count(255), None),
    ];
    for (text, quorum, resolved) in good {
        assert_eq!(text.parse(), Ok(quorum), "{text}");
        assert_eq!(text.parse(), Ok(WriteQuorum::Of(quorum)), "{text}");
        assert_eq!(quorum.resolve(3), resolved.ok_or(ParamError::Range { n: 3 }), "{text}");
    }
    let bad = [
        "",
        "-1",
        "-0",
        "256",
        "999",
        "0003",
        "1.5",
        "1.0",
        "0x1",
        "1e0",
        "+1",
        " 1",
        "1 ",
        "1\n",
        "١",
        "１",
        "²",
        "1000000000000000000000000000000",
        "QUORUM",
        "Quorum",
        "half",
        "majority",
        "two",
        "null",
        "NaN",
        "true",
        "1,2",
        "1_0",
        "0b1",
        "'1'",
        "one ",
        "quorum\0",
    ];
    for text in bad {
        assert!(matches!(text.parse::<Quorum>(), Err(ParamError::Syntax { .. })), "{text:?}");
        assert!(matches!(text.parse::<WriteQuorum>(), Err(ParamError::Syntax { .. })), "{text:?}");
    }
    assert_eq!("any".parse(), Ok(WriteQuorum::Any));
    assert!("any".parse::<Quorum>().is_err(), "a get cannot ask for any");
    for (n, majority) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)] {
        assert_eq!(Quorum::Quorum.resolve(n), Ok(majority));
    }
}

#[test]
fn quorums_in_json_are_numbers_or_words() {
    for (json, quorum) in [
        ("2", WriteQuorum::Of(Quorum::Count(2))),
        ("\"any\"", WriteQuorum::Any),
        ("\"all\"", WriteQuorum::Of(Quorum::All)),
    ] {
        assert_eq!(serde_json::from_str::<WriteQuorum>(json).expect(json), quorum);
        assert_eq!(serde_json::to_string(&quorum).expect("json"), json);
    }
    assert_eq!(serde_json::from_str::<Quorum>("\"2\"").expect("text"), Quorum::Count(2));
    for bad in ["-1", "256", "1.5", "null", "true", "[]", "{}", "\"any\"", "\"\"", "1e0", "1e400"] {
        assert!(serde_json::from_str::<Quorum>(bad).is_err(), "{bad}");
    }
}

#[test]
fn durability_has_two_words() {
    assert_eq!("fsync".parse(), Ok(Durability::Fsync));
    assert_eq!("buffered".parse(), Ok(Durability::Buffered));
    for bad in ["", "Fsync", "none", "1"] {
        assert!(bad.parse::<Durability>().is_err(), "{bad}");
    }
}

#[test]
fn bucket_properties_fit_together() {
    let base = BucketProps::default();
    assert_eq!(base.validated(), Ok(base));
    let of = |count| WriteQuorum::Of(Quorum::Count(count));
    let cases = [
        (BucketProps { n: 0, ..base }, Some("n")),
        (BucketProps { n: REPLICAS_MAX + 1, ..base }, Some("n")),
        (BucketProps { n: REPLICAS_MAX, ..base }, None),
        (BucketProps { r: Quorum::Count(4), ..base }, Some("r")),
        (BucketProps { r: Quorum::Count(0), ..base }, Some("r")),
        (BucketProps { w: of(4), ..base }, Some("w")),
        (BucketProps { w: of(0), ..base }, Some("w")),
        (BucketProps { w: WriteQuorum::Any, ..base }, None),
        (BucketProps { pr: 4, ..base }, Some("pr")),
        (BucketProps { pw: 4, ..base }, Some("pw")),
        (BucketProps { pr: 3, pw: 3, ..base }, None),
        (BucketProps { n: 1, ..base }, None),
    ];
    for (props, wrong) in cases {
        assert_eq!(props.validated().err().map(|(name, _)| name), wrong, "{props:?}");
    }
    assert!(base.overlaps());
    assert!(!BucketProps { r: Quorum::One, ..base }.overlaps());
    assert!(!BucketProps { w: WriteQuorum::Any, ..base }.overlaps());
    assert!(BucketProps { r: Quorum::One, w: WriteQuorum::Of(Quorum::All), ..base }.overlaps());
    let json = r#"{"n":5,"r":"one","w":"any","reconciliation":"lww","ttl_s":60}"#;
    let props: BucketProps = serde_json::from_str(json).expect("some properties");
    assert_eq!((props.n, props.w, props.pr), (5, WriteQuorum::Any, 0));
    assert!(serde_json::from_str::<BucketProps>(r#"{"replicas":3}"#).is_err(), "unknown names");
}

#[test]
fn names_are_parsed_strictly() {
    let longest = "a".repeat(BUCKET_BYTES_MAX);
    for good in ["a", "0", "carts", "a.b_c-d", "9..--__", &longest] {
        assert!(good.parse::<Bucket>().is_ok(), "{good}");
    }
    let long = "a".repeat(BUCKET_BYTES_MAX + 1);
    for bad in ["", "A", "-a", ".a", "ä", "a b", "a/b", "a\0", "a%", "a\n", "..", &long] {
        assert_eq!(bad.parse::<Bucket>(), Err(NameError::Bucket), "{bad:?}");
    }
    for reserved in ["_", "_system"] {
        assert_eq!(reserved.parse::<Bucket>(), Err(NameError::Reserved));
    }
    let max = "k".repeat(KEY_BYTES_MAX);
    let too_long = "k".repeat(KEY_BYTES_MAX + 1);
    let escaped = "%6b".repeat(KEY_BYTES_MAX);
    let keys: [(&str, Result<&[u8], NameError>); 16] = [
        ("k", Ok(b"k")),
        ("2026/11/cat.jpg", Ok(b"2026/11/cat.jpg")),
        ("a%2Fb", Ok(b"a/b")),
        ("a%2fb", Ok(b"a/b")),
        ("%00%ff", Ok(b"\x00\xff")),
        ("%25", Ok(b"%")),
        ("%252F", Ok(b"%2F")),
        ("a+b", Ok(b"a+b")),
        (&max, Ok(max.as_bytes())),
        (&escaped, Ok(max.as_bytes())),
        ("", Err(NameError::EmptyKey)),
        (&too_long, Err(NameError::KeyTooLong)),
        ("%", Err(NameError::Encoding)),
        ("%4", Err(NameError::Encoding)),
        ("%zz", Err(NameError::Encoding)),
        ("%+1", Err(NameError::Encoding)),
    ];
    for (text, expected) in keys {
        let parsed = ObjectKey::parse("b", text);
        assert_eq!(
            parsed.as_ref().map(|object| object.key().as_ref()),
            expected.as_ref().map(|b| *b),
            "{text:?}"
        );
    }
}

//! Parsers take anything: no input panics, and what is accepted means what was sent.

use dynamo_core::key::ObjectKey;
use dynamo_core::params::BucketProps;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::{any, prop, prop_assert_eq, proptest};
use request_router::request::accept::Accept;
use request_router::request::params::{GetParams, PUT_PARAMETERS, PutParams};
use request_router::request::{conditions, digest, headers, path};

/// Headers that some parser reads.
const READ: [&str; 13] = [
    "accept",
    "content-digest",
    "content-md5",
    "content-type",
    "digest",
    "idempotency-key",
    "if-match",
    "if-none-match",
    "repr-digest",
    "x-atoll-context",
    "x-atoll-meta-a",
    "x-atoll-timeout-ms",
    "x-content-length",
];

proptest! {
    #[test]
    fn any_key_survives_its_path(key in prop::collection::vec(any::<u8>(), 1..200)) {
        let object = ObjectKey::new("b".parse().unwrap(), key.into()).unwrap();
        let read = path::object(&format!("/v1/kv/b/{}", object.key_text())).unwrap();
        prop_assert_eq!(read, object);
    }

    #[test]
    fn any_path_is_read_or_refused(rest in "[ -~]{0,40}") {
        if let Err(problem) = path::object(&format!("/v1/kv/{rest}")) {
            assert!(problem.status().is_client_error());
        }
    }

    #[test]
    fn any_query_is_read_or_refused(query in "[a-z_=&%0-9+.-]{0,60}") {
        let (head, props) = (HeaderMap::new(), BucketProps::default());
        let get = GetParams::read(Some(&query), &head, &props).err();
        let put = PutParams::read(Some(&query), &head, &props, &PUT_PARAMETERS).err();
        for problem in get.into_iter().chain(put) {
            assert_eq!(problem.status(), 400);
        }
    }

    #[test]
    fn any_header_is_read_or_refused(
        which in 0..READ.len(),
        value in prop::collection::vec(32u8..=255, 0..80),
    ) {
        let Ok(value) = HeaderValue::from_bytes(&value) else { return Ok(()) };
        let mut head = HeaderMap::new();
        head.insert(HeaderName::from_static(READ[which]), value);
        let problems = [
            Accept::parse(&head).err(),
            conditions::parse(&head).err(),
            digest::check(&head, b"body").err(),
            headers::context(&head).err(),
            headers::put_id(&head).err(),
            headers::timeout_ms(&head).err(),
            headers::content_type(&head).err(),
            headers::meta(&head).err(),
        ];
        for problem in problems.into_iter().flatten() {
            assert!(problem.status().is_client_error());
            assert!(problem.to_json().len() <= 1024);
        }
    }
}

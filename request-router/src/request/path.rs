//! Bucket and key from the raw path. The key is the rest of the path after the bucket, percent-
//! decoded strictly and exactly once: a raw '/' belongs to it, '+' is a plus, `//` and `..` are
//! bytes like any other. A key never becomes a file name, so nothing is normalised.

use bytes::Bytes;
use dynamo_core::key::{Bucket, NameError, ObjectKey, decode_key};
use service_kit::http::error::{ErrorCode, Problem};

/// Prefix of object routes.
pub const KV_PREFIX: &str = "/v1/kv/";

/// Prefix of bucket property routes.
pub const BUCKETS_PREFIX: &str = "/v1/buckets/";

/// The object that `/v1/kv/{bucket}/{key…}` names.
///
/// # Errors
/// 400 `bad_bucket`, `empty_key`, `key_too_long`, `bad_percent_encoding`; 403 `reserved_bucket`.
pub fn object(path: &str) -> Result<ObjectKey, Problem> {
    let rest = path.strip_prefix(KV_PREFIX).ok_or_else(no_route)?;
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    let bucket = bucket_name(bucket)?;
    let key = decode_key(key).map_err(refuse)?;
    ObjectKey::new(bucket, key).map_err(refuse)
}

/// The bucket that `/v1/kv/{bucket}` or `/v1/buckets/{bucket}` names.
///
/// # Errors
/// 400 `bad_bucket`, `bad_percent_encoding`; 403 `reserved_bucket`.
pub fn bucket(path: &str, prefix: &str) -> Result<Bucket, Problem> {
    bucket_name(path.strip_prefix(prefix).ok_or_else(no_route)?)
}

/// The bucket that any path with one names, whatever follows it.
///
/// # Errors
/// As [`bucket`].
pub fn bucket_of(path: &str) -> Result<Bucket, Problem> {
    let rest = path.strip_prefix(KV_PREFIX).ok_or_else(no_route)?;
    bucket_name(rest.split_once('/').map_or(rest, |(bucket, _)| bucket))
}

/// A bucket and the bytes of a key as an object.
///
/// # Errors
/// As [`object`].
pub fn named(bucket: &str, key: Bytes) -> Result<ObjectKey, Problem> {
    ObjectKey::new(bucket.parse().map_err(refuse)?, key).map_err(refuse)
}

fn bucket_name(segment: &str) -> Result<Bucket, Problem> {
    if !segment.contains('%') {
        return segment.parse().map_err(refuse);
    }
    let bytes = decode_key(segment).map_err(refuse)?;
    let name = std::str::from_utf8(&bytes).map_err(|_| refuse(NameError::Bucket))?;
    name.parse().map_err(refuse)
}

fn refuse(error: NameError) -> Problem {
    let code = match error {
        NameError::Bucket => ErrorCode::BadBucket,
        NameError::Reserved => ErrorCode::ReservedBucket,
        NameError::EmptyKey => ErrorCode::EmptyKey,
        NameError::KeyTooLong => ErrorCode::KeyTooLong,
        NameError::Encoding => ErrorCode::BadPercentEncoding,
    };
    Problem::new(code, error.to_string())
}

fn no_route() -> Problem {
    Problem::new(ErrorCode::NotFound, "there is no such route")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_rest_of_the_path() {
        let max = "k".repeat(1024);
        let over = "k".repeat(1025);
        let escaped = "%6b".repeat(1024);
        let cases: [(&str, Result<&[u8], ErrorCode>); 26] = [
            ("b/k", Ok(b"k")),
            ("b/a/b", Ok(b"a/b")),
            ("b/a%2Fb", Ok(b"a/b")),
            ("b//a", Ok(b"/a")),
            ("b/a//", Ok(b"a//")),
            ("b/a+b", Ok(b"a+b")),
            ("b/a%20b", Ok(b"a b")),
            ("b/%ff%fe", Ok(b"\xff\xfe")),
            ("b/%c0%af", Ok(b"\xc0\xaf")),
            ("b/%00", Ok(b"\0")),
            ("b/%0d%0a", Ok(b"\r\n")),
            ("b/../../etc/passwd", Ok(b"../../etc/passwd")),
            ("b/%2e%2e%2f", Ok(b"../")),
            ("b/.", Ok(b".")),
            ("b/stats", Ok(b"stats")),
            ("b/%25zz", Ok(b"%zz")),
            ("b/", Err(ErrorCode::EmptyKey)),
            ("b/%zz", Err(ErrorCode::BadPercentEncoding)),
            ("b/%", Err(ErrorCode::BadPercentEncoding)),
            ("b/%4", Err(ErrorCode::BadPercentEncoding)),
            ("b/%+1", Err(ErrorCode::BadPercentEncoding)),
            ("_system/k", Err(ErrorCode::ReservedBucket)),
            ("%5fsystem/k", Err(ErrorCode::ReservedBucket)),
            ("UP/k", Err(ErrorCode::BadBucket)),
            ("./k", Err(ErrorCode::BadBucket)),
            ("%ff/k", Err(ErrorCode::BadBucket)),
        ];
        let check = |rest: &str, expected: Result<&[u8], ErrorCode>| {
            let got = object(&format!("{KV_PREFIX}{rest}"));
            let got = got.as_ref().map(|o| &o.key()[..]).map_err(Problem::code);
            assert_eq!(got, expected, "{rest}");
        };
        for (rest, expected) in cases {
            check(rest, expected);
        }
        check(&format!("b/{max}"), Ok(max.as_bytes()));
        check(&format!("b/{escaped}"), Ok(max.as_bytes()));
        check(&format!("b/{over}"), Err(ErrorCode::KeyTooLong));
        check(&format!("{}/k", "b".repeat(64)), Ok(b"k"));
        check(&format!("{}/k", "b".repeat(65)), Err(ErrorCode::BadBucket));
    }

    #[test]
    fn buckets_may_be_escaped_but_not_split() {
        assert_eq!(bucket("/v1/kv/c%61rts", KV_PREFIX).unwrap().as_str(), "carts");
        for bad in ["/v1/kv/", "/v1/kv/a%2Fb", "/v1/kv/a/b", "/v1/kv/a b"] {
            assert_eq!(bucket(bad, KV_PREFIX).unwrap_err().code(), ErrorCode::BadBucket, "{bad}");
        }
        assert_eq!(bucket("/v2/kv/a", KV_PREFIX).unwrap_err().code(), ErrorCode::NotFound);
    }
}

//! Headers of object requests. `service_kit::http::strict` has already refused repeated ones.

use dynamo_core::id::PutId;
use dynamo_core::limits::{
    CONTENT_TYPE_BYTES_MAX, CONTEXT_BYTES_MAX, CONTEXT_TOKENS_MAX, META_BYTES_MAX,
    META_ENTRIES_MAX, TIMEOUT_MS_MAX,
};
use dynamo_core::wire::headers::{CONTEXT, IDEMPOTENCY_KEY, META_PREFIX, TIMEOUT_MS};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use service_kit::http::error::{ErrorCode, Problem};
use sha2::{Digest, Sha256};

use super::bad_header;
use super::query::digits;
use crate::limits::IDEMPOTENCY_KEY_BYTES_MAX;

/// The causal context as the client sent it. Whether it is genuine only the coordinator can tell;
/// what cannot be a token is refused here.
///
/// # Errors
/// 400 `bad_context`.
pub fn context(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(CONTEXT) else { return Ok(None) };
    let refuse = |why: &str| Err(Problem::new(ErrorCode::BadContext, why));
    let Ok(text) = value.to_str() else { return refuse("the context is not base64url") };
    let mut tokens = 0usize;
    for token in text.split('.') {
        tokens += 1;
        if token.len() > CONTEXT_BYTES_MAX || tokens > CONTEXT_TOKENS_MAX {
            return refuse("the context is too long");
        }
        let plain = token.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if token.is_empty() || !plain {
            return refuse("the context is not base64url");
        }
    }
    Ok(Some(text.to_owned()))
}

/// The client's own id of a put: a UUID as it is, any other text through a hash. Two texts share
/// an id with a probability of 2^-128.
///
/// # Errors
/// 400 `bad_header`.
pub fn put_id(headers: &HeaderMap) -> Result<Option<PutId>, Problem> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let bytes = value.as_bytes();
    let visible = bytes.iter().all(|b| (b' '..=b'~').contains(b));
    if !visible || !(1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&bytes.len()) {
        let why = format!("1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters expected");
        return Err(bad_header("Idempotency-Key", why));
    }
    if let Some(id) = value.to_str().ok().and_then(|text| text.parse().ok()) {
        return Ok(Some(id));
    }
    let mut hash = Sha256::new();
    hash.update(b"atoll idempotency key v1\0");
    hash.update(bytes);
    let digest: [u8; 32] = hash.finalize().into();
    let bits = digest.iter().take(16).fold(0u128, |bits, byte| (bits << 8) | u128::from(*byte));
    Ok(Some(PutId(bits)))
}

/// The deadline of `X-Atoll-Timeout-Ms`.
///
/// # Errors
/// 400 `bad_header`.
pub fn timeout_ms(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(TIMEOUT_MS) else { return Ok(None) };
    let number = value.to_str().ok().and_then(digits);
    number.filter(|ms| (1..=TIMEOUT_MS_MAX).contains(ms)).map(Some).ok_or_else(|| {
        bad_header("X-Atoll-Timeout-Ms", format!("a number from 1 to {TIMEOUT_MS_MAX} expected"))
    })
}

/// The media type to store, checked by its grammar. Absent: `None`, which reads as
/// `application/octet-stream`.
///
/// # Errors
/// 400 `bad_header`.
pub fn content_type(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(None) };
    let refuse = |why: String| Err(bad_header("Content-Type", why));
    if value.len() > CONTENT_TYPE_BYTES_MAX {
        return refuse(format!("longer than {CONTENT_TYPE_BYTES_MAX} bytes"));
    }
    let text = value.to_str().unwrap_or_default();
    match text.parse::<mime::Mime>() {
        // A range is what Accept asks for, not what a value is.
        // The parser lets an empty subtype pass.
        Ok(kind)
            if kind.type_() != mime::STAR
                && kind.subtype() != mime::STAR
                && kind.subtype() != "" =>
        {
            Ok(Some(text.to_owned()))
        }
        _ => refuse("not a media type".to_owned()),
    }
}

/// User metadata, names in lower case without their prefix, sorted by name.
///
/// # Errors
/// 400 `bad_header` for values that are not visible ASCII, 431 where it is too much.
pub fn meta(headers: &HeaderMap) -> Result<Vec<(String, String)>, Problem> {
    let mut entries = Vec::new();
    let mut bytes = 0usize;
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix(META_PREFIX) else { continue };
        if name.is_empty() {
            return Err(bad_header(META_PREFIX, "a name expected after the prefix"));
        }
        bytes += name.len() + value.len();
        if bytes > META_BYTES_MAX || entries.len() >= META_ENTRIES_MAX {
            let detail = format!(
                "user metadata is at most {META_ENTRIES_MAX} entries of {META_BYTES_MAX} bytes together"
            );
            return Err(Problem::new(ErrorCode::HeaderTooLarge, detail));
        }
        entries.push((name.to_owned(), visible(name, value)?.to_owned()));
    }
    entries.sort_unstable();
    Ok(entries)
}

fn visible<'v>(name: &str, value: &'v HeaderValue) -> Result<&'v str, Problem> {
    value
        .to_str()
        .map_err(|_| bad_header(&format!("{META_PREFIX}{name}"), "visible ASCII expected"))
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn headers(pairs: &[(&str, &[u8])]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                (name, HeaderValue::from_bytes(value).unwrap())
            })
            .collect()
    }

    #[test]
    fn contexts_look_like_tokens() {
        let long = "A".repeat(CONTEXT_BYTES_MAX + 1);
        let nine = ["A"; 9].join(".");
        let cases: [(&str, bool); 10] = [
            ("AbZ-_09", true),
            ("AA.BB", true),
            ("", false),
            ("AA=", false),
            ("AA..BB", false),
            ("AA.", false),
            ("A A", false),
            ("A+/", false),
            (&long, false),
            (&nine, false),
        ];
        for (text, ok) in cases {
            let got = context(&headers(&[(CONTEXT, text.as_bytes())]));
            match got {
                Ok(Some(token)) => assert!(ok && token == text, "{text}"),
                Ok(None) => panic!("{text} was not seen"),
                Err(problem) => {
                    assert!(!ok, "{text}: {problem}");
                    assert_eq!(problem.code(), ErrorCode::BadContext);
                }
            }
        }
        assert!(context(&headers(&[(CONTEXT, b"\xff")])).is_err());
        assert_eq!(context(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn put_ids_are_uuids_or_hashes() {
        let id = |text: &str| put_id(&headers(&[(IDEMPOTENCY_KEY, text.as_bytes())]));
        let uuid = "7d444840-9dc0-11d1-b245-5ffdce74fad2";
        assert_eq!(id(uuid), Ok(Some(PutId(0x7d44_4840_9dc0_11d1_b245_5ffd_ce74_fad2))));
        let order = id("order-17").unwrap();
        assert_eq!(id("order-17").unwrap(), order);
        assert_ne!(id("order-18").unwrap(), order);
        assert!(id(&"k".repeat(IDEMPOTENCY_KEY_BYTES_MAX)).is_ok());
        for bad in ["", &"k".repeat(IDEMPOTENCY_KEY_BYTES_MAX + 1), "tab\there"] {
            assert_eq!(id(bad).unwrap_err().code(), ErrorCode::BadHeader, "{bad}");
        }
        assert_eq!(put_id(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn content_types_follow_the_grammar() {
        let long = format!("text/{}", "x".repeat(CONTENT_TYPE_BYTES_MAX - 5));
        let longer = format!("{long}x");
        let cases: [(&str, bool); 12] = [
            ("application/json", true),
            ("text/html; charset=utf-8", true),
            ("application/x-www-form-urlencoded", true),
            ("image/svg+xml", true),
            (&long, true),
            (&longer, false),
            ("", false),
            ("text", false),
            ("text/", false),
            ("text/html; charset", false),
            ("*/*", false),
            ("text/html, text/plain", false),
        ];
        for (text, ok) in cases {
            let got = content_type(&headers(&[("content-type", text.as_bytes())]));
            assert_eq!(got.is_ok(), ok, "{text}");
        }
        assert_eq!(content_type(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn metadata_is_bounded_and_sorted() {
        let got = meta(&headers(&[
            ("x-atoll-meta-b", b"2"),
            ("X-Atoll-Meta-A", b"1"),
            ("x-atoll-meta-__proto__", b""),
            ("other", b"3"),
        ]));
        let expected = [("__proto__", ""), ("a", "1"), ("b", "2")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(got.unwrap(), expected);

        let big = vec![b'v'; META_BYTES_MAX];
        type Given<'a> = &'a [(&'a str, &'a [u8])];
        let cases: [(Given<'_>, ErrorCode); 3] = [
            (&[("x-atoll-meta-a", &big)], ErrorCode::HeaderTooLarge),
            (&[("x-atoll-meta-", b"v")], ErrorCode::BadHeader),
            (&[("x-atoll-meta-a", b"\xe9")], ErrorCode::BadHeader),
        ];
        for (given, code) in cases {
            assert_eq!(meta(&headers(given)).unwrap_err().code(), code);
        }
        let names: Vec<String> =
            (0..=META_ENTRIES_MAX).map(|i| format!("x-atoll-meta-{i}")).collect();
        let many: Vec<(&str, &[u8])> = names.iter().map(|n| (n.as_str(), &b"v"[..])).collect();
        assert_eq!(meta(&headers(&many)).unwrap_err().code(), ErrorCode::HeaderTooLarge);
        assert!(meta(&headers(&many[1..])).is_ok());
    }
}

//! Digests that a client announces for its body. A body that does not match is refused and nothing
//! is stored: `Content-MD5`, `Content-Digest` and `Repr-Digest` (RFC 9530; equal here, as bodies
//! are stored as they are), and the older `Digest`. Algorithms that we do not know say nothing.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use md5::Md5;
use service_kit::http::error::{ErrorCode, Problem};
use sha2::{Digest, Sha256, Sha512};

use super::bad_header;
use super::query::digits;

/// Header names by the grammar of their value.
const FIELD_DIGESTS: [&str; 2] = ["content-digest", "repr-digest"];

/// Checks all digests in `headers` against `body`.
///
/// # Errors
/// 400 `digest_mismatch`, or `bad_header` where one cannot be read.
pub fn check(headers: &HeaderMap, body: &[u8]) -> Result<(), Problem> {
    if let Some(text) = text(headers, "x-content-length")? {
        let announced = digits(text).ok_or_else(|| bad_header("X-Content-Length", "no number"))?;
        if announced != body.len() as u64 {
            return Err(mismatch("X-Content-Length"));
        }
    }
    if let Some(text) = text(headers, "content-md5")? {
        compare("Content-MD5", &decode("Content-MD5", text)?, &Md5::digest(body))?;
    }
    for name in FIELD_DIGESTS {
        let Some(text) = text(headers, name)? else { continue };
        for (algorithm, value) in members(name, text)? {
            let value = value.strip_prefix(':').and_then(|v| v.strip_suffix(':'));
            let value = value.ok_or_else(|| bad_header(name, "expected algorithm=:base64:"))?;
            by_algorithm(name, algorithm, value, body)?;
        }
    }
    if let Some(text) = text(headers, "digest")? {
        for (algorithm, value) in members("digest", text)? {
            by_algorithm("digest", algorithm, value, body)?;
        }
    }
    Ok(())
}

fn text<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<Option<&'h str>, Problem> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    value.to_str().map(Some).map_err(|_| bad_header(name, "not ASCII"))
}

/// The `algorithm=value` members of a comma-separated list.
fn members<'t>(name: &str, text: &'t str) -> Result<Vec<(&'t str, &'t str)>, Problem> {
    text.split(',')
        .map(|member| {
            let member = member.trim();
            member.split_once('=').ok_or_else(|| bad_header(name, "expected algorithm=digest"))
        })
        .collect()
}

fn by_algorithm(name: &str, algorithm: &str, value: &str, body: &[u8]) -> Result<(), Problem> {
    match algorithm.to_ascii_lowercase().as_str() {
        "sha-256" => compare(name, &decode(name, value)?, &Sha256::digest(body)),
        "sha-512" => compare(name, &decode(name, value)?, &Sha512::digest(body)),
        "md5" => compare(name, &decode(name, value)?, &Md5::digest(body)),
        _ => Ok(()),
    }
}

fn decode(name: &str, value: &str) -> Result<Vec<u8>, Problem> {
    STANDARD.decode(value).map_err(|_| bad_header(name, "the digest is not base64"))
}

fn compare(name: &str, announced: &[u8], actual: &[u8]) -> Result<(), Problem> {
    if announced == actual { Ok(()) } else { Err(mismatch(name)) }
}

fn mismatch(name: &str) -> Problem {
    Problem::new(ErrorCode::DigestMismatch, format!("the body does not match its {name}"))
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    #[test]
    fn digests_match_or_refuse() {
        // Of the body "hello".
        let md5 = "XUFAKrxLKna5cZ2REBfFkg==";
        let sha256 = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";
        let cases: [(&str, String, Result<(), ErrorCode>); 17] = [
            ("content-md5", md5.into(), Ok(())),
            ("content-md5", sha256.into(), Err(ErrorCode::DigestMismatch)),
            ("content-md5", "%%%".into(), Err(ErrorCode::BadHeader)),
            ("content-digest", format!("sha-256=:{sha256}:"), Ok(())),
            ("repr-digest", format!("SHA-256=:{sha256}:"), Ok(())),
            ("content-digest", format!("sha-256={sha256}"), Err(ErrorCode::BadHeader)),
            ("content-digest", format!("sha-256=:{md5}:"), Err(ErrorCode::DigestMismatch)),
            (
                "content-digest",
                format!("sha-256=:{sha256}:, sha-512=:{md5}:"),
                Err(ErrorCode::DigestMismatch),
            ),
            ("content-digest", "crc32c=:AAAAAA==:".into(), Ok(())),
            ("content-digest", "sha-256".into(), Err(ErrorCode::BadHeader)),
            ("content-digest", String::new(), Err(ErrorCode::BadHeader)),
            ("digest", format!("SHA-256={sha256}"), Ok(())),
            ("digest", format!("MD5={md5},SHA-256={sha256}"), Ok(())),
            ("digest", format!("SHA-256={md5}"), Err(ErrorCode::DigestMismatch)),
            ("x-content-length", "5".into(), Ok(())),
            ("x-content-length", "4".into(), Err(ErrorCode::DigestMismatch)),
            ("x-content-length", "five".into(), Err(ErrorCode::BadHeader)),
        ];
        for (name, value, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(HeaderName::from_static(name), value.parse().unwrap());
            assert_eq!(
                check(&headers, b"hello").map_err(|p| p.code()),
                expected,
                "{name}: {value}"
            );
        }
        assert_eq!(check(&HeaderMap::new(), b""), Ok(()));
    }
}

//! Several versions as `multipart/mixed` (RFC 2046 section 5.1): one part per sibling, its bytes
//! as they are. The boundary is 128 random bits drawn after the values are fixed, so no value can
//! contain it but by a chance of 2^-128.

use axum::body::Body;
use bytes::{BufMut, BytesMut};
use dynamo_core::entropy::Entropy;
use dynamo_core::wire::headers::META_PREFIX;
use http::HeaderValue;

use super::{Found, headers, value};
use crate::limits::PART_HEAD_BYTES;

/// A fresh boundary.
#[must_use]
pub fn boundary(entropy: &mut impl Entropy) -> String {
    format!("atoll-{:016x}{:016x}", entropy.next_u64(), entropy.next_u64())
}

/// The media type of an answer with this boundary.
#[must_use]
pub fn content_type(boundary: &str) -> HeaderValue {
    // Letters, digits and '-' are always a valid header value.
    HeaderValue::try_from(format!("multipart/mixed; boundary={boundary}"))
        .unwrap_or(HeaderValue::from_static("multipart/mixed"))
}

/// The body: every sibling in order, with its own headers.
pub fn encode(found: &Found, boundary: &str) -> Body {
    let values: usize = found.values.iter().map(|value| value.len() + PART_HEAD_BYTES).sum();
    let mut out = BytesMut::with_capacity(values + PART_HEAD_BYTES);
    for (view, bytes) in found.siblings() {
        out.put_slice(b"--");
        out.put_slice(boundary.as_bytes());
        out.put_slice(b"\r\n");
        line(&mut out, "Content-Type", value::content_type(view));
        line(&mut out, "Content-Length", &view.len.to_string());
        line(&mut out, "ETag", &format!("\"{}\"", view.etag));
        if let Some(date) = headers::http_date(view.last_modified) {
            line(&mut out, "Last-Modified", &date);
        }
        for (name, text) in &view.meta {
            line(&mut out, &format!("{META_PREFIX}{name}"), text);
        }
        out.put_slice(b"\r\n");
        if let Some(bytes) = bytes {
            out.put_slice(bytes);
        }
        out.put_slice(b"\r\n");
    }
    out.put_slice(format!("--{boundary}--\r\n").as_bytes());
    Body::from(out.freeze())
}

/// One header of a part. What would break out of its line is left out; it was checked when it was
/// stored, but perhaps by a peer of another version.
fn line(out: &mut BytesMut, name: &str, text: &str) {
    if name.chars().chain(text.chars()).any(char::is_control) {
        return;
    }
    for piece in [name, ": ", text, "\r\n"] {
        out.put_slice(piece.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use dynamo_core::entropy::SplitMix;
    use dynamo_core::id::NodeId;
    use dynamo_core::params::Durability;
    use dynamo_core::time::WallMs;
    use dynamo_core::wire::coordinate::{Evidence, SiblingView, VersionsView};
    use http_body_util::BodyExt;

    use super::*;
    use crate::answer::Trip;

    fn found(values: &[&'static [u8]]) -> Found {
        let sibling = |value: &&'static [u8]| SiblingView {
            etag: format!("e{}", value.len()),
            last_modified: WallMs(0),
            len: value.len(),
            content_type: Some("text/plain".to_owned()),
            meta: vec![
                ("a".to_owned(), "1".to_owned()),
                ("bad".to_owned(), "x\r\ny: z".to_owned()),
            ],
            expires_at: None,
        };
        Found {
            versions: VersionsView {
                values: true,
                siblings: values.iter().map(sibling).collect(),
                sibling_count: values.len(),
                ..VersionsView::default()
            },
            values: values.iter().map(|value| Bytes::from_static(value)).collect(),
            evidence: Evidence {
                acks: 2,
                asked: 2,
                primaries: 2,
                n: 3,
                hinted: 0,
                coordinator: NodeId(1),
                durability: Durability::Fsync,
            },
            trip: Trip {
                coordinator: NodeId(1),
                coordination: Duration::ZERO,
                total: Duration::ZERO,
            },
        }
    }

    #[tokio::test]
    async fn parts_come_back_byte_for_byte() {
        let values: [&[u8]; 3] = [b"plain", b"", b"\r\n--atoll-\r\n\xff--"];
        let boundary = boundary(&mut SplitMix::new(5));
        let body = encode(&found(&values), &boundary).collect().await.unwrap().to_bytes();
        let delimiter = format!("--{boundary}\r\n");
        let text = body.escape_ascii().to_string();
        assert!(body.starts_with(delimiter.as_bytes()), "{text}");
        assert!(body.ends_with(format!("\r\n--{boundary}--\r\n").as_bytes()), "{text}");
        let mut rest = &body[..];
        for value in values {
            rest = rest.strip_prefix(delimiter.as_bytes()).unwrap();
            let head_end = rest.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
            let head = std::str::from_utf8(&rest[..head_end]).unwrap();
            assert!(head.contains(&format!("Content-Length: {}\r\n", value.len())), "{head}");
            assert!(head.contains("x-atoll-meta-a: 1\r\n"), "{head}");
            assert!(!head.contains("bad"), "{head}");
            rest = &rest[head_end..];
            assert_eq!(&rest[..value.len()], value);
            rest = rest[value.len()..].strip_prefix(b"\r\n").unwrap();
        }
    }
}

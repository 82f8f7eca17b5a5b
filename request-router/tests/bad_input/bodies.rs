//! Values.

use super::Row;
use super::http::message;

const MAX: usize = 1024 * 1024;

fn chunked(path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let headers = [headers, &[("transfer-encoding", "chunked")]].concat();
    let mut bytes = message("PUT", path, &headers, b"");
    for piece in body.chunks(64 * 1024) {
        bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        bytes.extend_from_slice(piece);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

pub(super) fn rows() -> Vec<Row> {
    let full = vec![b'v'; MAX];
    let over = vec![b'v'; MAX + 1];
    let put = |headers: &[(&str, &str)], body: &[u8]| message("PUT", "/v1/kv/b/k", headers, body);
    let too_large = "payload_too_large";
    let mismatch = "digest_mismatch";
    let other = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    vec![
        Row::taken("87 the largest value", message("PUT", "/v1/kv/taken/max", &[], &full), 204),
        Row::taken("87 the largest value, chunked", chunked("/v1/kv/taken/max2", &[], &full), 204),
        Row::refused("88 one byte more", put(&[], &over), 413, too_large).closing(),
        Row::refused(
            "89 one byte more, chunked",
            chunked("/v1/kv/b/k", &[], &over),
            413,
            too_large,
        )
        .closing(),
        Row::refused(
            "89 a lying length",
            chunked("/v1/kv/b/k", &[("x-content-length", "3")], b"four"),
            400,
            mismatch,
        ),
        Row::refused(
            "89 a lying MD5",
            put(&[("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")], b"not empty"),
            400,
            mismatch,
        ),
        Row::refused(
            "89 a lying digest",
            put(&[("content-digest", &format!("sha-256=:{other}:"))], b"not empty"),
            400,
            mismatch,
        ),
        Row::refused(
            "89 a lying digest of old",
            put(&[("digest", &format!("SHA-256={other}"))], b"not empty"),
            400,
            mismatch,
        ),
        Row::taken(
            "89 a true digest",
            message(
                "PUT",
                "/v1/kv/taken/digest",
                &[("content-digest", &format!("sha-256=:{other}:"))],
                b"",
            ),
            204,
        ),
        Row::refused(
            "90 10 GB announced",
            put(&[("content-length", "10000000000")], b""),
            413,
            too_large,
        )
        .closing(),
        Row::taken("91 no bytes", message("PUT", "/v1/kv/taken/empty", &[], b""), 204),
    ]
}

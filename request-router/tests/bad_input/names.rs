//! Paths, buckets and keys.

use super::Row;
use super::http::message;

pub(super) fn rows() -> Vec<Row> {
    [paths(), keys(), buckets()].concat()
}

fn get(path: &str) -> Vec<u8> {
    message("GET", path, &[], b"")
}

fn put(path: &str) -> Vec<u8> {
    message("PUT", path, &[], b"v")
}

fn paths() -> Vec<Row> {
    vec![
        Row::refused("41 empty key", put("/v1/kv/b/"), 400, "empty_key"),
        Row::refused("41 empty key, GET", get("/v1/kv/b/"), 400, "empty_key"),
        Row::taken("42 key of 1 byte", put("/v1/kv/taken/k"), 204),
        Row::taken("42 longest key", put(&format!("/v1/kv/taken/{}", "k".repeat(1024))), 204),
        Row::taken(
            "42 longest key, escaped",
            put(&format!("/v1/kv/taken/{}", "%6b".repeat(1024))),
            204,
        ),
        Row::refused(
            "42 key too long",
            put(&format!("/v1/kv/b/{}", "k".repeat(1025))),
            400,
            "key_too_long",
        ),
        Row::refused("49 doubled slashes", get("//v1//kv/b/k"), 404, "not_found"),
        Row::refused("49 unknown version", get("/v2/kv/b/k"), 404, "not_found"),
        Row::refused("no such route", get("/nowhere"), 404, "not_found"),
        Row::refused("103 metrics on the client port", get("/metrics"), 404, "not_found"),
        Row::refused(
            "103 a peer's route",
            message("POST", "/v1/coordinate/put", &[], b"x"),
            404,
            "not_found",
        ),
        Row::refused("103 gossip", message("POST", "/v1/gossip", &[], b"{}"), 404, "not_found"),
    ]
}

fn keys() -> Vec<Row> {
    let mut rows = Vec::new();
    for escape in ["%zz", "%", "%4", "a%", "%%41", "%u0041", "%+1"] {
        rows.push(Row::refused(
            format!("43 escape '{escape}'"),
            put(&format!("/v1/kv/b/{escape}")),
            400,
            "bad_percent_encoding",
        ));
    }
    let odd = [
        "%ff%fe",
        "%c0%af",
        "%ed%a0%80",
        "%00",
        "%0d%0a",
        "%7f",
        "%e2%80%ae",
        "../../etc/passwd",
        "%2e%2e%2f",
        "..%5c",
        ".",
        "..",
        "a+b",
        "//",
        "stats",
        "_batch",
        "%1b[31m",
    ];
    for key in odd {
        rows.push(Row::taken(
            format!("44-52 key '{key}'"),
            put(&format!("/v1/kv/taken/{key}")),
            204,
        ));
    }
    rows
}

fn buckets() -> Vec<Row> {
    let mut rows = Vec::new();
    for bucket in ["_system", "__internal", "%5fx"] {
        rows.push(Row::refused(
            format!("51 bucket '{bucket}'"),
            put(&format!("/v1/kv/{bucket}/k")),
            403,
            "reserved_bucket",
        ));
    }
    for bucket in [".", "..", "-a", "Carts", "a b", "a%20b", "%ff", "a%2fb", &"b".repeat(65)] {
        let path = format!("/v1/kv/{}/k", bucket.replace(' ', "%20"));
        rows.push(Row::refused(format!("51 bucket '{bucket}'"), put(&path), 400, "bad_bucket"));
    }
    rows.push(Row::taken("51 longest bucket", put(&format!("/v1/kv/{}/k", "b".repeat(64))), 204));
    rows
}

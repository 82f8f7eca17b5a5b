//! Causal contexts, as far as they can be judged without the secret: everything that no coordinator
//! has issued.

use super::Row;
use super::http::message;

pub(super) fn rows() -> Vec<Row> {
    let put = |context: &str| message("PUT", "/v1/kv/b/k", &[("x-atoll-context", context)], b"v");
    let long = "A".repeat(5000);
    let many = ["AAAA"; 9].join(".");
    // Version 1, no flags, no clock, and a MAC of zeros.
    let forged = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let given = [
        ("empty", ""),
        ("padding", "AAA="),
        ("not base64url", "a+b/"),
        ("a space", "AA AA"),
        ("a dot too many", "AAAA."),
        ("too long", long.as_str()),
        ("too many", many.as_str()),
        ("one letter", "A"),
        ("too short for a MAC", "AQAA"),
        ("forged", forged),
        ("two forged", "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
    ];
    let mut rows: Vec<Row> = given
        .iter()
        .map(|(name, context)| {
            Row::refused(format!("74-79 {name}"), put(context), 400, "bad_context")
        })
        .collect();
    // The same form with version 255.
    let newer = "_wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    rows.push(Row::refused("81 of a newer version", put(newer), 400, "context_version"));
    rows.push(Row::refused(
        "74 on a delete",
        message("DELETE", "/v1/kv/b/k", &[("x-atoll-context", "a+b/")], b""),
        400,
        "bad_context",
    ));
    rows.push(Row::broken("79 64 kB of context", put(&"A".repeat(65_536)), 431));
    rows
}

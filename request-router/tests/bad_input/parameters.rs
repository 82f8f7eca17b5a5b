//! Query parameters and headers.

use super::Row;
use super::http::message;

pub(super) fn rows() -> Vec<Row> {
    [numbers(), names(), headers(), media(), documents(), operations(), bulk(), properties()]
        .concat()
}

fn get(query: &str) -> Vec<u8> {
    message("GET", &format!("/v1/kv/witness/alive?{query}"), &[], b"")
}

fn put(query: &str) -> Vec<u8> {
    message("PUT", &format!("/v1/kv/b/k?{query}"), &[], b"v")
}

fn with(headers: &[(&str, &str)]) -> Vec<u8> {
    message("PUT", "/v1/kv/b/k", headers, b"v")
}

fn numbers() -> Vec<Row> {
    let mut rows = Vec::new();
    let huge = "9".repeat(31);
    let counts = [
        "0", "-1", "4", "256", "1.5", "", "0x1", "1e0", "+1", "%201", "1%20", "%D9%A1", "QUORUM",
        "half", "%00", &huge,
    ];
    for value in counts {
        for name in ["r", "pr"] {
            let query = format!("{name}={value}");
            let row = Row::refused(format!("53-56 {query}"), get(&query), 400, "bad_parameter");
            rows.push(row.naming(name));
        }
        for name in ["w", "pw"] {
            let query = format!("{name}={value}");
            let row = Row::refused(format!("53-56 {query}"), put(&query), 400, "bad_parameter");
            rows.push(row.naming(name));
        }
    }
    for value in ["0", "-1", "1000000000", "60001", "NaN", "", "1e3", "+5"] {
        let query = format!("timeout_ms={value}");
        let row = Row::refused(format!("61 {query}"), get(&query), 400, "bad_parameter");
        rows.push(row.naming("timeout_ms"));
    }
    for query in
        ["r=quorum", "r=one&pr=1", "r=all", "timeout_ms=60000", "explain", "notfound_ok=true"]
    {
        rows.push(Row::taken(format!("56 {query}"), get(query), 200));
    }
    rows
}

fn names() -> Vec<Row> {
    let unknown = "unknown_parameter";
    let duplicate = "duplicate_parameter";
    vec![
        Row::refused("57 r twice", get("r=1&r=2"), 400, duplicate).naming("r"),
        Row::refused("57 r twice, escaped", get("r=1&%72=1"), 400, duplicate),
        Row::refused("58 typo", get("rr=1"), 400, unknown).naming("rr"),
        Row::refused("58 of another method", get("w=1"), 400, unknown),
        Row::refused("58 of another method, PUT", put("r=1"), 400, unknown),
        Row::refused("58 empty name", get("r=1&"), 400, unknown),
        Row::refused("60 n", put("n=3"), 400, unknown),
        Row::refused("101 token", get("token=hunter2"), 400, unknown),
        Row::refused("101 access_token", get("access_token=hunter2"), 400, unknown),
        Row::refused("43 escape in the query", get("sibling=%zz"), 400, "bad_percent_encoding"),
        Row::refused("watch", get("watch"), 501, "not_implemented"),
        Row::refused("list", message("GET", "/v1/kv/b", &[], b""), 501, "not_implemented"),
        Row::refused("list, typo", message("GET", "/v1/kv/b?limt=1", &[], b""), 400, unknown),
        Row::refused("96 batch", message("POST", "/v1/batch", &[], b"{}"), 501, "not_implemented"),
        Row::refused("transfers, typo", message("GET", "/v1/transfers?x", &[], b""), 400, unknown),
    ]
}

/// Requests that work on everything.
fn bulk() -> Vec<Row> {
    let refused = |name: &str, path: &str, body: &[u8], status, code| {
        Row::refused(name.to_owned(), message("POST", path, &[], body), status, code)
    };
    let (wrong, records) = ("unprocessable", "/v1/admin/partitions/0/records");
    let repair = "/v1/anti-entropy/repair";
    vec![
        refused("loss of nothing", "/v1/transfers/accept-loss", b"{\"partitions\":[]}", 422, wrong),
        refused("repair twice", repair, b"{\"bucket\":\"b\",\"partition\":0}", 422, wrong),
        refused("repair of no partition", repair, b"{\"partition\":70000}", 422, wrong),
        refused("repair of -1", repair, b"{\"partition\":-1}", 422, wrong),
        refused("no partition", "/v1/admin/partitions/-1/records", b"{}", 422, wrong),
        refused("records, not JSON", records, b"{", 400, "bad_json"),
        refused("records, unknown field", records, b"{\"all\":true}", 422, wrong),
        refused("merge of no frame", "/v1/admin/merge", b"{}", 400, "bad_frame"),
    ]
}

fn headers() -> Vec<Row> {
    let many_tags = vec!["\"a\""; 1000].join(",");
    let long = "k".repeat(256);
    let meta = "m".repeat(5000);
    let many: Vec<(String, String)> =
        (0..40).map(|i| (format!("x-atoll-meta-{i}"), "v".to_owned())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let bad = "bad_header";
    let twice = |name| {
        Row::refused(
            format!("71 two {name}"),
            with(&[(name, "a"), (name, "a")]),
            400,
            "duplicate_header",
        )
    };
    vec![
        Row::refused(
            "68 both conditions",
            with(&[("if-match", "\"a\""), ("if-none-match", "*")]),
            400,
            bad,
        ),
        Row::refused("68 malformed tag", with(&[("if-match", "abc")]), 400, bad),
        Row::refused("68 open tag", with(&[("if-none-match", "\"abc")]), 400, bad),
        Row::refused("68 1,000 tags", with(&[("if-match", &many_tags)]), 400, bad),
        Row::refused("68 nothing there", with(&[("if-match", "*")]), 412, "precondition_failed"),
        Row::refused(
            "70 metadata of 5 kB",
            with(&[("x-atoll-meta-a", &meta)]),
            431,
            "header_too_large",
        ),
        Row::refused("70 40 entries", with(&many), 431, "header_too_large"),
        Row::refused("70 not ASCII", with(&[("x-atoll-meta-a", "\u{e9}")]), 400, bad),
        Row::refused("70 no name", with(&[("x-atoll-meta-", "v")]), 400, bad),
        Row::taken(
            "97 a name like a word of scripts",
            message("PUT", "/v1/kv/taken/meta", &[("x-atoll-meta-__proto__", "1")], b"v"),
            204,
        ),
        twice("authorization"),
        twice("x-atoll-context"),
        twice("idempotency-key"),
        twice("x-atoll-timeout-ms"),
        twice("content-type"),
        Row::refused("72 empty idempotency key", with(&[("idempotency-key", "")]), 400, bad),
        Row::refused("72 long idempotency key", with(&[("idempotency-key", &long)]), 400, bad),
        Row::refused("61 timeout header", with(&[("x-atoll-timeout-ms", "1e3")]), 400, bad),
        Row::taken(
            "73 internal headers",
            message(
                "GET",
                "/v1/kv/witness/alive",
                &[
                    ("x-atoll-internal-x", "1"),
                    ("x-forwarded-for", "1.2.3.4"),
                    ("x-atoll-sender", "x"),
                ],
                b"",
            ),
            200,
        ),
    ]
}

fn media() -> Vec<Row> {
    let read = |headers: &[(&str, &str)]| message("GET", "/v1/kv/witness/alive", headers, b"");
    let long = format!("text/{}", "x".repeat(10_000));
    let ranges = (0..1000).map(|i| format!("{i}-{}", i + 9)).collect::<Vec<_>>().join(",");
    let many = vec!["a/b"; 100].join(",");
    let mut rows = vec![
        Row::taken("63 no content type", message("PUT", "/v1/kv/taken/none", &[], b"v"), 204),
        Row::taken(
            "64 html",
            message("PUT", "/v1/kv/taken/html", &[("content-type", "text/html")], b"v"),
            204,
        ),
        Row::refused(
            "66 unsatisfiable",
            read(&[("accept", "application/x-nonsense")]),
            406,
            "not_acceptable",
        ),
        Row::refused(
            "66 unsatisfiable, before a write",
            message("PUT", "/v1/kv/b/k?return_body", &[("accept", "image/png")], b"v"),
            406,
            "not_acceptable",
        ),
        Row::refused(
            "66 explain",
            message("GET", "/v1/kv/b/k?explain", &[("accept", "text/html")], b""),
            406,
            "not_acceptable",
        ),
        Row::refused("66 malformed", read(&[("accept", "text")]), 400, "bad_header"),
        Row::refused("66 100 ranges", read(&[("accept", &many)]), 400, "bad_header"),
        Row::refused(
            "67 gzip",
            with(&[("content-encoding", "gzip")]),
            415,
            "unsupported_media_type",
        ),
        Row::taken("69 range", read(&[("range", "bytes=0-1")]), 200),
        Row::taken("69 1,000 ranges", read(&[("range", &format!("bytes={ranges}"))]), 200),
    ];
    for kind in
        ["text", "text/", "/html", "text/html; charset", "*/*", "a/b, c/d", "", long.as_str()]
    {
        let name = format!("64 content type '{}'", &kind[..kind.len().min(40)]);
        rows.push(Row::refused(name, with(&[("content-type", kind)]), 400, "bad_header"));
    }
    rows
}

fn stage(body: &str) -> Vec<u8> {
    raw_stage(body.as_bytes())
}

fn raw_stage(body: &[u8]) -> Vec<u8> {
    message("POST", "/v1/cluster/stage", &[("content-type", "application/json")], body)
}

fn documents() -> Vec<Row> {
    let typed = |kind: &str| {
        message("POST", "/v1/cluster/stage", &[("content-type", kind)], b"{\"leave\":{}}")
    };
    let deep = format!("{{\"join\":{}}}", "[".repeat(50_000));
    let media = "unsupported_media_type";
    let mut rows = vec![
        Row::refused("65 text", typed("text/plain"), 415, media),
        Row::refused("65 utf-16", typed("application/json; charset=utf-16"), 415, media),
        Row::refused("92 depth", stage(&deep), 400, "bad_json"),
        Row::refused("92 100,000 deep", stage(&"[".repeat(100_000)), 413, "payload_too_large")
            .closing(),
        Row::refused("92 129 deep", stage(&("[".repeat(129) + &"]".repeat(129))), 400, "bad_json"),
        Row::refused(
            "93 a number of 50,000 digits",
            stage(&format!("{{\"join\":{}}}", "9".repeat(50_000))),
            400,
            "bad_json",
        ),
        Row::refused("93 not UTF-8", raw_stage(b"{\"join\":\"\xff\"}"), 400, "bad_json"),
        Row::refused("93 too large", stage(&" ".repeat(70_000)), 413, "payload_too_large")
            .closing(),
    ];
    let broken = [
        "",
        "{",
        "{\"leave\":{}} x",
        "\u{feff}{}",
        "{\"a\":NaN}",
        "{\"a\":1e999}",
        "{\"a\":1,\"a\":2}",
        "{\"a\":\"\\ud800\"}",
    ];
    for body in broken {
        rows.push(Row::refused(format!("93 '{body}'"), stage(body), 400, "bad_json"));
    }
    for body in ["{\"join\":{},\"leave\":{}}", "{}", "{\"explode\":{}}", "[]", "null", "\"leave\""]
    {
        rows.push(Row::refused(format!("93 '{body}'"), stage(body), 422, "unprocessable"));
    }
    rows
}

fn operations() -> Vec<Row> {
    let get = |path: &str| message("GET", path, &[], b"");
    let commit = |headers: &[(&str, &str)]| message("POST", "/v1/cluster/commit", headers, b"");
    let parameter = "bad_parameter";
    vec![
        Row::refused("commit without a plan", commit(&[]), 400, "bad_header"),
        Row::refused("commit of anything", commit(&[("if-match", "*")]), 400, "bad_header"),
        Row::refused("place of nothing", get("/v1/ring/preference"), 400, parameter),
        Row::refused("place without key", get("/v1/ring/preference?bucket=b"), 400, parameter),
        Row::refused("place of no key", get("/v1/ring/preference?bucket=b&key="), 400, "empty_key"),
        Row::refused(
            "place of no bucket",
            get("/v1/ring/preference?bucket=B&key=k"),
            400,
            "bad_bucket",
        ),
        Row::refused("wait too long", get("/v1/ring?wait_ms=60001"), 400, parameter),
        Row::refused("stop nobody", get("/v1/cluster/safe-to-stop?node=nobody"), 404, "not_found"),
        Row::refused("stop what", get("/v1/cluster/safe-to-stop"), 400, parameter),
        Row::refused("no sync point", get("/v1/hints/sync-point/%2e%2e%2fetc"), 404, "not_found"),
        Row::refused("cluster with a parameter", get("/v1/cluster?x=1"), 400, "unknown_parameter"),
    ]
}

fn properties() -> Vec<Row> {
    let put = |path: &str, body: &str| message("PUT", path, &[], body.as_bytes());
    let mut rows = vec![
        Row::refused("51 reserved properties", put("/v1/buckets/_x", "{}"), 403, "reserved_bucket"),
        Row::refused("51 properties of no bucket", put("/v1/buckets/B", "{}"), 400, "bad_bucket"),
    ];
    let bodies = [
        "{\"n\":0}",
        "{\"n\":100}",
        "{\"n\":2,\"w\":3}",
        "{\"n\":2,\"pr\":3}",
        "{\"r\":\"half\"}",
        "{\"m\":2}",
        "{\"n\":3.0}",
        "{\"n\":-1}",
        "{\"n\":1e0}",
        "{\"n\":18446744073709551616}",
    ];
    for body in bodies {
        let bytes = put("/v1/buckets/b", body);
        rows.push(Row::refused(format!("60-121 {body}"), bytes, 422, "unprocessable"));
    }
    rows
}

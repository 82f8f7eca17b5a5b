//! Where a message begins and ends (numbers of the rows of the threat list in the names).

use super::http::message;
use super::{Row, SILENCE};

const TLS_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

fn put(headers: &str, body: &str) -> Vec<u8> {
    format!("PUT /v1/kv/b/k HTTP/1.1\r\nhost: a\r\n{headers}\r\n{body}").into_bytes()
}

fn get(headers: &str) -> Vec<u8> {
    format!("GET /v1/kv/b/k HTTP/1.1\r\nhost: a\r\n{headers}\r\n").into_bytes()
}

pub(super) fn rows() -> Vec<Row> {
    [heads(), methods(), lengths(), chunks(), bodies_that_end_early(), limits()].concat()
}

fn line(line: &str) -> Vec<u8> {
    format!("{line}\r\nhost: a\r\n\r\n").into_bytes()
}

fn methods() -> Vec<Row> {
    vec![
        Row::refused("8 CONNECT", line("CONNECT a:80 HTTP/1.1"), 405, "method_not_allowed")
            .closing(),
        Row::refused("8 TRACE", line("TRACE /v1/kv/b/k HTTP/1.1"), 405, "method_not_allowed"),
        Row::refused("9 BREW", line("BREW /v1/kv/b/k HTTP/1.1"), 405, "method_not_allowed"),
        Row::refused("9 lower case", line("get /v1/kv/b/k HTTP/1.1"), 405, "method_not_allowed"),
        Row::refused(
            "9 POST to a key",
            line("POST /v1/kv/b/k HTTP/1.1"),
            405,
            "method_not_allowed",
        ),
        Row::refused("9 PUT to a bucket", line("PUT /v1/kv/b HTTP/1.1"), 405, "method_not_allowed"),
        Row::refused("10 OPTIONS *", line("OPTIONS * HTTP/1.1"), 405, "method_not_allowed"),
        Row::refused("10 OPTIONS", line("OPTIONS /v1/kv/b/k HTTP/1.1"), 405, "method_not_allowed"),
    ]
}

fn heads() -> Vec<Row> {
    let mut rows = vec![
        Row::broken("1 garbage", "\x01\x02\x03garbage\r\n\r\n", 400),
        Row::broken("1 a TLS hello", TLS_HELLO, 400).then_fin(),
        Row::broken("2 HTTP/0.9", "GET /v1/kv/b/k\r\n\r\n", 400).then_fin(),
        Row::broken("2 HTTP/2.0 in the line", line("GET /v1/kv/b/k HTTP/2.0"), 505),
        Row::broken("2 HTTP/3.1 in the line", line("GET /v1/kv/b/k HTTP/3.1"), 505),
        Row::broken("2 HTTP/1.2", line("GET /v1/kv/b/k HTTP/1.2"), 400),
        Row::broken("2 HTTP/11", line("GET /v1/kv/b/k HTTP/11"), 400),
        Row::broken("3 HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", SILENCE),
        Row::broken("47 a fragment", line("GET /v1/kv/b/k#x HTTP/1.1"), 400),
        Row::broken("47 a fragment in the query", line("GET /v1/kv/b/k?r=1#x HTTP/1.1"), 400),
        Row::refused("4 no host", b"GET /v1/kv/b/k HTTP/1.1\r\n\r\n".to_vec(), 400, "bad_host")
            .closing(),
        Row::refused("5 two hosts", get("host: b\r\n"), 400, "bad_host").closing(),
        Row::refused(
            "4 a host that is none",
            b"GET /v1/kv/b/k HTTP/1.1\r\nhost: a b\r\n\r\n".to_vec(),
            400,
            "bad_host",
        )
        .closing(),
        Row::refused(
            "7 absolute form, foreign authority",
            line("GET http://evil.example/v1/kv/b/none HTTP/1.1"),
            404,
            "not_found",
        ),
        Row::refused(
            "38 Expect: foo",
            put("expect: foo\r\ncontent-length: 1\r\n", "x"),
            417,
            "expectation_failed",
        )
        .closing(),
        Row::refused(
            "39 Upgrade: h2c",
            get("connection: upgrade\r\nupgrade: h2c\r\n"),
            404,
            "not_found",
        ),
        Row::refused(
            "39 websocket",
            get("connection: upgrade\r\nupgrade: websocket\r\n"),
            404,
            "not_found",
        ),
        Row::taken("24 LF only", b"GET /v1/kv/witness/alive HTTP/1.1\nhost: a\n\n".to_vec(), 200),
    ];
    let broken = [
        ("25 obs-fold", "x: a\r\n b\r\n"),
        ("25 space before colon", "x : a\r\n"),
        ("25 NUL", "x: a\0b\r\n"),
        ("25 bare CR", "x: a\rb\r\n"),
        ("25 empty name", ": a\r\n"),
    ];
    rows.extend(broken.map(|(name, header)| Row::broken(name, get(header), 400)));
    rows
}

fn lengths() -> Vec<Row> {
    let mut rows = vec![Row::broken(
        "11 two lengths",
        put("content-length: 3\r\ncontent-length: 4\r\n", "abcd"),
        400,
    )];
    for (name, length) in [
        ("same", "content-length: 3\r\ncontent-length: 3\r\n"),
        ("same number", "content-length: 3\r\nx: y\r\nCONTENT-LENGTH: 003\r\n"),
        ("same, thrice", "content-length: 3\r\ncontent-length: 3\r\ncontent-length: 3\r\n"),
    ] {
        let bytes = put(length, "abc");
        rows.push(
            Row::refused(format!("13 twice the {name}"), bytes, 400, "bad_framing").closing(),
        );
    }
    for value in [
        "3, 4",
        "3, 3",
        "3;3",
        "3.0",
        "+3",
        "-1",
        "0x3",
        "",
        "18446744073709551616",
        "3 3",
        "three",
    ] {
        let bytes = put(&format!("content-length: {value}\r\n"), "abc");
        rows.push(Row::broken(format!("12 length '{value}'"), bytes, 400));
    }
    let both = "content-length: 6\r\ntransfer-encoding: chunked\r\n";
    let other_way = "transfer-encoding: chunked\r\ncontent-length: 6\r\n";
    let late = "content-length: 6\r\naccept: */*\r\nTransfer-Encoding:chunked\r\n";
    for (name, headers) in [("CL.TE", both), ("TE.CL", other_way), ("CL.TE apart", late)] {
        let bytes = put(headers, "0\r\n\r\nG");
        rows.push(Row::refused(format!("14 {name}"), bytes, 400, "bad_framing").closing());
    }
    // The doubt counts also where another request came before on the connection.
    let bytes = [get("connection: keep-alive\r\n"), put(both, "0\r\n\r\nG")].concat();
    rows.push(Row::refused("14 CL.TE, second", bytes, 404, "not_found").then(400, "bad_framing"));
    for coding in ["xchunked", "chunked, identity", "identity", "gzip, chunked", "chunked, chunked"]
    {
        let bytes = put(&format!("transfer-encoding: {coding}\r\n"), "0\r\n\r\n");
        rows.push(Row::broken(format!("15 coding '{coding}'"), bytes, 400));
    }
    let old = "PUT /v1/kv/b/k HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    rows.push(Row::broken("17 coding in HTTP/1.0", old, 400));
    rows
}

fn chunks() -> Vec<Row> {
    let sizes = [
        "ffffffffffffffff",
        "fffffffffffffffff",
        "7fffffffffffffff",
        "10000000000000000000000003",
        "-3",
        "+3",
        "0x3",
        " 3",
        "3 x",
        "g",
        "",
    ];
    let mut rows: Vec<Row> = sizes
        .iter()
        .map(|size| {
            let bytes =
                put("transfer-encoding: chunked\r\n", &format!("{size}\r\nabc\r\n0\r\n\r\n"));
            Row::refused(format!("18 chunk size '{size}'"), bytes, 400, "bad_framing").closing()
        })
        .collect();
    let chunked = |body| put("transfer-encoding: chunked\r\n", body);
    rows.push(Row::broken("18 LF after the size", chunked("3\nabc\r\n0\r\n\r\n"), 400));
    rows.push(Row::broken("19 more than its size", chunked("3\r\nabcdef\r\n0\r\n\r\n"), 400));
    rows
}

fn bodies_that_end_early() -> Vec<Row> {
    let chunked = |body| put("transfer-encoding: chunked\r\n", body);
    let code = "truncated_body";
    vec![
        Row::refused("21 no last chunk", chunked("3\r\nabc\r\n"), 400, code).then_fin().closing(),
        Row::refused("21 half a chunk", chunked("9\r\nabc"), 400, code).then_fin().closing(),
        Row::refused("22 CL 10, 3 bytes", put("content-length: 10\r\n", "abc"), 400, code)
            .then_fin()
            .closing(),
        Row::refused(
            "23 CL 10, 3 bytes, silence",
            put("content-length: 10\r\nx-atoll-timeout-ms: 300\r\n", "abc"),
            408,
            "request_timeout",
        )
        .closing(),
    ]
}

fn limits() -> Vec<Row> {
    let many: String = (0..65).map(|i| format!("x-{i}: v\r\n")).collect();
    let large: String = (0..40).map(|i| format!("x-{i}: {}\r\n", "a".repeat(500))).collect();
    let ignored = "g".repeat(70 * 1024);
    vec![
        Row::broken(
            "26 request line of 70 kB",
            format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(70_000)),
            414,
        ),
        Row::broken("27 header of 20 kB", get(&format!("x: {}\r\n", "a".repeat(20_000))), 431),
        Row::broken("27 headers of 20 kB together", get(&large), 431),
        Row::broken("28 65 headers", get(&many), 431),
        Row::refused(
            "37 100-continue beyond the limit",
            put("expect: 100-continue\r\ncontent-length: 2000000\r\n", ""),
            413,
            "payload_too_large",
        )
        .closing(),
        Row::taken(
            "40 GET with a body",
            message("GET", "/v1/kv/witness/alive", &[], b"ignored"),
            200,
        ),
        Row::taken(
            "40 DELETE with a body",
            message("DELETE", "/v1/kv/taken/gone", &[], b"ignored"),
            204,
        ),
        Row::refused(
            "40 GET with a large body",
            message("GET", "/v1/kv/witness/alive", &[], ignored.as_bytes()),
            413,
            "payload_too_large",
        )
        .closing(),
        Row::refused(
            "40 DELETE with a large body",
            message("DELETE", "/v1/kv/b/k", &[], ignored.as_bytes()),
            413,
            "payload_too_large",
        )
        .closing(),
    ]
}

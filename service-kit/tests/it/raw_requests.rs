//! Hostile and odd bytes, one row each: what is sent, which status comes back, which code.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::get;
use service_kit::http::server::ServerLimits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{BODY_MAX, exchange, metric, read_one, read_to_end, routes, serve};

/// One exchange on a connection of its own, which the server has to close. `status` 0: closed
/// without an answer. `code` empty: no problem expected.
struct Row {
    sent: String,
    status: u16,
    code: &'static str,
    half_close: bool,
}

fn row(sent: impl Into<String>, status: u16, code: &'static str) -> Row {
    Row { sent: sent.into(), status, code, half_close: false }
}

/// A request that ends its connection by itself, so that a normal answer ends the exchange.
fn request(line: &str, headers: &str, body: &str) -> String {
    format!("{line}\r\nHost: a\r\nConnection: close\r\n{headers}\r\n{body}")
}

fn head_rows() -> Vec<Row> {
    vec![
        row("GET /hello HTTP/1.1\r\n\r\n", 400, "bad_host"),
        row("GET /hello HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "bad_host"),
        row("GET /hello HTTP/1.0\r\n\r\n", 200, ""),
        row(request("GET http://evil.example/hello HTTP/1.1", "", ""), 200, ""),
        row("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 405, "method_not_allowed"),
        row(request("TRACE /hello HTTP/1.1", "", ""), 405, "method_not_allowed"),
        row(request("BREW /hello HTTP/1.1", "", ""), 405, "method_not_allowed"),
        row(request("get /hello HTTP/1.1", "", ""), 405, "method_not_allowed"),
        row(request("OPTIONS * HTTP/1.1", "", ""), 405, "method_not_allowed"),
        row(request("DELETE /hello HTTP/1.1", "", ""), 405, "method_not_allowed"),
    ]
}

fn framing_rows() -> Vec<Row> {
    let put = "PUT /v1/kv/a HTTP/1.1";
    let mut rows = vec![
        row("hello there\r\n\r\n", 400, "bad_request"),
        row("\u{16}\u{3}\u{1}\u{0}\u{1}\u{1}", 400, "bad_request"),
        row("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0, ""),
        row("GET /hello HTTP/2.0\r\nHost: a\r\n\r\n", 505, "version_not_supported"),
        row("GET /hello HTTP/0.9\r\nHost: a\r\n\r\n", 505, "version_not_supported"),
        row("GET /hello#top HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_request"),
        row("GET /hello HTTP/1.2\r\nHost: a\r\n\r\n", 400, "bad_request"),
        row("GET /hello\r\n\r\n", 400, "bad_request"),
        row(request(put, "Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), 400, "bad_framing"),
        row(
            request(
                put,
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                "0\r\n\r\n",
            ),
            400,
            "bad_framing",
        ),
        row(
            request(put, "Transfer-Encoding: chunked\r\n", "3\r\nabcdef\r\n0\r\n\r\n"),
            400,
            "bad_framing",
        ),
        row(
            request(put, "Transfer-Encoding: chunked\r\n", "-3\r\nabc\r\n0\r\n\r\n"),
            400,
            "bad_framing",
        ),
        row(
            request(put, "Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\nabc"),
            400,
            "bad_framing",
        ),
        row(request(put, "Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"), 200, ""),
    ];
    for fields in [
        "Content-Length: 3\r\nContent-Length: 3\r\n",
        "Content-Length: 3\r\nX: y\r\ncontent-length: 003\r\n",
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
    ] {
        rows.push(row(format!("{put}\r\nHost: a\r\n{fields}\r\n0\r\n\r\n"), 400, "bad_framing"));
    }
    for length in ["3\r\nContent-Length: 4", "3, 3", "+3", "-1", "0x3", "", "18446744073709551616"]
    {
        rows.push(row(
            request(put, &format!("Content-Length: {length}\r\n"), "abc"),
            400,
            "bad_framing",
        ));
    }
    for coding in ["xchunked", "chunked, identity", "identity"] {
        let headers = format!("Transfer-Encoding: {coding}\r\n");
        rows.push(row(request(put, &headers, "0\r\n\r\n"), 400, "bad_request"));
    }
    for header in [" folded: 1", "A : b", "A\0: b", "A: b\rc", ": b"] {
        rows.push(row(
            request("GET /hello HTTP/1.1", &format!("{header}\r\n"), ""),
            400,
            "bad_request",
        ));
    }
    rows
}

fn size_rows() -> Vec<Row> {
    let put = "PUT /v1/kv/a HTTP/1.1";
    let long_line = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(70_000));
    let many: String = (0..65).map(|i| format!("X-H{i}: v\r\n")).collect();
    let too_many: String = (0..200).map(|i| format!("X-H{i}: v\r\n")).collect();
    let large = format!("X-Large: {}\r\n", "a".repeat(20_000));
    let whole = "x".repeat(BODY_MAX);
    let chunked = |bytes: usize| format!("{bytes:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(bytes));
    let chunks = "Transfer-Encoding: chunked\r\n";
    vec![
        row(long_line, 414, "uri_too_long"),
        row(request("GET /hello HTTP/1.1", &large, ""), 431, "header_too_large"),
        row(request("GET /hello HTTP/1.1", &many, ""), 431, "header_too_large"),
        row(request("GET /hello HTTP/1.1", &too_many, ""), 431, "header_too_large"),
        row(request(put, "Content-Length: 10000000000\r\n", ""), 413, "payload_too_large"),
        row(
            request(put, "Expect: 100-continue\r\nContent-Length: 2000000\r\n", ""),
            413,
            "payload_too_large",
        ),
        row(request(put, "Expect: foo\r\nContent-Length: 1\r\n", "a"), 417, "expectation_failed"),
        row(request(put, &format!("Content-Length: {BODY_MAX}\r\n"), &whole), 200, ""),
        row(
            request(put, &format!("Content-Length: {}\r\n", BODY_MAX + 1), &(whole + "y")),
            413,
            "payload_too_large",
        ),
        row(request(put, chunks, &chunked(BODY_MAX)), 200, ""),
        row(request(put, chunks, &chunked(BODY_MAX + 1)), 413, "payload_too_large"),
        row(request(put, "Content-Length: 0\r\n", ""), 200, ""),
        row(request("GET /hello HTTP/1.1", "Content-Length: 3\r\n", "abc"), 200, ""),
        row(request("DELETE /v1/kv/a HTTP/1.1", "Content-Length: 3\r\n", "abc"), 200, ""),
        row(
            request("GET /hello HTTP/1.1", "Content-Length: 1000000\r\n", "a"),
            413,
            "payload_too_large",
        ),
        row(request(put, "Content-Length: 10\r\n", "abc"), 408, "request_timeout"),
        Row {
            half_close: true,
            ..row(request(put, "Content-Length: 10\r\n", "abc"), 400, "truncated_body")
        },
        Row {
            half_close: true,
            ..row(request(put, chunks, "3\r\nabc\r\n"), 400, "truncated_body")
        },
        // hyper takes any size that fits 64 bits and would wait for the rest.
        row(request(put, chunks, "ffffffffffffffff\r\nabc"), 400, "bad_framing"),
        row(request(put, chunks, "ffffffffffffffff\r\n"), 400, "bad_framing"),
        row(request(put, chunks, "fffff\r\nabc"), 408, "request_timeout"),
    ]
}

fn content_rows() -> Vec<Row> {
    let get = |target: &str| request(&format!("GET {target} HTTP/1.1"), "", "");
    let hello = |headers: &str| request("GET /hello HTTP/1.1", headers, "");
    vec![
        row(get("/v1/kv/%zz"), 400, "bad_percent_encoding"),
        row(get("/v1/kv/%"), 400, "bad_percent_encoding"),
        row(get("/v1/kv/%4"), 400, "bad_percent_encoding"),
        row(get("/v1/kv/a?b=%g0"), 400, "bad_percent_encoding"),
        row(get("//hello"), 404, "not_found"),
        row(get("/nowhere"), 404, "not_found"),
        row(get("/panic"), 500, "internal"),
        row(hello("X-Atoll-Context: a\r\nX-Atoll-Context: b\r\n"), 400, "duplicate_header"),
        row(hello("Authorization: a\r\nAuthorization: b\r\n"), 400, "duplicate_header"),
        row(hello("Idempotency-Key: a\r\nIdempotency-Key: a\r\n"), 400, "duplicate_header"),
        row(hello("Content-Encoding: gzip\r\n"), 415, "unsupported_media_type"),
        row(hello("Upgrade: h2c\r\n"), 200, ""),
        row(hello("Upgrade: websocket\r\n"), 200, ""),
    ]
}

/// What is wrong with `answer`, if anything.
fn fault(row: &Row, answer: &str) -> Option<String> {
    if row.status == 0 {
        return (!answer.is_empty()).then(|| "answered".to_owned());
    }
    let answers = answer.lines().filter(|line| line.starts_with("HTTP/1.")).count();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let problem: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let checks = [
        (answers == 1, "exactly one answer"),
        (head.get(9..12) == Some(row.status.to_string().as_str()), "the status"),
        (head.contains("x-request-id: "), "a request id"),
        (row.code.is_empty() || problem["code"] == row.code, "the code"),
        (row.code.is_empty() || problem["request_id"].is_string(), "the id in the problem"),
        (row.code.is_empty() || head.contains("application/problem+json"), "the media type"),
        (row.status != 405 || head.to_lowercase().contains("\r\nallow: "), "Allow"),
    ];
    let missing: Vec<&str> =
        checks.iter().filter(|(holds, _)| !holds).map(|(_, what)| *what).collect();
    (!missing.is_empty()).then(|| missing.join(", "))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_row_has_its_answer() {
    let server = serve(routes(), ServerLimits::client());
    let mut faults = Vec::new();
    for row in
        framing_rows().into_iter().chain(head_rows()).chain(size_rows()).chain(content_rows())
    {
        let shown: String = row.sent.chars().take(120).collect();
        let answer = exchange(server.address, row.sent.as_bytes(), row.half_close).await;
        if let Some(missing) = fault(&row, &answer) {
            faults.push(format!(
                "{shown:?} should be {} {}, missing {missing}: {answer}",
                row.status, row.code
            ));
        }
        let plain = request("GET /hello HTTP/1.1", "", "");
        let after = exchange(server.address, plain.as_bytes(), false).await;
        assert!(after.ends_with("hello"), "the server still serves after {shown:?}");
    }
    assert!(faults.is_empty(), "{}", faults.join("\n---\n"));
    assert_eq!(metric(&server.registry, "atoll_http_panics_total"), "1");
}

#[tokio::test]
async fn a_smuggled_tail_is_never_a_request() {
    let server = serve(routes(), ServerLimits::client());
    let sent = "PUT /v1/kv/a HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\
        Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /hello HTTP/1.1\r\nHost: a\r\n\r\n";
    let answer = exchange(server.address, sent.as_bytes(), true).await;
    assert!(answer.contains("bad_framing"), "{answer}");
    assert!(!answer.contains("hello"), "the tail is no request: {answer}");
}

/// What is followed beside hyper stays in step with it, whatever comes before and however it is cut.
#[tokio::test]
async fn messages_are_told_apart_on_a_long_connection() {
    let server = serve(routes(), ServerLimits::client());
    let chunks = "Transfer-Encoding: chunked\r\n";
    let message = |line: &str, headers: &str, body: &str| {
        format!("{line} HTTP/1.1\r\nHost: a\r\n{headers}\r\n{body}")
    };
    let put = |headers: &str, body: &str| message("PUT /v1/kv/a", headers, body);
    let sound = [
        message("GET /hello", "", ""),
        put("Content-Length: 5\r\n", "\r\n\r\n\n"),
        put(chunks, "3;x=\"y\"\r\nabc\r\n00f\r\n0123456789abcde\r\n0\r\nx: y\r\n\r\n"),
        message("DELETE /v1/kv/a", chunks, "1\r\na\r\n0\r\n\r\n"),
        message("GET /hello", "Content-Length: 4\r\n", "GET "),
        message("GET /nowhere", "", ""),
        message("GET /hello", "Connection: upgrade\r\nUpgrade: h2c\r\n", ""),
        message("GET /hello", "", "").replace("1.1\r\n", "1.0\r\nConnection: keep-alive\r\n"),
        message("GET /hello", "", "").replace("\r\n", "\n"),
        "\r\n".to_owned(),
    ]
    .concat();
    let rounds = 20;
    let twice = put("Content-Length: 1\r\nContent-Length: 1\r\n", "a");
    let sent = sound.repeat(rounds) + &twice + &message("GET /hello", "", "");
    for size in [1, 17, 1000, sent.len()] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for piece in sent.as_bytes().chunks(size) {
            stream.write_all(piece).await.unwrap();
        }
        let answer = read_to_end(&mut stream).await;
        // HTTP/1.0 is answered as such; a status line follows a body without a line end.
        let count = |status: &str| {
            let of = |version: &str| answer.matches(&format!("HTTP/{version} {status} ")).count();
            of("1.0") + of("1.1")
        };
        let counts = (count("200"), count("404"), count("400"));
        assert_eq!(counts, (8 * rounds, rounds, 1), "{size}");
        assert!(answer.contains("Content-Length is given twice"), "{answer}");
    }
}

#[tokio::test]
async fn a_body_that_looks_like_an_answer_of_hyper_is_a_body() {
    const FAKE: &str = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
    // Sent by frames, each of which hyper writes and flushes by itself.
    let stream = || {
        let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
        tokio::spawn(async move {
            for _ in 0..3 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                sender.send(Bytes::from_static(FAKE.as_bytes())).await.unwrap();
            }
        });
        Body::new(Frames(receiver))
    };
    let router = Router::new().route("/fake", get(move || async move { stream() }));
    let server = serve(router, ServerLimits::client());
    let mut connection = TcpStream::connect(server.address).await.unwrap();
    let sent = "GET /fake HTTP/1.1\r\nHost: a\r\n\r\nGET /fake HTTP/1.0\r\n\r\n";
    connection.write_all(sent.as_bytes()).await.unwrap();
    let answer = read_to_end(&mut connection).await;
    assert_eq!(answer.matches(FAKE).count(), 6, "{answer}");
    assert!(!answer.contains("problem"), "{answer}");
}

/// A body of frames that come when they come.
struct Frames(tokio::sync::mpsc::Receiver<Bytes>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(http_body::Frame::data(bytes))))
    }
}

#[tokio::test]
async fn a_thousand_pipelined_requests_are_answered_in_order() {
    let server = serve(routes(), ServerLimits::client());
    let mut sent = String::new();
    for i in 0..1000 {
        let last = if i == 999 { "Connection: close\r\n" } else { "" };
        sent += &format!("GET /hello HTTP/1.1\r\nHost: a\r\nX-Request-Id: r{i}\r\n{last}\r\n");
    }
    let answer = exchange(server.address, sent.as_bytes(), false).await;
    let ids: Vec<&str> =
        answer.lines().filter_map(|line| line.strip_prefix("x-request-id: ")).collect();
    let expected: Vec<String> = (0..1000).map(|i| format!("r{i}")).collect();
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn a_connection_survives_refusals_that_leave_no_doubt() {
    let server = serve(routes(), ServerLimits::client());
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for (target, status) in
        [("/hello", "200"), ("/%zz", "400"), ("/nowhere", "404"), ("/hello", "200")]
    {
        let sent = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        stream.write_all(sent.as_bytes()).await.unwrap();
        let answer = read_one(&mut stream).await;
        assert_eq!(answer.get(9..12), Some(status), "{target}");
    }
    let sent =
        "PUT /v1/kv/a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    stream.write_all(sent.as_bytes()).await.unwrap();
    assert!(read_one(&mut stream).await.starts_with("HTTP/1.1 100 Continue"));
    stream.write_all(b"abc").await.unwrap();
    assert!(read_one(&mut stream).await.ends_with("3 bytes"));
    drop(stream);
}

#[tokio::test]
async fn slow_heads_and_silent_connections_are_closed() {
    let mut limits = ServerLimits::client();
    limits.header_read_timeout = std::time::Duration::from_millis(200);
    limits.keep_alive_idle = std::time::Duration::from_millis(400);
    let server = serve(routes(), limits);
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(read_to_end(&mut silent).await, "");
    let mut drip = TcpStream::connect(server.address).await.unwrap();
    drip.write_all(b"GET /hello HTTP/1.1\r\nX-").await.unwrap();
    assert_eq!(read_to_end(&mut drip).await, "");
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert!(read_to_end(&mut idle).await.ends_with("hello"), "answered, then closed when idle");
    assert_eq!(metric(&server.registry, "atoll_http_connections_dropped_total"), "2");
}

/// The sender is never silent for long, and would take a quarter of an hour.
#[tokio::test]
async fn a_dripping_body_is_refused() {
    let server = serve(routes(), ServerLimits::client());
    for framing in ["Content-Length: 100000\r\n", "Transfer-Encoding: chunked\r\n"] {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let (mut receiving, mut sending) = stream.into_split();
        let head = format!("PUT /v1/kv/a HTTP/1.1\r\nHost: a\r\n{framing}\r\n");
        let drip = if framing.starts_with('C') { "x" } else { "1\r\nx\r\n" };
        let sender = tokio::spawn(async move {
            sending.write_all(head.as_bytes()).await.unwrap();
            while sending.write_all(drip.as_bytes()).await.is_ok() {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        });
        let mut status = [0u8; 12];
        receiving.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 408", "{framing}");
        sender.abort();
    }
}

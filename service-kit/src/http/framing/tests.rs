//! Streams of requests as data: how many heads there are, and the fault of the last one. Every
//! stream is fed in all at once and in pieces.

use proptest::prelude::*;

use super::*;

const GET: &str = "GET /a HTTP/1.1\r\nhost: a\r\n\r\n";

fn put(fields: &str, body: &str) -> String {
    format!("PUT /a HTTP/1.1\r\nhost: a\r\n{fields}\r\n{body}")
}

fn outcome(framing: &Framing) -> (u64, Option<Fault>, bool) {
    (framing.heads, framing.fault.map(|(_, fault)| fault), framing.absurd_chunk)
}

/// Feeds `stream` in pieces of `size` bytes.
fn feed(stream: &[u8], size: usize) -> Framing {
    let mut framing = Framing::new();
    for piece in stream.chunks(size) {
        framing.feed(piece);
    }
    framing
}

fn check(stream: &str, heads: u64, fault: Option<Fault>) {
    for size in [1, 2, 3, 7, 64, 65, usize::MAX] {
        let framing = feed(stream.as_bytes(), size);
        assert_eq!(outcome(&framing), (heads, fault, false), "by {size}: {stream:?}");
    }
}

#[test]
fn sound_streams_are_followed_to_their_end() {
    let chunked = "transfer-encoding: chunked\r\n";
    let streams = [
        GET.to_owned(),
        GET.repeat(3),
        format!("\r\n\r\n{GET}\r\n{GET}"),
        GET.replace("\r\n", "\n").repeat(2),
        put("content-length: 3\r\n", "abc") + GET,
        put("CONTENT-Length:\t3 \r\n", "\n\n\n") + GET,
        put("content-length: 0\r\n", "") + GET,
        put(chunked, "0\r\n\r\n") + GET,
        put(chunked, "3\r\nabc\r\n00A;x=y\r\n0123456789\r\n0\r\n\r\n") + GET,
        put(chunked, "0\r\nx: y\r\nz: content-length: 3\r\n\r\n") + GET,
        put("x-content-length: 9\r\ncontent-length-x: 8\r\ncookie: content-length: 7\r\n", "")
            + GET,
    ];
    for stream in streams {
        // The number of heads is told by their versions: no body above contains one.
        let heads = stream.matches("HTTP/1.1").count() as u64;
        check(&stream, heads, None);
    }
    check("GET /a HTTP/1.1\r\nhost: a\r\n", 0, None);
}

#[test]
fn every_doubt_is_a_fault_and_ends_the_following() {
    let long = format!("content-length: {}3\r\n", "0".repeat(LINE_START_BYTES));
    let cases = [
        (put("content-length: 3\r\ncontent-length: 3\r\n", "abc"), Fault::TwoLengths),
        (put("Content-length: 3\r\nx: y\r\nCONTENT-LENGTH: 4\r\n", "abc"), Fault::TwoLengths),
        (
            put("content-length: 6\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\nG"),
            Fault::LengthAndCoding,
        ),
        (
            put("transfer-encoding: chunked\r\ncontent-length: 6\r\n", "0\r\n\r\nG"),
            Fault::LengthAndCoding,
        ),
        (put("content-length: 3, 3\r\n", "abc"), Fault::BadLength),
        (put("content-length:\r\n", ""), Fault::BadLength),
        (put("content-length: 18446744073709551616\r\n", ""), Fault::BadLength),
        (put(&long, "abc"), Fault::BadLength),
        (GET.replace("/a", "/a#b"), Fault::Fragment),
        (GET.replace("/a", "/a?b#"), Fault::Fragment),
        (GET.replace("1.1", "2.0"), Fault::Version),
        (GET.replace("1.1", "0.9"), Fault::Version),
    ];
    for (stream, fault) in cases {
        check(&(stream.clone() + GET), 1, Some(fault));
        check(&(GET.to_owned() + &stream + GET), 2, Some(fault));
    }
    // A '#' elsewhere is no fragment; other versions of HTTP/1 and none are hyper's to refuse.
    check(&GET.replace("GET", "G#T"), 1, None);
    check(&put("x: #\r\n", ""), 1, None);
    check(&GET.replace("1.1", "1.2"), 1, None);
    check(&GET.replace("HTTP/1.1", "HTTP/"), 1, None);
}

#[test]
fn chunks_beyond_any_body_are_absurd() {
    let coded = |size: &str| put("transfer-encoding: chunked\r\n", &format!("{size}\r\nabc"));
    for (size, absurd) in [
        ("ffffffffffffffff", true),
        ("fffffffffffffffffffff", true),
        (&format!("{:x}", CHUNK_BYTES_MAX + 1), true),
        (&format!("{CHUNK_BYTES_MAX:x}"), false),
        ("3;ffffffffffffffff", false),
    ] {
        for piece in [1, usize::MAX] {
            assert_eq!(feed(coded(size).as_bytes(), piece).has_absurd_chunk(), absurd, "{size}");
        }
    }
}

#[test]
fn faults_belong_to_their_request() {
    let mut framing = Framing::new();
    framing.feed(GET.as_bytes());
    framing.feed(put("content-length: 1\r\ncontent-length: 1\r\n", "").as_bytes());
    assert_eq!(framing.request_begins(), None);
    assert_eq!(framing.fault_of_next(), Some(Fault::TwoLengths));
    assert_eq!(framing.request_begins(), Some(Fault::TwoLengths));
    assert_eq!(framing.request_begins(), Some(Fault::Unseen), "nothing is taken after a fault");
}

#[test]
fn the_line_of_the_next_request_is_known() {
    let mut framing = Framing::new();
    framing.feed(b"GET /aaa");
    assert!(!framing.line_done());
    framing.feed(b" HTTP/1.1\r\nx: ");
    assert!(framing.line_done());
    framing.feed(b"y\r\n\r\nGET /a");
    assert!(framing.line_done(), "hyper still has the whole first head before it");
    assert_eq!(framing.request_begins(), None);
    assert!(!framing.line_done());
    assert_eq!(framing.request_begins(), Some(Fault::Unseen));
}

proptest! {
    /// However the bytes are cut, and whatever they are, the outcome is the same.
    #[test]
    fn pieces_do_not_matter(
        parts in prop::collection::vec(prop_oneof![
            Just(GET.to_owned()),
            Just("PUT /a HTTP/1.1\r\n".to_owned()),
            Just("content-length: 3\r\n".to_owned()),
            Just("transfer-encoding: chunked\r\n".to_owned()),
            Just("\r\n".to_owned()),
            Just("3\r\nabc\r\n".to_owned()),
            Just("0\r\n\r\n".to_owned()),
            "[ -~\r\n]{0,80}",
        ], 0..12),
        cuts in prop::collection::vec(1usize..40, 1..40),
    ) {
        let stream = parts.concat();
        let whole = feed(stream.as_bytes(), usize::MAX);
        let mut pieces = Framing::new();
        let mut rest = stream.as_bytes();
        for cut in cuts {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            pieces.feed(piece);
            rest = after;
        }
        pieces.feed(rest);
        prop_assert_eq!(outcome(&pieces), outcome(&whole));
        prop_assert_eq!(pieces.at, whole.at);
    }
}

//! hyper answers a head that it cannot parse with an empty body; here that becomes a problem like
//! any other. What was wrong is told by hyper's status and by [`Framing`].

use http::StatusCode;

use super::error::{ErrorCode, Problem};
use super::framing::Framing;
use super::request_id::RequestId;

/// True for the answer that hyper itself writes to a head it cannot parse.
pub(super) fn is_bare_refusal(bytes: &[u8]) -> bool {
    bytes.starts_with(b"HTTP/1.1 4")
        && !bytes.windows(12).any(|window| window == b"x-request-id")
        && bytes.windows(17).any(|window| window == b"content-length: 0")
}

/// The problem that says the same as hyper's empty answer, as the bytes of a whole answer.
pub(super) fn full_refusal(bare: &[u8], framing: &Framing) -> Vec<u8> {
    let id = RequestId::mint();
    let problem = problem(bare, framing).request_id(id.as_str());
    let (status, json) = (problem.status(), problem.to_json());
    let head = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
         connection: close\r\nx-request-id: {id}\r\n\r\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or("Error"),
        json.len(),
    );
    [head.into_bytes(), json].concat()
}

fn problem(bare: &[u8], framing: &Framing) -> Problem {
    if let Some(fault) = framing.fault_of_next() {
        return fault.problem();
    }
    let status = bare.get(9..12).and_then(|digits| StatusCode::from_bytes(digits).ok());
    let (code, detail) = match status.map(|s| s.as_u16()) {
        Some(431) if !framing.line_done() => {
            (ErrorCode::UriTooLong, "the request line is too long")
        }
        Some(414) => (ErrorCode::UriTooLong, "the request target is too long"),
        Some(431) => (ErrorCode::HeaderTooLarge, "the request head is too large"),
        _ => (ErrorCode::BadRequest, "this is not a well-formed HTTP/1.1 request head"),
    };
    Problem::new(code, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_empty_answers_of_hyper_are_replaced() {
        let bare = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\r\n";
        assert!(is_bare_refusal(bare));
        let mut framing = Framing::new();
        let starts = |framing: &Framing, status: &[u8]| {
            assert!(full_refusal(bare, framing).starts_with(status), "{framing:?}");
        };
        starts(&framing, b"HTTP/1.1 414 ");
        framing.feed(b"GET / HTTP/1.1\r\n");
        starts(&framing, b"HTTP/1.1 431 ");
        let mut framing = Framing::new();
        framing.feed(b"GET / HTTP/2.0\r\n");
        starts(&framing, b"HTTP/1.1 505 ");
        assert!(!is_bare_refusal(
            b"HTTP/1.1 404 Not Found\r\nx-request-id: a\r\ncontent-length: 0\r\n\r\n"
        ));
        assert!(!is_bare_refusal(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
    }
}

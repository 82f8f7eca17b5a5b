//! What a client may send wrongly, as data: bytes in; status, code and whether the connection
//! closes out. The tables need nothing but an address, so the same rows run against a router
//! before storage nodes in memory (here) and against a real cluster: include this folder with
//! `#[path]` and call [`check_all`] with a fingerprint of everything that is stored.

mod bodies;
mod contexts;
mod framing;
pub(crate) mod http;
mod names;
mod parameters;

use std::net::SocketAddr;

use http::{After, Connection, Reply};

/// One bad request, or a good one that looks like it.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// What it is about; unique.
    pub(crate) name: String,
    /// What is sent.
    pub(crate) bytes: Vec<u8>,
    /// What the sender does then.
    pub(crate) after: After,
    /// What is answered.
    pub(crate) expect: Expect,
}

/// In place of a status: the connection is closed without an answer.
pub(crate) const SILENCE: u16 = 0;

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) struct Expect {
    /// [`SILENCE`] where the connection is closed without an answer.
    pub(crate) status: u16,
    /// The code in the problem; `None` where HTTP itself is broken and there may be no problem.
    pub(crate) code: Option<&'static str>,
    /// Whether the connection is closed after it.
    pub(crate) closes: bool,
    /// What the detail names, so that a client can tell which of its values is wrong.
    pub(crate) names: Option<&'static str>,
    /// Status and code of the answer to a second request in the same bytes, after which the
    /// connection closes.
    pub(crate) then: Option<(u16, &'static str)>,
}

impl Expect {
    fn status(status: u16, code: Option<&'static str>) -> Self {
        Self { status, code, closes: false, names: None, then: None }
    }
}

impl Row {
    /// A well-formed message that is refused with this status and code.
    pub(crate) fn refused(
        name: impl Into<String>,
        bytes: Vec<u8>,
        status: u16,
        code: &'static str,
    ) -> Self {
        let expect = Expect::status(status, Some(code));
        Self { name: name.into(), bytes, after: After::Listen, expect }
    }

    /// A message that HTTP itself refuses with this status; the connection closes.
    pub(crate) fn broken(name: impl Into<String>, bytes: impl AsRef<[u8]>, status: u16) -> Self {
        let expect = Expect { closes: true, ..Expect::status(status, None) };
        let bytes = bytes.as_ref().to_vec();
        Self { name: name.into(), bytes, after: After::Listen, expect }
    }

    /// A message that is taken, with this status.
    pub(crate) fn taken(name: impl Into<String>, bytes: Vec<u8>, status: u16) -> Self {
        let expect = Expect::status(status, None);
        Self { name: name.into(), bytes, after: After::Listen, expect }
    }

    /// The connection closes after the answer.
    pub(crate) fn closing(mut self) -> Self {
        self.expect.closes = true;
        self
    }

    /// The sender says that nothing more comes.
    pub(crate) fn then_fin(mut self) -> Self {
        self.after = After::Fin;
        self
    }

    /// The detail names this parameter or header.
    pub(crate) fn naming(mut self, name: &'static str) -> Self {
        self.expect.names = Some(name);
        self
    }

    /// A second request in the same bytes is refused with this, and the connection closes.
    pub(crate) fn then(mut self, status: u16, code: &'static str) -> Self {
        self.expect.then = Some((status, code));
        self.expect.closes = true;
        self
    }
}

/// Every row. The rows that are taken write into the bucket `taken` only.
pub(crate) fn rows() -> Vec<Row> {
    [framing::rows(), names::rows(), parameters::rows(), contexts::rows(), bodies::rows()].concat()
}

/// Sends every row to the router at `address` and holds the answer against it. Nothing may be
/// stored by a refused row: `fingerprint` says what is stored.
pub(crate) fn check_all(address: SocketAddr, fingerprint: impl Fn() -> String) {
    let put = http::request(address, "PUT", "/v1/kv/witness/alive", &[], b"witness");
    assert_eq!(put.status, 204, "{put:?}");
    let mut failures = Vec::new();
    for row in rows() {
        let before = fingerprint();
        if let Err(failure) = check(address, &row) {
            failures.push(format!("{}: {failure}", row.name));
        }
        let was_taken = (200..400).contains(&row.expect.status);
        if !was_taken && fingerprint() != before {
            failures.push(format!("{}: something was stored", row.name));
        }
        let alive = http::request(address, "GET", "/v1/kv/witness/alive", &[], b"");
        assert_eq!((alive.status, alive.text()), (200, "witness"), "after {}", row.name);
    }
    assert!(failures.is_empty(), "{} rows failed:\n{}", failures.len(), failures.join("\n"));
}

fn check(address: SocketAddr, row: &Row) -> Result<(), String> {
    let mut connection = Connection::open(address);
    connection.send(&row.bytes, row.after);
    let head = row.bytes.starts_with(b"HEAD ");
    let Some(reply) = connection.reply(head) else {
        return if row.expect.status == SILENCE { Ok(()) } else { Err("no answer".into()) };
    };
    if row.expect.status != reply.status {
        return Err(format!("expected {}, got {reply:?}", row.expect.status));
    }
    if reply.header("server").is_some() {
        return Err(format!("it tells what serves: {reply:?}"));
    }
    if reply.status >= 400 && (row.expect.code.is_some() || !reply.body.is_empty()) && !head {
        check_problem(row, &reply)?;
    }
    if let Some((status, code)) = row.expect.then {
        let Some(second) = connection.reply(false) else { return Err("no second answer".into()) };
        if second.status != status || second.json()["code"] != code {
            return Err(format!("expected {status} {code} as the second answer, got {second:?}"));
        }
    }
    if row.expect.closes && !connection.ends_silently() {
        return Err("something followed the last answer".into());
    }
    Ok(())
}

/// The shape of every refusal.
fn check_problem(row: &Row, reply: &Reply) -> Result<(), String> {
    let fail = |what: &str| Err(format!("{what}: {reply:?}"));
    if reply.header("content-type") != Some("application/problem+json") {
        return fail("not a problem");
    }
    if reply.body.len() > 1024 {
        return fail("longer than 1 KiB");
    }
    let problem = reply.json();
    if problem["status"] != reply.status {
        return fail("another status inside");
    }
    if row.expect.code.is_some_and(|code| problem["code"] != code) {
        return fail("another code");
    }
    let detail = problem["detail"].as_str().unwrap_or_default();
    if row.expect.names.is_some_and(|name| !detail.contains(&format!("'{name}'"))) {
        return fail("the detail does not name what is wrong");
    }
    if reply.status < 500 && problem["outcome"] != "not_applied" {
        return fail("a 4xx that may be applied");
    }
    if reply.status == 405 && reply.header("allow").is_none_or(str::is_empty) {
        return fail("405 without Allow");
    }
    let id = problem["request_id"].as_str().unwrap_or_default();
    if id.is_empty() || reply.header("x-request-id") != Some(id) {
        return fail("no request id");
    }
    let leaks = ["127.0.0.1:", "/tmp/", "src/", "panicked"];
    if leaks.iter().any(|leak| reply.text().contains(leak)) {
        return fail("it tells too much");
    }
    Ok(())
}

//! HTTP over a bare socket, byte for byte: what a library would refuse to send is the point here.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Time after which silence is a failed test; no test waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(20);

/// One answer as it came.
#[derive(Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Names in lower case, in order.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?} {}", self.status, self.headers, lossy(&self.body))
    }
}

impl Reply {
    /// The only header of this name; `None` where there is none.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter().filter(|(given, _)| given == name);
        let first = all.next();
        assert!(all.next().is_none(), "two {name}: {self:?}");
        first.map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// How the sender goes on after its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// It listens.
    Listen,
    /// It says that nothing more will come.
    Fin,
}

/// A connection that remembers what it has read and not used.
pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new() }
    }

    /// Sends as much as the other side takes: it may close while we still send.
    pub(crate) fn send(&mut self, bytes: &[u8], after: After) {
        match self.stream.write_all(bytes) {
            Ok(()) => {}
            Err(error) if is_closed(error.kind()) => return,
            Err(error) => panic!("send: {error}"),
        }
        if after == After::Fin
            && let Err(error) = self.stream.shutdown(Shutdown::Write)
        {
            assert!(is_closed(error.kind()), "shutdown: {error}");
        }
    }

    /// The next answer; `None` where the connection is closed first. `head` says whether it is one
    /// to HEAD, which has no body.
    pub(crate) fn reply(&mut self, head: bool) -> Option<Reply> {
        let end = loop {
            if let Some(at) = self.read.windows(4).position(|w| w == b"\r\n\r\n") {
                break at;
            }
            if !self.more() {
                assert!(self.read.is_empty(), "half an answer: {:?}", lossy(&self.read));
                return None;
            }
        };
        let text = String::from_utf8(self.read.drain(..end + 4).collect()).unwrap();
        let mut lines = text.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").or(line.split_once(':')).unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut reply = Reply { status, headers, body: Vec::new() };
        if status == 100 {
            return self.reply(head).inspect(|last| {
                assert!(last.status < 400, "100 was sent before {last:?}");
            });
        }
        assert_eq!(reply.header("transfer-encoding"), None, "{reply:?}");
        if head || status == 204 || status == 304 {
            return Some(reply);
        }
        let length: usize = reply.header("content-length").unwrap().parse().unwrap();
        while self.read.len() < length {
            assert!(self.more(), "the body is cut: {reply:?}");
        }
        reply.body = self.read.drain(..length).collect();
        Some(reply)
    }

    /// Waits for the end and says whether nothing else came before it.
    pub(crate) fn ends_silently(&mut self) -> bool {
        while self.more() {}
        self.read.is_empty()
    }

    /// Reads on; false at the end of the connection.
    fn more(&mut self) -> bool {
        let mut buffer = [0u8; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.read.extend_from_slice(&buffer[..count]);
                true
            }
            Err(error) if is_closed(error.kind()) => false,
            Err(error) => panic!("receive: {error}, so far {:?}", lossy(&self.read)),
        }
    }
}

/// One request on a connection of its own.
pub(crate) fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Reply {
    let mut connection = Connection::open(address);
    connection.send(&message(method, path, headers, body), After::Listen);
    connection.reply(method == "HEAD").unwrap_or_else(|| panic!("{method} {path}: no answer"))
}

/// The bytes of a well-formed request.
pub(crate) fn message(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} {path} HTTP/1.1\r\nhost: atoll\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    let framed = headers.iter().any(|(name, _)| {
        name.eq_ignore_ascii_case("content-length")
            || name.eq_ignore_ascii_case("transfer-encoding")
    });
    if !framed && (!body.is_empty() || matches!(method, "PUT" | "POST")) {
        bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

fn is_closed(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::NotConnected)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(400)]).into_owned()
}

//! Signed messages against every change on the way, and against being sent twice.

use std::path::Path;
use std::time::Duration;

use axum::body::Body;
use dynamo_core::id::{ClusterId, Incarnation, NodeId};
use dynamo_core::time::WallMs;
use http::header::IF_MATCH;
use http_body_util::BodyExt;

use super::*;
use crate::peer::identity::{X_ATOLL_DEADLINE_MS, X_ATOLL_SENDER};
use crate::peer::{PeerIdentity, ProcessRole};
use crate::time::ManualClock;

const OLD: &str = "0123456789abcdef0123456789abcdef";
const NEW: &str = "fedcba9876543210fedcba9876543210";

struct Side {
    auth: PeerAuth,
    hand: ManualClock,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

fn write(path: &Path, keys: &[&str]) {
    crate::datadir::write_atomic(path, keys.join("\n").as_bytes()).unwrap();
}

fn side(keys: &[&str]) -> Side {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("peer-keys");
    write(&path, keys);
    let registry = Registry::new();
    let metrics = ReloadMetrics::register(&registry).unwrap();
    let config = PeerAuthConfig { mode: Some(PeerAuthMode::Hmac), keys_file: Some(path.clone()) };
    let (clock, hand) = Clock::manual(WallMs(1_800_000_000_000));
    let auth = PeerAuth::load(&config, clock, &registry, metrics).unwrap();
    Side { auth, hand, path, _dir: dir }
}

impl Side {
    fn shared(&self) -> &Shared {
        self.auth.0.as_ref().unwrap()
    }

    fn keys(&self, keys: &[&str]) {
        write(&self.path, keys);
        assert!(self.shared().keys.check());
    }

    /// A message to `receiver`, as the peer client makes one.
    fn message(&self, receiver: &Side, stream: &Stream, body: &'static [u8]) -> Request {
        stream.learn(0, http::StatusCode::UNAUTHORIZED, &receiver.refusal_headers());
        let mut message = Request::new(Body::from(body));
        *message.method_mut() = http::Method::POST;
        *message.uri_mut() = "/v1/replica/batch?x=1".parse().unwrap();
        let me =
            PeerIdentity::new(NodeId(7), Incarnation(1), ProcessRole::Storage, Some(ClusterId(1)));
        me.stamp(message.headers_mut());
        message.headers_mut().insert(X_ATOLL_DEADLINE_MS, HeaderValue::from(1000u32));
        let hash = self.auth.hash(&Bytes::from_static(body));
        self.auth.sign(&mut message, hash.as_ref(), stream);
        message
    }

    fn refusal_headers(&self) -> http::HeaderMap {
        let refused = self.auth.check(Request::new(Body::empty())).unwrap_err();
        refused.headers().clone()
    }

    /// What the receiver makes of a message, its body read to the end.
    fn receive(&self, message: Request) -> Result<Bytes, (ErrorCode, &'static str)> {
        let counts = || {
            let all = ["malformed", "unknown_key", "other_receiver", "bad_signature", "clock_skew"];
            let rest = ["missing", "replayed", "body"];
            let count = |reason: &'static str| {
                (reason, self.shared().refused.with_label_values(&[reason]).get())
            };
            all.into_iter().chain(rest).map(count).collect::<Vec<_>>()
        };
        let before = counts();
        match self.auth.check(message) {
            Ok(request) => {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                let read = runtime.block_on(request.into_body().collect());
                read.map(http_body_util::Collected::to_bytes).map_err(|error| {
                    assert!(error.to_string().contains("signed"), "{error}");
                    (ErrorCode::Unauthorized, "body while reading")
                })
            }
            Err(problem) => {
                let after = counts();
                let grown = before.iter().zip(&after).find(|(before, after)| before.1 < after.1);
                Err((problem.code(), grown.map_or("none", |(reason, _)| reason.0)))
            }
        }
    }
}

#[test]
fn a_signed_message_passes_once() {
    let (sender, receiver) = (side(&[OLD]), side(&[OLD]));
    let stream = Stream::new();
    for body in [&b""[..], b"0", &[7; 5000]] {
        let message = sender.message(&receiver, &stream, body);
        assert_eq!(receiver.receive(message).unwrap(), body);
    }
    let message = sender.message(&receiver, &stream, b"x");
    let (parts, _) = message.into_parts();
    let again = || Request::from_parts(parts.clone(), Body::from("x"));
    assert!(receiver.receive(again()).is_ok());
    assert_eq!(receiver.receive(again()).unwrap_err(), (ErrorCode::Unauthorized, "replayed"));
}

#[test]
fn a_changed_message_is_refused() {
    type Edit = fn(&mut Request);
    let cases: [(Edit, &str); 12] = [
        (|m| drop(m.headers_mut().remove(X_ATOLL_AUTH)), "missing"),
        (|m| *m.method_mut() = http::Method::PUT, "bad_signature"),
        (|m| *m.uri_mut() = "/v1/replica/batch?x=2".parse().unwrap(), "bad_signature"),
        (|m| *m.uri_mut() = "/v1/reap".parse().unwrap(), "bad_signature"),
        (
            |m| drop(m.headers_mut().insert(X_ATOLL_SENDER, "8".repeat(32).parse().unwrap())),
            "bad_signature",
        ),
        (
            |m| drop(m.headers_mut().insert(X_ATOLL_DEADLINE_MS, HeaderValue::from(9u32))),
            "bad_signature",
        ),
        (
            |m| drop(m.headers_mut().insert(IF_MATCH, HeaderValue::from_static("\"a\""))),
            "bad_signature",
        ),
        (|m| *m.body_mut() = Body::from("other"), "body while reading"),
        (|m| *m.body_mut() = Body::from("signe"), "body while reading"),
        (|m| *m.body_mut() = Body::empty(), "body"),
        (
            |m| drop(m.headers_mut().insert(X_ATOLL_AUTH, HeaderValue::from_static("1 x"))),
            "malformed",
        ),
        (
            |m| {
                let value = m.headers()[X_ATOLL_AUTH].to_str().unwrap();
                let mut parts: Vec<&str> = value.split(' ').collect();
                parts[1] = "abc";
                let value = parts.join(" ");
                m.headers_mut().insert(X_ATOLL_AUTH, value.parse().unwrap());
            },
            "unknown_key",
        ),
    ];
    let (sender, receiver) = (side(&[OLD]), side(&[OLD]));
    let stream = Stream::new();
    for (edit, reason) in cases {
        let mut message = sender.message(&receiver, &stream, b"signed");
        edit(&mut message);
        let (code, counted) = receiver.receive(message).unwrap_err();
        assert_eq!((code, counted), (ErrorCode::Unauthorized, reason));
    }
}

#[test]
fn a_message_is_for_one_life_of_one_receiver_and_for_a_minute() {
    let sender = side(&[OLD]);
    let (receiver, other) = (side(&[OLD]), side(&[OLD]));
    let stream = Stream::new();
    let message = sender.message(&receiver, &stream, b"x");
    assert_eq!(other.receive(message).unwrap_err().1, "other_receiver");
    for (skew_s, expected) in [(59, None), (61, Some("clock_skew"))] {
        let message = sender.message(&receiver, &stream, b"x");
        receiver.hand.advance(Duration::from_secs(skew_s));
        let late = receiver.receive(message).err().map(|(_, reason)| reason);
        assert_eq!(late, expected, "{skew_s}");
        sender.hand.advance(Duration::from_secs(skew_s));
    }
    sender.hand.advance(Duration::from_secs(61));
    let message = sender.message(&receiver, &stream, b"x");
    assert_eq!(receiver.receive(message).unwrap_err(), (ErrorCode::ClockSkew, "clock_skew"));
}

#[test]
fn keys_are_rotated_without_a_gap() {
    let (sender, receiver) = (side(&[OLD]), side(&[OLD]));
    let stream = Stream::new();
    let passes = |passes: bool| {
        let received = receiver.receive(sender.message(&receiver, &stream, b"x"));
        assert_eq!(received.is_ok(), passes, "{received:?}");
    };
    passes(true);
    receiver.keys(&[OLD, NEW]);
    passes(true);
    sender.keys(&[NEW, OLD]);
    passes(true);
    receiver.keys(&[NEW, OLD]);
    passes(true);
    receiver.keys(&[NEW]);
    passes(true);
    sender.keys(&[OLD]);
    passes(false);
}

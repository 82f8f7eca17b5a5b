//! The receiving side of [`super::PeerIdentity`]: refuses messages of another cluster, another
//! protocol, or an older life of their sender, and hands the handler what they state.
//!
//! Invariant: a handler behind a strict gate never sees a message whose sender is not identified;
//! where peers are authenticated, no handler sees one that is not signed, plain ones included; where
//! hosts have certificates, no handler sees one of a connection without. The gate itself knows which of
//! this is asked for, so that whoever builds routes behind it cannot forget it.
//! Not here: how messages are signed and checked ([`super::auth`]).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use dynamo_core::id::{ClusterId, Incarnation, NodeId};
use dynamo_core::limits::TIMEOUT_MS_MAX;
use dynamo_core::time::Mono;
use http::{HeaderMap, HeaderName};
use prometheus::{IntCounterVec, Opts, Registry};

use super::auth::PeerAuth;
use super::identity::{
    PROTOCOL_MAX, PROTOCOL_MIN, PeerIdentity, ProcessRole, X_ATOLL_CLUSTER, X_ATOLL_DEADLINE_MS,
    X_ATOLL_INCARNATION, X_ATOLL_PROTOCOL, X_ATOLL_ROLE, X_ATOLL_SENDER,
};
use crate::http::error::{ErrorCode, Problem, escape_echo};
use crate::limits::GATE_SENDERS_MAX;
use crate::metrics::MetricsError;
use crate::time::Clock;
use crate::tls::{PeerCertificate, Tls};

/// What a message states of its sender; an extension of every request behind a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerContext {
    /// The sender, `None` for a plain request of an operator.
    pub sender: Option<PeerSender>,
    /// Until when the sender waits for the answer, where stated.
    pub deadline: Option<Mono>,
}

/// An identified sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerSender {
    /// Its node.
    pub node: NodeId,
    /// Which of the node's processes.
    pub role: ProcessRole,
    /// Its life.
    pub incarnation: Incarnation,
}

/// Checks the messages that arrive for one process. Clones share what was seen.
#[derive(Debug, Clone)]
pub struct PeerGate {
    identity: PeerIdentity,
    clock: Clock,
    seen: Arc<Mutex<HashMap<(NodeId, ProcessRole), Incarnation>>>,
    refused: IntCounterVec,
    /// Whether hosts have certificates.
    certified: bool,
    plain_allowed: bool,
}

/// Why a gate refuses messages.
const GATE_CODES: [ErrorCode; 5] = [
    ErrorCode::BadHeader,
    ErrorCode::ProtocolVersion,
    ErrorCode::WrongCluster,
    ErrorCode::StaleIncarnation,
    ErrorCode::Unauthorized,
];

impl PeerGate {
    /// A gate that requires an identified sender on every message, and a certificate on every
    /// connection where `tls` has hosts know each other by them.
    ///
    /// # Errors
    /// When the registry already has a gate.
    pub fn register(
        identity: PeerIdentity,
        tls: &Tls,
        clock: Clock,
        registry: &Registry,
    ) -> Result<Self, MetricsError> {
        let refused = IntCounterVec::new(
            Opts::new("atoll_peer_refused_total", "Messages of peers that were refused."),
            &["code"],
        )?;
        registry.register(Box::new(refused.clone()))?;
        // There from the start, so that the first refusal is an increase that an alert sees.
        for code in GATE_CODES {
            refused.with_label_values(&[code.as_str()]);
        }
        let (certified, seen) = (tls.is_mutual(), Arc::default());
        Ok(Self { identity, clock, seen, refused, certified, plain_allowed: false })
    }

    /// The same gate for routes that an operator may ask with plain curl: a request without any
    /// identity passes, one with an identity is checked as ever.
    #[must_use]
    pub fn allowing_plain(&self) -> Self {
        Self { plain_allowed: true, ..self.clone() }
    }

    /// Whether a request says to be one of a host, by its signature or by the certificate of its
    /// connection. Whether it is one, the gate tells.
    #[must_use]
    pub fn is_claimed(&self, request: &Request) -> bool {
        certificate(request).is_some() || PeerAuth::is_claimed(request.headers())
    }

    /// Refuses a message that does not prove to be one of a host. Its body is checked while it is
    /// read.
    fn believe(&self, request: Request) -> Result<Request, Problem> {
        if self.certified && certificate(&request).is_none() {
            tracing::debug!(reason = "no_certificate", "a message was not believed");
            let detail = "only processes of the cluster, with a certificate of it, may ask this";
            return Err(Problem::new(ErrorCode::Unauthorized, detail));
        }
        self.identity.auth().check(request)
    }

    /// Checks the headers of a message.
    ///
    /// # Errors
    /// 409 `wrong_cluster` or `stale_incarnation`, 426 `protocol_version`, 400 `bad_header`.
    pub fn check(&self, headers: &HeaderMap) -> Result<PeerContext, Problem> {
        let deadline = self.deadline(headers)?;
        if self.plain_allowed && !headers.contains_key(X_ATOLL_SENDER) {
            return Ok(PeerContext { sender: None, deadline });
        }
        self.check_protocol(headers)?;
        self.check_cluster(headers)?;
        let sender = PeerSender {
            node: parsed(headers, &X_ATOLL_SENDER, |text| text.parse().ok())?,
            role: parsed(headers, &X_ATOLL_ROLE, ProcessRole::parse)?,
            incarnation: Incarnation(
                number(headers, &X_ATOLL_INCARNATION)?
                    .ok_or_else(|| missing(&X_ATOLL_INCARNATION))?,
            ),
        };
        self.check_incarnation(sender)?;
        Ok(PeerContext { sender: Some(sender), deadline })
    }

    /// Checks the headers of a client that proves itself otherwise: what it says of protocol and
    /// cluster has to fit; who it says to be is not believed, as a client is nobody's peer.
    ///
    /// # Errors
    /// 409 `wrong_cluster`, 426 `protocol_version`, 400 `bad_header`.
    pub fn check_client(&self, headers: &HeaderMap) -> Result<PeerContext, Problem> {
        if headers.contains_key(X_ATOLL_PROTOCOL) {
            self.check_protocol(headers)?;
        }
        self.check_cluster(headers)?;
        Ok(PeerContext { sender: None, deadline: self.deadline(headers)? })
    }

    /// A peer has no more time to give than a client may ask for.
    fn deadline(&self, headers: &HeaderMap) -> Result<Option<Mono>, Problem> {
        let left = number(headers, &X_ATOLL_DEADLINE_MS)?;
        Ok(left.map(|ms| self.clock.deadline(Duration::from_millis(ms.min(TIMEOUT_MS_MAX)))))
    }

    async fn pass(&self, admitted: Result<Request, Problem>, next: Next) -> Response {
        match admitted {
            Ok(request) => next.run(request).await,
            Err(problem) => {
                self.refused.with_label_values(&[problem.code().as_str()]).inc();
                problem.into_response()
            }
        }
    }

    fn check_protocol(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let version =
            number(headers, &X_ATOLL_PROTOCOL)?.ok_or_else(|| missing(&X_ATOLL_PROTOCOL))?;
        if (u64::from(PROTOCOL_MIN)..=u64::from(PROTOCOL_MAX)).contains(&version) {
            return Ok(());
        }
        let detail =
            format!("protocol {version} is not spoken, {PROTOCOL_MIN} to {PROTOCOL_MAX} are");
        Err(Problem::new(ErrorCode::ProtocolVersion, detail).versions(PROTOCOL_MIN, PROTOCOL_MAX))
    }

    fn check_cluster(&self, headers: &HeaderMap) -> Result<(), Problem> {
        // Two processes that have no cluster yet may talk: that is how one is learned.
        let theirs: Option<ClusterId> = match headers.get(X_ATOLL_CLUSTER) {
            Some(_) => Some(parsed(headers, &X_ATOLL_CLUSTER, |text| text.parse().ok())?),
            None => None,
        };
        let ours = self.identity.cluster();
        match (ours, theirs) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                tracing::warn!(%ours, %theirs, "a message of another cluster was refused");
                Err(Problem::new(ErrorCode::WrongCluster, "the message is for another cluster"))
            }
            _ => Ok(()),
        }
    }

    fn check_incarnation(&self, sender: PeerSender) -> Result<(), Problem> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= GATE_SENDERS_MAX && !seen.contains_key(&(sender.node, sender.role)) {
            seen.clear();
        }
        let newest = seen.entry((sender.node, sender.role)).or_insert(sender.incarnation);
        if sender.incarnation < *newest {
            let detail = format!("a process with incarnation {} speaks for this node", newest.0);
            return Err(Problem::new(ErrorCode::StaleIncarnation, detail));
        }
        *newest = sender.incarnation;
        Ok(())
    }
}

/// The axum middleware of a [`PeerGate`]:
/// `router.layer(axum::middleware::from_fn_with_state(gate, require_peer))`.
pub async fn require_peer(State(gate): State<PeerGate>, request: Request, next: Next) -> Response {
    let admitted = gate.believe(request).and_then(|mut request| {
        let context = gate.check(request.headers())?;
        if let (Some(sender), Some(shown)) = (context.sender, certificate(&request)) {
            // A router is no node, and may be anywhere.
            if sender.role != ProcessRole::Router {
                shown.check(sender.node)?;
            }
        }
        request.extensions_mut().insert(context);
        Ok(request)
    });
    gate.pass(admitted, next).await
}

/// The middleware for messages that state their sender within: only the certificate and the signature
/// are checked.
pub async fn require_signature(
    State(gate): State<PeerGate>,
    request: Request,
    next: Next,
) -> Response {
    gate.pass(gate.believe(request), next).await
}

/// What the certificate of a message's connection says.
fn certificate(request: &Request) -> Option<&PeerCertificate> {
    request.extensions().get()
}

fn missing(name: &HeaderName) -> Problem {
    Problem::new(ErrorCode::BadHeader, format!("header '{name}' is missing"))
}

fn parsed<T>(
    headers: &HeaderMap,
    name: &HeaderName,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, Problem> {
    let value = headers.get(name).ok_or_else(|| missing(name))?;
    value.to_str().ok().and_then(parse).ok_or_else(|| {
        let shown = escape_echo(value.as_bytes());
        Problem::new(ErrorCode::BadHeader, format!("header '{name}' has the value '{shown}'"))
    })
}

/// Plain digits only: no sign, no space.
fn number(headers: &HeaderMap, name: &HeaderName) -> Result<Option<u64>, Problem> {
    if !headers.contains_key(name) {
        return Ok(None);
    }
    let digits = |text: &str| {
        if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
    };
    parsed(headers, name, digits).map(Some)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn identity(cluster: Option<u128>, incarnation: u64) -> PeerIdentity {
        let cluster = cluster.map(ClusterId);
        PeerIdentity::new(NodeId(7), Incarnation(incarnation), ProcessRole::Storage, cluster)
    }

    fn gate() -> PeerGate {
        let (clock, registry) = (Clock::system(), Registry::new());
        PeerGate::register(identity(Some(1), 1), &Tls::off(), clock, &registry).unwrap()
    }

    fn stamped(identity: &PeerIdentity) -> HeaderMap {
        let mut headers = HeaderMap::new();
        identity.stamp(&mut headers);
        headers
    }

    #[test]
    fn an_identified_message_passes() {
        let mut headers = stamped(&identity(Some(1), 3));
        headers.insert(X_ATOLL_DEADLINE_MS, HeaderValue::from_static("1500"));
        let context = gate().check(&headers).unwrap();
        let sender = context.sender.unwrap();
        assert_eq!((sender.node, sender.incarnation), (NodeId(7), Incarnation(3)));
        assert!(context.deadline.is_some());
    }

    #[test]
    fn each_refusal_has_its_code() {
        type Edit = fn(&mut HeaderMap);
        let cases: [(Edit, ErrorCode); 8] = [
            (
                |h| drop(h.insert(X_ATOLL_CLUSTER, "2".repeat(32).parse().unwrap())),
                ErrorCode::WrongCluster,
            ),
            (|h| drop(h.insert(X_ATOLL_CLUSTER, "x".parse().unwrap())), ErrorCode::BadHeader),
            (
                |h| drop(h.insert(X_ATOLL_PROTOCOL, "2".parse().unwrap())),
                ErrorCode::ProtocolVersion,
            ),
            (|h| drop(h.insert(X_ATOLL_PROTOCOL, "+1".parse().unwrap())), ErrorCode::BadHeader),
            (|h| drop(h.remove(X_ATOLL_SENDER)), ErrorCode::BadHeader),
            (|h| drop(h.remove(X_ATOLL_INCARNATION)), ErrorCode::BadHeader),
            (|h| drop(h.insert(X_ATOLL_ROLE, "king".parse().unwrap())), ErrorCode::BadHeader),
            (|h| drop(h.insert(X_ATOLL_DEADLINE_MS, "-1".parse().unwrap())), ErrorCode::BadHeader),
        ];
        for (edit, code) in cases {
            let mut headers = stamped(&identity(Some(1), 3));
            edit(&mut headers);
            assert_eq!(gate().check(&headers).unwrap_err().code(), code, "{headers:?}");
        }
    }

    #[test]
    fn an_older_life_is_fenced() {
        let gate = gate();
        assert!(gate.check(&stamped(&identity(Some(1), 5))).is_ok());
        let stale = gate.check(&stamped(&identity(Some(1), 4))).unwrap_err();
        assert_eq!(stale.code(), ErrorCode::StaleIncarnation);
        assert!(gate.check(&stamped(&identity(Some(1), 6))).is_ok());
    }

    #[test]
    fn plain_requests_pass_only_where_allowed() {
        let gate = gate();
        assert!(gate.check(&HeaderMap::new()).is_err());
        let plain = gate.allowing_plain();
        assert_eq!(plain.check(&HeaderMap::new()).unwrap().sender, None);
        let foreign = stamped(&identity(Some(2), 1));
        assert_eq!(plain.check(&foreign).unwrap_err().code(), ErrorCode::WrongCluster);
    }

    #[test]
    fn who_a_client_says_to_be_is_not_believed() {
        let gate = gate();
        assert!(gate.check(&stamped(&identity(Some(1), 5))).is_ok());
        // Its word fences nobody: the node of that name is heard as before.
        let context = gate.check_client(&stamped(&identity(Some(1), 9))).unwrap();
        assert_eq!(context.sender, None);
        assert!(gate.check(&stamped(&identity(Some(1), 5))).is_ok());
        assert_eq!(gate.check_client(&HeaderMap::new()).unwrap().deadline, None);
        type Edit = fn(&mut HeaderMap);
        let cases: [(Edit, ErrorCode); 3] = [
            (
                |h| drop(h.insert(X_ATOLL_CLUSTER, "2".repeat(32).parse().unwrap())),
                ErrorCode::WrongCluster,
            ),
            (
                |h| drop(h.insert(X_ATOLL_PROTOCOL, "2".parse().unwrap())),
                ErrorCode::ProtocolVersion,
            ),
            (|h| drop(h.insert(X_ATOLL_DEADLINE_MS, "-1".parse().unwrap())), ErrorCode::BadHeader),
        ];
        for (edit, code) in cases {
            let mut headers = stamped(&identity(Some(1), 3));
            edit(&mut headers);
            assert_eq!(gate.check_client(&headers).unwrap_err().code(), code, "{headers:?}");
        }
    }

    #[test]
    fn a_cluster_is_learned_once_known() {
        let newcomer = identity(None, 1);
        assert!(!stamped(&newcomer).contains_key(X_ATOLL_CLUSTER));
        newcomer.clone().set_cluster(ClusterId(1));
        assert_eq!(newcomer.cluster(), Some(ClusterId(1)));
        assert!(stamped(&newcomer).contains_key(X_ATOLL_CLUSTER));
    }
}

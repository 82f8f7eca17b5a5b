//! Who may do what at the ports between hosts: every principal against every route of every process
//! there, for each way in which hosts prove what they are. The processes are the real ones, on real
//! sockets, and know each other in the same way; the certificates are made here.
//!
//! What the scopes of an API key permit is held by the tests of `storage-node` and `request-router`.

#![allow(clippy::unwrap_used, reason = "a test that fails should panic, also in its helpers")]

mod host;
mod principal;

use std::collections::BTreeSet;

use dynamo_core::id::NodeId;
use storage_node::api::routes::Need;

use Verdict::{ByKey, Passes, Refused, Unheard};

use crate::host::{Files, Host, Process};
use crate::principal::{Principal, Shown, Signed, Who};

/// What each route of the membership agent and of the worker is called; all are for hosts. Written by
/// hand, so that a change of their tables is noticed; for those of storage nodes their own tests do so.
const ROUTES: [(Process, &str, &str); 26] = [
    (Process::Membership, "POST", "/v1/gossip"),
    (Process::Membership, "GET", "/v1/ring"),
    (Process::Membership, "GET", "/v1/cluster"),
    (Process::Membership, "POST", "/v1/cluster/stage"),
    (Process::Membership, "DELETE", "/v1/cluster/stage"),
    (Process::Membership, "GET", "/v1/cluster/plan"),
    (Process::Membership, "POST", "/v1/cluster/commit"),
    (Process::Membership, "GET", "/v1/admin/log-level"),
    (Process::Membership, "PUT", "/v1/admin/log-level"),
    (Process::Membership, "GET", "/v1/buckets"),
    (Process::Membership, "GET", "/v1/buckets/{bucket}"),
    (Process::Membership, "PUT", "/v1/buckets/{bucket}"),
    (Process::Membership, "DELETE", "/v1/buckets/{bucket}"),
    (Process::Membership, "GET", "/v1/node"),
    (Process::Membership, "POST", "/v1/local/storage"),
    (Process::Worker, "GET", "/v1/anti-entropy"),
    (Process::Worker, "POST", "/v1/anti-entropy/pause"),
    (Process::Worker, "POST", "/v1/anti-entropy/resume"),
    (Process::Worker, "GET", "/v1/admin/log-level"),
    (Process::Worker, "PUT", "/v1/admin/log-level"),
    (Process::Worker, "POST", "/v1/anti-entropy/repair"),
    (Process::Worker, "GET", "/v1/anti-entropy/repair/{id}"),
    (Process::Worker, "PUT", "/v1/anti-entropy/repair/{id}"),
    (Process::Worker, "GET", "/v1/transfers"),
    (Process::Worker, "POST", "/v1/transfers/accept-loss"),
    (Process::Worker, "GET", "/v1/ping"),
];

/// One route of a process, as its table has it.
type Entry = (Process, &'static str, &'static str, Need);

/// Every route that is served between hosts.
fn served() -> Vec<Entry> {
    use anti_entropy_worker::api::routes as worker;
    use membership_svc::api::routes as membership;
    use storage_node::api::routes as storage;
    let mut all = Vec::new();
    for route in storage::table() {
        let of = |(method, need)| (Process::Storage, method, route.pattern, need);
        all.extend(route.methods.iter().copied().map(of));
    }
    for route in membership::table() {
        let of = |(method, _)| (Process::Membership, method, route.pattern, Need::Host);
        all.extend(route.methods.iter().copied().map(of));
    }
    for route in worker::table() {
        let of = |(method, _)| (Process::Worker, method, route.pattern, Need::Host);
        all.extend(route.methods.iter().copied().map(of));
    }
    all
}

/// All of them, and HEAD, which axum answers where there is GET and which no table has: a matter of
/// hosts everywhere.
fn requests() -> Vec<Entry> {
    let served = served();
    let heads = served.iter().filter(|(_, method, ..)| *method == "GET");
    let heads: Vec<Entry> =
        heads.map(|(p, _, pattern, _)| (*p, "HEAD", *pattern, Need::Host)).collect();
    [served, heads].concat()
}

#[test]
fn every_route_has_its_entry_here() {
    let served: BTreeSet<_> = served()
        .into_iter()
        .filter(|(process, ..)| *process != Process::Storage)
        .map(|(process, method, pattern, _)| (process, method, pattern))
        .collect();
    assert_eq!(served, BTreeSet::from(ROUTES));
}

/// What becomes of the requests of a principal at one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The route is asked; what it says to an empty message is its own affair.
    Passes,
    /// 401, whatever is asked.
    Refused,
    /// As a client with a valid API key: routes that take one pass, others are refused.
    ByKey,
    /// No word is read: the handshake fails, and is counted with this reason.
    Unheard(&'static str),
}

/// How hosts prove what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Proof {
    pub(crate) signatures: bool,
    pub(crate) certificates: bool,
}

/// Somebody, and what becomes of them at storage nodes and elsewhere.
type Case = (&'static str, Who, Verdict, Verdict);

/// What is left to the worker of a storage node's own host, of all that may prove to be hosts.
const OWN_WORKERS: [&str; 3] =
    ["/v1/partitions/hold", "/v1/partitions/release", "/v1/partitions/drop"];

/// Sends every request that there is as everybody.
async fn check(proof: Proof, cases: &[Case]) {
    let root = tempfile::tempdir().unwrap();
    let files = Files::new(root.path());
    let host = Host::start(&files, proof).await;
    let a_host = Principal::new(&files, Who::any_host(proof), NodeId(0));
    let node = a_host.node_at(host.address(Process::Worker)).await;
    for (name, who, at_storage, elsewhere) in cases {
        let somebody = Principal::new(&files, *who, node);
        let verdict_at =
            |process| if process == Process::Storage { *at_storage } else { *elsewhere };
        let failures = |process| match verdict_at(process) {
            Unheard(reason) => host.handshakes_failed(process, reason),
            _ => 0,
        };
        let before = Process::ALL.map(failures);
        for (process, method, pattern, need) in requests() {
            let status = somebody.ask(host.address(process), method, pattern).await;
            let verdict = verdict_at(process);
            let is_right = match (verdict, status) {
                (Unheard(_), status) => status.is_none(),
                (_, None) => false,
                (Refused, Some(status)) => status == 401,
                (ByKey, Some(status)) => status != 403 && (status == 401) == (need == Need::Host),
                (Passes, Some(403)) => OWN_WORKERS.contains(&pattern) && !who.is_own_worker(),
                (Passes, Some(status)) => {
                    status != 401 && (who.is_own_worker() || !OWN_WORKERS.contains(&pattern))
                }
            };
            let is_served = status.is_none_or(|status| ![405, 429].contains(&status));
            assert!(
                is_right && is_served,
                "{proof:?}, {name}: {method} {pattern} of {process:?}: {status:?}, not {verdict:?}"
            );
        }
        for (process, before) in Process::ALL.into_iter().zip(before) {
            let is_unheard = matches!(verdict_at(process), Unheard(_));
            assert_eq!(failures(process) > before, is_unheard, "{proof:?}, {name}: {process:?}");
        }
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_hosts_sign() {
    let (proof, clear) = (Proof { signatures: true, certificates: false }, Shown::InClear);
    let (not, well, otherwise) = (Signed::Not, Signed::Well, Signed::WithAnotherKey);
    check(
        proof,
        &[
            ("a host", Who::new(clear, well), Passes, Passes),
            ("the own worker", Who::new(clear, well).as_own_worker(), Passes, Passes),
            ("a router", Who::new(clear, well).as_router(), Passes, Passes),
            ("who says to be a host", Who::new(clear, not), Refused, Refused),
            ("another key", Who::new(clear, otherwise).as_own_worker(), Refused, Refused),
            ("a client", Who::new(clear, not).with_api_key(), ByKey, Refused),
            ("a client that signs", Who::new(clear, otherwise).with_api_key(), Refused, Refused),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_hosts_have_certificates() {
    let proof = Proof { signatures: false, certificates: true };
    let new = |shown| Who::new(shown, Signed::Not);
    let (missing, wrong) = (Unheard("no_certificate"), Unheard("certificate"));
    let (old, clear) = (Unheard("expired"), Unheard("not_tls"));
    check(
        proof,
        &[
            ("a host", new(Shown::Host), Passes, Passes),
            ("the own worker", new(Shown::Host).as_own_worker(), Passes, Passes),
            ("a host by its name", new(Shown::NamedHost), Passes, Passes),
            ("another by its name", new(Shown::OtherHost).with_api_key(), Refused, Refused),
            ("a false worker", new(Shown::NamedHost).as_own_worker(), Refused, Refused),
            ("a false router", new(Shown::NamedHost).as_router(), Passes, Passes),
            ("who says to be a host", new(Shown::Nothing), Refused, missing),
            ("who signs", Who::new(Shown::Nothing, Signed::Well), Refused, missing),
            ("a client", new(Shown::Nothing).with_api_key(), ByKey, missing),
            ("of another CA", new(Shown::OfAnotherCa).with_api_key(), wrong, wrong),
            ("no host", new(Shown::NoHost).with_api_key(), wrong, wrong),
            ("of yesterday", new(Shown::Expired).with_api_key(), old, old),
            ("in clear", new(Shown::InClear).with_api_key(), clear, clear),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_hosts_have_certificates_and_sign() {
    let proof = Proof { signatures: true, certificates: true };
    let new = |shown| Who::new(shown, Signed::Well);
    let alone = Who::new(Shown::Host, Signed::Not).with_api_key();
    let otherwise = Who::new(Shown::Host, Signed::WithAnotherKey).with_api_key();
    let client = Who::new(Shown::Nothing, Signed::Not).with_api_key();
    let (missing, wrong, clear) =
        (Unheard("no_certificate"), Unheard("certificate"), Unheard("not_tls"));
    check(
        proof,
        &[
            ("a host", new(Shown::Host), Passes, Passes),
            ("the own worker", new(Shown::Host).as_own_worker(), Passes, Passes),
            ("a host by its name", new(Shown::NamedHost), Passes, Passes),
            ("another by its name", new(Shown::OtherHost).with_api_key(), Refused, Refused),
            ("a certificate alone", alone, Refused, Refused),
            ("another key", otherwise, Refused, Refused),
            ("a signature alone", new(Shown::Nothing).with_api_key(), Refused, missing),
            ("a client", client, ByKey, missing),
            ("of another CA", new(Shown::OfAnotherCa), wrong, wrong),
            ("no host", new(Shown::NoHost), wrong, wrong),
            ("in clear", new(Shown::InClear), clear, clear),
        ],
    )
    .await;
}

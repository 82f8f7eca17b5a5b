//! Who may do what: every principal against every route of the router's own table, and against every
//! effect that depends on more than the route. A route that is not in the table here fails.

use std::collections::BTreeMap;
use std::path::Path;

use dynamo_core::time::WallMs;
use request_router::routes;
use service_kit::auth::api_key::{KeyDigest, mint};
use service_kit::auth::config::{AuthConfig, AuthMode};
use service_kit::auth::key_file::{KeyEntry, KeyFile, KeyVersion, Timestamp};
use service_kit::auth::scope::Scope;
use service_kit::datadir::write_atomic;
use service_kit::rng::OsEntropy;

use crate::support::{Cluster, Reply, request};

/// Scopes that suffice together for an effect; none where any valid key does.
type Needed = &'static [Scope];

const READ: Needed = &[Scope::Read];
const WRITE: Needed = &[Scope::Write];
const ADMIN: Needed = &[Scope::Admin];

/// What each route needs. Written by hand, so that a change of the router's table is noticed.
const ROUTES: [(&str, &str, Needed); 38] = [
    ("GET", "/v1/kv/{bucket}/{*key}", READ),
    ("HEAD", "/v1/kv/{bucket}/{*key}", READ),
    ("PUT", "/v1/kv/{bucket}/{*key}", WRITE),
    ("DELETE", "/v1/kv/{bucket}/{*key}", &[Scope::Delete]),
    ("GET", "/v1/kv/{bucket}", &[Scope::List]),
    ("POST", "/v1/kv/{bucket}", WRITE),
    ("POST", "/v1/batch", &[]),
    ("GET", "/v1/buckets", ADMIN),
    ("GET", "/v1/buckets/{bucket}", ADMIN),
    ("PUT", "/v1/buckets/{bucket}", ADMIN),
    ("DELETE", "/v1/buckets/{bucket}", ADMIN),
    ("GET", "/v1/cluster", &[]),
    ("GET", "/v1/cluster/health", &[]),
    ("GET", "/v1/cluster/load", &[]),
    ("GET", "/v1/cluster/peers", &[]),
    ("GET", "/v1/cluster/safe-to-stop", &[]),
    ("POST", "/v1/cluster/stage", ADMIN),
    ("DELETE", "/v1/cluster/stage", ADMIN),
    ("GET", "/v1/cluster/plan", ADMIN),
    ("POST", "/v1/cluster/commit", ADMIN),
    ("GET", "/v1/ring", &[]),
    ("GET", "/v1/ring/preference", &[]),
    ("GET", "/v1/hints", ADMIN),
    ("POST", "/v1/hints/sync-point", ADMIN),
    ("GET", "/v1/hints/sync-point/{id}", ADMIN),
    ("GET", "/v1/transfers", ADMIN),
    ("POST", "/v1/transfers/accept-loss", ADMIN),
    ("GET", "/v1/anti-entropy", ADMIN),
    ("POST", "/v1/anti-entropy/repair", ADMIN),
    ("GET", "/v1/anti-entropy/repair/{id}", ADMIN),
    ("POST", "/v1/admin/partitions/{partition}/records", ADMIN),
    ("POST", "/v1/admin/partitions/{partition}/keys", ADMIN),
    ("POST", "/v1/admin/partitions/{partition}/digest", ADMIN),
    ("POST", "/v1/admin/merge", ADMIN),
    ("GET", "/v1/admin/log-level", ADMIN),
    ("PUT", "/v1/admin/log-level", ADMIN),
    ("GET", "/v1/stats", &[]),
    ("GET", "/openapi.json", &[]),
];

/// An effect beyond what a route does: method, target, headers, and what is needed.
type Effect = (&'static str, &'static str, &'static [(&'static str, &'static str)], Needed);

const EFFECTS: [Effect; 11] = [
    ("PUT", "/v1/kv/b/k?return_body", &[], &[Scope::Write, Scope::Read]),
    ("PUT", "/v1/kv/b/k?return_body=false", &[], WRITE),
    ("PUT", "/v1/kv/b/k", &[("if-none-match", "*")], &[Scope::Write, Scope::Read]),
    ("PUT", "/v1/kv/b/k", &[("if-match", "\"x\"")], &[Scope::Write, Scope::Read]),
    ("DELETE", "/v1/kv/b/k", &[("if-match", "\"x\"")], &[Scope::Delete, Scope::Read]),
    ("POST", "/v1/kv/b", &[("if-none-match", "*")], &[Scope::Write, Scope::Read]),
    ("GET", "/v1/kv/b/k?explain", &[], &[Scope::Read, Scope::Admin]),
    ("GET", "/v1/kv/b/k?watch", &[], READ),
    ("GET", "/v1/ring/preference?bucket=b&key=k", &[], READ),
    ("HEAD", "/v1/cluster/plan", &[], ADMIN),
    ("GET", "/v1/kv/%62/k", &[], READ),
];

/// A key with these scopes in these buckets.
struct Who {
    name: &'static str,
    scopes: Vec<Scope>,
    buckets: &'static str,
    text: String,
}

impl Who {
    fn new(name: &'static str, scopes: &[Scope], buckets: &'static str) -> Self {
        let text = mint(&name.parse().unwrap(), &mut OsEntropy);
        Self { name, scopes: scopes.to_vec(), buckets, text }
    }

    fn entry(&self) -> KeyEntry {
        KeyEntry {
            id: self.name.parse().unwrap(),
            scopes: self.scopes.clone(),
            buckets: vec![self.buckets.parse().unwrap()],
            requests_per_s: None,
            requests_at_once: None,
            versions: vec![version(1, &self.text, None, None)],
        }
    }

    /// Buckets do not bind administrators.
    fn has(&self, needed: Needed) -> bool {
        let here = |scope: &Scope| *scope == Scope::Admin || self.buckets != "elsewhere";
        needed.iter().all(|scope| self.scopes.contains(scope) && here(scope))
    }
}

fn version(number: u32, text: &str, expires: Option<u64>, revoked: Option<u64>) -> KeyVersion {
    let at = |ms| Timestamp(WallMs(ms));
    KeyVersion {
        version: number,
        sha256: KeyDigest::of(text),
        created_at: at(0),
        expires_at: expires.map(at),
        revoked_at: revoked.map(at),
    }
}

fn everybody() -> Vec<Who> {
    vec![
        Who::new("reader", &[Scope::Read], "*"),
        Who::new("writer", &[Scope::Write], "b*"),
        Who::new("deleter", &[Scope::Delete], "*"),
        Who::new("lister", &[Scope::List], "*"),
        Who::new("editor", &[Scope::Read, Scope::Write, Scope::Delete], "?"),
        Who::new(
            "elsewhere",
            &[Scope::Read, Scope::Write, Scope::Delete, Scope::List],
            "elsewhere",
        ),
        Who::new("admin", &[Scope::Admin], "*"),
        Who::new("root", &Scope::ALL, "*"),
    ]
}

fn save(path: &Path, keys: Vec<KeyEntry>) {
    write_atomic(path, &KeyFile { format: 1, keys }.to_json().unwrap()).unwrap();
}

fn guarded(keys: Vec<KeyEntry>) -> (Cluster, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.json");
    save(&path, keys);
    let auth = AuthConfig { mode: Some(AuthMode::Keys), keys_file: Some(path) };
    (Cluster::start_with(3, |config| config.auth = auth), dir)
}

fn ask(cluster: &Cluster, key: &str, method: &str, target: &str, more: &[(&str, &str)]) -> Reply {
    let authorization = format!("Bearer {key}");
    let mut headers = vec![("authorization", authorization.as_str())];
    headers.extend_from_slice(more);
    request(cluster.router, method, target, &headers, b"")
}

/// A pattern with something in its places.
fn target(pattern: &str) -> String {
    let places = [("{bucket}", "b"), ("{*key}", "k"), ("{partition}", "0"), ("{id}", "1")];
    places.iter().fold(pattern.to_owned(), |target, (place, value)| target.replace(place, value))
}

fn needs() -> BTreeMap<(String, String), Needed> {
    let all = ROUTES.iter();
    all.map(|(method, pattern, needed)| (((*pattern).into(), (*method).into()), *needed)).collect()
}

#[test]
fn every_route_has_its_entry_here() {
    let served: Vec<(String, String)> = routes::table()
        .into_iter()
        .flat_map(|route| {
            let pattern = route.pattern;
            route.methods.into_iter().map(move |(method, _)| (pattern.into(), method.into()))
        })
        .collect();
    let needs = needs();
    for route in &served {
        assert!(needs.contains_key(route), "{route:?} has no entry");
    }
    assert_eq!(served.len(), needs.len(), "an entry has no route");
}

#[test]
fn pages_need_no_key_and_tell_nothing_else() {
    let (cluster, _dir) = guarded(vec![Who::new("root", &Scope::ALL, "*").entry()]);
    let pages: Vec<&str> =
        routes::table().into_iter().filter(|r| r.page).map(|r| r.pattern).collect();
    assert_eq!(pages, ["/console", "/console/", "/console/{file}"]);
    for (path, status) in
        [("/console", 308), ("/console/", 200), ("/console/main.js", 200), ("/console/x", 404)]
    {
        assert_eq!(request(cluster.router, "GET", path, &[], b"").status, status, "{path}");
    }
    for (method, path) in [("POST", "/console/"), ("GET", "/console/a/b"), ("GET", "/nowhere")] {
        assert_eq!(request(cluster.router, method, path, &[], b"").status, 401, "{method} {path}");
    }
}

#[test]
fn everybody_may_do_what_their_scopes_say_and_nothing_else() {
    let everybody = everybody();
    let (cluster, _dir) = guarded(everybody.iter().map(Who::entry).collect());
    let routes = needs().into_iter().map(|((pattern, method), needed)| {
        (method, target(&pattern), &[] as &[(&str, &str)], needed)
    });
    let effects = EFFECTS.iter().map(|(method, target, headers, needed)| {
        ((*method).to_owned(), (*target).to_owned(), *headers, *needed)
    });
    for (method, target, headers, needed) in routes.chain(effects) {
        for who in &everybody {
            let reply = ask(&cluster, &who.text, &method, &target, headers);
            let shown = format!("{} {method} {target} {headers:?}: {reply:?}", who.name);
            assert_ne!(reply.status, 401, "{shown}");
            assert_eq!(reply.status != 403, who.has(needed), "{shown}");
        }
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(ask(&cluster, &everybody[7].text, "GET", path, &[]).status, 404, "{path}");
        assert_eq!(request(cluster.health, "GET", path, &[], b"").status, 200, "{path}");
    }
}

#[test]
fn nobody_gets_anywhere_without_a_valid_key() {
    let known = Who::new("known", &Scope::ALL, "*");
    let late = Who::new("late", &Scope::ALL, "*");
    let gone = Who::new("gone", &Scope::ALL, "*");
    let mut entries: Vec<KeyEntry> = [&known, &late, &gone].map(Who::entry).into();
    entries[1].versions = vec![version(1, &late.text, Some(1), None)];
    entries[2].versions = vec![version(1, &gone.text, None, Some(1))];
    let stranger = Who::new("stranger", &[], "*");
    let wrong = Who::new("known", &[], "*");
    let texts = ["", "x", &stranger.text, &wrong.text, &late.text, &gone.text];
    for text in texts {
        let (cluster, _dir) = guarded(entries.clone());
        let mut statuses = BTreeMap::new();
        for (pattern, method) in needs().into_keys() {
            let reply = ask(&cluster, text, &method, &target(&pattern), &[]);
            *statuses.entry(reply.status).or_insert(0) += 1;
            if reply.status == 401 && method != "HEAD" {
                assert_eq!(reply.header("www-authenticate"), Some("Bearer realm=\"atoll\""));
                let problem = reply.json();
                assert_eq!(problem["code"], "unauthorized");
                let detail = problem["detail"].as_str().unwrap();
                assert!(detail.starts_with("a valid API key is required"), "one text for all");
            }
        }
        assert_eq!(statuses.keys().copied().collect::<Vec<_>>(), [401, 429], "{text}");
        assert!(statuses[&401] >= 20, "{statuses:?}");
        assert_eq!(cluster.coordinated(), 0);
        assert_eq!(ask(&cluster, &known.text, "PUT", "/v1/kv/b/k", &[]).status, 204);
    }
}

#[test]
fn a_refusal_does_not_tell_what_there_is() {
    let (writer, elsewhere) =
        (Who::new("writer", &[Scope::Write], "*"), Who::new("elsewhere", &Scope::ALL, "elsewhere"));
    let (cluster, _dir) = guarded(vec![writer.entry(), elsewhere.entry()]);
    assert_eq!(ask(&cluster, &writer.text, "PUT", "/v1/kv/b/there", &[]).status, 204);
    let body = |who: &Who, method: &str, target: &str| {
        let reply = ask(&cluster, &who.text, method, target, &[("x-request-id", "same")]);
        assert_eq!(reply.status, 403, "{reply:?}");
        reply.text().to_owned()
    };
    for who in [&writer, &elsewhere] {
        for method in ["GET", "DELETE"] {
            let there = body(who, method, "/v1/kv/b/there");
            assert_eq!(there, body(who, method, "/v1/kv/b/not-there"));
        }
    }
    assert!(cluster.metric("atoll_auth_refused_total{reason=\"forbidden\"}") >= 8.0);
}

#[test]
fn credentials_in_a_url_are_refused() {
    let root = Who::new("root", &Scope::ALL, "*");
    let (cluster, _dir) = guarded(vec![root.entry()]);
    let targets = [
        format!("/v1/kv/b/k?token={}", root.text),
        format!("/v1/kv/b/k?r={}", root.text),
        "/v1/kv/b/k?api_key=1".to_owned(),
        format!("/nowhere?x={}", root.text),
    ];
    for target in &targets {
        for key in ["", root.text.as_str()] {
            let reply = ask(&cluster, key, "GET", target, &[]);
            assert_eq!(reply.status, 400, "{target}");
            assert!(!reply.text().contains(&root.text), "{reply:?}");
        }
    }
    assert_eq!(cluster.coordinated(), 0);
}

#[test]
fn an_administrator_sees_what_each_replica_answered() {
    use crate::support::Mode;
    use service_kit::http::error::{ErrorCode, Outcome};

    let (root, writer) =
        (Who::new("root", &Scope::ALL, "*"), Who::new("writer", &[Scope::Write], "*"));
    let (cluster, _dir) = guarded(vec![root.entry(), writer.entry()]);
    cluster.set_all(&Mode::Refuse(ErrorCode::QuorumUnavailable, Outcome::Unknown));
    for (who, shown) in [(&root, true), (&writer, false)] {
        let problem = ask(&cluster, &who.text, "PUT", "/v1/kv/b/k", &[]).json();
        assert_eq!(problem.get("replicas").is_some(), shown, "{problem}");
    }
}

#[test]
fn changes_are_entered_in_the_audit_log_or_not_made() {
    let root = Who::new("root", &Scope::ALL, "*");
    let dir = tempfile::tempdir().unwrap();
    let (keys, audit) = (dir.path().join("keys.json"), dir.path().join("audit.log"));
    save(&keys, vec![root.entry()]);
    let auth = AuthConfig { mode: Some(AuthMode::Keys), keys_file: Some(keys) };
    let cluster = Cluster::start_with(1, |config| {
        config.auth = auth;
        config.audit_file = Some(audit.clone());
    });
    for (method, target) in [
        ("GET", "/v1/cluster/plan"),
        ("DELETE", "/v1/cluster/stage"),
        ("PUT", "/v1/kv/b/k"),
        ("PUT", "/v1/buckets/b?x"),
    ] {
        ask(&cluster, &root.text, method, target, &[("x-request-id", "mine-7")]);
    }
    ask(&cluster, "wrong", "GET", "/v1/cluster", &[]);
    let lines = || -> Vec<(String, String, String)> {
        let text = std::fs::read_to_string(&audit).unwrap();
        let field = |line: &serde_json::Value, name: &str| line[name].as_str().unwrap().to_owned();
        let parsed = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let of = |line: serde_json::Value| {
            (field(&line, "principal"), field(&line, "action"), field(&line, "outcome"))
        };
        parsed.map(of).collect()
    };
    // A refusal of credentials is entered when there is time for it.
    let start = std::time::Instant::now();
    while lines().len() < 5 && start.elapsed().as_secs() < 20 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let lines = lines();
    let entered: Vec<(&str, &str)> =
        lines.iter().map(|(who, action, _)| (who.as_str(), action.as_str())).collect();
    let twice = [("root", "DELETE /v1/cluster/stage"), ("root", "PUT /v1/buckets/b")];
    let mut expected: Vec<_> = twice.iter().flat_map(|entry| [*entry, *entry]).collect();
    expected.push(("", "present credentials"));
    assert_eq!(entered, expected);
    assert_eq!((lines[0].2.as_str(), lines[4].2.as_str()), ("asked", "malformed"));
    assert_eq!(service_kit::audit::verify(&audit).unwrap().entries, 5);
}

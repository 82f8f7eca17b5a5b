//! The keys against every way to be refused.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use http::HeaderValue;

use super::*;
use crate::auth::api_key::mint;
use crate::auth::key_file::Timestamp;
use crate::limits::FAILED_AUTH_BURST;
use crate::rng::OsEntropy;
use crate::time::ManualClock;

const NOW: WallMs = WallMs(1_800_000_000_000);
const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

struct Scene {
    dir: tempfile::TempDir,
    keys: ApiKeys,
    hand: ManualClock,
    registry: Registry,
    texts: Vec<String>,
}

fn id(text: &str) -> KeyId {
    text.parse().unwrap()
}

fn version(number: u32, text: &str, expires: Option<u64>, revoked: bool) -> KeyVersion {
    KeyVersion {
        version: number,
        sha256: KeyDigest::of(text),
        created_at: Timestamp(WallMs(0)),
        expires_at: expires.map(|ms| Timestamp(WallMs(NOW.0 + ms))),
        revoked_at: revoked.then_some(Timestamp(NOW)),
    }
}

fn entry(name: &str, versions: Vec<KeyVersion>) -> KeyEntry {
    KeyEntry {
        id: id(name),
        scopes: vec![Scope::Read, Scope::Write],
        buckets: vec!["cart*".parse().unwrap()],
        requests_per_s: None,
        requests_at_once: None,
        versions,
    }
}

fn save(path: &Path, keys: Vec<KeyEntry>) {
    let json = KeyFile { format: 1, keys }.to_json().unwrap();
    crate::datadir::write_atomic(path, &json).unwrap();
}

fn scene(edit: impl FnOnce(&mut KeyEntry)) -> Scene {
    let texts: Vec<String> = (0..4).map(|_| mint(&id("app"), &mut OsEntropy)).collect();
    let versions = vec![
        version(1, &texts[0], None, true),
        version(2, &texts[1], Some(1000), false),
        version(3, &texts[2], None, false),
    ];
    let mut app = entry("app", versions);
    edit(&mut app);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.json");
    save(&path, vec![app]);
    let registry = Registry::new();
    let metrics = ReloadMetrics::register(&registry).unwrap();
    let (clock, hand) = Clock::manual(NOW);
    let keys = ApiKeys::load(&path, clock, &registry, metrics, AuditLog::off()).unwrap();
    Scene { dir, keys, hand, registry, texts }
}

fn ask(keys: &ApiKeys, authorization: Option<&str>) -> Result<Arc<Principal>, Problem> {
    let mut headers = HeaderMap::new();
    if let Some(value) = authorization {
        headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
    }
    keys.authenticate(&headers, SOURCE)
}

fn counted(scene: &Scene, reason: &str) -> u64 {
    assert!(!scene.registry.gather().is_empty());
    scene.keys.0.refused.with_label_values(&[reason]).get()
}

#[test]
fn every_refusal_is_the_same_answer_and_its_reason_is_counted() {
    let scene = scene(|_| {});
    let stranger = mint(&id("other"), &mut OsEntropy);
    let bearer = |text: &str| format!("Bearer {text}");
    let cases = [
        (None, "missing"),
        (Some("Bearer".to_owned()), "malformed"),
        (Some("Bearer x".to_owned()), "malformed"),
        (Some(format!("Basic {}", scene.texts[2])), "malformed"),
        (Some(bearer(&stranger)), "unknown"),
        (Some(bearer(&scene.texts[3])), "wrong"),
        (Some(bearer(&scene.texts[0])), "revoked"),
    ];
    for (header, reason) in cases {
        let before = counted(&scene, reason);
        let problem = ask(&scene.keys, header.as_deref()).unwrap_err();
        assert_eq!(problem.code(), ErrorCode::Unauthorized, "{reason}");
        assert_eq!(problem.detail(), REFUSAL, "{reason}");
        assert!(problem.headers().contains_key(http::header::WWW_AUTHENTICATE));
        assert_eq!(counted(&scene, reason), before + 1, "{reason}");
    }
    for valid in
        [bearer(&scene.texts[1]), bearer(&scene.texts[2]), format!("bearer {}", scene.texts[2])]
    {
        assert_eq!(ask(&scene.keys, Some(&valid)).unwrap().id().as_str(), "app");
    }
    scene.hand.advance(Duration::from_secs(1));
    assert!(ask(&scene.keys, Some(&bearer(&scene.texts[1]))).is_err(), "expired");
    assert_eq!(counted(&scene, "expired"), 1);
}

#[test]
fn who_fails_too_often_waits_but_a_valid_key_never_does() {
    let scene = scene(|_| {});
    for _ in 0..FAILED_AUTH_BURST {
        assert_eq!(ask(&scene.keys, None).unwrap_err().code(), ErrorCode::Unauthorized);
    }
    let over = ask(&scene.keys, None).unwrap_err();
    assert_eq!(over.code(), ErrorCode::TooManyRequests);
    assert!(over.headers().contains_key(http::header::RETRY_AFTER));
    assert!(ask(&scene.keys, Some(&format!("Bearer {}", scene.texts[2]))).is_ok());
    scene.hand.advance(Duration::from_secs(2));
    assert_eq!(ask(&scene.keys, None).unwrap_err().code(), ErrorCode::Unauthorized);
}

#[test]
fn scopes_are_for_buckets_and_admin_is_for_none() {
    let scene = scene(|_| {});
    let app = ask(&scene.keys, Some(&format!("Bearer {}", scene.texts[2]))).unwrap();
    assert!(app.permits(Scope::Read, "carts") && app.permits(Scope::Write, "cart"));
    assert!(!app.permits(Scope::Read, "orders"));
    assert!(!app.permits(Scope::Delete, "carts") && !app.permits(Scope::List, "carts"));
    assert!(!app.is_admin());
}

#[test]
fn a_key_has_limits_of_its_own() {
    let scene = scene(|app| {
        app.requests_per_s = Some(3);
        app.requests_at_once = Some(2);
    });
    let app = ask(&scene.keys, Some(&format!("Bearer {}", scene.texts[2]))).unwrap();
    let first = scene.keys.admit(&app).unwrap();
    let _second = scene.keys.admit(&app).unwrap();
    let over = scene.keys.admit(&app).unwrap_err();
    assert!(over.detail().contains("in flight"), "{over}");
    drop(first);
    let over = scene.keys.admit(&app).unwrap_err();
    assert_eq!(over.code(), ErrorCode::TooManyRequests);
    assert!(over.detail().contains("rate"), "{over}");
    scene.hand.advance(Duration::from_secs(1));
    assert!(scene.keys.admit(&app).is_ok());
    assert_eq!(counted(&scene, "limited"), 2);
}

#[test]
fn a_changed_file_counts_at_once_and_a_broken_one_does_not() {
    let scene = scene(|_| {});
    let path = scene.dir.path().join("keys.json");
    let valid = format!("Bearer {}", scene.texts[2]);
    let new = mint(&id("new"), &mut OsEntropy);
    std::fs::write(&path, "{").unwrap();
    assert!(!scene.keys.0.file.check());
    assert!(ask(&scene.keys, Some(&valid)).is_ok(), "the old keys stay");
    save(&path, vec![entry("new", vec![version(1, &new, None, false)])]);
    assert!(scene.keys.0.file.check());
    assert!(ask(&scene.keys, Some(&valid)).is_err(), "gone from the file");
    assert!(ask(&scene.keys, Some(&format!("Bearer {new}"))).is_ok());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(!scene.keys.0.file.check());
    assert!(ask(&scene.keys, Some(&format!("Bearer {new}"))).is_ok());
}

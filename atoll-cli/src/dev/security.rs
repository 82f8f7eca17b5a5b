//! The keys of a development cluster with `--secure`: those of its clients, of which the first may do
//! everything, and the one that its hosts share. They live as long as the cluster's directory.

use std::path::{Path, PathBuf};

use dynamo_core::entropy::Entropy;
use service_kit::auth::api_key::{KeyDigest, KeyId, mint};
use service_kit::auth::key_file::{KEY_FILE_FORMAT, KeyEntry, KeyFile, KeyVersion, Timestamp};
use service_kit::auth::scope::Scope;
use service_kit::datadir::write_atomic;
use service_kit::rng::OsEntropy;
use service_kit::time::Clock;

use crate::output::Failure;

/// The id of the key that may do everything.
const ADMIN: &str = "dev";

/// The file of API keys.
pub(super) fn keys_file(root: &Path) -> PathBuf {
    root.join("keys.json")
}

/// The file with the key that hosts share.
pub(super) fn peer_keys_file(root: &Path) -> PathBuf {
    root.join("peer-keys")
}

/// The file with the text of the key that may do everything, for its owner's eyes only.
pub(super) fn admin_key_file(root: &Path) -> PathBuf {
    root.join("admin-key")
}

/// The text of the key that may do everything.
///
/// # Errors
/// Where its file cannot be read.
pub(super) fn admin_key(root: &Path) -> std::io::Result<String> {
    std::fs::read_to_string(admin_key_file(root)).map(|text| text.trim().to_owned())
}

/// Makes all keys, unless they are there.
pub(super) fn ensure(root: &Path) -> Result<(), Failure> {
    if keys_file(root).exists() {
        return Ok(());
    }
    let id: KeyId = ADMIN.parse().expect("a short word is an id");
    let text = mint(&id, &mut OsEntropy);
    let version = KeyVersion {
        version: 1,
        sha256: KeyDigest::of(&text),
        created_at: Timestamp(Clock::system().wall()),
        expires_at: None,
        revoked_at: None,
    };
    let entry = KeyEntry {
        id,
        scopes: Scope::ALL.to_vec(),
        buckets: vec!["*".parse().expect("a star is a pattern")],
        requests_per_s: None,
        requests_at_once: None,
        versions: vec![version],
    };
    let file = KeyFile { format: KEY_FILE_FORMAT, keys: vec![entry] };
    let json = file.to_json().map_err(std::io::Error::from)?;
    write_atomic(&admin_key_file(root), format!("{text}\n").as_bytes())?;
    let mut shared = String::new();
    for _ in 0..4 {
        shared.push_str(&format!("{:016x}", OsEntropy.next_u64()));
    }
    write_atomic(&peer_keys_file(root), format!("{shared}\n").as_bytes())?;
    // Last: where it is, all are.
    write_atomic(&keys_file(root), &json)?;
    Ok(())
}

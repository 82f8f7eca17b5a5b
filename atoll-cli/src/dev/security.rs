//! What protects a development cluster with `--secure`: keys of its clients, of which the first may do
//! everything, the key that its hosts share, and a CA with one certificate for all of them, as
//! everything listens on loopback. They live as long as the cluster's directory.

use std::path::{Path, PathBuf};

use dynamo_core::entropy::Entropy;
use service_kit::auth::api_key::{KeyDigest, KeyId, mint};
use service_kit::auth::key_file::{KEY_FILE_FORMAT, KeyEntry, KeyFile, KeyVersion, Timestamp};
use service_kit::auth::scope::Scope;
use service_kit::datadir::write_atomic;
use service_kit::rng::OsEntropy;
use service_kit::time::Clock;
use service_kit::tls::authority::Authority;
use service_kit::tls::config::TlsConfig;

use crate::exit;
use crate::output::Failure;

/// The id of the key that may do everything.
const ADMIN: &str = "dev";

/// How long certificates are good: longer than anybody keeps a development cluster.
const LIFETIME: time::Duration = time::Duration::days(3650);

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

/// The certificate of the CA.
pub(super) fn ca_file(root: &Path) -> PathBuf {
    root.join("ca.crt")
}

/// The certificate of all hosts.
pub(super) fn cert_file(root: &Path) -> PathBuf {
    root.join("tls.crt")
}

/// Its private key.
pub(super) fn key_file(root: &Path) -> PathBuf {
    root.join("tls.key")
}

/// What an administrator needs to ask a router.
#[derive(Debug, Default)]
pub(super) struct Access {
    /// The key that may do everything, where keys are asked for.
    pub(super) api_key: Option<String>,
    /// The CA of routers that speak TLS.
    pub(super) ca_file: Option<PathBuf>,
}

impl Access {
    /// To the cluster with `--secure` in `root`.
    ///
    /// # Errors
    /// Where the file of the key cannot be read.
    pub(super) fn to(root: &Path) -> std::io::Result<Self> {
        let key = std::fs::read_to_string(admin_key_file(root))?.trim().to_owned();
        Ok(Self { api_key: Some(key), ca_file: Some(ca_file(root)) })
    }

    /// How URLs of routers begin.
    pub(super) fn scheme(&self) -> &'static str {
        if self.ca_file.is_some() { "https" } else { "http" }
    }
}

/// Makes all keys and certificates, unless they are there.
pub(super) fn ensure(root: &Path) -> Result<(), Failure> {
    if !ca_file(root).exists() {
        make_certificates(root)?;
    }
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

/// The CA's private key is kept nowhere: whoever wants other certificates starts anew.
fn make_certificates(root: &Path) -> Result<(), Failure> {
    let broken = |error| Failure::new(exit::FAILURE, format!("certificates: {error}"));
    let ca = Authority::new("atoll development", LIFETIME).map_err(broken)?;
    let names = [TlsConfig::default().cluster_name, "localhost".into(), "127.0.0.1".into()];
    let host = ca.issue(&names.each_ref().map(String::as_str), LIFETIME).map_err(broken)?;
    write_atomic(&key_file(root), host.key_pem.as_bytes())?;
    write_atomic(&cert_file(root), host.cert_pem.as_bytes())?;
    // Last: where it is, all are.
    write_atomic(&ca_file(root), ca.pem().as_bytes())?;
    Ok(())
}

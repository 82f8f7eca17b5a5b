//! The `[tls]` table of every service.

use std::path::{Path, PathBuf};

use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};

use crate::config::Invalid;

/// The name that certificates of hosts carry unless said otherwise.
const CLUSTER_NAME_DEFAULT: &str = "atoll";

/// Who connects to the API of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callers {
    /// Anybody: certificates of clients are not asked for.
    Clients,
    /// Processes of the cluster, which must present a certificate of it.
    Peers,
    /// Processes of the cluster, which present a certificate of it, and clients, which present none:
    /// [`crate::peer::gate`] takes no message without a certificate for one of a host.
    PeersAndClients,
}

/// The settings. Where nothing is said everything travels in clear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file with the certificate of this host, and those between it and its CA.
    pub cert_file: Option<PathBuf>,
    /// PEM file with its private key, readable by its owner only.
    pub key_file: Option<PathBuf>,
    /// PEM file with the CAs that the certificates of hosts come from. Where it is given all
    /// processes of the cluster speak TLS with each other, and both sides present a certificate.
    pub ca_file: Option<PathBuf>,
    /// The DNS name that the certificate of every host of the cluster carries, beside others.
    pub cluster_name: String,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            cert_file: None,
            key_file: None,
            ca_file: None,
            cluster_name: CLUSTER_NAME_DEFAULT.to_owned(),
        }
    }
}

/// The files of a section that is on.
#[derive(Debug, Clone)]
pub(super) struct Files {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
    pub(super) ca: Option<PathBuf>,
    pub(super) cluster_name: ServerName<'static>,
}

impl Files {
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        [Some(&self.cert), Some(&self.key), self.ca.as_ref()]
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }
}

impl TlsConfig {
    /// Whether processes of the cluster know each other by certificates.
    #[must_use]
    pub fn is_mutual(&self) -> bool {
        self.ca_file.is_some()
    }

    /// Refuses what protects less than it seems to.
    ///
    /// # Errors
    /// A certificate without a key or the reverse, a CA without them, a port of peers without a CA,
    /// or a name that is none.
    pub fn validate_for(&self, callers: Callers) -> Result<(), Invalid> {
        self.files(callers).map(drop)
    }

    /// The files, where TLS is on.
    pub(super) fn files(&self, callers: Callers) -> Result<Option<Files>, Invalid> {
        let needed =
            |key: &str, by: &str| Err(Invalid::new(key, format!("is needed where {by} is given")));
        let (cert, key) = match (&self.cert_file, &self.key_file) {
            (Some(cert), Some(key)) => (cert.clone(), key.clone()),
            (Some(_), None) => return needed("tls.key_file", "tls.cert_file"),
            (None, Some(_)) => return needed("tls.cert_file", "tls.key_file"),
            (None, None) if self.ca_file.is_some() => {
                return needed("tls.cert_file", "tls.ca_file");
            }
            (None, None) => return Ok(None),
        };
        if callers != Callers::Clients && self.ca_file.is_none() {
            let reason =
                "is needed: processes of the cluster know each other by certificates of it";
            return Err(Invalid::new("tls.ca_file", reason));
        }
        let cluster_name = dns_name(&self.cluster_name)
            .ok_or_else(|| Invalid::new("tls.cluster_name", "must be a DNS name"))?;
        let ca = self.ca_file.as_deref().map(Path::to_owned);
        Ok(Some(Files { cert, key, ca, cluster_name }))
    }
}

fn dns_name(text: &str) -> Option<ServerName<'static>> {
    match ServerName::try_from(text.to_owned()) {
        Ok(name @ ServerName::DnsName(_)) => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_go_together() {
        use Callers::{Clients, Peers, PeersAndClients};
        // Certificate, key, CA, name; who calls; what is refused, or whether TLS is on.
        type Case = ((bool, bool, bool, &'static str), Callers, Result<bool, &'static str>);
        let cases: [Case; 12] = [
            ((false, false, false, "atoll"), Peers, Ok(false)),
            ((true, true, false, "atoll"), Clients, Ok(true)),
            ((true, true, true, "atoll"), Clients, Ok(true)),
            ((true, true, true, "atoll.example.org"), Peers, Ok(true)),
            ((true, true, true, "atoll"), PeersAndClients, Ok(true)),
            ((true, true, false, "atoll"), Peers, Err("tls.ca_file")),
            ((true, true, false, "atoll"), PeersAndClients, Err("tls.ca_file")),
            ((true, false, true, "atoll"), Peers, Err("tls.key_file")),
            ((false, true, true, "atoll"), Peers, Err("tls.cert_file")),
            ((false, false, true, "atoll"), Clients, Err("tls.cert_file")),
            ((true, true, true, "10.0.0.1"), Peers, Err("tls.cluster_name")),
            ((true, true, true, "a b"), Peers, Err("tls.cluster_name")),
        ];
        for ((cert, key, ca, name), callers, expected) in cases {
            let file = |given: bool| given.then(|| PathBuf::from("x"));
            let config = TlsConfig {
                cert_file: file(cert),
                key_file: file(key),
                ca_file: file(ca),
                cluster_name: name.to_owned(),
            };
            let found = config.files(callers).map(|files| files.is_some());
            let found = found.map_err(|invalid| invalid.key);
            assert_eq!(found.as_ref().map_err(String::as_str), expected.as_ref().map_err(|k| *k));
        }
    }
}

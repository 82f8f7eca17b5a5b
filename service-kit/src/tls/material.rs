//! The files of a `[tls]` table as what handshakes need. Everything that would make handshakes fail
//! later is found here: at the start it is refused, after a change the last good files stay in use.

use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, InconsistentKeys, RootCertStore,
    ServerConfig, SignatureScheme,
};

use super::certificate::Certificate;
use super::config::{Callers, Files};
use crate::config::{Invalid, read_private};
use crate::limits::TLS_FILE_BYTES_MAX;
use crate::time::Clock;

/// What is spoken over TLS.
const ALPN: &[u8] = b"http/1.1";

/// Ready for handshakes.
pub(super) struct Material {
    /// For our listener.
    pub(super) server: Arc<ServerConfig>,
    /// For calls to peers, where there is a CA to know them by.
    pub(super) client: Option<Arc<ClientConfig>>,
    /// Seconds since 1970 at which the first certificate of our chain expires.
    pub(super) expires_s: i64,
}

impl Material {
    pub(super) fn read(files: &Files, callers: Callers, clock: &Clock) -> Result<Self, Invalid> {
        let wrong = |key: &str, path: &Path, reason: &dyn std::fmt::Display| {
            Invalid::new(key, format!("{}: {reason}", path.display()))
        };
        let of_cert = |reason: String| wrong("tls.cert_file", &files.cert, &reason);
        let chain = certificates(&files.cert).map_err(|r| Invalid::new("tls.cert_file", r))?;
        let mut expires_s = i64::MAX;
        for one in &chain {
            let parsed = Certificate::parse(one).map_err(of_cert)?;
            parsed.check_time(clock.wall()).map_err(of_cert)?;
            expires_s = expires_s.min(parsed.not_after_s);
        }
        let pem = read_private(&files.key, TLS_FILE_BYTES_MAX)
            .map_err(|reason| Invalid::new("tls.key_file", reason))?;
        let key = PrivateKeyDer::from_pem_slice(&pem)
            .map_err(|_| wrong("tls.key_file", &files.key, &"no private key in PEM"))?;
        let unusable = |error: rustls::Error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                wrong("tls.key_file", &files.key, &"is not the key of the certificate")
            }
            other => wrong("tls.key_file", &files.key, &other),
        };
        let mut verifier = None;
        let mut client = None;
        if let Some(ca) = &files.ca {
            let roots = roots(ca).map_err(|reason| Invalid::new("tls.ca_file", reason))?;
            let hosts = HostVerifier::new(roots.clone(), files.cluster_name.clone(), callers)
                .map_err(|reason| wrong("tls.ca_file", ca, &reason))?;
            let (own, between) = chain.split_first().ok_or_else(|| of_cert("empty".to_owned()))?;
            hosts.verify_client_cert(own, between, UnixTime::now()).map_err(|error| {
                of_cert(format!("is not a certificate of a host of this cluster: {error}"))
            })?;
            verifier = Some(Arc::new(hosts));
            let made = client_config(roots).with_client_auth_cert(chain.clone(), key.clone_key());
            client = Some(Arc::new(finished(made.map_err(unusable)?)));
        }
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has suites of TLS 1.3");
        let builder = match (callers, verifier) {
            (Callers::Peers | Callers::PeersAndClients, Some(verifier)) => {
                builder.with_client_cert_verifier(verifier)
            }
            // A port of peers without a CA is refused with the settings.
            (Callers::Clients, _) | (_, None) => builder.with_no_client_auth(),
        };
        let mut server = builder.with_single_cert(chain, key).map_err(unusable)?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        // Connections are kept; each new one proves itself anew.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(Self { server: Arc::new(server), client, expires_s })
    }
}

/// The one provider of cryptography.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A client that believes `roots` alone.
pub(super) fn client_config(
    roots: Arc<RootCertStore>,
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has suites of TLS 1.3")
        .with_root_certificates(roots)
}

/// What all our clients have in common.
pub(super) fn finished(mut client: ClientConfig) -> ClientConfig {
    client.alpn_protocols = vec![ALPN.to_vec()];
    client.resumption = Resumption::disabled();
    client
}

/// The certificates of a PEM file, at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = path.display();
    let found = std::fs::metadata(path).map_err(|error| format!("{shown}: {error}"))?;
    if !found.is_file() || found.len() > TLS_FILE_BYTES_MAX {
        return Err(format!("{shown}: not a file of at most {TLS_FILE_BYTES_MAX} bytes"));
    }
    let pem = std::fs::read(path).map_err(|error| format!("{shown}: {error}"))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let all = all.map_err(|error| format!("{shown}: not PEM: {error}"))?;
    if all.is_empty() {
        return Err(format!("{shown}: no certificate in PEM"));
    }
    Ok(all)
}

/// The CAs of a PEM file.
pub(super) fn roots(path: &Path) -> Result<Arc<RootCertStore>, String> {
    let mut roots = RootCertStore::empty();
    for ca in certificates(path)? {
        roots.add(ca).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(Arc::new(roots))
}

/// Takes certificates that come from the cluster's CA, are good for clients, and carry the cluster's
/// name: a CA may issue others too.
#[derive(Debug)]
struct HostVerifier {
    by_ca: Arc<dyn ClientCertVerifier>,
    cluster_name: ServerName<'static>,
    /// Whether nobody may come without one; whoever presents one that is not good never may.
    mandatory: bool,
}

impl HostVerifier {
    fn new(
        roots: Arc<RootCertStore>,
        cluster_name: ServerName<'static>,
        callers: Callers,
    ) -> Result<Self, String> {
        let by_ca = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
        let by_ca = by_ca.map_err(|error| error.to_string())?;
        Ok(Self { by_ca, cluster_name, mandatory: callers != Callers::PeersAndClients })
    }
}

impl ClientCertVerifier for HostVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Strangers are not told which CAs there are.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.by_ca.verify_client_cert(end_entity, intermediates, now)?;
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_name(&parsed, &self.cluster_name)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.by_ca.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.by_ca.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_ca.supported_verify_schemes()
    }
}

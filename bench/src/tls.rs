//! How routers with certificates are spoken to: as any client would, TLS 1.3, believing one CA.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::driver::BenchError;

/// Makes secured connections.
#[derive(Clone)]
pub struct Tls(TlsConnector);

impl Tls {
    /// Believes the CAs in `ca_file`.
    ///
    /// # Errors
    /// [`BenchError::Ca`] where it has none.
    pub fn new(ca_file: &Path) -> Result<Self, BenchError> {
        let bad = |reason: &dyn std::fmt::Display| {
            BenchError::Ca(format!("{}: {reason}", ca_file.display()))
        };
        let pem = std::fs::read(ca_file).map_err(|error| bad(&error))?;
        let mut roots = RootCertStore::empty();
        for ca in CertificateDer::pem_slice_iter(&pem) {
            roots.add(ca.map_err(|error| bad(&error))?).map_err(|error| bad(&error))?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| bad(&error))?;
        let config = config.with_root_certificates(roots).with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Secures a connection to `target` (`host:port`).
    pub(crate) async fn secure(
        &self,
        target: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, BenchError> {
        let host = target.rsplit_once(':').map_or(target, |(host, _)| host);
        let host = host.trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(BenchError::connection)?;
        self.0.connect(name, stream).await.map_err(BenchError::connection)
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

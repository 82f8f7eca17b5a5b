//! How `https://` endpoints are spoken to: TLS 1.3, and servers are known by the CAs that the
//! application names, never by those that the machine happens to trust.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};

use crate::error::Error;

/// The configuration that believes the CAs of `pem`, and nobody where there is none.
///
/// # Errors
/// [`Error::Config`] where `pem` has no certificate of a CA.
pub(crate) fn config(pem: Option<&[u8]>) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    if let Some(pem) = pem {
        let bad = |reason: &dyn std::fmt::Display| {
            Error::Config(format!("the CA is not a certificate in PEM: {reason}"))
        };
        for ca in CertificateDer::pem_slice_iter(pem) {
            roots.add(ca.map_err(|error| bad(&error))?).map_err(|error| bad(&error))?;
        }
        if roots.is_empty() {
            return Err(bad(&"there is none"));
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| Error::Config(format!("TLS does not start: {error}")))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_is_a_certificate() {
        let ca = rcgen::CertificateParams::default();
        let ca = ca.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
        let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
        for (pem, good) in
            [(None, true), (Some(ca.as_str()), true), (Some(""), false), (Some(broken), false)]
        {
            assert_eq!(config(pem.map(str::as_bytes)).is_ok(), good, "{pem:?}");
        }
    }
}

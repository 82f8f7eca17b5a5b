//! What is read of a certificate beyond what the handshake verifies: how long it is good, and which
//! nodes it names.

use dynamo_core::id::NodeId;
use dynamo_core::time::WallMs;
use rustls::pki_types::{CertificateDer, ServerName};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// How the name of a node begins in a certificate: `node-<id>.<cluster name>`.
const NODE_PREFIX: &str = "node-";

/// The part of a certificate that is of interest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certificate {
    /// Seconds since 1970 from which on it is good.
    not_before_s: i64,
    /// Seconds since 1970 until which it is good.
    pub(super) not_after_s: i64,
    names: Vec<String>,
}

impl Certificate {
    pub(super) fn parse(der: &CertificateDer<'_>) -> Result<Self, String> {
        let broken = |error: &dyn std::fmt::Display| format!("a certificate is broken: {error}");
        let (_, found) = X509Certificate::from_der(der).map_err(|error| broken(&error))?;
        let names = found.subject_alternative_name().map_err(|error| broken(&error))?;
        let names = names.iter().flat_map(|names| &names.value.general_names);
        let names = names.filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        });
        Ok(Self {
            not_before_s: found.validity().not_before.timestamp(),
            not_after_s: found.validity().not_after.timestamp(),
            names: names.collect(),
        })
    }

    /// Refuses what is not good at `now`.
    pub(super) fn check_time(&self, now: WallMs) -> Result<(), String> {
        let now_s = i64::try_from(now.0 / 1000).unwrap_or(i64::MAX);
        if now_s > self.not_after_s {
            return Err(format!("the certificate expired at {}", shown(self.not_after_s)));
        }
        if now_s < self.not_before_s {
            return Err(format!(
                "the certificate is not valid before {}",
                shown(self.not_before_s)
            ));
        }
        Ok(())
    }

    /// The nodes that it names; none where it is for any of the cluster.
    pub(super) fn nodes(&self, cluster_name: &ServerName<'_>) -> Vec<NodeId> {
        let node = |name: &String| {
            let (id, cluster) = name.strip_prefix(NODE_PREFIX)?.split_once('.')?;
            if !cluster.eq_ignore_ascii_case(&cluster_name.to_str()) {
                return None;
            }
            id.parse().ok()
        };
        self.names.iter().filter_map(node).collect()
    }
}

fn shown(seconds: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok();
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| format!("{seconds} s"))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn names_of_nodes_are_those_of_this_cluster() {
        let id = "0123456789abcdef0123456789abcdef";
        let cases: [(&[String], usize); 5] = [
            (&["atoll".into()], 0),
            (&["atoll".into(), format!("node-{id}.atoll")], 1),
            (&[format!("node-{id}.other")], 0),
            (&[format!("node-{id}.ATOLL"), format!("node-{}.atoll", id.replace('0', "9"))], 2),
            (&["node-x.atoll".into(), format!("node-{id}")], 0),
        ];
        let key = KeyPair::generate().unwrap();
        for (names, count) in cases {
            let made = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
            let parsed = Certificate::parse(made.der()).unwrap();
            let cluster = ServerName::try_from("atoll").unwrap();
            assert_eq!(parsed.nodes(&cluster).len(), count, "{names:?}");
        }
    }

    #[test]
    fn a_certificate_is_good_between_its_times() {
        let found = Certificate { not_before_s: 100, not_after_s: 200, names: Vec::new() };
        let cases =
            [(99_999, Some("before 1970-01-01T00:01:40Z")), (100_000, None), (200_999, None)];
        for (now, part) in cases.into_iter().chain([(201_000, Some("expired at 1970"))]) {
            let refused = found.check_time(WallMs(now)).err();
            assert_eq!(refused.is_some(), part.is_some(), "{now}");
            assert!(refused.unwrap_or_default().contains(part.unwrap_or_default()), "{now}");
        }
    }
}

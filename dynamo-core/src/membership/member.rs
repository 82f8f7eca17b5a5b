//! What is known of a node besides its identity: name, zone, weight, addresses, status. The rules
//! here are checked wherever such text enters, by API, gossip, file or configuration.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::NodeId;
use crate::limits::{ADDRESS_BYTES_MAX, NODE_NAME_BYTES_MAX, WEIGHT_MAX, ZONE_BYTES_MAX};

/// Text or a number that does not describe a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// The name breaks the grammar.
    #[error(
        "a node name is 1 to {NODE_NAME_BYTES_MAX} of letters, digits, '.', '_' and '-', and not \
         in the form of an id"
    )]
    Name,
    /// The zone breaks the grammar.
    #[error("a zone is 1 to {ZONE_BYTES_MAX} of letters, digits and '.', '_', '-', '/', ':'")]
    Zone,
    /// The weight is too large.
    #[error("a weight is 0 to {WEIGHT_MAX}")]
    Weight,
    /// An address is not a host and a port.
    #[error("an address is host:port, at most {ADDRESS_BYTES_MAX} bytes")]
    Address,
}

/// Accepts the name of a node: what people type and logs show. A name in the form of a [`NodeId`]
/// is refused, as it could be mistaken for another node's identity.
///
/// # Errors
/// [`MemberError::Name`].
pub fn check_name(name: &str) -> Result<(), MemberError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let fits = (1..=NODE_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain);
    if fits && name.parse::<NodeId>().is_err() { Ok(()) } else { Err(MemberError::Name) }
}

/// Accepts the name of a failure domain.
///
/// # Errors
/// [`MemberError::Zone`].
pub fn check_zone(zone: Option<&str>) -> Result<(), MemberError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/' | b':');
    let fits = |zone: &str| (1..=ZONE_BYTES_MAX).contains(&zone.len()) && zone.bytes().all(plain);
    if zone.is_none_or(fits) { Ok(()) } else { Err(MemberError::Zone) }
}

/// Accepts a weight.
///
/// # Errors
/// [`MemberError::Weight`].
pub fn check_weight(weight: u32) -> Result<(), MemberError> {
    if weight <= WEIGHT_MAX { Ok(()) } else { Err(MemberError::Weight) }
}

/// Accepts `host:port`, the host a DNS name, an IPv4 address or a bracketed IPv6 address.
///
/// # Errors
/// [`MemberError::Address`].
pub fn check_address(address: &str) -> Result<(), MemberError> {
    let valid = address.len() <= ADDRESS_BYTES_MAX
        && address.rsplit_once(':').is_some_and(|(host, port)| {
            let digits = (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit());
            digits && port.parse::<u16>().is_ok_and(|port| port > 0) && valid_host(host)
        });
    if valid { Ok(()) } else { Err(MemberError::Address) }
}

fn valid_host(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    !host.is_empty() && host.bytes().all(plain)
}

/// Where the processes of a node listen, as `host:port`; absent where unknown. The host should be
/// a stable name: it is resolved at each connection, as addresses behind names change.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Addresses {
    /// Client API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub router: Option<String>,
    /// Storage node, for peers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
    /// Membership agent, for peers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub membership: Option<String>,
    /// Anti-entropy worker, for peers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
}

impl Addresses {
    /// Checks every address that is there.
    ///
    /// # Errors
    /// [`MemberError::Address`] where one is not `host:port`.
    pub fn check(&self) -> Result<(), MemberError> {
        [&self.router, &self.storage, &self.membership, &self.worker]
            .into_iter()
            .flatten()
            .try_for_each(|address| check_address(address))
    }

    /// These addresses, with those of `fallback` where one is absent.
    #[must_use]
    pub fn or(self, fallback: &Self) -> Self {
        Self {
            router: self.router.or_else(|| fallback.router.clone()),
            storage: self.storage.or_else(|| fallback.storage.clone()),
            membership: self.membership.or_else(|| fallback.membership.clone()),
            worker: self.worker.or_else(|| fallback.worker.clone()),
        }
    }
}

/// What a node is to the ring. Says nothing about whether it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberStatus {
    /// Known by gossip, never joined: owns nothing, may be named in a `join`.
    Candidate,
    /// Joined and not left.
    Member,
    /// Left in good order, or was replaced; owns nothing, still holds partitions and answers for
    /// them until their owners hold them, or has something left over that they must get.
    Leaving,
    /// Left and done, or removed by force. Never comes back under this id (I-25).
    Removed,
}

impl MemberStatus {
    /// Its text in answers and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Candidate => "candidate",
            Self::Member => "member",
            Self::Leaving => "leaving",
            Self::Removed => "removed",
        }
    }

    /// Whether what the node advertises to hold may be read from it.
    #[must_use]
    pub fn may_hold(self) -> bool {
        matches!(self, Self::Member | Self::Leaving)
    }
}

impl fmt::Display for MemberStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        for good in ["127.0.0.1:7720", "a-0.peers.ns.svc:1", "[::1]:65535", "host_1:80"] {
            assert_eq!(check_address(good), Ok(()), "{good}");
        }
        let long = format!("{}:80", "a".repeat(ADDRESS_BYTES_MAX));
        for bad in ["", "host", ":80", "host:0", "host:65536", "host:+80", "h/x:80", "[x]:1", &long]
        {
            assert_eq!(check_address(bad), Err(MemberError::Address), "{bad}");
        }
    }

    #[test]
    fn names_are_never_ids() {
        assert_eq!(check_name("atoll-0"), Ok(()));
        let id = "0123456789abcdef0123456789abcdef";
        for bad in ["", "a b", "ä", id, &"n".repeat(NODE_NAME_BYTES_MAX + 1)] {
            assert_eq!(check_name(bad), Err(MemberError::Name), "{bad}");
        }
        assert_eq!(check_zone(Some("eu-1/a")), Ok(()));
        assert_eq!(check_zone(None), Ok(()));
        assert_eq!(check_zone(Some("")), Err(MemberError::Zone));
        assert_eq!(check_weight(WEIGHT_MAX + 1), Err(MemberError::Weight));
    }
}

//! Identities. One newtype per thing that has a name, so that a node can never be passed where a
//! partition is meant. All are plain values: order, equality and text form are stable across
//! processes and versions, because rings, clocks and files are compared by them.
//!
//! Not here: minting. Fresh identities come from the caller's [`crate::entropy::Entropy`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::entropy::Entropy;

/// Text that is not a valid identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {kind} id: 32 hexadecimal digits or a UUID expected")]
pub struct ParseIdError {
    kind: &'static str,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u128);

        impl $name {
            /// A fresh random identity (UUID version 4).
            pub fn random(entropy: &mut impl Entropy) -> Self {
                Self(random_uuid(entropy))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($kind, ":{:032x}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                Uuid::try_parse(text)
                    .map(|id| Self(id.as_u128()))
                    .map_err(|_| ParseIdError { kind: $kind })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

uuid_id!(
    /// One host of the ring, for as long as its membership lasts: stable over restarts and moves,
    /// never reused after removal. Its address is a property, not its identity.
    NodeId,
    "node"
);
uuid_id!(
    /// One ring. Nodes refuse to talk to a node of another cluster.
    ClusterId,
    "cluster"
);
uuid_id!(
    /// One data directory of a storage node. A replaced or wiped disk is a new store on the same
    /// node, which is how it is known not to hold what its node once held.
    StoreId,
    "store"
);
uuid_id!(
    /// One client put, given by the client or minted by the router. Retries carry the same id and
    /// yield the same dot.
    PutId,
    "put"
);

/// The bits of a random version 4 UUID.
fn random_uuid(entropy: &mut impl Entropy) -> u128 {
    let bits = (u128::from(entropy.next_u64()) << 64) | u128::from(entropy.next_u64());
    uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid().as_u128()
}

/// Number of one process life of a node, persisted and increased at every start. Of two processes
/// with one node id, peers listen to the higher incarnation only.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

/// One of the Q equal slices of the hash space: the unit of placement, transfer and repair.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct PartitionId(pub u32);

/// Position of a key in the 128-bit hash space of paper section 4.1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct KeyHash(pub u128);

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Which life of which node minted a version: the pair is never reused, also not after data loss
/// (hazard "coordinator amnesia"). The epoch is persisted and grows on every suspicion of loss.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActorId {
    /// The node that coordinated the write.
    pub node: NodeId,
    /// That node's actor epoch at the time.
    pub epoch: u64,
}

impl fmt::Debug for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node, self.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SplitMix;

    #[test]
    fn ids_round_trip_as_text_and_json() {
        let id = NodeId::random(&mut SplitMix::new(7));
        assert_eq!(id.to_string().parse::<NodeId>(), Ok(id));
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<NodeId>(&json).unwrap(), id);
        assert!("".parse::<NodeId>().is_err());
        assert!("xyz".parse::<ClusterId>().is_err());
    }
}

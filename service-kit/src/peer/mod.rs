//! Calls between processes of one cluster: who speaks, to which cluster, in which life, and how
//! much time is left, on every message; and what is known of the outcome when one fails.
//!
//! Bodies are opaque bytes here; their format is `dynamo_core::wire`.

pub mod auth;
pub mod gate;

mod call;
mod client;
mod connector;
mod identity;
mod pool;

pub use call::{NotSentReason, PeerError, PeerRequest, PeerResponse};
pub use client::{PeerClient, PeerConfig, PeerMetrics};
pub use connector::{Connector, PeerStream, TcpConnector};
pub use identity::{
    PROTOCOL_MAX, PROTOCOL_MIN, PeerIdentity, ProcessRole, X_ATOLL_CLUSTER, X_ATOLL_DEADLINE_MS,
    X_ATOLL_INCARNATION, X_ATOLL_PROTOCOL, X_ATOLL_ROLE, X_ATOLL_SENDER,
};

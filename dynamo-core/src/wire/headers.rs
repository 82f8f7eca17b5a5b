//! Names of HTTP headers, once.

/// Opaque causal context, on requests and answers.
pub const CONTEXT: &str = "x-atoll-context";
/// Set to `true` on a 404 for a key that was deleted.
pub const DELETED: &str = "x-atoll-deleted";
/// Number of siblings.
pub const SIBLINGS: &str = "x-atoll-siblings";
/// Acknowledgements or replies: `got/asked`.
pub const ACKS: &str = "x-atoll-acks";
/// Primaries among them: `k/n`.
pub const PRIMARIES: &str = "x-atoll-primaries";
/// Replicas handed to fallbacks.
pub const HINTED: &str = "x-atoll-hinted";
/// The node that coordinated the request.
pub const COORDINATOR: &str = "x-atoll-coordinator";
/// What the acknowledgements have survived.
pub const DURABILITY: &str = "x-atoll-durability";
/// Prefix of user metadata.
pub const META_PREFIX: &str = "x-atoll-meta-";
/// Deadline of a client request in milliseconds.
pub const TIMEOUT_MS: &str = "x-atoll-timeout-ms";
/// Identity of a request in logs and answers.
pub const REQUEST_ID: &str = "x-request-id";
/// The client's own id of a put: retries with the same one are applied once.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Set on every further attempt of a put, by a client library and by a router: an earlier one may
/// have reached another coordinator.
pub const REPEATED: &str = "x-atoll-repeated";
/// Between processes: when the sender got the request, as milliseconds of its wall clock. A put that
/// was long on its way may have been repeated elsewhere.
pub const SENT: &str = "x-atoll-sent";
/// Between processes: the cluster that the sender belongs to.
pub const CLUSTER: &str = "x-atoll-cluster";
/// Between processes: the sending node.
pub const SENDER: &str = "x-atoll-sender";
/// Between processes: the sending node's incarnation.
pub const INCARNATION: &str = "x-atoll-incarnation";
/// Between processes: the protocol version.
pub const PROTOCOL: &str = "x-atoll-protocol";
/// Between processes: remaining milliseconds of the request's deadline.
pub const DEADLINE_MS: &str = "x-atoll-deadline-ms";
/// Between processes: number and hash of the ring that the sender used.
pub const RING_VERSION: &str = "x-atoll-ring";
/// Between processes: the kind of background work that a request is part of
/// ([`crate::admission::Kind`]). Its handler first waits for a slice.
pub const BACKGROUND: &str = "x-atoll-background";

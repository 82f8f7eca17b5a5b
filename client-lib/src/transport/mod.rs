//! How one call reaches the cluster: a request that can be repeated, the endpoints that take it,
//! the retries it may cost, and the loop that ties them together.
//!
//! | module | noun |
//! |---|---|
//! | [`exchange`] | one HTTP exchange with one address |
//! | [`tls`] | whom `https://` endpoints are believed to be |
//! | [`endpoints`] | the addresses, and which of them are suspect |
//! | [`budget`], [`backoff`] | how many retries, and when |
//! | [`call`] | one call: attempts over several addresses until one answers |
//!
//! Not here: what the requests mean.

pub(crate) mod backoff;
pub(crate) mod budget;
pub(crate) mod call;
pub(crate) mod endpoints;
pub(crate) mod exchange;
pub(crate) mod probe;
pub(crate) mod tls;

//! The causal context: what a client has seen of one key.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// An opaque token from an answer, to be sent with the put that follows, so that the put
/// supersedes exactly the versions that its author has seen. Signed by the cluster and bound to
/// bucket and key: one that was altered, or belongs to another key, is refused.
///
/// Contexts may be stored: they stay valid as long as the cluster's secret does.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Context(Arc<str>);

impl Context {
    /// The context behind a token that was kept as text.
    #[must_use]
    pub fn from_token(token: &str) -> Self {
        Self(token.into())
    }

    /// The token, for keeping it as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.get(..12).unwrap_or(&self.0);
        write!(f, "Context({shown}…, {} bytes)", self.0.len())
    }
}

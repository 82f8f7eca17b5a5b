//! Objects: what a get returns, what a put takes, and the two ways in which they travel.
//!
//! | module | noun |
//! |---|---|
//! | [`version`] | one version, and the set of concurrent ones |
//! | [`evidence`] | what the cluster did for an answer |
//! | [`get`], [`put`], [`update`] | the calls, as builders |
//! | [`operation`] | the calls as plain values, once built |
//! | [`routed`] | their form on the router's HTTP API |

pub(crate) mod bucket;
pub(crate) mod evidence;
pub(crate) mod get;
pub(crate) mod operation;
pub(crate) mod put;
pub(crate) mod routed;
pub(crate) mod update;
pub(crate) mod version;

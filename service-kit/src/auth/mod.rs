//! Who a client is and what it may do: API keys in a file, what each permits, and how often a
//! source may fail.
//!
//! | module | what it gives |
//! |---|---|
//! | [`api_key`] | the text of a key, and the digest that is stored of it |
//! | [`scope`] | what a key permits: scopes and patterns of bucket names |
//! | [`key_file`] | the JSON form of keys, one file or a directory of them |
//! | [`api_keys`] | the keys in use: read again when they change, asked by every request |
//! | [`config`] | the `[auth]` table |
//! | [`reloaded`] | the newest good content of a file that may be replaced at any time |
//!
//! Invariants: the secret of a key is nowhere but with its owner; digests are compared in constant
//! time; a refusal does not say what was wrong with a key, and what is permitted is decided before
//! anything is looked up.
//!
//! Not here: which effect needs which scope, which is the router's, and how processes of the cluster
//! prove themselves to each other ([`crate::peer::auth`]).

pub mod api_key;
pub mod api_keys;
pub mod config;
pub mod key_file;
pub mod reloaded;
pub mod scope;

mod budget;
mod failures;

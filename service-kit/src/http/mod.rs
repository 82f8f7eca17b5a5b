//! HTTP/1.1 as every Atoll process serves it: one accept loop with limits, strict requests, bounded
//! bodies, one error table.

mod activity;
pub mod admin;
pub mod admission;
pub mod body;
mod connection;
pub mod error;
pub mod fallback;
mod framing;
pub mod json;
pub mod log_level;
mod problem;
mod refusal;
pub mod request_id;
pub mod routes;
pub mod server;
mod server_metrics;
mod service;
mod slots;
pub mod strict;

//! HTTP/1.1 as every Atoll process serves it: one accept loop with limits, strict requests, bounded
//! bodies, one error table.

pub mod admin;
pub mod admission;
pub mod body;
mod connection;
pub mod error;
pub mod fallback;
pub mod json;
mod problem;
pub mod request_id;
pub mod server;
mod service;
pub mod strict;

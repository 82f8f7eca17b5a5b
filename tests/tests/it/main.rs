//! Scenarios against real processes: `atoll dev` starts them, plain HTTP talks to them.
//!
//! Scenarios take turns: each has a dozen processes, and a machine has few cores.

mod anti_entropy;
mod bad_days;
mod bad_input;
mod durability;
mod growth;
mod load;
mod modes;
mod restart;
mod rolling;
mod scene;
mod security;
mod tls;
mod tour;
mod tracing;
mod versions;

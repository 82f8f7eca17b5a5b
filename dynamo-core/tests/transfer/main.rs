//! Movement of partitions: paper section 4.9, invariants I-21 to I-23.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod crash_points;
mod hints;
mod inventory;
mod progress;
mod random;
mod wire;
mod world;

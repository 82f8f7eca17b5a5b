//! What tests and tools of every crate share: random values of the domain types, a naive model of
//! versions to compare the real one with, and the simulation of whole clusters. Behind the feature
//! `testing`; nothing here is part of a service.

pub mod model;
pub mod sim;
pub mod strategy;
pub mod values;

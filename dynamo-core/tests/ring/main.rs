//! The ring: placement promises of design and paper, on fixed vectors, data files, a table of
//! sizes and random histories.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod claim;
mod paper;
mod possession;
mod preference_list;
mod support;
mod transition;

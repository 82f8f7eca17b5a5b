//! Gets and puts as scripts (`testdata/quorum/*.txt`) and as random walks.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod get;
mod put;
mod record_text;
mod script;
mod walk;

//! A cluster on one machine: for each host its real processes, as children of one supervisor.
//!
//! | module | noun |
//! |---|---|
//! | [`args`] | what can be typed |
//! | [`cluster_file`] | what a data directory is a cluster of |
//! | [`layout`] | which process listens where and keeps what where |
//! | [`child`] | one process |
//! | [`supervisor`] | all of them, and what each is doing |
//! | [`control`] | how another `atoll dev` command reaches the supervisor |
//! | [`founding`], [`ready`] | from processes to a cluster that answers |
//! | [`run`](mod@run), [`action`] | the commands |
//!
//! Invariants: children die with the supervisor, however it dies (each watches its stdin); only
//! the supervisor signals children, so a signal never meets a process that took over a pid.

mod action;
pub mod args;
mod child;
pub mod cluster_file;
mod control;
mod founding;
pub mod layout;
mod ready;
mod run;
mod security;
mod supervisor;

use crate::output::{Done, Output};

/// Runs `atoll dev`, or one of its actions.
pub(crate) async fn run(args: args::Dev, output: Output) -> Done {
    match args.action {
        None => run::run(args.cluster, output).await,
        Some(action) => action::run(action, output).await,
    }
}

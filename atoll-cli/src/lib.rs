//! The `atoll` command line: a development cluster, key-value commands, cluster administration,
//! every service as a subcommand, and the benchmark.
//!
//! | module | noun |
//! |---|---|
//! | [`args`] | what can be typed |
//! | [`exit`] | what the exit code says |
//! | [`output`] | tables for people, JSON for programs |
//! | [`cmd`] | one file per command: parse, call the client library, print |
//! | [`load`] | the ndjson loader |
//! | [`archive`] | backups: the form of their files, writing and merging them |
//! | [`verify`] | comparing all replicas of everything |
//! | [`dev`] | the development cluster: processes, founding, supervision |
//!
//! Architecture invariant: no protocol logic here. What the commands know of Atoll they know from
//! `atoll-client` and from the services' own entry points.

pub mod archive;
pub mod args;
mod cmd;
mod connection;
pub mod dev;
pub mod exit;
mod human;
pub mod load;
mod output;
mod patience;
pub mod verify;

use std::process::ExitCode;

use clap::Parser;

/// Parses the command line and runs it.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout with code 0, mistakes to stderr with code 2. Where
            // neither can be written there is nobody to tell.
            drop(error.print());
            return if error.use_stderr() { exit::USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    cmd::run(cli)
}

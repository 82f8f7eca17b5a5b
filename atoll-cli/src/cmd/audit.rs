//! `atoll audit`: the log of changes that a router keeps.

use std::path::PathBuf;

use clap::Subcommand;
use service_kit::audit::verify;

use crate::exit;
use crate::output::{Done, Failure, Output};

/// The log of changes that a router keeps (its setting `audit_file`).
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Whether every line follows from the one before it
    Verify {
        /// The file.
        file: PathBuf,
    },
}

impl Audit {
    pub(crate) fn run(self, output: Output) -> Done {
        let Self::Verify { file } = self;
        let verified = verify(&file)
            .map_err(|error| Failure::new(exit::FAILURE, format!("{}: {error}", file.display())))?;
        if output.is_json() {
            output.document(&verified)?;
        } else {
            let (entries, hash) = (verified.entries, verified.last_hash);
            output.line(format!("{entries} entries, unbroken; the last is {hash}"))?;
        }
        Ok(exit::OK)
    }
}

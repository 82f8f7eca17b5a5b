//! `atoll completions`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::args::Cli;
use crate::exit;
use crate::output::{Done, Output};

/// Prints a completion script, for example `atoll completions bash > /etc/bash_completion.d/atoll`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell.
    pub shell: Shell,
}

impl Completions {
    pub(crate) fn run(self, output: Output) -> Done {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "atoll", &mut script);
        output.bytes(&script)?;
        Ok(exit::OK)
    }
}

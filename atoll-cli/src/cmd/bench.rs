//! `atoll bench`: the benchmark, with the options of the `bench` library.

use std::process::ExitCode;

use clap::Args;

use crate::args::Global;
use crate::exit;
use crate::output::{Failure, Output};

/// Measures a running cluster: throughput, latency to p99.9, errors, CPU per operation.
#[derive(Debug, Args)]
pub struct Bench {
    #[command(flatten)]
    options: bench::Options,
}

impl Bench {
    /// Runs on a runtime of its own: the load generator uses every core it can get.
    pub(crate) fn run(self, global: Global, output: Output) -> ExitCode {
        let Global { api_key, ca, .. } = global;
        let options = bench::Options { api_key, ca, ..self.options };
        let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                output.failure(&Failure::new(exit::FAILURE, format!("cannot start: {error}")));
                return exit::FAILURE.into();
            }
        };
        let printed = match runtime.block_on(bench::run(options)) {
            Ok(report) if output.is_json() => output.document(&report),
            Ok(report) => output.line(report),
            Err(error) => {
                output.failure(&Failure::new(exit::FAILURE, error.to_string()));
                return exit::FAILURE.into();
            }
        };
        match printed {
            Ok(()) => exit::OK.into(),
            Err(error) => {
                output.failure(&Failure::from(error));
                exit::FAILURE.into()
            }
        }
    }
}

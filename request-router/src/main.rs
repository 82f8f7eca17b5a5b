//! The request-router as a program of its own.

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The stateless, partition-aware front door of Atoll
#[derive(Debug, Parser)]
#[command(name = "request-router", version)]
struct Cli {
    #[command(flatten)]
    args: request_router::Args,
}

fn main() -> ExitCode {
    request_router::main(Cli::parse().args)
}

//! The `anti-entropy-worker` process.

use std::process::ExitCode;

use clap::Parser;

// The same allocator as in the other processes of a host.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(name = "anti-entropy-worker", version, about)]
struct Cli {
    #[command(flatten)]
    args: anti_entropy_worker::Args,
}

fn main() -> ExitCode {
    anti_entropy_worker::main(Cli::parse().args)
}

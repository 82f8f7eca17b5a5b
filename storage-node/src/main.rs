//! The `storage-node` process.

use std::process::ExitCode;

use clap::Parser;

// Records are allocated on one thread and freed on another; the system's allocator is slow at it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(name = "storage-node", version, about)]
struct Cli {
    #[command(flatten)]
    args: storage_node::Args,
}

fn main() -> ExitCode {
    storage_node::main(Cli::parse().args)
}

//! The `atoll` binary.

use std::process::ExitCode;

/// Less CPU per request than the system's allocator, for the services that run in here.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    atoll_cli::main()
}

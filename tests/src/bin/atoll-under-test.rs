//! The `atoll` binary, built by this package so that its tests can start it.

fn main() -> std::process::ExitCode {
    atoll_cli::main()
}

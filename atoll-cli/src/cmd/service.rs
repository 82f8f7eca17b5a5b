//! The services as subcommands: each runs in this process, as its own binary would.

use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use rustix::process::{Signal, getpid, kill_process};

/// The flag with which a supervisor starts its children.
pub(crate) const EXIT_ON_STDIN_EOF: &str = "--exit-on-stdin-eof";

/// Time that a service has to end after its supervisor has gone, before it is ended.
const ORPHAN_GRACE: Duration = Duration::from_secs(10);

/// Exit code of a service that did not end in time without its supervisor.
const ORPHANED: i32 = 70;

/// What a supervisor wants of its children.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Supervised {
    /// End when standard input ends: the supervisor that held it is gone.
    #[arg(long, hide = true)]
    exit_on_stdin_eof: bool,
}

impl Supervised {
    /// Watches standard input from now on, where asked to.
    fn watch(self) {
        if !self.exit_on_stdin_eof {
            return;
        }
        // A thread, because it must work whatever the service's runtime is doing.
        std::thread::spawn(|| {
            let mut sink = [0u8; 64];
            // What arrives is nothing; an error is as good as the end.
            while std::io::stdin().lock().read(&mut sink).is_ok_and(|count| count > 0) {}
            // The service stops as on SIGTERM.
            if kill_process(getpid(), Signal::TERM).is_err() {
                std::process::exit(ORPHANED);
            }
            std::thread::sleep(ORPHAN_GRACE);
            std::process::exit(ORPHANED);
        });
    }
}

/// `atoll router`.
#[derive(Debug, Args)]
pub struct Router {
    #[command(flatten)]
    args: request_router::Args,
    #[command(flatten)]
    supervised: Supervised,
}

impl Router {
    pub(crate) fn run(self) -> ExitCode {
        self.supervised.watch();
        request_router::main(self.args)
    }
}

/// `atoll storage-node`.
#[derive(Debug, Args)]
pub struct StorageNode {
    #[command(flatten)]
    args: storage_node::Args,
    #[command(flatten)]
    supervised: Supervised,
}

impl StorageNode {
    pub(crate) fn run(self) -> ExitCode {
        self.supervised.watch();
        storage_node::main(self.args)
    }
}

/// `atoll membership`.
#[derive(Debug, Args)]
pub struct Membership {
    #[command(flatten)]
    args: membership_svc::Args,
    #[command(flatten)]
    supervised: Supervised,
}

impl Membership {
    pub(crate) fn run(self) -> ExitCode {
        self.supervised.watch();
        membership_svc::main(self.args)
    }
}

/// `atoll anti-entropy-worker`.
#[derive(Debug, Args)]
pub struct AntiEntropyWorker {
    #[command(flatten)]
    args: anti_entropy_worker::Args,
    #[command(flatten)]
    supervised: Supervised,
}

impl AntiEntropyWorker {
    pub(crate) fn run(self) -> ExitCode {
        self.supervised.watch();
        anti_entropy_worker::main(self.args)
    }
}

//! One file per command: options, the call, the printing.

pub(crate) mod anti_entropy;
pub(crate) mod audit;
pub(crate) mod bench;
pub(crate) mod bucket;
pub(crate) mod commit;
pub(crate) mod completions;
pub(crate) mod delete;
pub(crate) mod explain;
pub(crate) mod get;
pub(crate) mod health;
pub(crate) mod hints;
pub(crate) mod idle;
pub(crate) mod keys;
pub(crate) mod log_level;
pub(crate) mod membership;
pub(crate) mod object;
pub(crate) mod peers;
pub(crate) mod plan;
pub(crate) mod put;
pub(crate) mod ready;
pub(crate) mod repair;
pub(crate) mod ring;
pub(crate) mod safe_to_stop;
pub(crate) mod service;
pub(crate) mod smoke;
pub(crate) mod stage;
pub(crate) mod status;
pub(crate) mod transfers;
pub(crate) mod version;

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use atoll_client::Client;

use crate::args::{Cli, Command, Global};
use crate::connection::client;
use crate::exit;
use crate::output::{Done, Failure, Output};
use crate::{dev, load, verify};

/// Runs one command.
pub(crate) fn run(cli: Cli) -> ExitCode {
    let Cli { global, command } = cli;
    let output = Output::new(global.json);
    let done = match command {
        // Services and the benchmark have runtimes of their own.
        Command::Router(args) => return args.run(),
        Command::StorageNode(args) => return args.run(),
        Command::Membership(args) => return args.run(),
        Command::AntiEntropyWorker(args) => return args.run(),
        Command::Bench(args) => return args.run(global, output),
        Command::Completions(args) => args.run(output),
        Command::Keys(command) => command.run(output),
        Command::Audit(command) => command.run(output),
        Command::Version => version::run(output),
        Command::Dev(args) => block_on(dev::run(args, output)),
        Command::Idle => block_on(idle::run()),
        other => block_on(run_with_client(other, &global, output)),
    };
    match done {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output.failure(&failure);
            failure.exit.into()
        }
    }
}

async fn run_with_client(command: Command, global: &Global, output: Output) -> Done {
    let client: Client = client(global)?;
    match command {
        Command::Get(args) => args.run(&client, output).await,
        Command::Put(args) => args.run(&client, output).await,
        Command::Delete(args) => args.run(&client, output).await,
        Command::Load(args) => load::run(args, &client, output).await,
        Command::Status => status::run(&client, output).await,
        Command::Ring(args) => args.run(&client, output).await,
        Command::Explain(args) => args.run(&client, output).await,
        Command::Stage(args) => args.run(&client, output).await,
        Command::Plan => plan::run(&client, output).await,
        Command::Commit(args) => args.run(&client, output).await,
        Command::Health(args) => {
            let timeout = Duration::from_millis(global.timeout_ms);
            match args.of_processes(timeout, output).await {
                Some(done) => done,
                None => args.run(&client, output).await,
            }
        }
        Command::Hints(args) => args.run(&client, output).await,
        Command::Bucket(args) => args.run(&client, output).await,
        Command::Transfers(args) => args.run(&client, output).await,
        Command::LogLevel(args) => args.run(&client, output).await,
        Command::AntiEntropy => anti_entropy::run(&client, output).await,
        Command::Peers => peers::run(&client, output).await,
        Command::Repair(args) => args.run(&client, output).await,
        Command::Verify(args) => verify::run(args, &client, output).await,
        Command::Backup(args) => args.run(&client, output).await,
        Command::Restore(args) => args.run(&client, output).await,
        Command::SafeToStop(args) => args.run(&client, output).await,
        Command::Join(args) => args.run(&client, output).await,
        Command::Leave(args) => args.run(&client, output).await,
        Command::Replace(args) => args.run(&client, output).await,
        Command::Decommission(args) => args.run(&client, output).await,
        Command::Smoke(args) => args.run(&client, output).await,
        Command::Dev(_)
        | Command::Idle
        | Command::Bench(_)
        | Command::Router(_)
        | Command::StorageNode(_)
        | Command::Membership(_)
        | Command::AntiEntropyWorker(_)
        | Command::Completions(_)
        | Command::Keys(_)
        | Command::Audit(_)
        | Command::Version => unreachable!("handled before a client is made"),
    }
}

fn block_on(work: impl Future<Output = Done>) -> Done {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(exit::FAILURE, format!("cannot start: {error}")))?
        .block_on(work)
}

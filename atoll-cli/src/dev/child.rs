//! One process: started, signalled and reaped by one task, so that a signal can never meet
//! another process that took over its pid.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use service_kit::datadir::{create_private_dir, write_atomic};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::cmd::service::EXIT_ON_STDIN_EOF;
use crate::dev::cluster_file::ClusterFile;
use crate::dev::layout::Place;

/// Time that a process has to end after SIGTERM, before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(6);

/// Orders that may wait for one process.
const ORDERS_MAX: usize = 8;

/// What to do with a running process.
#[derive(Debug)]
pub(crate) enum Order {
    /// End it in good order; the sender is dropped when it has ended.
    Stop(oneshot::Sender<()>),
    /// Kill it; the sender is dropped when it has ended.
    Kill(oneshot::Sender<()>),
    /// Freeze it.
    Pause,
    /// Wake it.
    Resume,
}

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) place: Place,
    pub(crate) pid: u32,
    pub(crate) how: String,
}

/// A process that runs.
#[derive(Debug, Clone)]
pub(crate) struct ChildHandle {
    pub(crate) pid: u32,
    orders: mpsc::Sender<Order>,
}

impl ChildHandle {
    /// Gives an order. False where the process has ended already.
    pub(crate) async fn order(&self, order: Order) -> bool {
        self.orders.send(order).await.is_ok()
    }
}

/// Starts the process of `place`. `ended` is told when it ends.
///
/// # Errors
/// Where its files cannot be written or it cannot be started.
pub(crate) fn start(
    place: &Place,
    cluster: &ClusterFile,
    ended: mpsc::UnboundedSender<Ended>,
) -> io::Result<ChildHandle> {
    if let Some(dir) = place.config.parent() {
        create_private_dir(dir)?;
    }
    create_private_dir(&place.data_dir)?;
    // The settings have the cluster's secret; the file is its owner's only.
    write_atomic(&place.config, place.settings(cluster).as_bytes())?;
    let log = OpenOptions::new().create(true).append(true).open(&place.log)?;
    let mut command = Command::new(own_binary()?);
    command
        .arg0("atoll")
        .arg(place.service.name())
        .arg(EXIT_ON_STDIN_EOF)
        .arg("--config")
        .arg(&place.config)
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        // Ctrl-C is for the supervisor, which stops its children in good order.
        .process_group(0)
        .kill_on_drop(true);
    // The settings are in the file; what is set for the command line must not leak into them.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ATOLL_") {
            command.env_remove(name);
        }
    }
    let child = command.spawn()?;
    let pid = child.id().ok_or_else(|| io::Error::other("the process ended at once"))?;
    let (orders, inbox) = mpsc::channel(ORDERS_MAX);
    tokio::spawn(watch(child, pid, place.clone(), inbox, ended));
    Ok(ChildHandle { pid, orders })
}

/// This very binary, also where its file has been replaced since it was started.
fn own_binary() -> io::Result<PathBuf> {
    let running = PathBuf::from("/proc/self/exe");
    if fs::symlink_metadata(&running).is_ok() { Ok(running) } else { std::env::current_exe() }
}

async fn watch(
    mut child: Child,
    pid: u32,
    place: Place,
    mut inbox: mpsc::Receiver<Order>,
    ended: mpsc::UnboundedSender<Ended>,
) {
    // Held until the process has ended: the end of this pipe means that the supervisor is gone.
    let stdin = child.stdin.take();
    let mut told = Vec::new();
    let mut kill_at: Option<Instant> = None;
    let status = loop {
        let deadline = kill_at.unwrap_or_else(Instant::now);
        tokio::select! {
            status = child.wait() => break status,
            Some(order) = inbox.recv() => match order {
                Order::Stop(done) => {
                    told.push(done);
                    kill_at.get_or_insert_with(|| Instant::now() + STOP_GRACE);
                    signal(pid, Signal::TERM);
                    // A frozen process could not act on it.
                    signal(pid, Signal::CONT);
                }
                Order::Kill(done) => {
                    told.push(done);
                    signal(pid, Signal::KILL);
                }
                Order::Pause => signal(pid, Signal::STOP),
                Order::Resume => signal(pid, Signal::CONT),
            },
            () = tokio::time::sleep_until(deadline), if kill_at.is_some() => {
                kill_at = None;
                signal(pid, Signal::KILL);
            }
        }
    };
    drop(stdin);
    let how = status.map_or_else(|error| error.to_string(), describe);
    // Whoever waited may have given up, and the supervisor may be on its way out.
    drop(ended.send(Ended { place, pid, how }));
    // Dropping the senders tells whoever waits.
    drop(told);
}

/// Signals a child that has not been reaped: the pid is its own.
fn signal(pid: u32, signal: Signal) {
    let Some(id) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    if let Err(error) = kill_process(id, signal) {
        tracing::warn!(pid, %error, "cannot signal a child");
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

//! `atoll idle`.

use tokio::signal::unix::{SignalKind, signal};

use crate::exit;
use crate::output::Done;

/// Does nothing until SIGTERM or SIGINT: the process of a container that only holds a network, or
/// that is there to be looked into.
pub(crate) async fn run() -> Done {
    // The first process of a container has no default handlers.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(exit::OK)
}

//! One signal that everything in a process listens to: SIGTERM and SIGINT ask for an orderly stop,
//! a second one ends the process at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code of a process that was told twice to stop.
const EXIT_INTERRUPTED: i32 = 130;

/// The request to stop. Clones share it; it is never taken back.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
}

impl Shutdown {
    /// Not requested yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everything that holds a clone to stop.
    pub fn request(&self) {
        self.token.cancel();
    }

    /// True once a stop was asked for.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Returns when a stop is asked for, at once where it already was.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    /// A part of the process that can be stopped alone, and stops with the whole.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token() }
    }

    /// Waits for `future`, but no longer than until a stop is asked for (`None`).
    pub async fn unless_requested<F: Future>(&self, future: F) -> Option<F::Output> {
        self.token.run_until_cancelled(future).await
    }

    /// Listens for SIGTERM and SIGINT from now on. Must be called inside the runtime, once.
    ///
    /// # Errors
    /// When the operating system refuses the handlers.
    pub fn listen_to_signals(&self) -> std::io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                if shutdown.is_requested() {
                    tracing::warn!(signal = name, "second signal, stopping at once");
                    std::process::exit(EXIT_INTERRUPTED);
                }
                tracing::info!(signal = name, "stopping");
                shutdown.request();
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_reaches_clones_and_children_but_not_the_parent() {
        let whole = Shutdown::new();
        let part = whole.child();
        let other = whole.child();
        part.request();
        part.requested().await;
        assert!(!whole.is_requested());
        assert_eq!(other.unless_requested(async { 7 }).await, Some(7));
        whole.clone().request();
        assert!(other.is_requested());
        assert_eq!(other.unless_requested(std::future::pending::<()>()).await, None);
    }
}

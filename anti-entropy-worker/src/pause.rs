//! The switch by which an operator halts exchanges and transfers. What is under way stops after the
//! step it is in and goes on where it was.

use tokio::sync::watch;

/// Whether work is halted. Clones share it; a new process is not halted.
#[derive(Debug, Clone)]
pub struct PauseSwitch(watch::Sender<bool>);

impl Default for PauseSwitch {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl PauseSwitch {
    /// Halts work, or lets it go on.
    pub fn set(&self, paused: bool) {
        self.0.send_replace(paused);
    }

    /// Whether work is halted.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns as soon as work is not halted.
    pub async fn passes(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        drop(self.0.subscribe().wait_for(|paused| !paused).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_waits_while_it_is_halted() {
        let switch = PauseSwitch::default();
        switch.passes().await;
        switch.set(true);
        let waiting = tokio::spawn({
            let switch = switch.clone();
            async move { switch.passes().await }
        });
        tokio::task::yield_now().await;
        assert!(switch.is_paused() && !waiting.is_finished());
        switch.set(false);
        waiting.await.unwrap();
    }
}

//! Whether this process can serve: named conditions that start pending, and are set and cleared
//! by whoever owns them. Ready when all are set. Answers `/readyz`; never asks another process,
//! since one slow dependency would otherwise take every instance out of service at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// The conditions of one process. Clones share them.
#[derive(Debug, Clone)]
pub struct Readiness {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    conditions: Mutex<Vec<Condition>>,
    ready: watch::Sender<bool>,
}

#[derive(Debug)]
struct Condition {
    name: &'static str,
    /// Why it does not hold; `None` where it does.
    reason: Option<String>,
}

impl Readiness {
    /// Conditions that all have to be [`Self::set`] before the process is ready.
    #[must_use]
    pub fn new(names: &[&'static str]) -> Self {
        let conditions =
            names.iter().map(|&name| Condition { name, reason: Some("pending".into()) }).collect();
        let (ready, _) = watch::channel(names.is_empty());
        Self { shared: Arc::new(Shared { conditions: Mutex::new(conditions), ready }) }
    }

    /// Adds a condition, pending, where it is not there yet.
    pub fn require(&self, name: &'static str) {
        self.change(name, |reason| {
            if reason.is_none() {
                *reason = Some("pending".into());
            }
        });
    }

    /// States that a condition holds.
    pub fn set(&self, name: &'static str) {
        self.change(name, |reason| *reason = None);
    }

    /// States that a condition does not hold (any more), and why. The reason is shown to whoever
    /// can reach the health port: no secrets.
    pub fn clear(&self, name: &'static str, reason: impl Into<String>) {
        let text = reason.into();
        self.change(name, |reason| *reason = Some(text));
    }

    /// True when every condition holds.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self.shared.ready.borrow()
    }

    /// Returns when every condition holds.
    pub async fn ready(&self) {
        let mut receiver = self.shared.ready.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        if receiver.wait_for(|ready| *ready).await.is_err() {
            tracing::debug!("readiness dropped while waited for");
        }
    }

    /// The conditions that do not hold, with their reasons.
    #[must_use]
    pub fn pending(&self) -> Vec<(&'static str, String)> {
        self.lock()
            .iter()
            .filter_map(|c| c.reason.as_ref().map(|reason| (c.name, reason.clone())))
            .collect()
    }

    fn change(&self, name: &'static str, edit: impl FnOnce(&mut Option<String>)) {
        let mut conditions = self.lock();
        match conditions.iter_mut().find(|c| c.name == name) {
            Some(condition) => edit(&mut condition.reason),
            None => {
                let mut reason = Some("pending".into());
                edit(&mut reason);
                conditions.push(Condition { name, reason });
            }
        }
        let ready = conditions.iter().all(|c| c.reason.is_none());
        self.shared.ready.send_if_modified(|was| std::mem::replace(was, ready) != ready);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Condition>> {
        self.shared.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ready_only_when_all_hold() {
        let readiness = Readiness::new(&["ring", "store"]);
        assert!(!readiness.is_ready());
        readiness.set("ring");
        assert_eq!(readiness.pending(), vec![("store", "pending".to_owned())]);
        readiness.set("store");
        assert!(readiness.is_ready());
        readiness.ready().await;
        readiness.clear("store", "read only");
        assert_eq!(readiness.pending(), vec![("store", "read only".to_owned())]);
        readiness.require("extra");
        readiness.set("store");
        assert!(!readiness.is_ready());
        readiness.set("extra");
        assert!(readiness.is_ready());
    }
}

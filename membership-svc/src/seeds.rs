//! Addresses of the seeds (paper section 4.8.2): a fixed list, and a DNS name whose addresses
//! change as hosts come and go. The name is resolved anew all the time and never trusted to be
//! there: before the first pods are up it does not exist.

use std::time::Duration;

use dynamo_core::time::Mono;
use service_kit::time::Clock;

/// Time between two look-ups of the DNS name.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(5);

/// Time for one look-up; a slow name server must not hold up gossip.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);

/// Addresses taken from one look-up.
const LOOKUP_ADDRESSES_MAX: usize = 64;

/// The seeds of an agent.
#[derive(Debug)]
pub struct Seeds {
    listed: Vec<String>,
    name: Option<String>,
    found: Vec<String>,
    looked_up_at: Option<Mono>,
    failing: bool,
}

impl Seeds {
    /// The listed seeds, and those behind `name` (`host:port`) unless it is empty.
    #[must_use]
    pub fn new(listed: Vec<String>, name: &str) -> Self {
        let name = Some(name.to_owned()).filter(|name| !name.is_empty());
        Self { listed, name, found: Vec::new(), looked_up_at: None, failing: false }
    }

    /// The present addresses. A look-up that fails leaves the addresses of the last one.
    pub async fn addresses(&mut self, clock: &Clock) -> Vec<String> {
        if let Some(name) = self.name.clone() {
            let now = clock.mono();
            let due = self.looked_up_at.is_none_or(|at| now.since(at) >= LOOKUP_INTERVAL);
            if due {
                self.looked_up_at = Some(now);
                self.look_up(&name).await;
            }
        }
        self.listed.iter().chain(&self.found).cloned().collect()
    }

    async fn look_up(&mut self, name: &str) {
        let looked_up = tokio::time::timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host(name)).await;
        let failed = match looked_up {
            Ok(Ok(addresses)) => {
                let addresses = addresses.take(LOOKUP_ADDRESSES_MAX);
                self.found = addresses.map(|address| address.to_string()).collect();
                None
            }
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("timeout".to_owned()),
        };
        // One line when it begins and one when it ends, not one per look-up.
        match (&failed, self.failing) {
            (Some(error), false) => tracing::warn!(name, error, "seeds cannot be looked up"),
            (None, true) => tracing::info!(name, "seeds can be looked up again"),
            _ => {}
        }
        self.failing = failed.is_some();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_adds_its_addresses_and_a_bad_one_adds_none() {
        let clock = Clock::system();
        let mut seeds = Seeds::new(vec!["a:1".into()], "127.0.0.1:7720");
        assert_eq!(seeds.addresses(&clock).await, ["a:1", "127.0.0.1:7720"]);
        let mut seeds = Seeds::new(vec!["a:1".into()], "no-such-name.invalid:1");
        assert_eq!(seeds.addresses(&clock).await, ["a:1"]);
    }
}

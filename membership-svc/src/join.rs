//! Joins the ring without an administrator, where the settings say so: asks the core again and again
//! what there is to do, until there is nothing to do any more.

use std::sync::Arc;
use std::time::Duration;

use dynamo_core::id::ClusterId;
use dynamo_core::membership::auto_join::{AutoJoin, Waiting, auto_join};
use service_kit::rng::{OsEntropy, jittered};
use service_kit::shutdown::Shutdown;

use crate::agent::{Agent, ChangeError};

/// Pause between two looks.
const INTERVAL: Duration = Duration::from_millis(500);

/// Variation of the pause: pods that start together plan one after another.
const JITTER_PERCENT: u32 = 50;

/// Why nothing was committed.
enum Idle {
    Settled,
    Waiting(Waiting),
}

/// Works until the node is settled, or the stop.
pub(crate) async fn run(agent: Arc<Agent>, founders: Vec<String>, stop: Shutdown) {
    let mut said = None;
    loop {
        let pause = jittered(INTERVAL, JITTER_PERCENT, &mut OsEntropy);
        tokio::select! {
            () = stop.requested() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let (founding, wall, now) = (agent.founding(), agent.clock.wall(), agent.clock.mono());
        let new_cluster = ClusterId::random(&mut OsEntropy);
        let decided = agent.change(|view| {
            match auto_join(view, &founders, founding, new_cluster, wall, now) {
                AutoJoin::Settled => Err(Idle::Settled),
                AutoJoin::Waiting(reason) => Err(Idle::Waiting(reason)),
                AutoJoin::Commit(delta) => Ok(Some(delta)),
            }
        });
        match decided.await {
            Ok(_) => {
                let node = agent.node();
                tracing::info!(
                    target: "audit",
                    node = %node.node,
                    name = node.name,
                    ring = %node.version,
                    "joined the ring by itself"
                );
            }
            Err(ChangeError::Refused(Idle::Settled) | ChangeError::Fenced) => return,
            Err(ChangeError::Refused(Idle::Waiting(reason))) => {
                // One line per reason, not one per look.
                if said.as_ref() != Some(&reason) {
                    tracing::info!(%reason, "not joining the ring yet");
                    said = Some(reason);
                }
            }
            Err(ChangeError::Store(error)) => {
                tracing::error!(%error, "the join could not be made durable");
            }
        }
    }
}

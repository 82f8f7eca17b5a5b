//! One comparison with one node: performs the effects of [`Exchange`] and feeds back what came of
//! them, until it is over. Effects that come together run at once, so at most one request per side
//! is under way, and the bytes in flight are those of one message each way.

use dynamo_core::id::NodeId;
use dynamo_core::merkle::exchange::{
    Exchange, ExchangeCounts, ExchangeEffect, ExchangeEvent, ExchangePlan, ExchangeResult, Side,
};
use service_kit::time::Clock;
use tokio::task::JoinSet;

use crate::pause::PauseSwitch;
use crate::peers::call::CallError;
use crate::peers::stores::Stores;

/// What a comparison is performed with.
#[derive(Debug, Clone)]
pub struct Runner {
    /// How storage nodes are asked.
    pub stores: Stores,
    /// The clock.
    pub clock: Clock,
    /// Who may halt it between two steps.
    pub pause: PauseSwitch,
}

impl Runner {
    /// Compares the local store with that of `far`. `on_step` hears after every step what was done
    /// so far. Dropping the future ends the comparison where it is.
    pub async fn run(
        &self,
        far: NodeId,
        plan: ExchangePlan,
        mut on_step: impl FnMut(ExchangeCounts) + Send,
    ) -> ExchangeResult {
        let near = self.stores.caller().me();
        let mut performing = JoinSet::new();
        let (mut exchange, mut effects) = Exchange::start(plan, self.clock.mono());
        loop {
            self.pause.passes().await;
            for effect in effects {
                if let ExchangeEffect::Done(result) = effect {
                    return result;
                }
                let runner = self.clone();
                performing.spawn(async move { runner.perform((near, far), effect).await });
            }
            let event = match performing.join_next().await {
                Some(Ok(Some(event))) => event,
                Some(Ok(None)) => {
                    effects = Vec::new();
                    continue;
                }
                Some(Err(error)) => failed(Side::Near, &error),
                None => failed(Side::Near, &"nothing is waited for"),
            };
            effects = exchange.on_event(event, self.clock.mono());
            on_step(exchange.counts());
        }
    }

    /// Performs one effect; `None` for one that has no answer.
    async fn perform(
        &self,
        (near, far): (NodeId, NodeId),
        effect: ExchangeEffect,
    ) -> Option<ExchangeEvent> {
        let node = |side| match side {
            Side::Near => near,
            Side::Far => far,
        };
        let stores = &self.stores;
        let (side, answered) = match effect {
            ExchangeEffect::AskDigests { side, class, prefixes } => {
                let answer = stores.digests(node(side), class, &prefixes).await;
                let event = answer.map(|answer| ExchangeEvent::Digests {
                    side,
                    ring: answer.ring,
                    store: answer.store,
                    state: answer.state,
                    digests: answer.digests,
                });
                (side, event)
            }
            ExchangeEffect::AskKeys { side, class, leaves, after } => {
                let answer = stores.keys(node(side), class, &leaves, after.as_ref()).await;
                (side, answer.map(|(keys, next)| ExchangeEvent::Keys { side, keys, next }))
            }
            ExchangeEffect::ReadRecords { side, reads } => {
                let answer = stores.read(node(side), reads).await;
                (side, answer.map(|answers| ExchangeEvent::Records { side, answers }))
            }
            ExchangeEffect::Merge { side, records } => {
                let answer = stores.merge(node(side), records).await;
                (side, answer.map(|answers| ExchangeEvent::Merged { side, answers }))
            }
            ExchangeEffect::Wait { until } => {
                tokio::time::sleep(self.clock.remaining(until)).await;
                return Some(ExchangeEvent::Timer);
            }
            ExchangeEffect::Done(_) => return None,
        };
        Some(answered.unwrap_or_else(|error| refused(side, &error)))
    }
}

fn refused(side: Side, error: &CallError) -> ExchangeEvent {
    if error.is_too_large() { ExchangeEvent::TooLarge { side } } else { failed(side, error) }
}

fn failed(side: Side, reason: &dyn std::fmt::Display) -> ExchangeEvent {
    ExchangeEvent::Failed { side, reason: reason.to_string() }
}

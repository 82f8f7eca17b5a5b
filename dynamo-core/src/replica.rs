//! What a replica does with its one record of a key: accept a put as coordinator, merge what
//! others send. Pure: the caller reads the local record, calls, and stores the result in the same
//! transaction, with no other change to the key in between.

use crate::actor::{Actor, Custody, LossRule};
use crate::clock::context::CausalContext;
use crate::clock::dot::Dot;
use crate::clock::dvv::{Dvv, Run};
use crate::clock::hlc::Hlc;
use crate::clock::record::{Content, Record, Sibling};
use crate::clock::twin;
use crate::id::{ActorId, NodeId, PutId};
use crate::limits::SIBLINGS_MAX;
use crate::params::Reconciliation;
use crate::put_memory::{PutsOf, fingerprint};
use crate::time::WallMs;

/// One client put, as its coordinator applies it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutCommand {
    /// Names the put across retries.
    pub put_id: PutId,
    /// What the client had seen; `None` for a blind write.
    pub context: Option<CausalContext>,
    /// What it writes.
    pub content: Content,
    /// Who reconciles in this bucket.
    pub reconciliation: Reconciliation,
}

/// The result of a put at its coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Minted {
    /// The local record from now on.
    pub record: Record,
    /// The new sibling with its causal past: what travels to the other replicas.
    pub delta: Record,
    /// The dot of the put.
    pub dot: Dot,
    /// True where this put id was applied before: nothing changed, and the first dot stands.
    pub replayed: bool,
}

/// Why a coordinator does not apply a put. Nothing is stored in any of these cases.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PutRefusal {
    /// The key would have more than [`SIBLINGS_MAX`] siblings.
    #[error("the key has {SIBLINGS_MAX} siblings; read it and put with its context")]
    TooManySiblings {
        /// The record as it stands, whose context resolves the siblings.
        record: Record,
    },
    /// The put id was used before with other content.
    #[error("this idempotency key was used with another value")]
    IdempotencyMismatch,
    /// The context shows a dot of this node that its record does not hold, or the counter is
    /// exhausted. The caller ends the epoch ([`Actor::on_loss`]), persists the new one and tries
    /// the put again. Each try has a later epoch, and one beyond every dot of this node suffices.
    #[error("this node has lost data of the key; epoch {seen} is over")]
    Amnesia {
        /// The highest own epoch seen.
        seen: u64,
    },
    /// In a last-write-wins bucket: a version that the put follows leads this node's clock by more
    /// than the tolerated skew. The new version would lose against it and vanish, although
    /// acknowledged; so it is refused.
    #[error("the latest version has a timestamp too far in the future")]
    ClockSkew,
}

/// Applies a client put to the coordinator's record, in a partition that it holds, and mints its
/// dot under `actor`, whose epoch has been persisted.
///
/// # Errors
/// [`PutRefusal`]; the record then stays as it is.
pub fn coordinate_put(
    local: &Record,
    command: &PutCommand,
    actor: &mut Actor,
    now: WallMs,
) -> Result<Minted, PutRefusal> {
    coordinate_put_in(local, command, actor, Custody::Held, PutsOf::default(), now)
}

/// As [`coordinate_put`], in a partition that the coordinator may not hold yet, and with what it
/// remembers of the object's earlier puts. A put among them is answered with the dot that it has,
/// also where another has superseded it since.
///
/// # Errors
/// [`PutRefusal`]; the record then stays as it is.
pub fn coordinate_put_in(
    local: &Record,
    command: &PutCommand,
    actor: &mut Actor,
    custody: Custody,
    puts: PutsOf<'_>,
    now: WallMs,
) -> Result<Minted, PutRefusal> {
    if let Some(minted) = replayed(local, command, puts)? {
        return Ok(minted);
    }
    let mut past = causal_past(local, command, now);
    for twin in twin::seen_by_twin(local, &past, puts) {
        past.insert(twin.dot, twin.stamp.wall());
    }
    // An epoch that has minted nothing yet has lost nothing, so the retry after Amnesia succeeds
    // although the context still shows what was lost.
    let rule = LossRule::new(actor.id(), custody, now);
    if let Some(seen) = rule.lost_epoch(&past, local.clock())
        && !actor.is_fresh_after(seen)
    {
        return Err(PutRefusal::Amnesia { seen });
    }
    let floor = stamp_floor(local, command);
    if command.reconciliation == Reconciliation::Lww && floor.is_ahead_of(now) {
        return Err(PutRefusal::ClockSkew);
    }
    let counter = local
        .clock()
        .highest(actor.id())
        .checked_add(1)
        .ok_or(PutRefusal::Amnesia { seen: actor.id().epoch })?;
    let dot = Dot { actor: actor.id(), counter };
    let stamp = Hlc::after(floor, now);
    let sibling = Sibling { dot, put_id: command.put_id, stamp, content: command.content.clone() };
    let delta = Record::new(past, [sibling]);
    let record = reconciled(local.sync(&delta), command.reconciliation);
    // A put that resolves some of too many siblings is welcome; one that adds to them is not.
    if record.sibling_count() > SIBLINGS_MAX && record.sibling_count() > local.sibling_count() {
        return Err(PutRefusal::TooManySiblings { record: local.clone() });
    }
    actor.mark_used();
    Ok(Minted { record, delta, dot, replayed: false })
}

/// The outcome of merging what another replica sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The local record from now on.
    pub record: Record,
    /// Whether it differs from what was stored before.
    pub changed: bool,
    /// The highest epoch of this node of which a dot arrived that the node did not hold: its own
    /// data was lost, and its epoch must end (rule c of [`crate::actor`]).
    pub lost_epoch: Option<u64>,
}

/// Merges a record or delta from another replica into the local record of node `me`. Takes every
/// own dot that the record lacks as a sign of loss; [`merge_in`] knows the exceptions.
#[must_use]
pub fn merge(
    local: &Record,
    incoming: &Record,
    me: NodeId,
    reconciliation: Reconciliation,
) -> Merged {
    let lost_epoch = incoming.clock().unheld_epoch(me, local.clock());
    merged(local, incoming, lost_epoch, reconciliation, PutsOf::default())
}

/// Merges a record or delta from another replica into the local record of the node whose actor is
/// `present`, and which remembers `puts` of the object.
#[must_use]
pub fn merge_in(
    local: &Record,
    incoming: &Record,
    present: ActorId,
    custody: Custody,
    reconciliation: Reconciliation,
    puts: PutsOf<'_>,
    now: WallMs,
) -> Merged {
    let rule = LossRule::new(present, custody, now);
    let lost_epoch = rule.lost_epoch(incoming.clock(), local.clock());
    merged(local, incoming, lost_epoch, reconciliation, puts)
}

fn merged(
    local: &Record,
    incoming: &Record,
    lost_epoch: Option<u64>,
    reconciliation: Reconciliation,
    puts: PutsOf<'_>,
) -> Merged {
    // What is known already may still show that a sibling is the twin of something superseded.
    if local.contains(incoming) && local.sibling_count() < 2 {
        return Merged { record: local.clone(), changed: false, lost_epoch };
    }
    let record = reconciled(joined(local, incoming, reconciliation), reconciliation);
    let record = settled(record, reconciliation, puts);
    let changed = record != *local;
    Merged { record, changed, lost_epoch }
}

/// Joins what two replicas have in a bucket of this kind; [`reconciled`] comes after it.
#[must_use]
pub fn joined(one: &Record, other: &Record, reconciliation: Reconciliation) -> Record {
    match reconciliation {
        Reconciliation::Siblings => twin::join(one, other),
        Reconciliation::Lww => one.sync(other),
    }
}

/// Takes out of a record what is superseded according to `puts`, which a replica remembers of the
/// object: before it is stored, or shown to a client.
#[must_use]
pub fn settled(record: Record, reconciliation: Reconciliation, puts: PutsOf<'_>) -> Record {
    match reconciliation {
        Reconciliation::Siblings => twin::settle(record, puts),
        Reconciliation::Lww => record,
    }
}

/// Applies the bucket's reconciliation to a synced record.
#[must_use]
pub fn reconciled(record: Record, reconciliation: Reconciliation) -> Record {
    match reconciliation {
        Reconciliation::Siblings => record,
        Reconciliation::Lww => record.last_write(),
    }
}

/// The clock that the new sibling supersedes: the client's context, with the update times that
/// the local record knows. Others are no later than the latest version that the client was shown.
fn causal_past(local: &Record, command: &PutCommand, now: WallMs) -> Dvv {
    let mut past = Dvv::new();
    let Some(context) = &command.context else { return past };
    let shown = context.stamp.wall();
    let latest = if shown == WallMs::default() { now } else { shown.min(now) };
    for (actor, entry) in context.clock.vector() {
        let at = local.clock().updated_at(actor).unwrap_or(latest);
        past.insert_up_to(actor, entry.counter, at);
    }
    for run in context.clock.loose() {
        past.insert_run(Run { at: latest, ..run });
    }
    past
}

/// The stamp that the new one must exceed: that of everything the put supersedes, and in a
/// last-write-wins bucket of everything this coordinator knows (its own later write is the last
/// one). Stamps that follow causality are what makes the last write independent of merge order.
fn stamp_floor(local: &Record, command: &PutCommand) -> Hlc {
    let context = command.context.as_ref();
    let known = local
        .siblings()
        .filter(|sibling| {
            command.reconciliation == Reconciliation::Lww
                || context.is_some_and(|c| c.clock.covers(&sibling.dot))
        })
        .map(|sibling| sibling.stamp);
    known.chain(context.map(|c| c.stamp)).max().unwrap_or_default()
}

/// The answer to a retry of a put that the record knows, with the dot it got the first time.
fn replayed(
    local: &Record,
    command: &PutCommand,
    puts: PutsOf<'_>,
) -> Result<Option<Minted>, PutRefusal> {
    let (dot, is_same) =
        if let Some(sibling) = local.siblings().find(|s| s.put_id == command.put_id) {
            (sibling.dot, sibling.content.is_same_object(&command.content))
        } else if let Some(applied) = puts.get(command.put_id) {
            (applied.dot, applied.content == fingerprint(&command.content))
        } else {
            return Ok(None);
        };
    if !is_same {
        return Err(PutRefusal::IdempotencyMismatch);
    }
    // What is remembered of a record that was lost since says nothing of the one that is there.
    if !local.clock().covers(&dot) {
        return Ok(None);
    }
    // The past of the first attempt is not stored by itself; the whole record is a safe delta.
    Ok(Some(Minted { record: local.clone(), delta: local.clone(), dot, replayed: true }))
}

//! The checks of a history (reliability invariants I-1 to I-4, I-8, I-15 and the outcome contract).
//! Each takes a history and says what is wrong with it.

use std::collections::BTreeSet;

use crate::id::PutId;
use crate::params::Reconciliation;
use crate::testing::sim::history::{History, PutEnd, Versions};

/// What a run promises beyond what every run does.
#[derive(Debug, Clone, Copy, Default)]
pub struct Promises {
    /// Who reconciled concurrent versions.
    pub rule: Reconciliation,
    /// No node lost anything that it had stored.
    pub lossless: bool,
    /// Every read and write was strict, and their quorums overlap.
    pub strict: bool,
}

/// All checks.
///
/// # Errors
/// The first invariant that is broken, and how.
pub fn check(history: &History, promises: Promises) -> Result<(), String> {
    check_ended(history)?;
    check_nothing_invented(history)?;
    check_refused_never_seen(history)?;
    check_replicas_equal(history)?;
    match promises.rule {
        Reconciliation::Siblings => {
            check_acknowledged_survive(history)?;
            check_superseded_gone(history)?;
            if promises.lossless {
                check_shown_stay(history)?;
            }
        }
        Reconciliation::Lww => check_last_write_survives(history, promises.lossless)?,
    }
    if promises.strict { check_strict_reads(history, promises.rule) } else { Ok(()) }
}

/// Every put has ended one way or the other.
///
/// # Errors
/// A put that has not.
pub fn check_ended(history: &History) -> Result<(), String> {
    match history.puts.iter().find(|(_, put)| put.end.is_none()) {
        Some((id, _)) => Err(format!("put {id} never ended")),
        None => Ok(()),
    }
}

/// I-1: an acknowledged write is there in the end, or something supersedes it.
///
/// # Errors
/// A lost write.
pub fn check_acknowledged_survive(history: &History) -> Result<(), String> {
    for (id, put) in history.promised() {
        let kept = last(history, put.key).contains(id);
        if !kept && !history.is_superseded(*id) && !history.may_be_reaped(*id) {
            return Err(format!("I-1: acknowledged put {id} of key {} is lost", put.key));
        }
    }
    Ok(())
}

/// I-1 where the last write wins: what is there in the end is no older than any acknowledged
/// write, nor, where nothing was lost, than anything that was ever read; and it is one version.
///
/// # Errors
/// A lost write.
pub fn check_last_write_survives(history: &History, lossless: bool) -> Result<(), String> {
    for replicas in history.last.values() {
        if let Some(several) = replicas.iter().find(|versions| versions.len() > 1) {
            return Err(format!("I-1: several last writes: {several:?}"));
        }
    }
    let promised = history.promised().map(|(id, put)| (put.key, *id));
    let read = history.gets.iter().filter(|_| lossless);
    let shown = read.flat_map(|get| get.versions.iter().map(|(id, _)| (get.key, *id)));
    for (key, id) in promised.chain(shown) {
        let stamp = history.puts.get(&id).map(|put| put.stamps.0).unwrap_or_default();
        if history.latest(last(history, key).iter()) < stamp {
            return Err(format!("I-1: put {id} of key {key} is lost, and nothing later is there"));
        }
    }
    Ok(())
}

/// I-2: every version that was ever read or kept was put to that key, with those bytes.
///
/// # Errors
/// A version that nobody wrote.
pub fn check_nothing_invented(history: &History) -> Result<(), String> {
    let read = history.gets.iter().map(|get| (get.key, &get.versions));
    let kept = history.last.iter().flat_map(|(key, all)| all.iter().map(|one| (*key, one)));
    for (key, versions) in read.chain(kept) {
        for (id, body) in versions {
            let attempted = history.puts.get(id).filter(|put| put.key == key);
            if attempted.is_none_or(|put| put.body != *body) {
                return Err(format!("I-2: key {key} shows {body:?}, which put {id} never wrote"));
            }
        }
    }
    Ok(())
}

/// I-3: what an acknowledged put supersedes is gone in the end. Excepted are puts of which a retry
/// made a second version, and which a process that has ended remembered.
///
/// # Errors
/// A version that came back.
pub fn check_superseded_gone(history: &History) -> Result<(), String> {
    for (id, put) in history.promised() {
        let excepted =
            |id: &PutId| history.puts.get(id).is_some_and(|put| put.minted > 1 && put.forgotten);
        let kept = last(history, put.key);
        if let Some(back) = kept.intersection(&put.seen).find(|id| !excepted(id)) {
            return Err(format!("I-3: {back} is back, although put {id} superseded it"));
        }
    }
    Ok(())
}

/// I-4: a version that a read of all primaries showed stays until something supersedes it.
///
/// # Errors
/// A version that vanished.
pub fn check_shown_stay(history: &History) -> Result<(), String> {
    for get in history.gets.iter().filter(|get| get.complete) {
        for (id, _) in &get.versions {
            let kept = last(history, get.key).contains(id);
            if !kept && !history.is_superseded(*id) && !history.may_be_reaped(*id) {
                return Err(format!("I-4: {id} of key {} was shown and vanished", get.key));
            }
        }
    }
    Ok(())
}

/// I-8, for any writer: a strict read shows every strict write that was acknowledged before it.
///
/// # Errors
/// A write that a read missed.
pub fn check_strict_reads(history: &History, rule: Reconciliation) -> Result<(), String> {
    for get in &history.gets {
        if let Some(missed) = history.missed(get, rule == Reconciliation::Lww).next() {
            let (key, began) = (get.key, get.began);
            return Err(format!("I-8: the read of key {key} at {began:?} missed put {missed}"));
        }
    }
    Ok(())
}

/// The outcome contract: a put that was refused as not applied is never seen.
///
/// # Errors
/// One that is.
pub fn check_refused_never_seen(history: &History) -> Result<(), String> {
    let refused =
        |id: &PutId| history.puts.get(id).is_some_and(|put| put.end == Some(PutEnd::Fail));
    let read = history.gets.iter().map(|get| &get.versions);
    for versions in read.chain(history.last.values().flatten()) {
        if let Some((id, _)) = versions.iter().find(|(id, _)| refused(id)) {
            return Err(format!("put {id} was refused as not applied, and is there"));
        }
    }
    Ok(())
}

/// I-15: in the end all primaries of a key hold the same.
///
/// # Errors
/// Two that do not.
pub fn check_replicas_equal(history: &History) -> Result<(), String> {
    for (key, replicas) in &history.last {
        let ids = |versions: &Versions| -> BTreeSet<PutId> {
            versions.iter().map(|(id, _)| *id).collect()
        };
        let mut sets = replicas.iter().map(ids);
        let first = sets.next().unwrap_or_default();
        if let Some(other) = sets.find(|set| *set != first) {
            return Err(format!("I-15: replicas of key {key} hold {first:?} and {other:?}"));
        }
    }
    Ok(())
}

/// The puts whose versions any primary of the key holds in the end.
fn last(history: &History, key: usize) -> BTreeSet<PutId> {
    history.last.get(&key).into_iter().flatten().flatten().map(|(id, _)| *id).collect()
}

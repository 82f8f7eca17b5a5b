//! The checks of a history (reliability invariants I-1 to I-4 and the outcome contract). Each takes
//! a history and says what is wrong with it.

use std::collections::BTreeSet;

use crate::id::PutId;
use crate::testing::sim::history::{History, PutEnd, Versions};

/// All checks; `lossless` where no node of the run lost anything that it had stored.
///
/// # Errors
/// The first invariant that is broken, and how.
pub fn check(history: &History, lossless: bool) -> Result<(), String> {
    check_ended(history)?;
    check_nothing_invented(history)?;
    check_refused_never_seen(history)?;
    check_replicas_equal(history)?;
    check_acknowledged_survive(history)?;
    check_superseded_gone(history)?;
    if lossless { check_shown_stay(history) } else { Ok(()) }
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
    for (id, put) in history.puts.iter().filter(|(_, put)| put.end == Some(PutEnd::Ok)) {
        let kept = last(history, put.key).contains(id);
        if !kept && !history.is_superseded(*id) {
            return Err(format!("I-1: acknowledged put {id} of key {} is lost", put.key));
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

/// I-3: what an acknowledged put supersedes is gone in the end, unless a retry made it twice.
///
/// # Errors
/// A version that came back.
pub fn check_superseded_gone(history: &History) -> Result<(), String> {
    for (id, put) in history.puts.iter().filter(|(_, put)| put.end == Some(PutEnd::Ok)) {
        let once = |id: &&PutId| history.puts.get(id).is_none_or(|put| put.minted <= 1);
        if let Some(back) = last(history, put.key).intersection(&put.seen).find(once) {
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
            if !last(history, get.key).contains(id) && !history.is_superseded(*id) {
                return Err(format!("I-4: {id} of key {} was shown and vanished", get.key));
            }
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

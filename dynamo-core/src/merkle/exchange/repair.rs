//! Keys that differed in the lists: looking at them again, and repairing those that still differ.
//!
//! The near record is read first, unless it has become what the far side had: then a write was on
//! its way and nothing moves. The far record is read next, unless it equals the near one now. Only
//! then both are here, and each side gets what it lacks, as merges: a record is a join, so both
//! end equal whatever is written meanwhile.

use std::collections::{BTreeSet, VecDeque};

use crate::clock::digest::RecordDigest;
use crate::clock::record::Record;
use crate::key::ObjectKey;
use crate::limits::{EXCHANGE_BATCH_BYTES, EXCHANGE_READS_FIRST, REPLICA_BATCH_MAX};
use crate::merkle::exchange::event::{MergeAnswer, ReadAnswer, RecordRead, Side, Sides};
use crate::merkle::exchange::outcome::{ClassPart, ExchangeCounts, ExchangeFailure, ExchangeMode};

/// About how many bytes a version or a clock entry takes beside its value.
const ENTRY_BYTES: usize = 64;

/// A key that differed in the lists.
#[derive(Debug)]
pub(super) struct Suspect {
    pub(super) part: ClassPart,
    pub(super) object: ObjectKey,
    pub(super) far: Option<RecordDigest>,
}

/// A suspect and the near record as it is now.
#[derive(Debug)]
struct Candidate {
    suspect: Suspect,
    near: Option<(RecordDigest, Record)>,
}

#[derive(Debug)]
struct Repair {
    part: ClassPart,
    object: ObjectKey,
    record: Record,
}

/// What is written down about the pass.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) counts: ExchangeCounts,
    /// What needs another look: something in it was repaired, or could not be.
    pub(super) again: BTreeSet<ClassPart>,
    /// Whether anything was repaired in this pass.
    pub(super) repaired: bool,
}

impl Ledger {
    fn refuse(&mut self, part: ClassPart) {
        self.counts.refused += 1;
        self.again.insert(part);
    }
}

/// The suspects of one turn, and the batch in work.
#[derive(Debug)]
pub(super) struct Repairs {
    mode: ExchangeMode,
    suspects: VecDeque<Suspect>,
    batch: Vec<Candidate>,
    merges: Sides<VecDeque<Repair>>,
    sent: Sides<Vec<ClassPart>>,
    /// Bytes of the largest record seen lately, which limits how many are read at once.
    largest: Option<usize>,
}

impl Repairs {
    pub(super) fn new(mode: ExchangeMode) -> Self {
        Self {
            mode,
            suspects: VecDeque::new(),
            batch: Vec::new(),
            merges: Sides::default(),
            sent: Sides::default(),
            largest: None,
        }
    }

    pub(super) fn add(&mut self, suspect: Suspect) {
        self.suspects.push_back(suspect);
    }

    pub(super) fn suspects(&self) -> usize {
        self.suspects.len()
    }

    /// Begins a batch: the near records of the next suspects. Empty where none are left.
    pub(super) fn read_near(&mut self) -> Vec<RecordRead> {
        let room = self.largest.map_or(EXCHANGE_READS_FIRST, |bytes| {
            (EXCHANGE_BATCH_BYTES / bytes.max(1)).clamp(1, REPLICA_BATCH_MAX)
        });
        let taken = self.suspects.drain(..room.min(self.suspects.len()));
        self.batch = taken.map(|suspect| Candidate { suspect, near: None }).collect();
        let read = |candidate: &Candidate| RecordRead {
            object: candidate.suspect.object.clone(),
            unless: candidate.suspect.far,
        };
        self.batch.iter().map(read).collect()
    }

    /// Takes the near records, and asks for the far ones of what is still in question.
    ///
    /// # Errors
    /// Where the answers do not fit the questions.
    pub(super) fn read_far(
        &mut self,
        answers: Vec<ReadAnswer>,
        ledger: &mut Ledger,
    ) -> Result<Vec<RecordRead>, ExchangeFailure> {
        self.check_count(answers.len())?;
        let mut largest = self.largest.unwrap_or(0) / 2;
        for (mut candidate, answer) in std::mem::take(&mut self.batch).into_iter().zip(answers) {
            match as_found(answer, candidate.suspect.far)? {
                Found::Refused => ledger.refuse(candidate.suspect.part),
                // The near side has what the far side had when it listed the key.
                Found::Same => ledger.counts.settled += 1,
                Found::Absent if !self.far_matters(&candidate) => ledger.counts.settled += 1,
                Found::Absent => self.batch.push(candidate),
                Found::Record(digest, record) => {
                    largest = largest.max(record_bytes(&record));
                    candidate.near = Some((digest, record));
                    self.batch.push(candidate);
                }
            }
        }
        self.largest = Some(largest).filter(|bytes| *bytes > 0);
        let read = |candidate: &Candidate| RecordRead {
            object: candidate.suspect.object.clone(),
            unless: candidate.near.as_ref().map(|(digest, _)| *digest),
        };
        Ok(self.batch.iter().map(read).collect())
    }

    /// Takes the far records, and finds out who lacks what.
    ///
    /// # Errors
    /// Where the answers do not fit the questions.
    pub(super) fn judge(
        &mut self,
        answers: Vec<ReadAnswer>,
        ledger: &mut Ledger,
    ) -> Result<(), ExchangeFailure> {
        self.check_count(answers.len())?;
        for (candidate, answer) in std::mem::take(&mut self.batch).into_iter().zip(answers) {
            let Candidate { suspect, near } = candidate;
            let asked = near.as_ref().map(|(digest, _)| *digest);
            let near = near.map(|(_, record)| record);
            let far = match as_found(answer, asked)? {
                Found::Refused => {
                    ledger.refuse(suspect.part);
                    continue;
                }
                Found::Same => {
                    ledger.counts.settled += 1;
                    continue;
                }
                Found::Absent => None,
                Found::Record(_, record) => {
                    let bytes = record_bytes(&record);
                    ledger.counts.bytes_pulled += wide(bytes);
                    self.largest = self.largest.max(Some(bytes));
                    Some(record)
                }
            };
            self.plan_merges(suspect, near, far, ledger);
        }
        Ok(())
    }

    /// The next records for `side`; empty where none are left.
    pub(super) fn merge(&mut self, side: Side, ledger: &mut Ledger) -> Vec<(ObjectKey, Record)> {
        let queue = self.merges.get_mut(side);
        let (mut records, mut sent, mut bytes) = (Vec::new(), Vec::new(), 0_usize);
        while let Some(repair) = queue.front() {
            bytes = bytes.saturating_add(record_bytes(&repair.record));
            let fits = records.len() < REPLICA_BATCH_MAX && bytes <= EXCHANGE_BATCH_BYTES;
            if !fits && !records.is_empty() {
                break;
            }
            let Some(repair) = queue.pop_front() else { break };
            if side == Side::Far {
                ledger.counts.bytes_pushed += wide(record_bytes(&repair.record));
            }
            sent.push(repair.part);
            records.push((repair.object, repair.record));
        }
        *self.sent.get_mut(side) = sent;
        records
    }

    /// Whether the answer to a merge of `side` is waited for.
    pub(super) fn expects_merged(&self, side: Side) -> bool {
        !self.sent.get(side).is_empty()
    }

    /// Takes the answers to [`Self::merge`].
    ///
    /// # Errors
    /// Where there is not one for each record.
    pub(super) fn merged(
        &mut self,
        side: Side,
        answers: &[MergeAnswer],
        ledger: &mut Ledger,
    ) -> Result<(), ExchangeFailure> {
        let sent = std::mem::take(self.sent.get_mut(side));
        if sent.len() != answers.len() {
            return Err(ExchangeFailure::Malformed("another number of merges"));
        }
        for (part, answer) in sent.into_iter().zip(answers) {
            if *answer == MergeAnswer::Refused {
                ledger.refuse(part);
                continue;
            }
            let count = match side {
                Side::Near => &mut ledger.counts.pulled,
                Side::Far => &mut ledger.counts.pushed,
            };
            *count += 1;
            ledger.repaired = true;
            ledger.again.insert(part);
        }
        Ok(())
    }

    /// The records of the batch do not fit into one message: a half of them is tried next, and a
    /// single one is given up.
    pub(super) fn read_too_large(&mut self, ledger: &mut Ledger) {
        let batch = std::mem::take(&mut self.batch);
        if let [alone] = batch.as_slice() {
            ledger.refuse(alone.suspect.part);
            return;
        }
        self.largest = Some(EXCHANGE_BATCH_BYTES / (batch.len() / 2).max(1));
        for candidate in batch.into_iter().rev() {
            self.suspects.push_front(candidate.suspect);
        }
    }

    /// The records sent to `side` do not fit into one message, although they are within the
    /// budget: they are left.
    pub(super) fn merge_too_large(&mut self, side: Side, ledger: &mut Ledger) {
        for part in std::mem::take(self.sent.get_mut(side)) {
            ledger.refuse(part);
        }
    }

    fn plan_merges(
        &mut self,
        suspect: Suspect,
        near: Option<Record>,
        far: Option<Record>,
        ledger: &mut Ledger,
    ) {
        let Suspect { part, object, .. } = suspect;
        let lacks = |have: &Option<Record>, other: &Option<Record>| match (have, other) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(have), Some(other)) => !have.contains(other),
        };
        let push = lacks(&far, &near);
        let pull = self.mode == ExchangeMode::Both && lacks(&near, &far);
        if !push && !pull {
            ledger.counts.settled += 1;
        }
        if let Some(record) = near.filter(|_| push) {
            self.merges.far.push_back(Repair { part, object: object.clone(), record });
        }
        if let Some(record) = far.filter(|_| pull) {
            self.merges.near.push_back(Repair { part, object, record });
        }
    }

    /// Whether the far record is of interest where the near side has none.
    fn far_matters(&self, candidate: &Candidate) -> bool {
        self.mode == ExchangeMode::Both && candidate.suspect.far.is_some()
    }

    fn check_count(&self, answers: usize) -> Result<(), ExchangeFailure> {
        if answers == self.batch.len() {
            Ok(())
        } else {
            Err(ExchangeFailure::Malformed("another number of records"))
        }
    }
}

enum Found {
    Same,
    Absent,
    Refused,
    Record(RecordDigest, Record),
}

/// What an answer to a read says, whether or not the side compared digests itself.
fn as_found(answer: ReadAnswer, asked: Option<RecordDigest>) -> Result<Found, ExchangeFailure> {
    match answer {
        ReadAnswer::Refused => Ok(Found::Refused),
        ReadAnswer::Same if asked.is_none() => {
            Err(ExchangeFailure::Malformed("equal to a record that was not named"))
        }
        ReadAnswer::Same => Ok(Found::Same),
        ReadAnswer::Absent => Ok(Found::Absent),
        ReadAnswer::Record(record) if record.is_empty() => Ok(Found::Absent),
        ReadAnswer::Record(record) => {
            let digest = RecordDigest::of(&record);
            Ok(if asked == Some(digest) { Found::Same } else { Found::Record(digest, record) })
        }
    }
}

/// Bytes of a record in a message, about.
fn record_bytes(record: &Record) -> usize {
    let clock = record.clock();
    let entries = record.sibling_count() + clock.vector().count() + clock.loose().count();
    record.payload_bytes().saturating_add(entries.saturating_mul(ENTRY_BYTES))
}

fn wide(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

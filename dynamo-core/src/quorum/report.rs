//! What each replica did in one request: the evidence behind an answer, and the reasons behind a
//! refusal.

use crate::clock::digest::RecordDigest;
use crate::clock::dot::Dot;
use crate::clock::record::Record;
use crate::id::NodeId;
use crate::ring::Role;
use crate::wire::coordinate::ReplicaView;

/// Why a replica did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplicaFailure {
    /// It could not be reached, or the connection broke.
    Unreachable,
    /// It did not answer in the time given.
    Timeout,
    /// It has too much to do.
    Overloaded,
    /// It answered with the error of this code.
    Refused(String),
}

/// What is known of one replica at one moment of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reported {
    /// Not asked so far.
    NotAsked,
    /// Asked, and not heard from yet.
    Waiting,
    /// It has this record.
    Record {
        /// Digest of the record.
        digest: RecordDigest,
        /// The write events of its siblings.
        dots: Vec<Dot>,
    },
    /// It has nothing under the key.
    Absent {
        /// Whether it says that it holds the partition completely.
        holds: bool,
    },
    /// It has stored the write as durably as asked.
    Acked,
    /// It failed.
    Failed(ReplicaFailure),
}

/// One replica in one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaReport {
    /// The replica's node.
    pub node: NodeId,
    /// Whether it takes part for itself or for another.
    pub role: Role,
    /// Whether the partition's holders include it, as far as the coordinator knows.
    pub holds: bool,
    /// What it did.
    pub reported: Reported,
}

impl Reported {
    pub(in crate::quorum) fn record(record: &Record) -> Self {
        Self::Record {
            digest: RecordDigest::of(record),
            dots: record.siblings().map(|sibling| sibling.dot).collect(),
        }
    }
}

impl ReplicaReport {
    /// One word for problem documents and for `explain`; the code where the replica refused.
    #[must_use]
    pub fn result_text(&self) -> String {
        let word = match &self.reported {
            Reported::NotAsked => "not_asked",
            Reported::Failed(ReplicaFailure::Unreachable) => "unreachable",
            Reported::Waiting => "waiting",
            Reported::Record { .. } => "record",
            Reported::Absent { .. } => "absent",
            Reported::Acked => "acked",
            Reported::Failed(ReplicaFailure::Timeout) => "timeout",
            Reported::Failed(ReplicaFailure::Overloaded) => "overloaded",
            Reported::Failed(ReplicaFailure::Refused(code)) => code,
        };
        word.to_owned()
    }
}

impl From<&ReplicaReport> for ReplicaView {
    fn from(report: &ReplicaReport) -> Self {
        let (digest, siblings) = match &report.reported {
            Reported::Record { digest, dots } => {
                (Some(digest.to_string()), dots.iter().map(Dot::to_string).collect())
            }
            _ => (None, Vec::new()),
        };
        Self {
            node: report.node,
            fallback_for: match report.role {
                Role::Primary => None,
                Role::Fallback { for_node } => Some(for_node),
            },
            result: report.result_text(),
            holds: report.holds,
            digest,
            siblings,
        }
    }
}

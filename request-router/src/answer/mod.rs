//! From a coordinator's answer to what the client gets: status, headers and body exactly as the
//! API describes them. Nothing of the coordinator's own HTTP answer is passed through by accident:
//! every header is built here.
//!
//! | module | builds |
//! |---|---|
//! | [`headers`] | the evidence that every answer about an object carries |
//! | [`read`], [`mod@write`] | answers of GET and HEAD; of PUT, POST and DELETE |
//! | [`value`], [`siblings`], [`multipart`] | the representations of one and of several versions |
//! | [`explain`] | what each replica has |
//! | [`refusal`] | problems, redacted |

pub mod explain;
pub mod headers;
pub mod multipart;
pub mod read;
pub mod refusal;
pub mod siblings;
pub mod value;
pub mod write;

use bytes::Bytes;
use dynamo_core::id::NodeId;
use dynamo_core::wire::coordinate::{Evidence, SiblingView, VersionsView};
use dynamo_core::wire::frame::{FrameError, Parts};
use std::time::Duration;

/// What a coordinator found or did, with the values beside their descriptions.
#[derive(Debug)]
pub struct Found {
    /// The versions.
    pub versions: VersionsView,
    /// The values of the siblings, in their order; empty where none were asked for.
    pub values: Vec<Bytes>,
    /// What happened.
    pub evidence: Evidence,
    /// Times and places for the answer's headers.
    pub trip: Trip,
}

/// How a request got its answer.
#[derive(Debug, Clone, Copy)]
pub struct Trip {
    /// The coordinator that answered.
    pub coordinator: NodeId,
    /// Time from the choice of a coordinator to its answer.
    pub coordination: Duration,
    /// Time in the router up to the answer, coordination included.
    pub total: Duration,
}

impl Found {
    /// Takes the values of `versions` off a frame's body.
    ///
    /// # Errors
    /// [`FrameError::Body`] where the body does not match.
    pub fn read(
        versions: VersionsView,
        evidence: Evidence,
        mut parts: Parts,
        trip: Trip,
    ) -> Result<Self, FrameError> {
        let mut values = Vec::new();
        if versions.values {
            values.reserve_exact(versions.siblings.len());
            for sibling in &versions.siblings {
                values.push(parts.take(sibling.len)?);
            }
        }
        parts.finish()?;
        Ok(Self { versions, values, evidence, trip })
    }

    /// The siblings with their values; without where none were asked for.
    pub fn siblings(&self) -> impl Iterator<Item = (&SiblingView, Option<&Bytes>)> {
        self.versions.siblings.iter().enumerate().map(|(i, view)| (view, self.values.get(i)))
    }

    /// The sibling with this entity tag.
    #[must_use]
    pub fn tagged(&self, etag: &str) -> Option<usize> {
        self.versions.siblings.iter().position(|sibling| sibling.etag == etag)
    }

    /// The sibling that was accepted last; among equals the one with the greatest tag, so that
    /// every router picks the same one.
    #[must_use]
    pub fn latest(&self) -> Option<usize> {
        let order =
            |(_, sibling): &(usize, &SiblingView)| (sibling.last_modified, sibling.etag.clone());
        self.versions.siblings.iter().enumerate().max_by_key(order).map(|(index, _)| index)
    }
}

//! Properties of buckets as decisions of an administrator: checked against the cluster, stamped,
//! and from then on gossiped with the membership.

use super::registers::BucketEntry;
use super::view::{Delta, Membership};
use crate::key::Bucket;
use crate::limits::BUCKETS_MAX;
use crate::params::{BucketProps, ParamError};
use crate::time::WallMs;

/// Why properties are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BucketError {
    /// There is no cluster yet.
    #[error("the cluster has not been founded")]
    NotFounded,
    /// The properties contradict themselves.
    #[error("{0}: {1}")]
    Props(&'static str, ParamError),
    /// More replicas than there are members to keep them on.
    #[error("n: {n} replicas need {n} members, there are {members}")]
    Members {
        /// Replicas asked for.
        n: u8,
        /// Members of the ring.
        members: usize,
    },
    /// There is no room for another bucket.
    #[error("at most {BUCKETS_MAX} buckets have properties of their own")]
    TooMany,
}

/// Sets the properties of a bucket, or with `None` returns it to the defaults. `None` as a result
/// means that nothing changes. An N above the spacing of the ring needs as many members; up to the
/// spacing it is accepted as the cluster's own default is, also where the ring is still growing.
///
/// # Errors
/// [`BucketError`].
pub fn set(
    view: &Membership,
    bucket: &Bucket,
    props: Option<BucketProps>,
    wall: WallMs,
) -> Result<Option<Delta>, BucketError> {
    let fold = view.fold().ok_or(BucketError::NotFounded)?;
    if let Some(props) = props {
        props.validated().map_err(|(name, error)| BucketError::Props(name, error))?;
        let members = fold.members.len();
        if props.n > fold.spacing && usize::from(props.n) > members {
            return Err(BucketError::Members { n: props.n, members });
        }
    }
    let known = view.registers().buckets.get(bucket.as_str());
    if known.and_then(|entry| entry.props) == props {
        return Ok(None);
    }
    if known.is_none() && view.registers().buckets.len() >= BUCKETS_MAX {
        return Err(BucketError::TooMany);
    }
    let entry = BucketEntry { stamp: view.stamp(wall), props };
    let buckets = [(bucket.to_string(), entry)].into();
    Ok(Some(Delta { buckets, ..Delta::default() }))
}

/// What is legal but worth knowing about properties.
#[must_use]
pub fn warnings(view: &Membership, props: &BucketProps) -> Vec<String> {
    let mut warnings = Vec::new();
    if !props.overlaps() {
        warnings.push("r + w <= n: a read may miss the latest acknowledged write".to_owned());
    }
    if let Some(fold) = view.fold() {
        if props.n > fold.spacing {
            let spacing = fold.spacing;
            warnings.push(format!(
                "n > {spacing}: the ring spreads {spacing} replicas over zones, not more"
            ));
        }
        if usize::from(props.n) > fold.members.len() {
            let members = fold.members.len();
            warnings.push(format!("the ring has {members} members: keys have {members} replicas"));
        }
    }
    warnings
}

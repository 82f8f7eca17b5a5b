//! The invariants of [`crate::quorum`] as predicates, for `debug_assert!` and for tests.

use crate::clock::dvv::Dvv;
use crate::clock::record::Record;
use crate::id::NodeId;

/// Read repair only adds causality (I-14): the repair holds no sibling that no replica had, and
/// its clock covers nothing that no replica's clock covered.
pub(super) fn adds_no_dots<'a, I>(repair: &Record, replies: impl Fn() -> I) -> bool
where
    I: Iterator<Item = &'a Record>,
{
    let known = repair
        .siblings()
        .all(|sibling| replies().any(|reply| reply.sibling(&sibling.dot).is_some()));
    let mut joined = Dvv::new();
    for reply in replies() {
        joined.merge(reply.clock());
    }
    known && joined.descends(repair.clock())
}

/// No node takes part twice.
pub(super) fn are_distinct(nodes: &[NodeId]) -> bool {
    nodes.iter().enumerate().all(|(index, node)| !nodes.iter().skip(index + 1).any(|n| n == node))
}

/// The end of an operation: at most one conclusion, and `Done` only after it.
pub(super) fn ends_in_order(concluded: bool, done: bool) -> bool {
    concluded || !done
}

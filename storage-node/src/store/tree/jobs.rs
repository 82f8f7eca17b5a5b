//! Changes of the tree that are no changes of records. All run on the writer thread.

use std::ops::Bound;
use std::sync::Arc;

use dynamo_core::limits::REPLICAS_MAX;
use dynamo_core::merkle::{Leaf, Prefix};
use dynamo_core::wire::tree::TreeState;
use tokio::sync::oneshot;

use super::super::engine::Tables;
use super::super::error::{EngineError, StoreError};
use super::super::writer::WriteJob;
use super::super::{RECORDS, Shared};
use super::classes::Classes;
use super::form::{Head, Pass};

/// Hears that a job is durable, or why not.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What is to be done to the tree.
pub(crate) enum TreeChange {
    /// The buckets are sorted otherwise from now on.
    Reclass(Arc<Classes>),
    /// Its rows are unreadable: it begins anew.
    Reset,
    /// Differences between records and sums, measured in one snapshot of `generation`, and how far
    /// the scrub has come with them.
    Mend {
        /// The generation.
        generation: u64,
        /// [`super::TreeKeeper::clears`] before it was measured.
        clears: u64,
        /// What each sum lacks.
        differences: Vec<(u8, Leaf, u128)>,
        /// Progress of the pass, where the leaves were its next ones.
        pass: Option<Pass>,
        /// Whether that ended the pass.
        finished: bool,
    },
    /// The log goes into the blocks, before the store is closed.
    Fold,
}

/// A change of the tree on its way through the writer. The answer says whether it was applied:
/// what was measured in another generation is not.
pub(crate) struct TreeJob {
    shared: Arc<Shared>,
    change: TreeChange,
    reply: Option<Reply<bool>>,
    applied: bool,
}

impl TreeJob {
    pub(crate) fn new(shared: Arc<Shared>, change: TreeChange, reply: Reply<bool>) -> Self {
        Self { shared, change, reply: Some(reply), applied: false }
    }

    /// Before the store is closed; nobody waits for the answer.
    pub(crate) fn fold(shared: Arc<Shared>) -> Self {
        Self { shared, change: TreeChange::Fold, reply: None, applied: false }
    }
}

impl WriteJob for TreeJob {
    fn bytes(&self) -> usize {
        0
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn apply(&mut self, tables: &mut dyn Tables) -> Result<(), EngineError> {
        let tree = &self.shared.tree;
        self.applied = match &self.change {
            TreeChange::Fold => {
                tree.pending().fold = true;
                true
            }
            TreeChange::Reset => {
                let classes = Arc::clone(&tree.pending().classes);
                tree.begin_anew(classes, tables)?;
                true
            }
            TreeChange::Reclass(classes) => {
                let changed = tree.pending().classes != *classes;
                if changed {
                    tree.begin_anew(Arc::clone(classes), tables)?;
                }
                changed
            }
            TreeChange::Mend { generation, clears, differences, pass, finished } => {
                let mut head = tree.staged_head();
                let valid = head.generation == *generation && tree.clears() == *clears;
                if valid {
                    let mut pending = tree.pending();
                    for (class, leaf, difference) in differences {
                        pending.add(*class, *leaf, *difference);
                    }
                    if let Some(pass) = pass {
                        head.pass = *pass;
                        if *finished {
                            head.built = true;
                            head.last_full = Some(self.shared.clock.wall());
                        }
                        pending.head = Some(head);
                    }
                }
                valid
            }
        };
        Ok(())
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        let Some(reply) = self.reply else { return };
        if reply.send(committed.map(|()| self.applied)).is_err() {
            tracing::trace!("nobody waits for this change of the tree any more");
        }
    }
}

impl super::TreeKeeper {
    /// The head as of the transaction under way. Writer thread only.
    fn staged_head(&self) -> Head {
        let staged = self.pending().head.clone();
        staged.unwrap_or_else(|| self.head())
    }

    /// Sets the tree to 0 in the transaction under way. Where there is no record that is the truth;
    /// otherwise the scrub fills it again.
    fn begin_anew(&self, classes: Arc<Classes>, tables: &dyn Tables) -> Result<(), EngineError> {
        let everything = (Bound::Unbounded, Bound::Unbounded);
        let is_empty = tables.page(RECORDS, everything, 1, 1)?.is_empty();
        let built = is_empty && self.is_enabled();
        let generation = self.staged_head().generation.saturating_add(1);
        let mut pending = self.pending();
        pending.deltas.clear();
        pending.reset = true;
        pending.classes = Arc::clone(&classes);
        pending.head = Some(Head { built, ..Head::building(generation, classes) });
        Ok(())
    }

    /// Sets the sums of a subtree to 0 in the transaction under way, of the classes `below` one or
    /// of all, after its last record is gone. How many of a complete tree were not 0 already, and
    /// that no unreadable record explains. Writer thread only.
    pub(crate) fn clear(&self, prefix: Prefix, below: Option<u8>) -> usize {
        let mut pending = self.pending();
        let committed = self.committed();
        let is_built = committed.state() == TreeState::Built && !pending.reset;
        let mut cleared = 0;
        for class in 1..below.unwrap_or(REPLICAS_MAX + 1) {
            for leaf in prefix.leaves().map(Leaf) {
                let base = if pending.reset { 0 } else { committed.tree.leaf(class, leaf) };
                let delta = pending.deltas.get(&(class, leaf)).copied().unwrap_or(0);
                let sum = base.wrapping_add(delta);
                if sum != 0 {
                    pending.cleared = true;
                    pending.add(class, leaf, sum.wrapping_neg());
                    cleared += usize::from(is_built && !self.is_suspect(leaf));
                }
            }
        }
        if pending.cleared {
            self.count_clear();
        }
        cleared
    }
}

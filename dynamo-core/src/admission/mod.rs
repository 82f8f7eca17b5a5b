//! Admission of background work (paper section 6.5): how much of it a storage node lets run, and
//! which kind is next.
//!
//! Every piece of background work, local or asked for by a worker, takes one slice of the node
//! while it runs. A feedback loop ([`SliceController`]) sets the number of slices from what
//! foreground requests experience; the queue ([`SliceQueue`]) hands them out fairly between the
//! kinds of work, so that a long transfer cannot keep repair from running.
//!
//! Invariants: there is always at least one slice, so background work never starves; foreground
//! work never waits for a slice, so background work never wins.
//! Not here: measuring, and waking those who wait.

pub mod controller;
pub mod kind;
pub mod queue;

pub use controller::{Sample, SliceController, Thresholds, Verdict};
pub use kind::{Kind, UnknownKind};
pub use queue::{QueueFull, SliceQueue, Ticket};

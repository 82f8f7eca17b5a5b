//! Hinted handoff (paper section 4.6): what a node keeps for others, and when it is handed over.
//!
//! | module | what it decides |
//! |---|---|
//! | [`hint`] | which target is due, how much goes at once, when a hint may be deleted or dropped |
//!
//! Not here: the hint file, and sending.

pub mod hint;

pub use hint::{
    BatchEnd, HintBatchBudget, HintSchedule, HintUsage, HintWork, is_expired, may_delete,
};

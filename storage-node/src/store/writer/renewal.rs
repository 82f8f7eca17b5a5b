//! Replacing a file that is damaged beyond use by an empty one, while the process runs.
//!
//! The steps are in an order in which every one of them may be the last before a crash; a start
//! then finds:
//!
//! | last step | the file | `node.json` names | the start |
//! |---|---|---|---|
//! | none | damaged | the old store | opens it, or sets it aside |
//! | set aside | none | the old store | begins empty, under a new name |
//! | named | none | the new store | begins empty, under yet another name |
//! | created | empty, unnamed | the new store | the same |
//! | stamped | empty, named | the new store | goes on with it |
//!
//! In each case the epoch begins anew, as the process did not end in order.

use super::super::aside::Place;
use super::super::engine::Engine;
use super::super::error::EngineError;
use super::WriteJob;

/// Why a file is opened anew although no commit failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// A read met a page that makes no sense.
    Structure,
    /// So many records are unreadable that mending each is not the answer.
    Records,
    /// Records that the tree knew are not where they were. It may be the way to them that is damaged:
    /// then what is written goes astray as well.
    Vanished,
}

/// What the owner of a file does about losing it.
pub(crate) trait Successor: Send {
    /// Doubts that have come up since this was asked last.
    fn doubts(&mut self) -> Option<Doubt> {
        None
    }

    /// Whether what was in doubt can be read from the file that was opened anew.
    fn confirm(&mut self, _: &dyn Engine) -> Result<(), EngineError> {
        Ok(())
    }

    /// Forgets all that is known of the file. Nobody may claim any more to hold what it held: the
    /// empty file cannot be read before this was called.
    fn forget(&mut self);

    /// Names the new store where its name must survive, before there is a file for it. May come
    /// several times.
    fn name(&mut self) -> Result<(), EngineError> {
        Ok(())
    }

    /// Writes the name into the empty file.
    fn stamp(&mut self, _: &dyn Engine) -> Result<(), EngineError> {
        Ok(())
    }

    /// What is committed before anything else.
    fn first_jobs(&mut self) -> Vec<Box<dyn WriteJob>> {
        Vec::new()
    }
}

/// One step of the replacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RenewStep {
    /// The damaged file gets another name.
    SetAside,
    /// The new store gets a name.
    Name,
    /// An empty file is made.
    Create,
    /// The name is written into it.
    Stamp,
}

impl RenewStep {
    /// All, in order.
    pub(crate) const ALL: [Self; 4] = [Self::SetAside, Self::Name, Self::Create, Self::Stamp];

    /// Does the step. The file is closed before the first.
    pub(crate) fn perform(
        self,
        engine: &dyn Engine,
        place: &dyn Place,
        successor: &mut dyn Successor,
        why: &str,
    ) -> Result<(), EngineError> {
        let io = |error: std::io::Error| EngineError::Io(error.to_string());
        match self {
            Self::SetAside => place.set_aside(why).map_err(io),
            Self::Name => successor.name(),
            Self::Create => {
                engine.reopen()?;
                place.settle().map_err(io)
            }
            Self::Stamp => successor.stamp(engine),
        }
    }
}

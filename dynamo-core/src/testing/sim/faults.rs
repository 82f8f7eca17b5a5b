//! What goes wrong, and when it is over.

use std::time::Duration;

use crate::entropy::Entropy;
use crate::id::StoreId;
use crate::testing::sim::mutant::Mutant;
use crate::testing::sim::node::Life;
use crate::testing::sim::world::{Event, World};

/// A fault, or the end of one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// Something goes wrong.
    Strike,
    /// A stopped node starts again.
    Start(usize),
    /// A frozen node goes on.
    Resume(usize),
    /// All links are whole again.
    Join,
    /// Somebody changes the membership.
    Change,
}

impl Fault {
    pub(super) fn number(self) -> u64 {
        match self {
            Self::Strike => 0,
            Self::Join => 1,
            Self::Change => 2,
            Self::Start(node) => 100 + node as u64,
            Self::Resume(node) => 200 + node as u64,
        }
    }
}

impl World {
    pub(super) fn plan_strike(&mut self) {
        let pause = Duration::from_millis(50 + self.rng.below(1_200));
        self.after(pause, Event::Fault(Fault::Strike));
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        self.note(|| format!("{fault:?}"));
        match fault {
            Fault::Strike if self.healed => {}
            Fault::Strike => {
                self.strike();
                self.plan_strike();
            }
            Fault::Start(node) => self.start(node),
            Fault::Resume(node) => self.resume(node),
            Fault::Join => self.network.join(),
            Fault::Change => self.change_membership(),
        }
    }

    fn strike(&mut self) {
        let node = usize::try_from(self.rng.below(self.nodes.len() as u64)).unwrap_or(0);
        if self.config.blackouts && self.rng.chance(1, 2) {
            return self.power_loss();
        }
        match self.rng.below(8) {
            0 | 1 if self.config.crashes => self.crash(node),
            2 if self.config.crashes && self.rng.chance(1, 3) => self.power_loss(),
            3 if self.config.restarts => self.stop_cleanly(node),
            4 if self.config.freezes => self.freeze(node),
            5 | 6 if self.config.cuts => self.cut(),
            7 => self.forget(),
            _ => {}
        }
    }

    fn power_loss(&mut self) {
        self.covered("power loss");
        (0..self.nodes.len()).for_each(|node| self.crash(node));
    }

    pub(super) fn crash(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if node.life == Life::Down {
            return;
        }
        let kept = self.rng.below(node.store.unflushed() as u64 + 1);
        self.forget_puts(at);
        let node = &mut self.nodes[at];
        let stored = node.store.crash(usize::try_from(kept).unwrap_or(0));
        node.stop();
        self.note_durable(at, &stored);
        self.covered("crash");
        self.note(|| format!("node {at} crashes, {kept} unflushed writes kept"));
        self.start_later(at);
    }

    fn stop_cleanly(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if node.life != Life::Running {
            return;
        }
        self.forget_puts(at);
        let node = &mut self.nodes[at];
        let stored = node.store.flush_all();
        node.clean = true;
        node.stop();
        self.note_durable(at, &stored);
        self.covered("clean restart");
        self.start_later(at);
    }

    pub(super) fn start_later(&mut self, node: usize) {
        let pause = Duration::from_millis(50 + self.rng.below(3_000));
        self.after(pause, Event::Fault(Fault::Start(node)));
    }

    fn start(&mut self, at: usize) {
        if self.nodes[at].life != Life::Down {
            return;
        }
        let clean = self.nodes[at].clean;
        self.nodes[at].start(self.now, self.config.is(Mutant::NoNewEpoch));
        if !clean {
            self.covered("epoch ended: unclean start");
        }
        self.start_ticking(at);
        self.restart_agent(at);
    }

    fn freeze(&mut self, at: usize) {
        if self.nodes[at].life == Life::Running {
            self.nodes[at].life = Life::Frozen;
            let pause = Duration::from_millis(100 + self.rng.below(4_000));
            self.after(pause, Event::Fault(Fault::Resume(at)));
        }
    }

    /// The process goes on, and finds everything that came in the meantime.
    fn resume(&mut self, at: usize) {
        if self.nodes[at].life != Life::Frozen {
            return;
        }
        self.covered("frozen node resumed");
        self.nodes[at].life = Life::Running;
        for event in std::mem::take(&mut self.nodes[at].inbox) {
            self.at(self.now, event);
        }
    }

    /// Cuts links: between two halves, around one node, or in one direction only.
    fn cut(&mut self) {
        let count = self.nodes.len();
        let members = self.rng.below(1 << count);
        let one_way = self.rng.chance(1, 3);
        self.covered(if one_way { "one-way cut" } else { "partition" });
        for from in (0..count).filter(|node| members >> node & 1 == 1) {
            for to in (0..count).filter(|node| members >> node & 1 == 0) {
                self.network.cut(from, to);
                if !one_way {
                    self.network.cut(to, from);
                }
            }
        }
        let pause = Duration::from_millis(100 + self.rng.below(3_000));
        self.after(pause, Event::Fault(Fault::Join));
    }

    /// The amnesiac's disk loses a record, or everything.
    fn forget(&mut self) {
        let Some(at) = self.config.amnesiac else { return };
        if self.rng.chance(3, 4) {
            let key = self.rng.below(self.config.keys as u64);
            self.nodes[at].store.rot(usize::try_from(key).unwrap_or(0));
        } else if self.nodes[at].life != Life::Down {
            self.crash(at);
            self.covered("disk replaced");
            let store_id = StoreId::random(&mut self.rng);
            let epoch = match self.config.mutant {
                Some(Mutant::NoNewEpoch) => self.nodes[at].epoch,
                Some(Mutant::NewDiskOldEpoch) => 0,
                _ => self.wall(at).0,
            };
            self.nodes[at].wipe(store_id, epoch);
        }
    }

    /// Brings a node back, whatever is wrong with it.
    pub(super) fn revive(&mut self, at: usize) {
        match self.nodes[at].life {
            Life::Running => {}
            Life::Frozen => self.resume(at),
            Life::Down => self.start(at),
        }
    }
}

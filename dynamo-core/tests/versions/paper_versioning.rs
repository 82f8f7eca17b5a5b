//! The paper's own examples of versioning: Figure 3 (T2) and the statements of section 4.4.

use dynamo_core::actor::Actor;
use dynamo_core::clock::context::CausalContext;
use dynamo_core::clock::record::Record;
use dynamo_core::id::NodeId;
use dynamo_core::params::Reconciliation::Siblings;
use dynamo_core::replica::{coordinate_put, merge};
use dynamo_core::testing::values::{context_of, node, put, text_of};
use dynamo_core::time::WallMs;

const NOW: WallMs = WallMs(1_700_000_000_000);

/// One server of Figure 3.
struct Server {
    name: &'static str,
    actor: Actor,
    record: Record,
}

impl Server {
    fn new(name: &'static str, number: u128) -> Self {
        let actor = Actor::resumed(node(number), 1);
        Self { name, actor, record: Record::default() }
    }

    /// Writes version `version` as a client that passes `context`; returns what is replicated.
    fn write(&mut self, version: u128, context: Option<CausalContext>) -> Record {
        let minted = coordinate_put(&self.record, &put(version, context), &mut self.actor, NOW)
            .expect("nothing is wrong with this put");
        self.record = minted.record;
        minted.delta
    }

    fn receive(&mut self, delta: &Record) {
        self.record = merge(&self.record, delta, self.actor.id().node, Siblings).record;
    }
}

/// The clock as the paper prints it.
fn printed(record: &Record, servers: &[&Server]) -> String {
    assert_eq!(record.clock().loose().count(), 0, "the figure has no gaps");
    let name = |id: NodeId| servers.iter().find(|s| s.actor.id().node == id).expect("known").name;
    let entries: Vec<String> = record
        .clock()
        .vector()
        .map(|(actor, entry)| format!("({},{})", name(actor.node), entry.counter))
        .collect();
    format!("[{}]", entries.join(", "))
}

fn versions(record: &Record) -> Vec<String> {
    record.siblings().filter_map(|sibling| text_of(&sibling.content)).collect()
}

#[test]
fn t2_figure_3() {
    let (mut sx, mut sy, mut sz) =
        (Server::new("Sx", 1), Server::new("Sy", 2), Server::new("Sz", 3));
    // D1 and D2, handled by Sx; the second descends from the first and replaces it.
    let d1 = sx.write(1, None);
    let d2 = sx.write(2, Some(context_of(&d1)));
    sy.receive(&d2);
    sz.receive(&d2);
    let (mut holds_d1, mut holds_d2) = (Server::new("Sp", 4), Server::new("Sq", 5));
    holds_d1.receive(&d1);
    holds_d2.receive(&d2);
    // D3 at Sy and D4 at Sz, both from D2: concurrent.
    let d2_context = context_of(&sy.record);
    let d3 = sy.write(3, Some(d2_context.clone()));
    let d4 = sz.write(4, Some(d2_context));
    let servers = [&sx, &sy, &sz];
    assert_eq!(printed(&d1, &servers), "[(Sx,1)]");
    assert_eq!(printed(&d2, &servers), "[(Sx,2)]");
    assert_eq!(printed(&d3, &servers), "[(Sx,2), (Sy,1)]");
    assert_eq!(printed(&d4, &servers), "[(Sx,2), (Sz,1)]");
    // "A node that is aware of D1 or D2 can determine, upon receiving D4, that they are
    // overwritten by the new data and can be garbage collected."
    for holder in [&mut holds_d1, &mut holds_d2] {
        holder.receive(&d4);
        assert_eq!(versions(&holder.record), ["4"]);
    }
    // "A node that is aware of D3 and receives D4 will find that there is no causal relation."
    let mut reader = Server::new("Sr", 6);
    reader.receive(&d3);
    reader.receive(&d4);
    assert_eq!(versions(&reader.record), ["3", "4"]);
    assert!(!d3.clock().descends(d4.clock()) && !d4.clock().descends(d3.clock()));
    // P4.4-8: the read's context is the summary of both, and D5 by Sx supersedes both.
    let summary = context_of(&reader.record);
    assert_eq!(printed(&reader.record, &servers), "[(Sx,2), (Sy,1), (Sz,1)]");
    sx.receive(&d3);
    sx.receive(&d4);
    let d5 = sx.write(5, Some(summary));
    assert_eq!(printed(&d5, &[&sx, &sy, &sz]), "[(Sx,3), (Sy,1), (Sz,1)]");
    reader.receive(&d5);
    assert_eq!(versions(&reader.record), ["5"]);
}

/// P4.4-3: a descendant replaces its ancestor also where it arrives first.
#[test]
fn p4_4_3_an_ancestor_that_arrives_late_is_dropped() {
    let mut sx = Server::new("Sx", 1);
    let d1 = sx.write(1, None);
    let d2 = sx.write(2, Some(context_of(&d1)));
    let mut late = Server::new("Sy", 2);
    late.receive(&d2);
    late.receive(&d1);
    assert_eq!(versions(&late.record), ["2"]);
}

/// P4.4-4, C1: of two additions to a cart through one coordinator, from one version, none is lost.
/// The paper's own clock, one counter per server, cannot tell them apart and loses one.
#[test]
fn c1_concurrent_writes_through_one_coordinator_are_siblings() {
    let mut sx = Server::new("Sx", 1);
    let base = sx.write(1, None);
    let context = context_of(&base);
    let a = sx.write(2, Some(context.clone()));
    let b = sx.write(3, Some(context));
    assert_eq!(versions(&sx.record), ["2", "3"]);
    for order in [[&base, &a, &b], [&b, &base, &a], [&a, &b, &base]] {
        let mut sy = Server::new("Sy", 2);
        for delta in order {
            sy.receive(delta);
        }
        assert_eq!(versions(&sy.record), ["2", "3"]);
        assert_eq!(sy.record, sx.record);
    }
}

/// P4.4-12: several branches, not just two; P4.4-7: one put with the context of all collapses them.
#[test]
fn p4_4_7_a_put_with_the_context_of_all_branches_collapses_them() {
    let mut reader = Server::new("Sr", 9);
    for number in 1..=5 {
        let mut server = Server::new("S", number);
        reader.receive(&server.write(number, None));
    }
    assert_eq!(versions(&reader.record), ["1", "2", "3", "4", "5"]);
    let context = context_of(&reader.record);
    reader.write(6, Some(context));
    assert_eq!(versions(&reader.record), ["6"]);
}

/// A client that goes on from the context of its own last put, without reading, keeps a context of
/// constant size, also where it started over the unread write of another client.
#[test]
fn the_context_of_a_chain_of_puts_stays_short() {
    let mut sx = Server::new("Sx", 1);
    sx.write(1, None);
    let mut context = None;
    for version in 2..5_000 {
        let delta = sx.write(version, context);
        context = Some(context_of(&delta));
        assert!(delta.clock().len() <= 1, "one run of dots");
    }
    assert_eq!(versions(&sx.record), ["1", "4999"]);
}

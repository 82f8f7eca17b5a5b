//! Gossip between many agents: convergence (I-20), seeds (T6), fences (I-24), forged messages.

use dynamo_core::entropy::SplitMix;
use dynamo_core::id::{ClusterId, Incarnation};
use dynamo_core::limits::{
    CANDIDATE_REFRESH_MS, CANDIDATE_SILENCE_MS, GOSSIP_DELTA_BYTES_MAX, GOSSIP_RATE_MAX_PER_S,
};
use dynamo_core::membership::gossip::{Gossip, GossipEvent, GossipRefusal, seal};
use dynamo_core::membership::member::MemberStatus;
use dynamo_core::membership::registers::StagedChange;
use dynamo_core::membership::state::{NodeState, STATE_RANGES, Stamp};
use dynamo_core::membership::view::Delta;
use dynamo_core::ring::{PartitionSet, Partitions};
use dynamo_core::time::Mono;
use dynamo_core::wire::gossip::{GossipBody, GossipDecodeError, GossipMessage, Summary, Want};

use crate::support::{Sim, WALL, node, state, store, view_bound};

fn join(index: usize) -> StagedChange {
    StagedChange::Join { node: node(index), zone: None, weight: None }
}

/// A founded cluster of `members`, with the rest of `count` as candidates.
fn cluster(count: usize, members: usize, seed: u64) -> Sim {
    let mut sim = Sim::new(count, &[0, 1], seed);
    sim.rounds_to_converge(view_bound(count)).expect("candidates find each other");
    for index in 0..members {
        sim.stage(0, join(index));
    }
    sim.rounds_to_converge(view_bound(count)).expect("staged changes spread");
    // Staged at one node, founded at another.
    sim.commit(count - 1);
    sim.rounds_to_converge(view_bound(count)).expect("the founding spreads");
    sim
}

#[test]
fn any_node_can_found_and_all_follow() {
    let sim = cluster(5, 3, 11);
    let founded = sim.agents[0].view.cluster().unwrap();
    for agent in &sim.agents {
        assert_eq!(agent.view.cluster(), Some(founded));
        assert!(agent.view.staged().is_empty(), "a commit clears what was staged");
        assert_eq!(agent.view.status(node(0)), Some(MemberStatus::Member));
        assert_eq!(agent.view.status(node(4)), Some(MemberStatus::Candidate));
    }
}

/// I-20: both sides of a partition commit; after it heals all agree in time.
fn heals_in_time(count: usize, loss_one_in: u64, seed: u64) {
    let mut sim = cluster(count, 5, seed);
    for index in 0..count {
        sim.side[index] = (index % 2) as u8;
    }
    for (index, joining) in [(0, 6), (1, 7), (2, 8), (3, 9)] {
        sim.stage(index, join(joining));
        sim.commit(index);
        for _ in 0..3 {
            sim.round();
        }
    }
    assert!(!sim.converged());
    sim.side.fill(0);
    sim.loss_one_in = loss_one_in;
    let bound = view_bound(count);
    let rounds = sim.rounds_to_converge(bound);
    assert!(rounds.is_some(), "{count} nodes, seed {seed}: not converged after {bound} rounds");
    let view = &sim.agents[0].view;
    assert_eq!(view.history().len(), 5, "the founding and four commits");
    for joined in 6..10 {
        assert_eq!(view.status(node(joined)), Some(MemberStatus::Member), "nothing was lost");
    }
    for agent in &sim.agents {
        assert_eq!(agent.view.fold().unwrap().ring, view.fold().unwrap().ring);
    }
}

#[test]
fn a_healed_partition_converges_in_time() {
    for (count, seed) in [(10, 1), (10, 2), (30, 3), (80, 4), (200, 5)] {
        heals_in_time(count, 0, seed);
    }
}

#[test]
fn it_converges_with_every_tenth_message_lost() {
    heals_in_time(30, 10, 6);
}

#[test]
fn hundreds_of_nodes_converge_and_then_say_little() {
    let count = 300;
    let mut sim = cluster(count, 3, 7);
    let delta = sim.agents[150].view.describe(|me| me.weight = 42).unwrap();
    sim.apply(150, delta);
    sim.bytes = 0;
    let rounds = sim.rounds_to_converge(view_bound(count)).unwrap();
    let per_node_round = sim.bytes / count / rounds.max(1);
    assert!(per_node_round < 16 * 1024, "one change costs {per_node_round} bytes a round");
    sim.bytes = 0;
    sim.round();
    let quiet = sim.bytes / count;
    assert!(quiet < 1024, "a round in which nothing happens costs {quiet} bytes");
}

/// T6: A joins through A and B through B, without contact. With a seed the views merge.
#[test]
fn separate_groups_meet_through_a_seed_and_only_so() {
    let found_apart = |seeds: &[usize]| {
        let mut sim = Sim::new(3, seeds, 21);
        for _ in 0..view_bound(3) {
            sim.round();
        }
        sim
    };
    let apart = found_apart(&[]);
    assert!(apart.agents.iter().all(|agent| agent.view.states().len() == 1));
    let mut met = found_apart(&[2]);
    assert!(met.agents.iter().all(|agent| agent.view.states().len() == 3));
    // One history, changed at A and at B while they are cut off from each other and the seed.
    met.stage(0, join(2));
    met.commit(0);
    met.rounds_to_converge(view_bound(3)).unwrap();
    met.side = vec![0, 1, 2];
    met.stage(0, join(0));
    met.commit(0);
    met.stage(1, join(1));
    met.commit(1);
    met.round();
    assert_ne!(met.agents[0].view.version(), met.agents[1].view.version());
    met.side = vec![0; 3];
    met.rounds_to_converge(view_bound(3)).unwrap();
    assert_eq!(met.agents[2].view.fold().unwrap().members.len(), 3);
}

/// Row 105.
#[test]
fn another_cluster_is_refused() {
    let mut ours = cluster(4, 3, 31);
    let theirs = cluster(4, 3, 32);
    let before = ours.agents[0].view.everything();
    let message = seal(&theirs.agents[1].view, probe());
    let agent = &mut ours.agents[0];
    let refusal = agent.gossip.on_request(&agent.view, message, Mono(1), WALL).unwrap_err();
    assert!(matches!(refusal, GossipRefusal::WrongCluster { .. }), "{refusal}");
    assert_eq!(agent.view.everything(), before);
}

/// A fresh agent takes a cluster from a seed or a known node, not from whoever calls.
#[test]
fn a_stranger_gives_no_cluster() {
    let cluster = cluster(4, 3, 33);
    let mut fresh = Sim::new(12, &[], 34);
    let stranger = &cluster.agents[1].view;
    let push = GossipBody::Push { delta: stranger.everything(), want: Want::default() };
    let agent = &mut fresh.agents[11];
    let message = seal(stranger, push.clone());
    let refused = agent.gossip.on_request(&agent.view, message.clone(), Mono(1), WALL);
    assert_eq!(refused, Err(GossipRefusal::Stranger));
    // Once it is known, it may.
    let known = Delta::of_state(stranger.my_state().clone());
    agent.view.apply(known, Mono(1)).unwrap();
    let reply = agent.gossip.on_request(&agent.view, message, Mono(1), WALL).unwrap();
    agent.view.apply(reply.judged.accept, Mono(1)).unwrap();
    assert_eq!(agent.view.cluster(), stranger.cluster());
}

/// I-24 and row 107: an older life is refused, and the younger one is never forgotten.
#[test]
fn older_lives_are_fenced() {
    let mut sim = cluster(4, 3, 41);
    let old = sim.agents[1].view.clone();
    let mut reborn = old.my_state().clone();
    reborn.stamp = Stamp { incarnation: Incarnation(2), life: 0, version: 1 };
    sim.apply(0, Delta::of_state(reborn.clone()));
    let agent = &mut sim.agents[0];
    let refused = agent.gossip.on_request(&agent.view, seal(&old, probe()), Mono(1), WALL);
    assert_eq!(refused, Err(GossipRefusal::StaleIncarnation { newer: reborn.stamp }));
    // A replayed old state changes nothing.
    let replay = agent.view.judge(Delta::of_state(old.my_state().clone()), true, WALL);
    assert!(replay.accept.is_empty());
    assert_eq!((replay.known, replay.refused.len()), (1, 0));
    // The old process learns of its successor and knows that it is fenced.
    let told = old.judge(Delta::of_state(reborn.clone()), true, WALL);
    assert_eq!(told.fenced, Some(reborn.stamp));
    assert!(told.accept.is_empty());
    // Two copies that started alike: the greater life wins, on both sides.
    let mut twin = old.my_state().clone();
    twin.stamp.life += 1;
    assert!(old.judge(Delta::of_state(twin.clone()), true, WALL).fenced.is_some());
    twin.stamp.life -= 2;
    twin.stamp.life = 0;
    assert_eq!(old.judge(Delta::of_state(twin), true, WALL).fenced, None);
}

/// I-25: a removed node that returns brings nothing back, and is told.
#[test]
fn a_removed_node_stays_removed() {
    let mut sim = cluster(6, 5, 51);
    sim.side[4] = 1;
    sim.stage(0, StagedChange::ForceRemove { node: node(4), accept_data_loss: true });
    sim.commit(0);
    for _ in 0..view_bound(6) {
        sim.round();
    }
    for index in [0, 1, 2, 3, 5] {
        assert_eq!(sim.agents[index].view.status(node(4)), Some(MemberStatus::Removed));
        assert!(sim.agents[index].view.states().get(node(4)).is_none());
    }
    assert_eq!(sim.agents[4].view.status(node(4)), Some(MemberStatus::Member), "it was away");
    // It comes back with a newer state of its own.
    let delta = sim.agents[4].view.describe(|me| me.weight = 1).unwrap();
    sim.apply(4, delta);
    sim.side[4] = 0;
    for _ in 0..view_bound(6) {
        sim.round();
    }
    for agent in &sim.agents {
        assert_eq!(agent.view.status(node(4)), Some(MemberStatus::Removed));
        let snapshot = agent.view.snapshot().unwrap();
        let info = snapshot.nodes.iter().find(|info| info.id == node(4)).unwrap();
        assert_eq!((info.status, &info.holds), (MemberStatus::Removed, &None));
    }
    assert!(sim.agents[0].view.states().get(node(4)).is_none(), "it did not creep back");
}

#[test]
fn silent_candidates_are_forgotten_and_members_never() {
    let mut sim = cluster(5, 3, 61);
    sim.side[4] = 1;
    sim.side[2] = 2;
    let refresh = CANDIDATE_REFRESH_MS / 1000;
    for second in 0..(CANDIDATE_SILENCE_MS / 1000 + refresh) {
        sim.round();
        for index in 0..5 {
            if second % 10 == 0 {
                if let Some(delta) = sim.agents[index].view.refresh(sim.now) {
                    sim.apply(index, delta);
                }
                let now = sim.now;
                sim.agents[index].view.forget_silent(now);
            }
        }
    }
    let view = &sim.agents[0].view;
    assert!(view.states().get(node(4)).is_none(), "a candidate that is gone is forgotten");
    assert!(view.states().get(node(3)).is_some(), "one that is there repeats itself");
    assert!(view.states().get(node(2)).is_some(), "a member is never forgotten");
    // An echo from somebody who forgets later is no news; a sign of life is.
    let echo = view.judge(Delta::of_state(state(4)), true, WALL);
    assert!(echo.accept.is_empty());
    sim.side.fill(0);
    sim.now = Mono(sim.now.0 + CANDIDATE_REFRESH_MS * 1000);
    let delta = sim.agents[4].view.refresh(sim.now).unwrap();
    sim.apply(4, delta);
    sim.rounds_to_converge(view_bound(5)).expect("it is known again");
    assert!(sim.agents[0].view.states().get(node(4)).is_some());
}

#[test]
fn too_many_requests_are_refused_and_alarm() {
    let sim = cluster(4, 3, 71);
    let (view, caller) = (&sim.agents[0].view, &sim.agents[1].view);
    let mut gossip = Gossip::new();
    let now = Mono(5_000_000);
    let message = seal(caller, probe());
    for _ in 0..GOSSIP_RATE_MAX_PER_S {
        gossip.on_request(view, message.clone(), now, WALL).unwrap();
    }
    let refused = gossip.on_request(view, message.clone(), now, WALL);
    assert_eq!(refused, Err(GossipRefusal::Overloaded));
    assert!(gossip.rate_alarm(now));
    let later = Mono(now.0 + 1_000_000);
    assert!(gossip.on_request(view, message, later, WALL).is_ok());
    assert!(!gossip.rate_alarm(Mono(now.0 + 120_000_000)), "the alarm ends");
}

#[test]
fn a_delta_stays_within_its_budget() {
    let mut sim = cluster(4, 3, 81);
    let with_holdings = |index: usize| {
        let held = PartitionSet::full(Partitions::new(1024).unwrap());
        NodeState { store: Some(store(index, Some(held))), ..state(index) }
    };
    let states = (4..1000).map(with_holdings).collect();
    sim.apply(0, Delta { states, ..Delta::default() });
    let want = Want { states: (0..1000).map(node).collect(), ..Want::default() };
    let push = GossipBody::Push { delta: Delta::default(), want };
    let message = seal(&sim.agents[1].view, push);
    let agent = &mut sim.agents[0];
    let reply = agent.gossip.on_request(&agent.view, message, Mono(1), WALL).unwrap();
    let GossipBody::Give(delta) = reply.body else { panic!("a push is answered by a give") };
    let bytes: usize = delta.states.iter().map(|state| state.encode().len()).sum();
    assert!(bytes <= GOSSIP_DELTA_BYTES_MAX);
    assert!((100..999).contains(&delta.states.len()), "much, and not all");
}

#[test]
fn damaged_and_foreign_messages_are_not_read() {
    let sim = cluster(4, 3, 91);
    let message = seal(&sim.agents[0].view, probe());
    let bytes = message.encode();
    assert_eq!(GossipMessage::decode(&bytes), Ok(message.clone()));
    // Every single flipped bit is either unreadable or caught by the checksum.
    let mut missed = Vec::new();
    for position in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[position / 8] ^= 1 << (position % 8);
        if GossipMessage::decode(&flipped).is_ok_and(|read| read != message) {
            missed.push(position);
        }
    }
    assert!(missed.is_empty(), "flips that went unnoticed: {missed:?}");
    let text = String::from_utf8(bytes).unwrap();
    let newer = text.replace("\"protocol\":1", "\"protocol\":2");
    let newer = newer.replace("\"body\":", "\"something_new\":1,\"body\":");
    assert_eq!(
        GossipMessage::decode(newer.as_bytes()),
        Err(GossipDecodeError::Protocol(2)),
        "row 106: the version is what is wrong, not the field"
    );
    let unknown = text.replace("\"body\":", "\"something_new\":1,\"body\":");
    assert!(matches!(GossipMessage::decode(unknown.as_bytes()), Err(GossipDecodeError::Json(_))));
    let other = text.replace(&message.cluster.unwrap().to_string(), &ClusterId(99).to_string());
    assert_eq!(GossipMessage::decode(other.as_bytes()), Err(GossipDecodeError::Checksum));
}

#[test]
fn answers_to_rounds_that_nobody_opened_change_nothing() {
    let sim = cluster(4, 3, 95);
    let view = &sim.agents[0].view;
    let mut gossip = Gossip::new();
    let everything = sim.agents[1].view.everything();
    let message = Box::new(seal(&sim.agents[1].view, GossipBody::Give(everything)));
    let round = dynamo_core::membership::gossip::RoundId(1);
    let event = GossipEvent::Answer { round, message: message.clone() };
    let effects = gossip.on_event(view, event, Mono(1), WALL, &mut SplitMix::new(1));
    assert_eq!(effects, []);
    let refused = gossip.on_request(view, *message, Mono(1), WALL);
    assert_eq!(refused, Err(GossipRefusal::OutOfTurn));
    let own = gossip.on_request(view, seal(view, probe()), Mono(1), WALL);
    assert_eq!(own, Err(GossipRefusal::Itself));
}

fn probe() -> GossipBody {
    GossipBody::Probe(Summary {
        history: dynamo_core::ring::RingVersion::default(),
        states: [0; STATE_RANGES],
        buckets: 0,
        staged: None,
    })
}

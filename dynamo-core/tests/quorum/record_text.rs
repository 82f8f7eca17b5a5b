//! Records as short words: every letter is one write event, minted by an actor of its own at a
//! time that grows with the letter. `ab` has two siblings; `b/a` has b, which superseded a;
//! letters from `x` on are deletes; `-` is no record at all.

use std::collections::BTreeSet;

use bytes::Bytes;
use dynamo_core::clock::dot::Dot;
use dynamo_core::clock::dvv::Dvv;
use dynamo_core::clock::hlc::Hlc;
use dynamo_core::clock::record::{Content, Record, Sibling, Value};
use dynamo_core::id::{ActorId, NodeId, PutId};
use dynamo_core::time::WallMs;

fn stamp_of(letter: char) -> Hlc {
    Hlc::at(WallMs(u64::from(letter)))
}

fn dot_of(letter: char) -> Dot {
    Dot { actor: ActorId { node: NodeId(u128::from(letter)), epoch: 1 }, counter: 1 }
}

pub(crate) fn parse(text: &str) -> Record {
    let (siblings, covered) = text.split_once('/').unwrap_or((text, ""));
    let mut clock = Dvv::new();
    for letter in covered.chars() {
        clock.insert(dot_of(letter), stamp_of(letter).wall());
    }
    let siblings = siblings.chars().filter(|letter| *letter != '-').map(|letter| Sibling {
        dot: dot_of(letter),
        put_id: PutId(u128::from(letter)),
        stamp: stamp_of(letter),
        content: if letter >= 'x' {
            Content::Tombstone
        } else {
            Content::Value(Value { bytes: Bytes::from(letter.to_string()), ..Value::default() })
        },
    });
    Record::new(clock, siblings)
}

pub(crate) fn render(record: &Record) -> String {
    let letter = |dot: &Dot| char::from(u8::try_from(dot.actor.node.0).unwrap());
    let alive: BTreeSet<char> = record.siblings().map(|sibling| letter(&sibling.dot)).collect();
    let clock = record.clock();
    let covered: BTreeSet<char> = clock
        .vector()
        .map(|(actor, entry)| letter(&Dot { actor, counter: entry.counter }))
        .filter(|letter| !alive.contains(letter))
        .collect();
    let mut text: String = alive.into_iter().collect();
    if !covered.is_empty() {
        text.push('/');
        text.extend(covered);
    }
    if text.is_empty() { "-".to_owned() } else { text }
}

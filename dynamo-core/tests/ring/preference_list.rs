//! Preference lists and active lists, from narrated data files. Set `UPDATE_TESTDATA=1` to rewrite
//! the expected answers, and review the difference.

use std::collections::BTreeSet;
use std::path::Path;

use dynamo_core::id::{NodeId, PartitionId};
use dynamo_core::ring::{ActiveList, Partitions, Ring, RingVersion, Role};

#[test]
fn data_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/preference_list");
    let mut files = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        check(&entry.unwrap().path());
        files += 1;
    }
    assert!(files >= 3, "data files are missing from {}", folder.display());
}

/// Runs one file: a command, `----`, its answer, a blank line; `#` starts a comment.
fn check(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    let mut ring = Ring::empty(Partitions::new(1).unwrap());
    let mut rewritten = String::new();
    let mut lines = text.lines().peekable();
    let mut commands = 0;
    while let Some(line) = lines.next() {
        rewritten.push_str(line);
        rewritten.push('\n');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        assert_eq!(lines.next(), Some("----"), "{}: after {line:?}", path.display());
        let answer = run(&mut ring, line);
        let mut expected = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.is_empty()) {
            expected.push(line);
        }
        if std::env::var_os("UPDATE_TESTDATA").is_none() {
            assert_eq!(expected.join("\n"), answer, "{}: {line}", path.display());
        }
        rewritten.push_str("----\n");
        rewritten.push_str(&answer);
        rewritten.push('\n');
        commands += 1;
    }
    assert!(commands > 0, "{} holds no command", path.display());
    if std::env::var_os("UPDATE_TESTDATA").is_some() {
        std::fs::write(path, rewritten).unwrap();
    }
}

fn run(ring: &mut Ring, command: &str) -> String {
    let mut words = command.split_whitespace();
    let verb = words.next().unwrap();
    let words: Vec<&str> = words.collect();
    let argument = |name: &str| {
        words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('=')).unwrap_or("")
    };
    let number = |name: &str| argument(name).parse::<u32>().unwrap();
    let n = || u8::try_from(number("n")).unwrap();
    match verb {
        "ring" => {
            let owners: Vec<Option<NodeId>> =
                words.iter().map(|word| (*word != "-").then(|| named(word))).collect();
            let partitions = Partitions::new(u32::try_from(owners.len()).unwrap()).unwrap();
            *ring = Ring::new(partitions, &owners, RingVersion::default()).unwrap();
            format!("{} partitions, nodes {}", owners.len(), names(ring.nodes()))
        }
        "list" => {
            let partition = PartitionId(number("partition"));
            let list = ring.preference_list(partition);
            let whole = ring.full_preference_list(partition);
            assert!(whole.starts_with(list.as_slice()), "both lists agree");
            let fallbacks = names(&whole[list.primaries(n()).len()..]);
            format!("primaries {}; fallbacks {fallbacks}", names(list.primaries(n())))
        }
        "stored" => {
            let node = named(argument("node"));
            let stored = ring
                .partitions()
                .iter()
                .filter(|partition| ring.preference_list(*partition).is_primary(node, n()));
            let stored: Vec<String> = stored.map(|partition| partition.0.to_string()).collect();
            format!("partitions {}", stored.join(" "))
        }
        "active" => {
            let down: BTreeSet<NodeId> =
                argument("down").split(',').filter(|name| !name.is_empty()).map(named).collect();
            let partition = PartitionId(number("partition"));
            let up = |node: NodeId| !down.contains(&node);
            describe(&ActiveList::new(ring, partition, n(), up))
        }
        other => panic!("unknown command {other}"),
    }
}

fn describe(active: &ActiveList) -> String {
    let entries: Vec<String> = active
        .entries
        .iter()
        .map(|entry| match entry.role {
            Role::Primary => name(entry.node),
            Role::Fallback { for_node } => format!("{} for {}", name(entry.node), name(for_node)),
        })
        .collect();
    let entries = if entries.is_empty() { "-".to_owned() } else { entries.join(", ") };
    let unserved = match active.unserved.as_slice() {
        [] => String::new(),
        nodes => format!(" unserved {};", names(nodes)),
    };
    format!("{entries};{unserved} spare {}", names(&active.spare))
}

fn named(name: &str) -> NodeId {
    NodeId(u128::from(u32::from(name.chars().next().unwrap())))
}

fn name(node: NodeId) -> String {
    char::from_u32(u32::try_from(node.0).unwrap()).unwrap().to_string()
}

fn names(nodes: &[NodeId]) -> String {
    let names: Vec<String> = nodes.iter().copied().map(name).collect();
    if names.is_empty() { "-".to_owned() } else { names.join(" ") }
}

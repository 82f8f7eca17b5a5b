//! `atoll decommission`.

use std::collections::BTreeSet;
use std::time::Duration;

use atoll_client::{Client, ClusterDocument, MemberView};
use clap::{ArgGroup, Args};
use dynamo_core::id::NodeId;
use dynamo_core::membership::member::MemberStatus;
use serde_json::json;

use super::commit_alone::{Wish, commit_alone};
use super::settle::{Goal, wait_for};
use super::{Apply, find};
use crate::exit;
use crate::output::{Done, Output};

/// Several members leave at once, in one plan. May be repeated after an abort: nodes that are
/// leaving are waited for, and those that have left, or never joined, need nothing.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").required(true).args(["nodes", "prefix"])))]
pub struct Decommission {
    /// The members, by name or id.
    pub nodes: Vec<String>,
    /// Instead: all members whose name is this followed by a number of at least --ordinals-from.
    #[arg(long, requires = "ordinals_from")]
    pub prefix: Option<String>,
    /// The lowest of these numbers.
    #[arg(long, value_name = "NUMBER", requires = "prefix")]
    pub ordinals_from: Option<u64>,
    #[command(flatten)]
    pub apply: Apply,
}

impl Decommission {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Done {
        let cluster = client.cluster().status().await?;
        let named = self.named(&cluster);
        let in_state = |state| {
            let of = named.iter().filter(move |member| member.status == state);
            of.map(|member| member.node).collect::<BTreeSet<NodeId>>()
        };
        let (members, leaving) = (in_state(MemberStatus::Member), in_state(MemberStatus::Leaving));
        if !members.is_empty() {
            let wishes = members.iter().map(|node| Wish::Leave { node: *node }).collect();
            commit_alone(client, &wishes, &self.apply, output).await?;
        }
        let gone: BTreeSet<NodeId> = members.union(&leaving).copied().collect();
        if output.is_json() {
            output.document(&json!({ "leaving": gone }))?;
        } else if gone.is_empty() {
            output.note("nothing to do: none of them is a member");
        }
        if self.apply.wait && !gone.is_empty() {
            let goal = Goal { gone, ..Goal::default() };
            wait_for(client, &goal, Duration::from_secs(self.apply.timeout_s), output).await?;
            output.note("all of them have left; they may be switched off");
        }
        Ok(exit::OK)
    }

    /// The nodes meant, as far as the cluster knows them.
    fn named<'d>(&self, cluster: &'d ClusterDocument) -> Vec<&'d MemberView> {
        let Some(prefix) = &self.prefix else {
            return self.nodes.iter().filter_map(|name| find(cluster, name)).collect();
        };
        let from = self.ordinals_from.unwrap_or(0);
        let is_meant =
            |member: &&MemberView| ordinal(&member.name, prefix).is_some_and(|n| n >= from);
        cluster.members.iter().filter(is_meant).collect()
    }
}

/// The number behind `prefix`, in plain digits.
fn ordinal(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?;
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinals_are_plain_numbers_behind_the_prefix() {
        let rows = [
            ("atoll-3", Some(3)),
            ("atoll-12", Some(12)),
            ("atoll-", None),
            ("atoll--3", None),
            ("atoll-3a", None),
            ("atoll-+3", None),
            ("other-3", None),
            ("atoll-x-3", None),
        ];
        for (name, expected) in rows {
            assert_eq!(ordinal(name, "atoll-"), expected, "{name}");
        }
    }
}

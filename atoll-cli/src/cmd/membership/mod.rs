//! Changes of the membership in one command: `join`, `leave`, `replace`, `decommission`. Each
//! stages, plans and commits in one go, shows the plan, never commits what others have staged, and
//! starts again where somebody else committed in between.

pub(crate) mod commit_alone;
pub(crate) mod decommission;
pub(crate) mod join;
pub(crate) mod leave;
pub(crate) mod replace;
pub(crate) mod settle;

use atoll_client::{ClusterDocument, MemberView};
use clap::Args;
use dynamo_core::membership::member::MemberStatus;

/// Options of every change.
#[derive(Debug, Clone, Args)]
pub struct Apply {
    /// Commit without asking. Where nobody could answer (input is no terminal), nobody is asked.
    #[arg(long, short)]
    pub yes: bool,
    /// Commit although fewer nodes would be left than objects have copies.
    #[arg(long)]
    pub force: bool,
    /// Wait until the data has moved.
    #[arg(long)]
    pub wait: bool,
    /// Seconds to wait at most, for others to finish their changes as well as for the data.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub timeout_s: u64,
}

/// The node with this id or name. Of several nodes of one name the one nearest to the ring is
/// meant.
fn find<'d>(cluster: &'d ClusterDocument, name: &str) -> Option<&'d MemberView> {
    let by_id = cluster.members.iter().find(|member| member.node.to_string() == name);
    by_id.or_else(|| {
        let nearest = [MemberStatus::Member, MemberStatus::Leaving, MemberStatus::Candidate];
        nearest.into_iter().find_map(|status| {
            cluster.members.iter().find(|member| member.status == status && member.name == name)
        })
    })
}

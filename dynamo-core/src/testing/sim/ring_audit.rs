//! What must hold of every ring on every node (I-21), and when two nodes agree (I-20).

use crate::cluster_view::ClusterView;
use crate::membership::view::Membership;

/// I-21: every partition has an owner, and a list of as many distinct nodes as there can be.
///
/// # Errors
/// The partition that has not.
pub fn placement(view: &ClusterView, n: u8) -> Result<(), String> {
    let ring = view.ring();
    let wanted = ring.nodes().len().min(usize::from(n));
    if wanted == 0 {
        return Err(format!("I-21: ring {} has no owners at all", ring.version()));
    }
    for partition in ring.partitions().iter() {
        if ring.owner(partition).is_none() {
            return Err(format!(
                "I-21: partition {} of ring {} has no owner",
                partition.0,
                ring.version()
            ));
        }
        let list = ring.preference_list(partition).primaries(n);
        let mut distinct = list.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.len() != wanted || list.len() != wanted {
            return Err(format!("I-21: partition {} is kept on {list:?}", partition.0));
        }
    }
    Ok(())
}

/// I-20: whether two agents know the same: history (and so members and ring), what every node says
/// of itself, and, unless clocks differ too much to believe each other, the registers.
#[must_use]
pub fn agree(one: &Membership, other: &Membership, registers: bool) -> bool {
    one.version() == other.version()
        && one.states().ranges() == other.states().ranges()
        && (!registers || one.registers() == other.registers())
}

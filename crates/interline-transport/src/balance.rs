//! The fair-share rule by which the members of a group share partitions.
//!
//! Every member applies it to the same picture of the group, which the store gives it once a
//! second, and acts for itself alone: it claims free partitions and gives up surplus ones. Shares
//! end up between floor and ceil of partitions per member; a settled group moves nothing.

/// Who has a partition, as the store tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Nobody: it never had an owner, was released, or its owner is dead.
    Free {
        /// Whether it has been so for more than a second. Then whoever sees it takes it: the
        /// member it was reserved for may be dying.
        stale: bool,
    },
    /// The live member with this number.
    Member(usize),
    /// It will be free soon: its owner was told to release it, or is leaving.
    Passing,
}

/// What a member should do now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Partitions to claim, by their place in the list.
    pub claim: Vec<usize>,
    /// Partitions to give up, by their place in the list. Empty whenever something is claimed: a
    /// picture that just changed is no ground for giving up.
    pub revoke: Vec<usize>,
}

/// What member `me` of `live` members (numbered from 0, leaving ones not counted) should do.
///
/// ```
/// use interline_transport::balance::{plan, Holder};
///
/// // A second member has joined one that owns everything.
/// let plan = plan(0, 2, &[Holder::Member(0); 12]);
/// assert_eq!(plan.revoke.len(), 6);
/// ```
#[must_use]
pub fn plan(me: usize, live: usize, partitions: &[Holder]) -> Plan {
    let mut held = vec![0_usize; live];
    let (mut free, mut passing) = (0, 0);
    for holder in partitions {
        match *holder {
            Holder::Free { .. } => free += 1,
            Holder::Passing => passing += 1,
            Holder::Member(member) => {
                if let Some(count) = held.get_mut(member) {
                    *count += 1;
                }
            }
        }
    }
    let Some(mut mine) = held.get(me).copied() else {
        return Plan::default();
    };
    let (floor, ceil) = (partitions.len() / live, partitions.len().div_ceil(live));
    let others: usize = held.iter().map(|count| floor.saturating_sub(*count)).sum();
    let deficit = others - floor.saturating_sub(mine);

    let mut plan = Plan::default();
    let mut left = free;
    for (at, holder) in partitions.iter().enumerate() {
        let Holder::Free { stale } = *holder else {
            continue;
        };
        if mine < floor || (mine < ceil && left > deficit) || stale {
            plan.claim.push(at);
            mine += 1;
            left -= 1;
        }
    }
    if plan.claim.is_empty() {
        let need = deficit.saturating_sub(free + passing);
        let surplus = mine
            .saturating_sub(ceil)
            .max(need.min(mine.saturating_sub(floor)));
        let own = |(at, holder): (usize, &Holder)| (*holder == Holder::Member(me)).then_some(at);
        // The last ones go, so that the first ones stay where they are through many changes.
        plan.revoke = partitions
            .iter()
            .enumerate()
            .rev()
            .filter_map(own)
            .take(surplus)
            .collect();
    }
    plan
}

#[cfg(test)]
mod tests;

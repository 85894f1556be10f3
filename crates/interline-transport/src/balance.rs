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
    if me >= live {
        return Plan::default();
    }
    let shares = Shares::of(live, partitions);
    let claim = shares.claims(me, partitions);
    let revoke = if claim.is_empty() {
        let own = |(at, holder): (usize, &Holder)| (*holder == Holder::Member(me)).then_some(at);
        // The last ones go, so that the first ones stay where they are through many changes.
        let own = partitions.iter().enumerate().rev().filter_map(own);
        own.take(shares.surplus(me)).collect()
    } else {
        Vec::new()
    };
    Plan { claim, revoke }
}

/// How partitions are spread. Who gets and who gives is decided in the order of members, so that
/// members that see the same picture at the same time do not get into each other's way.
#[derive(Debug)]
struct Shares {
    held: Vec<usize>,
    free: usize,
    passing: usize,
    floor: usize,
    ceil: usize,
}

impl Shares {
    fn of(live: usize, partitions: &[Holder]) -> Self {
        let mut shares = Self {
            held: vec![0; live],
            free: 0,
            passing: 0,
            floor: partitions.len() / live,
            ceil: partitions.len().div_ceil(live),
        };
        for holder in partitions {
            match *holder {
                Holder::Free { .. } => shares.free += 1,
                Holder::Passing => shares.passing += 1,
                Holder::Member(member) => {
                    if let Some(count) = shares.held.get_mut(member) {
                        *count += 1;
                    }
                }
            }
        }
        shares
    }

    /// How many partitions members lack that have fewer than everybody should.
    fn deficit(&self) -> usize {
        let lacks = |held: &usize| self.floor.saturating_sub(*held);
        self.held.iter().map(lacks).sum()
    }

    /// The free partitions that are due to `me`, and those that have waited for their due owner
    /// in vain.
    fn claims(&self, me: usize, partitions: &[Holder]) -> Vec<usize> {
        let mut held = self.held.clone();
        // Beyond the floor a member takes only what nobody lacks.
        let mut extra = self.free.saturating_sub(self.deficit());
        let mut claims = Vec::new();
        for (at, holder) in partitions.iter().enumerate() {
            let Holder::Free { stale } = *holder else {
                continue;
            };
            let mut due = held.iter().position(|held| *held < self.floor);
            if due.is_none() && extra > 0 {
                extra -= 1;
                due = held.iter().position(|held| *held < self.ceil);
            }
            if let Some(due) = due {
                held[due] += 1;
            }
            if stale || due == Some(me) {
                claims.push(at);
            }
        }
        claims
    }

    /// How many partitions `me` should give up: what is more than anybody should have, and its
    /// part of what others lack.
    fn surplus(&self, me: usize) -> usize {
        let over = |held: &usize| held.saturating_sub(self.ceil);
        let given: usize = self.held.iter().map(over).sum();
        let coming = self.free + self.passing + given;
        let wanted = self.deficit().saturating_sub(coming);
        let above = |member: &usize| self.held[*member].min(self.ceil) > self.floor;
        let givers = (0..self.held.len()).filter(above);
        let gives = givers.take(wanted).any(|giver| giver == me);
        over(&self.held[me]) + usize::from(gives)
    }
}

#[cfg(test)]
mod tests;

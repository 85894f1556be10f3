//! Leases, deadlines and the sharing of partitions.
//!
//! On a broker every member looks at the group once a second and acts for itself. Here all of
//! them are in one place: whoever looks acts for all, in the order of joining, and a change is
//! answered at once.

use std::collections::BTreeMap;
use std::time::Duration;

use interline_transport::balance::{Holder, Plan, plan};
use tokio::time::Instant;

use super::Store;
use super::member::{Member, What};
use super::state::{GroupState, Slot};

/// How long a member lives that does not show itself.
pub(crate) const LEASE: Duration = Duration::from_secs(15);

/// How often leases are renewed and looked at.
pub(crate) const TICK: Duration = Duration::from_secs(1);

/// How long an owner may take to release what is revoked.
pub(crate) const REVOKE: Duration = Duration::from_secs(10);

impl GroupState {
    /// Ends leases and revocations whose time is over, shares partitions, and says when to look
    /// again.
    pub(super) fn tick(&mut self, store: &Store, now: Instant) {
        self.force_revoked(now);
        self.end_leases(now);
        self.balance(store, now);
        let deadlines = self
            .slots
            .iter()
            .filter_map(|slot| slot.owner.as_ref()?.revoking);
        let next = deadlines.min().unwrap_or(now + TICK);
        self.next_tick = next.min(now + TICK);
    }

    fn force_revoked(&mut self, now: Instant) {
        for at in 0..self.slots.len() {
            let owner = self.slots[at].owner.as_ref();
            let until = owner.and_then(|owner| owner.revoking);
            if until.is_some_and(|until| until <= now) {
                self.lose(at, now);
            }
        }
    }

    fn end_leases(&mut self, now: Instant) {
        let dead = |member: &Member| {
            !member.lapsed && now.saturating_duration_since(member.renewed) >= LEASE
        };
        let ids: Vec<u64> = self
            .members
            .iter()
            .filter(|(_, m)| dead(m))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            let Some(member) = self.members.get_mut(&id) else {
                continue;
            };
            member.lapsed = true;
            let held = member.held;
            for slot in member.owned.clone() {
                self.lose(slot, now);
            }
            if !held {
                self.members.remove(&id);
            }
        }
    }

    /// Applies the fair-share rule for every member until nothing more is claimed.
    pub(super) fn balance(&mut self, store: &Store, now: Instant) {
        for (members, slots) in self.classes() {
            let mut claimed = true;
            while claimed {
                claimed = false;
                for me in 0..members.len() {
                    let holders: Vec<_> = slots
                        .iter()
                        .map(|at| self.holder(&self.slots[*at], &members, now))
                        .collect();
                    let Plan { claim, revoke } = plan(me, members.len(), &holders);
                    claimed |= !claim.is_empty();
                    for at in claim {
                        self.assign(slots[at], members[me], store.next_fence());
                    }
                    for at in revoke {
                        claimed |= self.revoke(slots[at], now);
                    }
                }
            }
        }
    }

    /// Partitions that the same members may read, with those members: one class, unless members
    /// of the group read different topics.
    fn classes(&self) -> BTreeMap<Vec<u64>, Vec<usize>> {
        let mut classes: BTreeMap<Vec<u64>, Vec<usize>> = BTreeMap::new();
        let mut known: BTreeMap<&interline_core::Topic, Vec<u64>> = BTreeMap::new();
        for (at, slot) in self.slots.iter().enumerate().filter(|(_, slot)| !slot.gone) {
            let members = known.entry(&slot.partition.topic).or_insert_with(|| {
                let topic = &slot.partition.topic;
                let wants = |member: &Member| member.takes_part() && member.spec.covers(topic);
                let members = self.members.iter().filter(|(_, member)| wants(member));
                members.map(|(id, _)| *id).collect()
            });
            if !members.is_empty() {
                classes.entry(members.clone()).or_default().push(at);
            }
        }
        classes
    }

    fn holder(&self, slot: &Slot, members: &[u64], now: Instant) -> Holder {
        let Some(owner) = &slot.owner else {
            let free = now.saturating_duration_since(slot.free_since);
            return Holder::Free { stale: free > TICK };
        };
        match members.binary_search(&owner.member) {
            Ok(place) if owner.revoking.is_none() => Holder::Member(place),
            // Revoked, or its owner is leaving.
            _ => Holder::Passing,
        }
    }

    /// Asks the owner to release; what its feed has not yet spoken of is free at once.
    fn revoke(&mut self, at: usize, now: Instant) -> bool {
        let Some(owner) = &mut self.slots[at].owner else {
            return false;
        };
        let fence = owner.fence;
        let Some(member) = self.members.get_mut(&owner.member) else {
            return false;
        };
        if member.told.get(&at) == Some(&fence) {
            owner.revoking = Some(now + REVOKE);
            member.tell(at, fence, What::Revoking);
            return false;
        }
        self.free(at, now);
        true
    }
}

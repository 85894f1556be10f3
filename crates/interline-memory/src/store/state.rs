//! What a group knows: its members, and how far it has come where.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use interline_core::{
    Checkpoint, Committed, Fence, Flow, Group, LagAccuracy, Partition, PartitionLag, Position,
    Progress, Result, Start, planted,
};
use tokio::time::Instant;

use super::member::{End, Member, What};
use super::{Store, TopicLog};
use crate::error;

#[derive(Debug)]
pub(super) struct GroupState {
    pub(super) name: Group,
    pub(super) members: BTreeMap<u64, Member>,
    pub(super) slots: Vec<Slot>,
    pub(super) places: HashMap<Partition, usize>,
    pub(super) next_member: u64,
    /// When it last had a live member.
    pub(super) last_live: Instant,
    /// When leases and deadlines have to be looked at again.
    pub(super) next_tick: Instant,
    /// Nothing is kept for it any more, since it had no member for so long.
    pub(super) expired: bool,
}

/// A partition as the group sees it.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) log: Arc<TopicLog>,
    pub(super) partition: Partition,
    pub(super) progress: Progress,
    pub(super) owner: Option<Owner>,
    pub(super) free_since: Instant,
    /// The topic was deleted.
    pub(super) gone: bool,
}

#[derive(Debug)]
pub(super) struct Owner {
    pub(super) member: u64,
    pub(super) fence: Fence,
    /// Until when it has to be released.
    pub(super) revoking: Option<Instant>,
    pub(super) flow: Flow,
    /// The index of the next record to be read.
    pub(super) next: u64,
}

impl GroupState {
    pub(super) fn new(name: Group, now: Instant) -> Self {
        Self {
            name,
            members: BTreeMap::new(),
            slots: Vec::new(),
            places: HashMap::new(),
            next_member: 0,
            last_live: now,
            next_tick: now,
            expired: false,
        }
    }

    pub(super) fn live(&self) -> usize {
        self.members
            .values()
            .filter(|member| member.is_live())
            .count()
    }

    pub(super) fn refuse_live(&self, operation: &'static str) -> Result<()> {
        match self.live() {
            0 => Ok(()),
            live => Err(error::live_members(operation, self.name.as_str(), live)),
        }
    }

    /// Starts reading a topic, unless the group does already.
    pub(super) fn add_topic(
        &mut self,
        log: &Arc<TopicLog>,
        start: &Start,
        now: Instant,
    ) -> Result<()> {
        if self.places.contains_key(&log.partition(0)) {
            return Ok(());
        }
        let next = log.resolve(start)?;
        log.attach(&self.name, &next);
        for (index, next) in (0..).zip(next) {
            let partition = log.partition(index);
            self.places.insert(partition.clone(), self.slots.len());
            self.slots.push(Slot {
                log: Arc::clone(log),
                partition,
                progress: starting_at(next),
                owner: None,
                free_since: now,
                gone: false,
            });
        }
        Ok(())
    }

    /// Keeps events again from where the group is.
    pub(super) fn attach(&self) {
        let of_topic = |a: &Slot, b: &Slot| a.partition.topic == b.partition.topic;
        for slots in self.slots.chunk_by(of_topic).filter(|slots| !slots[0].gone) {
            let next: Vec<u64> = slots.iter().map(Slot::next).collect();
            slots[0].log.attach(&self.name, &next);
        }
    }

    pub(super) fn renew(&mut self, id: u64, now: Instant) {
        if let Some(member) = self.members.get_mut(&id) {
            member.renewed = now;
            self.last_live = now;
            if std::mem::take(&mut member.lapsed) {
                // It slept through its lease and is a member again, from nothing.
                self.next_tick = now;
            }
        }
    }

    pub(super) fn apply(
        &mut self,
        id: u64,
        checkpoint: Checkpoint,
        release: bool,
        now: Instant,
    ) -> Committed {
        let Some(&at) = self.places.get(&checkpoint.partition) else {
            return Committed::Stale;
        };
        let slot = &mut self.slots[at];
        let fenced = |owner: &Owner| owner.member == id && owner.fence == checkpoint.fence;
        let owned = slot.owner.as_ref().is_some_and(fenced);
        if !owned && !planted::is("unfenced-commit") {
            return Committed::Stale;
        }
        slot.progress = checkpoint.progress;
        slot.log
            .settle(&self.name, slot.partition.index, slot.next());
        if release && owned {
            self.free(at, now);
            if let Some(member) = self.members.get_mut(&id) {
                member.told.remove(&at);
            }
        }
        Committed::Applied
    }

    /// Gives `slot` to a member under a new fence.
    pub(super) fn assign(&mut self, at: usize, id: u64, fence: Fence) {
        let slot = &mut self.slots[at];
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        slot.owner = Some(Owner {
            member: id,
            fence,
            revoking: None,
            flow: Flow::Open,
            next: slot.next(),
        });
        slot.log.listen(slot.partition.index, &member.bell);
        member.owned.push(at);
        member.tell(at, fence, What::Assigned);
    }

    /// Takes `slot` from its owner without telling it.
    pub(super) fn free(&mut self, at: usize, now: Instant) -> Option<Owner> {
        let slot = &mut self.slots[at];
        let owner = slot.owner.take()?;
        slot.free_since = now;
        if let Some(member) = self.members.get_mut(&owner.member) {
            slot.log.unlisten(slot.partition.index, &member.bell);
            member.disown(at);
        }
        Some(owner)
    }

    /// Takes `slot` from its owner, which will be told that it is lost.
    pub(super) fn lose(&mut self, at: usize, now: Instant) {
        if let Some(owner) = self.free(at, now)
            && let Some(member) = self.members.get_mut(&owner.member)
        {
            member.tell(at, owner.fence, What::Lost);
        }
    }

    pub(super) fn remove(&mut self, id: u64, now: Instant) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        member.notices.clear();
        member.finish(End::Closed);
        for slot in std::mem::take(&mut member.owned) {
            self.free(slot, now);
        }
    }

    /// The instance of `former` has started again as `new`, which gets all that it owned.
    pub(super) fn take_over(&mut self, store: &Store, former: u64, new: u64, now: Instant) {
        let Some(member) = self.members.get_mut(&former) else {
            return;
        };
        member.finish(End::Replaced);
        let held = member.held;
        for slot in member.owned.clone() {
            self.lose(slot, now);
            self.assign(slot, new, store.next_fence());
        }
        if !held {
            self.members.remove(&former);
        }
    }
}

impl Slot {
    /// The index strictly after the frontier.
    pub(super) fn next(&self) -> u64 {
        self.progress
            .frontier
            .map_or(0, |Position(_, index)| index.saturating_add(1))
    }

    pub(super) fn lag(&self, members: &BTreeMap<u64, Member>) -> PartitionLag {
        let (base, end) = (
            self.log.base(self.partition.index),
            self.log.end(self.partition.index),
        );
        let from = self.next().max(base);
        let done = self.progress.done.iter().map(|range| {
            let last = range.last.1.saturating_add(1).min(end);
            last.saturating_sub(range.first.1.max(from))
        });
        let unsettled = end.saturating_sub(from).saturating_sub(done.sum());
        let owner = self
            .owner
            .as_ref()
            .and_then(|owner| members.get(&owner.member));
        PartitionLag {
            partition: self.partition.clone(),
            frontier: self.progress.frontier,
            end: end.checked_sub(1).map(Position::from),
            lag: Some(unsettled),
            accuracy: LagAccuracy::Exact,
            owner: owner.map(|member| member.label.clone()),
        }
    }
}

pub(super) fn starting_at(next: u64) -> Progress {
    Progress {
        frontier: next.checked_sub(1).map(Position::from),
        ..Progress::default()
    }
}

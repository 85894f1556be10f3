//! One group: its members, its checkpoints and who owns which partition.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use interline_core::{
    Batch, Budget, Checkpoint, Committed, Fence, Flow, Group, GroupInfo, LagAccuracy, Partition,
    PartitionLag, Position, Progress, Result, Signal, Start, SubscribeSpec, Topic, planted,
};
use tokio::time::Instant;

use super::member::{End, Member, Notice, What};
use super::{Bell, Store, TopicLog, lock};
use crate::error;

#[derive(Debug)]
pub(crate) struct GroupStore {
    pub(crate) name: Group,
    store: Weak<Store>,
    pub(super) state: Mutex<GroupState>,
}

#[derive(Debug)]
pub(super) struct GroupState {
    pub(super) name: Group,
    pub(super) members: BTreeMap<u64, Member>,
    pub(super) slots: Vec<Slot>,
    places: HashMap<Partition, usize>,
    next_member: u64,
    /// When it last had a live member.
    pub(super) last_live: Instant,
    /// When leases and deadlines have to be looked at again.
    pub(super) next_tick: Instant,
    /// Nothing is kept for it any more, since it had no member for so long.
    expired: bool,
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
    flow: Flow,
    next: u64,
}

/// What a feed should do.
#[derive(Debug)]
pub(crate) enum Step {
    Signal(Signal),
    Wait(Instant),
}

impl GroupStore {
    pub(super) fn new(store: &Arc<Store>, name: Group) -> Self {
        let now = Instant::now();
        Self {
            name: name.clone(),
            store: Arc::downgrade(store),
            state: Mutex::new(GroupState {
                name,
                members: BTreeMap::new(),
                slots: Vec::new(),
                places: HashMap::new(),
                next_member: 0,
                last_live: now,
                next_tick: now,
                expired: false,
            }),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, GroupState> {
        lock(&self.state)
    }

    fn tick(&self, state: &mut GroupState, now: Instant) {
        if let Some(store) = self.store.upgrade() {
            state.tick(&store, now);
        }
    }

    /// Adds a member and returns its number.
    pub(crate) fn join(&self, spec: SubscribeSpec, bell: Arc<Bell>, now: Instant) -> Result<u64> {
        let Some(store) = self.store.upgrade() else {
            return Err(error::closed("subscribe"));
        };
        let mut state = self.lock();
        state.tick(&store, now);
        if std::mem::take(&mut state.expired) {
            state.attach();
        }
        for log in store.topics() {
            if spec.covers(&log.name) {
                // A return topic is written for this group alone: nothing in it is old news.
                let start = if log.name.is_system() {
                    &Start::Earliest
                } else {
                    &spec.start
                };
                state.add_topic(&log, start, now)?;
            }
        }
        let id = state.next_member;
        state.next_member += 1;
        let label = match &spec.instance {
            Some(instance) => instance.to_string(),
            None => format!("member-{id}"),
        };
        let former = state.members.iter().find(|(_, member)| {
            member.end.is_none() && spec.instance.is_some() && member.spec.instance == spec.instance
        });
        let former = former.map(|(id, _)| *id);
        state
            .members
            .insert(id, Member::new(label, spec, bell, now));
        if let Some(former) = former {
            state.take_over(&store, former, id, now);
        }
        state.last_live = now;
        state.balance(&store, now);
        Ok(id)
    }

    /// A topic was made: whoever reads it by name or pattern starts at its first event.
    pub(super) fn topic_appeared(&self, log: &Arc<TopicLog>, now: Instant) {
        let mut state = self.lock();
        let wanted = state
            .members
            .values()
            .any(|m| m.end.is_none() && m.spec.covers(&log.name));
        // Starting at the earliest cannot lose a position.
        if wanted && state.add_topic(log, &Start::Earliest, now).is_ok() {
            self.tick(&mut state, now);
        }
    }

    pub(super) fn topic_deleted(&self, topic: &Topic, now: Instant) {
        let mut state = self.lock();
        for slot in 0..state.slots.len() {
            if state.slots[slot].partition.topic == *topic && !state.slots[slot].gone {
                state.lose(slot, now);
                state.slots[slot].gone = true;
                let partition = state.slots[slot].partition.clone();
                state.places.remove(&partition);
            }
        }
        for member in state
            .members
            .values_mut()
            .filter(|member| member.names(topic))
        {
            member.finish(End::Deleted(topic.clone()));
        }
        self.tick(&mut state, now);
    }

    /// The next signal of a member's feed, or until when there is none.
    pub(crate) fn step(&self, id: u64, budget: Budget, now: Instant) -> Result<Step> {
        let mut state = self.lock();
        state.renew(id, now);
        if now >= state.next_tick {
            self.tick(&mut state, now);
        }
        let next_tick = state.next_tick;
        let GroupState { members, slots, .. } = &mut *state;
        let Some(member) = members.get_mut(&id) else {
            return Err(error::closed("read"));
        };
        if let Some(signal) = tell(member, id, slots, now) {
            return Ok(Step::Signal(signal));
        }
        if let Some(end) = &member.end {
            return Err(end.error("read"));
        }
        if let Some(batch) = read(member, slots, budget)? {
            return Ok(Step::Signal(Signal::Batch(batch)));
        }
        member.bell.arm();
        // Something may have come before the bell was armed.
        Ok(match read(member, slots, budget)? {
            Some(batch) => Step::Signal(Signal::Batch(batch)),
            None => Step::Wait(next_tick),
        })
    }

    /// Stores checkpoints, and gives their partitions up if `release` says so.
    pub(crate) fn commit(
        &self,
        id: u64,
        checkpoints: Vec<Checkpoint>,
        release: bool,
        now: Instant,
    ) -> Result<Vec<Committed>> {
        let mut state = self.lock();
        state.renew(id, now);
        let operation = if release { "release" } else { "commit" };
        match state.members.get(&id) {
            None => return Err(error::closed(operation)),
            Some(member) => {
                if let Some(end @ (End::Closed | End::Deleted(_))) = &member.end {
                    return Err(end.error(operation));
                }
            }
        }
        let mut results = Vec::with_capacity(checkpoints.len());
        for checkpoint in checkpoints {
            results.push(state.apply(id, checkpoint, release, now));
        }
        if release {
            self.tick(&mut state, now);
        }
        Ok(results)
    }

    pub(crate) fn flow(&self, id: u64, partition: &Partition, fence: Fence, flow: Flow) {
        let mut state = self.lock();
        let GroupState {
            members,
            slots,
            places,
            ..
        } = &mut *state;
        let slot = places.get(partition).map(|at| &mut slots[*at]);
        let owner = slot.and_then(|slot| slot.owner.as_mut());
        let Some(owner) = owner.filter(|o| o.member == id && o.fence == fence) else {
            return;
        };
        owner.flow = flow;
        if let (Flow::Open, Some(member)) = (flow, members.get(&id)) {
            member.bell.ring();
        }
    }

    pub(crate) fn leave(&self, id: u64, now: Instant) {
        let mut state = self.lock();
        if let Some(member) = state.members.get_mut(&id) {
            member.leaving = true;
            self.tick(&mut state, now);
        }
    }

    /// Ends a membership; what it owns is free at once.
    pub(crate) fn close(&self, id: u64, now: Instant) {
        let mut state = self.lock();
        state.remove(id, now);
        self.tick(&mut state, now);
    }

    /// Nobody holds the member's handles any more. If it was not closed it has died, and its
    /// lease runs out.
    pub(crate) fn dropped(&self, id: u64) {
        let mut state = self.lock();
        match state.members.get_mut(&id) {
            Some(member) if member.end.is_some() || member.lapsed => {
                state.members.remove(&id);
            }
            Some(member) => member.held = false,
            None => {}
        }
    }

    /// Lets go of the events kept for a group that had no member for as long as they are kept.
    pub(super) fn expire(&self, now: Instant) {
        let mut state = self.lock();
        self.tick(&mut state, now);
        if state.live() > 0 {
            return;
        }
        let idle = now.saturating_duration_since(state.last_live);
        for slot in state.slots.iter().filter(|slot| !slot.gone) {
            if idle >= slot.log.limits.retention {
                slot.log.detach(&self.name);
            }
        }
        state.expired = true;
    }

    /// The group as it is, with its partitions of `topic` or all.
    pub(crate) fn info(&self, topic: Option<&Topic>, now: Instant) -> Option<GroupInfo> {
        let mut state = self.lock();
        self.tick(&mut state, now);
        let wanted =
            |slot: &&Slot| !slot.gone && topic.is_none_or(|topic| slot.partition.topic == *topic);
        let lag = |slot: &Slot| slot.lag(&state.members);
        let mut partitions: Vec<_> = state.slots.iter().filter(wanted).map(lag).collect();
        partitions.sort_by(|a, b| a.partition.cmp(&b.partition));
        if partitions.is_empty() && topic.is_some() {
            return None;
        }
        Some(GroupInfo {
            group: self.name.clone(),
            members: state.live(),
            partitions,
        })
    }

    /// Moves the group in a topic to `start`.
    pub(crate) fn reset(&self, log: &Arc<TopicLog>, start: &Start, now: Instant) -> Result<()> {
        let mut state = self.lock();
        self.tick(&mut state, now);
        state.refuse_live("reset")?;
        let next = log.resolve(start)?;
        state.add_topic(log, start, now)?;
        for slot in state.slots.iter_mut().filter(|slot| !slot.gone) {
            if slot.partition.topic == log.name {
                slot.progress = starting_at(next[slot.partition.index as usize]);
            }
        }
        state.last_live = now;
        log.attach(&self.name, &next);
        Ok(())
    }

    /// Forgets everything of the group.
    pub(crate) fn delete(&self, now: Instant) -> Result<()> {
        let mut state = self.lock();
        self.tick(&mut state, now);
        state.refuse_live("delete group")?;
        for slot in &state.slots {
            slot.log.detach(&self.name);
        }
        // Members that slept through their lease would speak of slots that are no more.
        for member in state.members.values_mut() {
            member.notices.clear();
            member.finish(End::Closed);
        }
        state.slots.clear();
        state.places.clear();
        Ok(())
    }
}

impl GroupState {
    pub(super) fn live(&self) -> usize {
        self.members
            .values()
            .filter(|member| member.is_live())
            .count()
    }

    fn refuse_live(&self, operation: &'static str) -> Result<()> {
        match self.live() {
            0 => Ok(()),
            live => Err(error::live_members(operation, self.name.as_str(), live)),
        }
    }

    /// Starts reading a topic, unless the group does already.
    fn add_topic(&mut self, log: &Arc<TopicLog>, start: &Start, now: Instant) -> Result<()> {
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
    fn attach(&self) {
        let of_topic = |a: &Slot, b: &Slot| a.partition.topic == b.partition.topic;
        for slots in self.slots.chunk_by(of_topic).filter(|slots| !slots[0].gone) {
            let next: Vec<u64> = slots.iter().map(Slot::next).collect();
            slots[0].log.attach(&self.name, &next);
        }
    }

    fn renew(&mut self, id: u64, now: Instant) {
        if let Some(member) = self.members.get_mut(&id) {
            member.renewed = now;
            self.last_live = now;
            if std::mem::take(&mut member.lapsed) {
                // It slept through its lease and is a member again, from nothing.
                self.next_tick = now;
            }
        }
    }

    fn apply(&mut self, id: u64, checkpoint: Checkpoint, release: bool, now: Instant) -> Committed {
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

    fn remove(&mut self, id: u64, now: Instant) {
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
    fn take_over(&mut self, store: &Store, former: u64, new: u64, now: Instant) {
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
    fn next(&self) -> u64 {
        self.progress
            .frontier
            .map_or(0, |Position(_, index)| index.saturating_add(1))
    }

    fn lag(&self, members: &BTreeMap<u64, Member>) -> PartitionLag {
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

fn starting_at(next: u64) -> Progress {
    Progress {
        frontier: next.checked_sub(1).map(Position::from),
        ..Progress::default()
    }
}

/// The next signal about ownership: notices of one kind together, without those that have become
/// untrue or that concern what the feed never spoke of.
fn tell(member: &mut Member, id: u64, slots: &[Slot], now: Instant) -> Option<Signal> {
    let owned = |slot: &Slot, fence: Fence| {
        let owner = slot
            .owner
            .as_ref()
            .filter(|o| o.member == id && o.fence == fence);
        owner.map(|owner| owner.revoking)
    };
    while let Some(Notice { what, .. }) = member.notices.front().copied() {
        let (mut checkpoints, mut partitions) = (Vec::new(), Vec::new());
        let mut deadline = Duration::ZERO;
        while let Some(notice) = member.notices.pop_front_if(|notice| notice.what == what) {
            let Notice {
                slot: at, fence, ..
            } = notice;
            let slot = &slots[at];
            let told = member.told.get(&at) == Some(&fence);
            match (what, owned(slot, fence)) {
                (What::Assigned, Some(_)) => {
                    member.told.insert(at, fence);
                    checkpoints.push(Checkpoint {
                        partition: slot.partition.clone(),
                        fence,
                        progress: slot.progress.clone(),
                    });
                }
                (What::Revoking, Some(Some(until))) if told => {
                    deadline = until.saturating_duration_since(now);
                    partitions.push(slot.partition.clone());
                }
                (What::Lost, _) if told => {
                    member.told.remove(&at);
                    partitions.push(slot.partition.clone());
                }
                _ => {}
            }
        }
        match what {
            What::Assigned if !checkpoints.is_empty() => {
                return Some(Signal::Assigned(checkpoints));
            }
            What::Revoking if !partitions.is_empty() => {
                return Some(Signal::Revoking {
                    partitions,
                    deadline,
                });
            }
            What::Lost if !partitions.is_empty() => return Some(Signal::Lost { partitions }),
            _ => {}
        }
    }
    None
}

/// Records of one of the member's partitions, each in its turn.
fn read(member: &mut Member, slots: &mut [Slot], budget: Budget) -> Result<Option<Batch>> {
    for _ in 0..member.owned.len() {
        member.turn = (member.turn + 1) % member.owned.len();
        let at = member.owned[member.turn];
        let Slot {
            log,
            partition,
            owner,
            ..
        } = &mut slots[at];
        let Some(owner) = owner else { continue };
        if owner.revoking.is_some() || owner.flow == Flow::Stopped {
            continue;
        }
        if owner.next == log.end(partition.index) {
            continue;
        }
        let records = log.read(partition.index, owner.next, u64::MAX, budget)?;
        if !records.is_empty() {
            owner.next += records.len() as u64;
            return Ok(Some(Batch {
                partition: partition.clone(),
                fence: owner.fence,
                records,
            }));
        }
    }
    Ok(None)
}

//! One group: its members, its checkpoints and who owns which partition.

use std::sync::{Arc, Mutex, MutexGuard, Weak};

use interline_core::{
    Budget, Checkpoint, Committed, Fence, Flow, Group, GroupInfo, Partition, Result, Signal, Start,
    SubscribeSpec, Topic,
};
use tokio::time::Instant;

use super::member::{End, Member};
use super::signal::{read, tell};
use super::state::{GroupState, Slot, starting_at};
use super::{Bell, Store, TopicLog, lock};
use crate::error;

#[derive(Debug)]
pub(crate) struct GroupStore {
    pub(crate) name: Group,
    store: Weak<Store>,
    state: Mutex<GroupState>,
}

/// What a feed should do.
#[derive(Debug)]
pub(crate) enum Step {
    Signal(Signal),
    Wait(Instant),
}

impl GroupStore {
    pub(super) fn new(store: &Arc<Store>, name: Group) -> Self {
        Self {
            name: name.clone(),
            store: Arc::downgrade(store),
            state: Mutex::new(GroupState::new(name, Instant::now())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, GroupState> {
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
        let is_one = |a: &usize, b: &usize| Arc::ptr_eq(&slots[*a].log, &slots[*b].log);
        for of_topic in member.owned.chunk_by(is_one) {
            // That a topic is gone comes as a signal.
            let _ = slots[of_topic[0]].log.pass_appends();
        }
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

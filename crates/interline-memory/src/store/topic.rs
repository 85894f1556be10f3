//! One topic: its partitions, what is kept of them and for whom.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use interline_core::{
    Budget, Durability, Envelope, Group, Outcome, Outgoing, Partition, Position, Recorded, Result,
    Start, Stretch, Topic, limits,
};
use interline_transport::partition::{Spreader, for_key};
use interline_transport::wire::{Decoder, Origin, Style};
use tokio::sync::Notify;

use super::clock::millis;
use super::dedupe::Window;
use super::log::{Amount, Dead, Log};
use super::{Bell, lock};
use crate::transport::CAPABILITIES;
use crate::{SCHEME, error};

/// How large a topic may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) partitions: u32,
    pub(crate) capacity: u64,
    pub(crate) capacity_bytes: u64,
    pub(crate) history: u64,
    pub(crate) history_bytes: u64,
    pub(crate) retention: Duration,
}

#[derive(Debug)]
pub(crate) struct TopicLog {
    pub(crate) name: Topic,
    pub(crate) limits: Limits,
    /// The end of each partition, to be looked at without the lock.
    ends: Box<[AtomicU64]>,
    state: Mutex<State>,
    /// Whether nothing may be appended now, to be looked at without the lock.
    full: AtomicBool,
    /// Whether it was deleted, to be looked at without the lock.
    gone: AtomicBool,
    room: Notify,
}

#[derive(Debug)]
struct State {
    logs: Vec<Log>,
    dead: Dead,
    /// The partitions with appended events that are not visible yet.
    grown: Vec<u32>,
    /// How far each group has settled, by partition.
    groups: Vec<(Group, Vec<u64>)>,
    /// What some group has not settled; without groups, everything.
    unread: Amount,
    /// What every group has settled.
    history: Amount,
    window: Window,
    spreader: Spreader,
    decoder: Decoder,
    last_stored: i64,
    next_sweep: i64,
    deleted: bool,
}

/// Where an admitted event goes.
#[derive(Clone, Copy, Debug)]
struct Place {
    partition: u32,
    index: u64,
}

impl Place {
    fn of(outcome: &Outcome) -> Option<Self> {
        match outcome {
            Outcome::Stored {
                partition,
                position: Position(_, index),
                ..
            } => Some(Self {
                partition: *partition,
                index: *index,
            }),
            _ => None,
        }
    }

    fn stored(self) -> Outcome {
        Outcome::Stored {
            partition: self.partition,
            position: Position::from(self.index),
            durability: Durability::Memory,
        }
    }
}

/// What a client that knows nothing of interline writes.
pub(crate) struct Raw<'a> {
    pub(crate) key: Option<Bytes>,
    pub(crate) headers: &'a [(&'a [u8], &'a [u8])],
    pub(crate) payload: Option<Bytes>,
}

impl TopicLog {
    pub(crate) fn new(name: Topic, limits: Limits) -> Self {
        let partitions = limits.partitions as usize;
        Self {
            name,
            limits,
            ends: (0..partitions).map(|_| AtomicU64::new(0)).collect(),
            state: Mutex::new(State {
                logs: (0..partitions).map(|_| Log::default()).collect(),
                dead: Dead::new(),
                grown: Vec::new(),
                groups: Vec::new(),
                unread: Amount::default(),
                history: Amount::default(),
                window: Window::new(),
                spreader: Spreader::default(),
                decoder: Decoder::new(Style::Underscore),
                last_stored: i64::MIN,
                next_sweep: i64::MIN,
                deleted: false,
            }),
            full: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            room: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(crate) fn partition(&self, index: u32) -> Partition {
        Partition::new(self.name.clone(), index)
    }

    /// The index behind the last record.
    pub(crate) fn end(&self, partition: u32) -> u64 {
        self.ends[partition as usize].load(Ordering::Acquire)
    }

    /// To be called between arming a bell and looking once more. Whoever appends shows the new
    /// ends and looks at the bells under the lock, so that it sees this bell, or its events are
    /// seen by that look.
    ///
    /// # Errors
    /// When the topic was deleted.
    pub(crate) fn pass_appends(&self) -> Result<()> {
        if self.state().deleted {
            return Err(error::deleted_topic("read", &self.name));
        }
        Ok(())
    }

    pub(crate) fn base(&self, partition: u32) -> u64 {
        self.state().logs[partition as usize].base()
    }

    pub(crate) fn events(&self) -> u64 {
        let state = self.state();
        state.unread.events + state.history.events
    }

    /// Stores a batch; one outcome each.
    pub(crate) fn append(&self, batch: Vec<Outgoing>, now: i64, outcomes: &mut Vec<Outcome>) {
        let mut state = self.state();
        let now = state.stamp(now);
        state.spreader.next_batch();
        // Nothing in this loop writes to memory that other threads share, so that the processor
        // overlaps its cache misses.
        let start = outcomes.len();
        outcomes.extend(batch.iter().map(|event| {
            let place = state.admit(event, &self.limits);
            place.map_or_else(|outcome| outcome, Place::stored)
        }));
        let mut admitted = outcomes[start..].iter();
        for Outgoing { envelope, .. } in batch {
            if let Some(place) = admitted.next().and_then(Place::of) {
                state.keep(envelope, place, now);
            }
        }
        self.finish(state, now);
    }

    /// Stores one event.
    pub(crate) fn append_one(&self, event: Outgoing, now: i64) -> Outcome {
        let mut state = self.state();
        let now = state.stamp(now);
        state.spreader.next_batch();
        let outcome = match state.admit(&event, &self.limits) {
            Ok(place) => {
                state.keep(event.envelope, place, now);
                place.stored()
            }
            Err(outcome) => outcome,
        };
        self.finish(state, now);
        outcome
    }

    pub(crate) fn append_raw(&self, raw: Raw<'_>, now: i64) -> Result<(u32, Position)> {
        let mut state = self.state();
        if state.deleted {
            return Err(error::deleted_topic("publish", &self.name));
        }
        let now = state.stamp(now);
        state.spreader.next_batch();
        let partition = state.choose(raw.key.as_deref(), self.limits.partitions);
        let index = state.logs[partition as usize].end();
        let position = Position::from(index);
        let origin = Origin {
            scheme: SCHEME,
            topic: &self.name,
            partition,
            position,
        };
        let headers = raw.headers.iter().copied();
        let envelope = state
            .decoder
            .decode(&origin, &Bytes::new(), headers, raw.key, raw.payload);
        state.count(partition, envelope.size() as u64);
        state.keep(envelope, Place { partition, index }, now);
        self.finish(state, now);
        Ok((partition, position))
    }

    /// Makes what was appended visible, drops what is too much and wakes who waits: the last two
    /// once per batch.
    fn finish(&self, mut state: MutexGuard<'_, State>, now: i64) {
        let mut waiting: Vec<Arc<Bell>> = Vec::new();
        let State { logs, grown, .. } = &mut *state;
        for partition in grown.drain(..) {
            let log = &mut logs[partition as usize];
            log.close_batch();
            self.ends[partition as usize].store(log.end(), Ordering::Release);
            waiting.extend(log.bells().filter(|bell| bell.is_armed()).cloned());
        }
        state.trim(&self.limits, now);
        self.note_room(&state);
        release(state);
        for bell in waiting {
            bell.ring();
        }
    }

    /// Whether an event may be appended now.
    pub(crate) fn has_room(&self) -> bool {
        !self.full.load(Ordering::SeqCst)
    }

    /// Whether its name may stand for another topic now.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Called after whatever changes how much is kept or who waits for it.
    fn note_room(&self, state: &State) {
        let full = !state.has_room(&self.limits);
        if full != self.full.load(Ordering::Relaxed) {
            self.full.store(full, Ordering::SeqCst);
        }
    }

    /// Tells of room that may have come.
    pub(crate) fn room(&self) -> &Notify {
        &self.room
    }

    /// How many events wait, and for which group most.
    pub(crate) fn congestion(&self) -> (u64, Option<Group>) {
        let state = self.state();
        let slowest = state
            .groups
            .iter()
            .min_by_key(|(_, settled)| settled.iter().sum::<u64>());
        (state.unread.events, slowest.map(|(group, _)| group.clone()))
    }

    /// The index that each partition is read from, for a reading without checkpoint.
    pub(crate) fn resolve(&self, start: &Start) -> Result<Vec<u64>> {
        let state = self.state();
        let mut next: Vec<u64> = match start {
            Start::Earliest | Start::At(_) => state.logs.iter().map(Log::base).collect(),
            Start::Latest => state.logs.iter().map(Log::end).collect(),
            Start::Time(time) => {
                let millis = time.unix_millis();
                let at = |log: &Log| log.index_at(millis);
                state.logs.iter().map(at).collect()
            }
        };
        let Start::At(places) = start else {
            return Ok(next);
        };
        for (partition, position) in places {
            let index = partition.index as usize;
            if partition.topic != self.name || index >= state.logs.len() {
                continue;
            }
            let log = &state.logs[index];
            next[index] = self.after(partition.index, log, *position)?;
        }
        Ok(next)
    }

    /// The index strictly after `position`, if nothing between was lost.
    fn after(&self, partition: u32, log: &Log, position: Position) -> Result<u64> {
        let Position(high, index) = position;
        let next = index.saturating_add(1);
        if high != 0 || next > log.end() {
            let last = log.end().saturating_sub(1);
            return Err(error::position_lost(&self.name, partition, index, last));
        }
        if next < log.base() {
            let first = log.base();
            return Err(error::position_lost(&self.name, partition, next, first));
        }
        Ok(next)
    }

    /// Records of a partition from index `from` up to `until`.
    pub(crate) fn read(
        &self,
        partition: u32,
        from: u64,
        until: u64,
        budget: Budget,
    ) -> Result<Stretch> {
        let mut state = self.state();
        if state.deleted {
            return Err(error::deleted_topic("read", &self.name));
        }
        let log = &mut state.logs[partition as usize];
        if from < log.base() {
            let first = log.base();
            return Err(error::position_lost(&self.name, partition, from, first));
        }
        if from > log.end() {
            let last = log.end().saturating_sub(1);
            return Err(error::position_lost(&self.name, partition, from - 1, last));
        }
        Ok(log.read(from, until, budget))
    }

    pub(crate) fn listen(&self, partition: u32, bell: &Arc<Bell>) {
        self.state().logs[partition as usize].listen(bell);
    }

    pub(crate) fn unlisten(&self, partition: u32, bell: &Arc<Bell>) {
        self.state().logs[partition as usize].unlisten(bell);
    }

    /// Keeps events for `group` from these indices on.
    pub(crate) fn attach(&self, group: &Group, next: &[u64]) {
        let mut state = self.state();
        state.groups.retain(|(known, _)| known != group);
        state.groups.push((group.clone(), next.to_vec()));
        self.settled(state);
    }

    /// Keeps nothing for `group` any more.
    pub(crate) fn detach(&self, group: &Group) {
        let mut state = self.state();
        state.groups.retain(|(known, _)| known != group);
        self.settled(state);
    }

    /// `group` has settled everything before `next`.
    pub(crate) fn settle(&self, group: &Group, partition: u32, next: u64) {
        let mut state = self.state();
        let at = partition as usize;
        let Some((_, settled)) = state.groups.iter_mut().find(|(known, _)| known == group) else {
            return;
        };
        settled[at] = next;
        state.move_mark(at);
        self.make_room(state);
    }

    fn settled(&self, mut state: MutexGuard<'_, State>) {
        for at in 0..state.logs.len() {
            state.move_mark(at);
        }
        self.make_room(state);
    }

    fn make_room(&self, mut state: MutexGuard<'_, State>) {
        let now = state.last_stored;
        state.trim(&self.limits, now);
        self.note_room(&state);
        release(state);
        self.room.notify_waiters();
    }

    pub(crate) fn delete(&self) {
        let mut state = self.state();
        state.deleted = true;
        self.gone.store(true, Ordering::Relaxed);
        // Whoever still knows the topic does not keep its events alive.
        let State { logs, dead, .. } = &mut *state;
        for log in logs {
            log.drop_first(log.end() - log.base(), dead);
        }
        (state.unread, state.history) = (Amount::default(), Amount::default());
        self.note_room(&state);
        let bells: Vec<_> = state.logs.iter().flat_map(Log::bells).cloned().collect();
        release(state);
        for bell in bells {
            bell.ring();
        }
        self.room.notify_waiters();
    }
}

/// Gives the lock back before what nobody needs is dropped: whoever owned its bytes may come back
/// to the topic.
fn release(mut state: MutexGuard<'_, State>) {
    let dead = std::mem::take(&mut state.dead);
    drop(state);
    drop(dead);
}

impl State {
    /// Times in a partition never go back, whatever the clock does.
    fn stamp(&mut self, now: i64) -> i64 {
        self.last_stored = self.last_stored.max(now);
        self.last_stored
    }

    fn has_room(&self, limits: &Limits) -> bool {
        // Without a group nobody is waited for: the oldest events make room. Nobody waits for a
        // topic that is gone either: publishing to it fails.
        self.deleted
            || self.groups.is_empty()
            || self.unread.events == 0
            || (self.unread.events < limits.capacity && self.unread.bytes < limits.capacity_bytes)
    }

    fn choose(&mut self, key: Option<&[u8]>, partitions: u32) -> u32 {
        match key {
            Some(key) => for_key(key, partitions),
            None => self.spreader.next(partitions),
        }
    }

    /// Gives an event its place.
    ///
    /// # Errors
    /// What becomes of it instead.
    fn admit(
        &mut self,
        outgoing: &Outgoing,
        limits: &Limits,
    ) -> std::result::Result<Place, Outcome> {
        if self.deleted {
            let error = error::deleted_topic("publish", &outgoing.topic);
            return Err(Outcome::Rejected(error));
        }
        limits::check(outgoing, &CAPABILITIES).map_err(Outcome::Rejected)?;
        let key = outgoing.envelope.key().map(|key| &**key);
        let partition = self.choose(key, limits.partitions);
        let index = self.logs[partition as usize].end();
        let identity = outgoing.identity().as_u64_pair();
        if let Some(index) = self.window.insert(identity, index) {
            let position = Some(Position::from(index));
            return Err(Outcome::Duplicate { position });
        }
        self.count(partition, outgoing.envelope.size() as u64);
        Ok(Place { partition, index })
    }

    /// Moves the envelope of an admitted event to its place.
    #[inline]
    fn keep(&mut self, envelope: Envelope, place: Place, stored_at: i64) {
        self.logs[place.partition as usize].keep(|| Recorded {
            position: Position::from(place.index),
            stored_at,
            envelope,
        });
    }

    fn count(&mut self, partition: u32, bytes: u64) {
        let log = &mut self.logs[partition as usize];
        log.admit(bytes);
        if !std::mem::replace(&mut log.grown, true) {
            self.grown.push(partition);
        }
        self.unread += Amount { events: 1, bytes };
    }

    /// Moves the mark of a partition to where its slowest group is.
    fn move_mark(&mut self, at: usize) {
        let slowest = self.groups.iter().map(|(_, settled)| settled[at]).min();
        let log = &mut self.logs[at];
        let (forward, backward) = log.settle(slowest.unwrap_or(log.base()));
        self.unread -= forward;
        self.history += forward;
        self.history -= backward;
        self.unread += backward;
    }

    /// Drops the oldest of what may be dropped: history, or anything while there is no group.
    fn trim(&mut self, limits: &Limits, now: i64) {
        let grouped = !self.groups.is_empty();
        let (held, events, bytes) = if grouped {
            (self.history, limits.history, limits.history_bytes)
        } else {
            (self.unread, limits.capacity, limits.capacity_bytes)
        };
        // Slack, so that single events at the limit do not each go through all partitions.
        if held.events > events + events / 8 || held.bytes > bytes + bytes / 8 {
            let keep_events = events as f64 / held.events.max(1) as f64;
            let keep_bytes = bytes as f64 / held.bytes.max(1) as f64;
            let share = 1.0 - keep_events.min(keep_bytes);
            self.drop_where(grouped, |_, droppable| {
                (droppable as f64 * share).ceil() as u64
            });
        }
        if now >= self.next_sweep {
            self.next_sweep = now.saturating_add(1_000);
            let horizon = now.saturating_sub(millis(limits.retention));
            self.drop_where(grouped, |log, droppable| {
                log.older_than(horizon).min(droppable)
            });
        }
    }

    fn drop_where(&mut self, grouped: bool, count: impl Fn(&Log, u64) -> u64) {
        for log in &mut self.logs {
            let until = if grouped { log.settled() } else { log.end() };
            let droppable = until - log.base();
            let events = count(log, droppable).min(droppable);
            let dropped = log.drop_first(events, &mut self.dead);
            if grouped {
                self.history -= dropped;
            } else {
                self.unread -= dropped;
            }
        }
    }
}

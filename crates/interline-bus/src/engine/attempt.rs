//! Lanes, attempts and holds.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::task::Poll;
use std::time::Duration;

use interline_core::{Timestamp, planted};
use interline_reliability::{Claim, Failure, FailureKind, Returned};
use slab::Slab;
use tokio::time::Instant;

use super::part::{Mode, Part};
use super::settlement::{Step, after_attempt, before_attempt};
use super::store::Stored;
use super::{Config, Engine, Entry, EntryId, EntryState};
use crate::Delivery;
use crate::handler::{Finished, Handled};

impl Engine {
    /// Starts on the head of a lane, after a delay if it has one.
    pub(super) fn begin(&mut self, id: EntryId, delay: Duration) {
        if delay > Duration::ZERO {
            self.hold(id, delay);
        } else if self.config.policy.inbox.is_some() {
            self.claim(id);
        } else {
            self.make_ready(id);
        }
    }

    fn make_ready(&mut self, id: EntryId) {
        if let Some(entry) = self.entry_mut(id) {
            entry.state = EntryState::Waiting;
            self.ready.push_back(id);
        }
    }

    fn hold(&mut self, id: EntryId, delay: Duration) {
        if let Some(entry) = self.entry_mut(id) {
            entry.state = EntryState::Held;
            self.holds.push(Reverse((Instant::now() + delay, id)));
        }
        if planted::is("hold-lets-key-pass")
            && let Some(next) = self.entry_mut(id).and_then(|entry| entry.next.take())
        {
            self.begin(next, Duration::ZERO);
        }
    }

    /// Ends the holds that are over.
    pub(super) fn expire_holds(&mut self, now: Instant) {
        while let Some(Reverse((at, id))) = self.holds.peek().copied()
            && at <= now
        {
            self.holds.pop();
            if self
                .entry(id)
                .is_some_and(|entry| entry.state == EntryState::Held)
            {
                self.begin(id, Duration::ZERO);
            }
        }
    }

    /// Starts what waits, as far as lanes, limits and ranges allow.
    pub(super) fn pump(&mut self) -> bool {
        let mut any = false;
        while !self.status.is_paused()
            && self.runs.len() < self.config.lanes
            && let Some(id) = self.ready.pop_front()
        {
            any = true;
            self.place(id);
        }
        if !self.status.is_paused() {
            for route in 0..self.at_route.len() {
                any |= self.pump_route(route);
            }
        }
        any
    }

    /// Runs an entry now, or lets it wait where it will be found.
    fn place(&mut self, id: EntryId) {
        let Some(entry) = self.entry(id) else { return };
        let (seq, at) = (entry.seq, entry.part);
        let Some(route) = entry.route else { return };
        let part = &mut self.parts[at];
        if part.mode != Mode::Live || !part.has_room_for_range(seq, &self.config) {
            part.parked.push(id);
            return;
        }
        let taken = &self.config.router.routes()[route];
        let full = taken
            .limit
            .is_some_and(|limit| self.runs.of_route(route) >= limit);
        if full || taken.batch.is_some() {
            if let Some(batch) = taken.batch {
                let due = Instant::now() + batch.max_wait;
                self.at_route[route].due.get_or_insert(due);
            }
            self.at_route[route].waiting.push_back(id);
            return;
        }
        self.start(route, &[id]);
    }

    fn pump_route(&mut self, route: usize) -> bool {
        let taken = &self.config.router.routes()[route];
        let (limit, batch) = (taken.limit.unwrap_or(usize::MAX), taken.batch);
        let size = batch.map_or(1, |batch| batch.max_size);
        let mut any = false;
        while self.at_route[route].waiting.len() >= size
            && self.runs.of_route(route) < limit
            && self.runs.len() < self.config.lanes
        {
            any = true;
            self.start_waiting(route, size);
        }
        any
    }

    fn start_waiting(&mut self, route: usize, most: usize) {
        let waiting = &mut self.at_route[route].waiting;
        let most = most.min(waiting.len());
        let mut ids: Vec<EntryId> = waiting.drain(..most).collect();
        if self.at_route[route].waiting.is_empty() {
            self.at_route[route].due = None;
        }
        ids.retain(|id| self.entry(*id).is_some());
        if !ids.is_empty() {
            self.start(route, &ids);
        }
    }

    /// Starts batches that have waited long enough.
    pub(super) fn expire_batches(&mut self, now: Instant) {
        for route in 0..self.at_route.len() {
            if self.at_route[route].due.is_none_or(|due| due > now) {
                continue;
            }
            let taken = &self.config.router.routes()[route];
            let size = taken.batch.map_or(1, |batch| batch.max_size);
            let free = taken
                .limit
                .is_none_or(|limit| self.runs.of_route(route) < limit);
            if self.status.is_paused() || !free || self.runs.len() >= self.config.lanes {
                // It starts as soon as a lane is free; look again shortly.
                self.at_route[route].due = Some(now + Duration::from_millis(10));
            } else {
                self.start_waiting(route, size);
            }
        }
    }

    /// Starts a call about `ids` and runs it as far as it goes.
    fn start(&mut self, route: usize, ids: &[EntryId]) {
        let make = &self.config.router.routes()[route].slot;
        let cell = self.runs.take(route, make);
        for id in ids {
            self.entries[id.at].state = EntryState::Running;
            self.parts[self.entries[id.at].part].running += 1;
        }
        let (config, entries, parts) = (&self.config, &self.entries, &self.parts);
        let slot = self.runs.slot(cell);
        let started = match ids {
            [id] => slot.start(&[delivery(*id, config, entries, parts)]),
            ids => {
                let deliveries = ids.iter().map(|id| delivery(*id, config, entries, parts));
                slot.start(&deliveries.collect::<Vec<_>>())
            }
        };
        self.runs.occupy(cell, ids, self.deadline());
        match started {
            Ok(()) => self.poll_cell(cell),
            Err(failure) => self.finish_cell(cell, Finished::One(Err(failure))),
        }
    }

    /// Runs every call that was woken.
    pub(super) fn poll_runs(&mut self) -> bool {
        let mut any = false;
        while let Some(cell) = self.runs.next_woken() {
            any = true;
            self.poll_cell(cell);
        }
        any
    }

    fn poll_cell(&mut self, cell: usize) {
        if let Poll::Ready(finished) = self.runs.poll(cell) {
            self.finish_cell(cell, finished);
        }
    }

    fn finish_cell(&mut self, cell: usize, finished: Finished) {
        let mut ids = std::mem::take(&mut self.finished);
        self.runs.free(cell, &mut ids);
        for id in &ids {
            if let Some(entry) = self.entry(*id) {
                let at = entry.part;
                self.parts[at].running -= 1;
            }
        }
        match finished {
            Finished::One(handled) => {
                for id in &ids {
                    self.finish(*id, handled.clone());
                }
            }
            Finished::Each(each) => {
                for (id, handled) in ids.iter().zip(each) {
                    self.finish(*id, handled);
                }
            }
        }
        ids.clear();
        self.finished = ids;
    }

    /// Ends calls that took too long.
    pub(super) fn expire_runs(&mut self, now: Instant) {
        for cell in self.runs.expired(now) {
            self.runs.clear(cell);
            let limit = self.config.policy.timeouts.handler;
            let cause = format!("the handler took longer than {limit:?}");
            let failure = Failure::new(FailureKind::Timeout, cause);
            self.finish_cell(cell, Finished::One(Err(failure)));
        }
    }

    /// Takes the outcome of an attempt.
    pub(super) fn finish(&mut self, id: EntryId, handled: Handled) {
        let policy = &self.config.policy;
        let Some(entry) = self
            .entries
            .get_mut(id.at)
            .filter(|entry| entry.serial == id.serial)
        else {
            return;
        };
        entry.attempts += 1;
        let position = entry.record.position;
        let (at, attempts) = (entry.part, entry.attempts);
        match &handled {
            Ok(()) => self.status.handled(1),
            Err(failure) => {
                entry.first_failure.get_or_insert_with(Timestamp::now);
                self.status.failed(failure.kind());
                self.parts[at].tried.insert(position, attempts);
                self.parts[at].changed();
                tracing::debug!(%position, attempts, %failure, "attempt failed");
            }
        }
        let failed = handled.is_err();
        let step = after_attempt(policy, attempts, handled, fastrand::f64());
        if failed && matches!(step, Step::Hold(_) | Step::Return(_)) {
            self.status.count(|counts| counts.retried += 1);
            self.forget_claim(id);
        }
        self.perform(id, step);
    }

    /// Carries a step of the state machine out.
    pub(super) fn perform(&mut self, id: EntryId, step: Step) {
        match step {
            Step::Run => self.make_ready(id),
            Step::Hold(delay) => {
                if planted::is("retry-early") {
                    return self.begin(id, Duration::ZERO);
                }
                self.hold(id, delay);
            }
            Step::Return(delay) => self.store_return(id, delay),
            Step::Bury(failure) => self.store_dead_letter(id, &failure),
            Step::Mark => self.mark_done(id),
            Step::Settle => self.settle(id),
        }
    }

    /// Takes the answer of a store.
    pub(super) fn on_stored(&mut self, id: EntryId, stored: Stored) {
        let Some(entry) = self.entry(id) else { return };
        let at = entry.part;
        self.parts[at].storing -= 1;
        match stored {
            Stored::Claim(Ok(claim)) => {
                match claim {
                    Claim::Done => self.status.count(|counts| counts.duplicates += 1),
                    Claim::Fresh => self.entries[id.at].claimed = true,
                    Claim::Busy(_) => {}
                }
                self.perform(id, before_attempt(claim));
            }
            Stored::Claim(Err(error)) => {
                tracing::warn!(%error, "the inbox does not answer; the delivery is held");
                self.hold(id, Duration::from_secs(1));
            }
            Stored::Marked => self.settle(id),
            Stored::Returned => {
                self.status.count(|counts| counts.returned += 1);
                self.settle(id);
            }
            Stored::Buried(letter) => {
                self.status.count(|counts| counts.dead_lettered += 1);
                if let Some(hook) = &self.config.on_dead_letter {
                    hook(&letter);
                }
                self.settle(id);
                self.halt_after_dead_letter(at);
            }
        }
    }

    /// Ends a delivery: the frontier may pass it and its lane goes on.
    pub(super) fn settle(&mut self, id: EntryId) {
        if self.entry(id).is_none() {
            return;
        }
        let entry = self.entries.remove(id.at);
        let part = &mut self.parts[entry.part];
        part.window.settle(entry.seq);
        part.tried.remove(&entry.record.position);
        if let Some(lane) = entry.lane
            && part.lanes.get(&lane) == Some(&id)
        {
            part.lanes.remove(&lane);
        }
        let parked: VecDeque<EntryId> = part.parked.drain(..).collect();
        self.ready.extend(parked);
        self.settled_one(entry.part);
        if let Some(next) = entry.next {
            let delay = self.due_of(next);
            self.begin(next, delay);
        }
    }

    /// Counts a settled delivery of a partition and lets its backlog move on.
    pub(super) fn settled_one(&mut self, at: usize) {
        let part = &mut self.parts[at];
        part.version.settled += 1;
        part.cleared();
        part.changed();
        self.refill_later(at);
    }

    /// How long a delivery still has to wait by its own marks.
    fn due_of(&self, id: EntryId) -> Duration {
        let Some(entry) = self.entry(id) else {
            return Duration::ZERO;
        };
        let topic = &self.parts[entry.part].partition.topic;
        let due = Returned::read(topic, &entry.record).due;
        due.map(|due| self.clock.until(due)).unwrap_or_default()
    }
}

fn delivery<'a>(
    id: EntryId,
    config: &'a Config,
    entries: &'a Slab<Entry>,
    parts: &'a Slab<Part>,
) -> Delivery<'a> {
    let entry = &entries[id.at];
    let part = &parts[entry.part];
    Delivery {
        record: &entry.record,
        partition: &part.partition,
        topic: &part.topic,
        group: &config.group,
        attempt: entry.attempts + 1,
    }
}

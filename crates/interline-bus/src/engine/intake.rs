//! Signals of the feed, and admitting records to lanes.

use std::hash::BuildHasher;
use std::task::Poll;

use foldhash::fast::FixedState;
use interline_core::{Batch, Checkpoint, Partition, Recorded, Signal, planted};
use interline_reliability::{Failure, FailureKind, Returned, Unhandled};
use tokio::time::Instant;

use super::part::{Admission, Mode, Part};
use super::settlement::Step;
use super::{Engine, Entry, EntryId, EntryState};
use crate::Delivery;
use crate::handler::{Finished, Handled};

impl Engine {
    /// Takes a signal and says how many events it brought.
    pub(super) fn on_signal(&mut self, signal: Signal) -> usize {
        match signal {
            Signal::Assigned(checkpoints) => {
                checkpoints.into_iter().for_each(|c| self.on_assigned(c));
            }
            Signal::Batch(batch) => {
                let events = batch.records.len();
                self.on_batch(batch);
                return events;
            }
            Signal::Revoking {
                partitions,
                deadline,
            } => {
                let until = Instant::now() + deadline;
                for partition in &partitions {
                    if let Some(at) = self.by_partition.get(partition).copied() {
                        self.start_leaving(at, until);
                    }
                }
            }
            Signal::Lost { partitions } => self.on_lost(&partitions),
        }
        0
    }

    fn on_lost(&mut self, partitions: &[Partition]) {
        let known = partitions.iter().filter_map(|p| self.by_partition.get(p));
        let parts: Vec<usize> = known.copied().collect();
        if !parts.is_empty() {
            let (group, lost) = (&self.config.group, parts.len());
            tracing::warn!(%group, lost, "partitions are lost: what ran here and has no checkpoint runs again");
        }
        parts.into_iter().for_each(|at| self.lose(at));
    }

    fn on_assigned(&mut self, checkpoint: Checkpoint) {
        let partition = checkpoint.partition.clone();
        if let Some(at) = self.by_partition.get(&partition).copied() {
            self.lose(at);
        }
        tracing::debug!(%partition, fence = checkpoint.fence, "assigned");
        let topic = Self::published_to(&partition);
        let mut part = Part::new(checkpoint, topic, &self.config);
        if let Some(drain) = &self.drain {
            part.mode = Mode::Leaving(drain.until());
        } else if self.status.is_paused() {
            part.regulate(&self.config, &self.control, true);
        }
        let at = self.parts.insert(part);
        self.by_partition.insert(partition, at);
    }

    fn on_batch(&mut self, batch: Batch) {
        let Some(at) = self.by_partition.get(&batch.partition).copied() else {
            return;
        };
        let part = &mut self.parts[at];
        if part.fence != batch.fence || part.is_leaving() {
            return;
        }
        self.status.delivered(batch.records.len());
        let mut records = batch.records;
        let mut admitted = 0;
        if part.backlog.is_empty() {
            let fits = |record: &&Recorded| self.offer(at, record);
            admitted = records.iter().take_while(fits).count();
        }
        let part = &mut self.parts[at];
        records.advance(admitted);
        if !records.is_empty() {
            part.wait(records.into_iter());
        }
        part.regulate(&self.config, &self.control, self.status.is_paused());
    }

    /// Moves on backlogs that may have room now.
    pub(super) fn refill_parts(&mut self) -> bool {
        let mut any = false;
        while let Some(at) = self.refill.pop() {
            if let Some(part) = self.parts.get_mut(at) {
                part.refill = false;
                any |= self.refill_part(at);
            }
        }
        any
    }

    /// Looks at the backlog of a partition later in this turn.
    pub(super) fn refill_later(&mut self, at: usize) {
        let part = &mut self.parts[at];
        if part.is_backed_up() && !part.refill {
            part.refill = true;
            self.refill.push(at);
        }
    }

    fn refill_part(&mut self, at: usize) -> bool {
        let mut any = false;
        loop {
            let Some(part) = self.parts.get_mut(at) else {
                return any;
            };
            let Some(record) = part.backlog.pop_front() else {
                break;
            };
            if !self.offer(at, &record) {
                self.parts[at].backlog.push_front(record);
                break;
            }
            any = true;
        }
        let paused = self.status.is_paused();
        self.parts[at].regulate(&self.config, &self.control, paused);
        any
    }

    /// Admits a record unless it has to wait.
    ///
    /// Records come by reference: a handler that is ready at once needs no copy, and not moving an
    /// envelope is worth more than the rare clone.
    fn offer(&mut self, at: usize, record: &Recorded) -> bool {
        let part = &mut self.parts[at];
        if part.was_done(record.position) {
            let seq = part.window.push(record.position, 0);
            part.window.settle(seq);
            part.changed();
            return true;
        }
        if self.status.is_paused() {
            return false;
        }
        match part.admission(record.position, &self.config) {
            Admission::Wait => false,
            Admission::Open => {
                self.admit(at, record);
                true
            }
            Admission::Bury => {
                let route = self
                    .routes
                    .find(&self.config.router, record.envelope.kind());
                let (id, _) = self.insert(at, record, route, None, Returned::default());
                let cause = "the process died each time while this event was running alone";
                self.perform(id, Step::Bury(Failure::new(FailureKind::Suspect, cause)));
                true
            }
        }
    }

    fn admit(&mut self, at: usize, record: &Recorded) {
        let route = self
            .routes
            .find(&self.config.router, record.envelope.kind());
        let Some(route) = route else {
            return self.admit_unhandled(at, record);
        };
        if self.is_first_try(at, record) && self.may_run_at_once(at, route) {
            return self.run_at_once(at, record, route);
        }
        let part = &self.parts[at];
        let mut marks = Returned::read(&part.partition.topic, record);
        if let Some(made) = part.tried.get(&record.position) {
            marks.attempts = marks.attempts.max(*made);
        }
        let (id, is_head) = self.insert(at, record, Some(route), lane_of(record), marks);
        if is_head {
            self.begin(
                id,
                marks
                    .due
                    .map(|due| self.clock.until(due))
                    .unwrap_or_default(),
            );
        }
    }

    /// Whether nothing is known of a record and nothing of its key is live: then it needs neither
    /// marks nor a lane to start.
    fn is_first_try(&self, at: usize, record: &Recorded) -> bool {
        let part = &self.parts[at];
        let is_free = part.lanes.is_empty()
            || lane_of(record).is_none_or(|lane| !part.lanes.contains_key(&lane));
        is_free && !part.returns && !part.tried.contains_key(&record.position)
    }

    fn admit_unhandled(&mut self, at: usize, record: &Recorded) {
        match self.config.policy.unhandled {
            Unhandled::Ack => {
                self.status.count(|counts| counts.unhandled += 1);
                self.pass(at, record);
            }
            Unhandled::DeadLetter => {
                let cause = format!("no handler takes the type {}", record.envelope.ty());
                let (id, _) = self.insert(at, record, None, None, Returned::default());
                self.perform(id, Step::Bury(Failure::new(FailureKind::Unhandled, cause)));
            }
        }
    }

    /// Settles a record that never became an entry.
    fn pass(&mut self, at: usize, record: &Recorded) {
        let part = &mut self.parts[at];
        if part.window.len() == 0 {
            part.window.pass(record.position);
        } else {
            let seq = part.window.push(record.position, record.envelope.size());
            part.window.settle(seq);
        }
        self.settled_one(at);
    }

    /// Whether a record with a free lane can start in place, before anything else that waits.
    fn may_run_at_once(&self, at: usize, route: usize) -> bool {
        let taken = &self.config.router.routes()[route];
        let part = &self.parts[at];
        self.ready.is_empty()
            && self.config.policy.inbox.is_none()
            && taken.batch.is_none()
            && self.runs.len() < self.config.lanes
            && taken
                .limit
                .is_none_or(|limit| self.runs.of_route(route) < limit)
            && (part.window.len() == 0
                || part.window.ranges() + part.running < self.config.capabilities.max_ranges / 2)
    }

    /// The fast way: a handler that is ready at once leaves no entry and no lane behind.
    fn run_at_once(&mut self, at: usize, record: &Recorded, route: usize) {
        let make = &self.config.router.routes()[route].slot;
        let cell = self.runs.take(route, make);
        let part = &self.parts[at];
        let delivery = Delivery {
            record,
            partition: &part.partition,
            topic: &part.topic,
            group: &self.config.group,
            attempt: 1,
        };
        let finished = match self.runs.slot(cell).start(&[delivery]) {
            Ok(()) => match self.runs.poll(cell) {
                Poll::Ready(finished) => Some(single(finished)),
                Poll::Pending => None,
            },
            Err(failure) => Some(Err(failure)),
        };
        match finished {
            Some(Ok(())) => {
                self.runs.free(cell, &mut Vec::new());
                self.status.handled(1);
                self.pass(at, record);
            }
            Some(Err(failure)) => {
                self.runs.free(cell, &mut Vec::new());
                let (id, _) = self.insert(
                    at,
                    record,
                    Some(route),
                    lane_of(record),
                    Returned::default(),
                );
                self.finish(id, Err(failure));
            }
            None => {
                let (id, _) = self.insert(
                    at,
                    record,
                    Some(route),
                    lane_of(record),
                    Returned::default(),
                );
                self.entries[id.at].state = EntryState::Running;
                self.parts[at].running += 1;
                self.runs.occupy(cell, &[id], self.deadline());
            }
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.config.policy.timeouts.handler
    }

    /// Makes an entry at the end of `lane`, and says whether it is the head. What is buried unrun
    /// takes no lane.
    fn insert(
        &mut self,
        at: usize,
        record: &Recorded,
        route: Option<usize>,
        lane: Option<u64>,
        marks: Returned,
    ) -> (EntryId, bool) {
        self.serial += 1;
        let part = &mut self.parts[at];
        let seq = part.window.push(record.position, record.envelope.size());
        if planted::is("ack-before-effect") {
            part.window.settle(seq);
            part.changed();
        }
        let id = EntryId {
            at: self.entries.vacant_key(),
            serial: self.serial,
        };
        let tail = lane.and_then(|lane| part.lanes.insert(lane, id));
        if let Some(tail) = tail
            && let Some(tail) = self.entries.get_mut(tail.at)
        {
            tail.next = Some(id);
        }
        self.entries.insert(Entry {
            serial: self.serial,
            part: at,
            seq,
            record: record.clone(),
            route,
            lane,
            next: None,
            attempts: marks.attempts,
            first_failure: marks.first_failure,
            claimed: false,
            state: EntryState::Waiting,
        });
        (id, tail.is_none())
    }
}

/// The lane of a record's key within its partition; two keys of one hash share a lane, which only
/// makes them wait for each other.
fn lane_of(record: &Recorded) -> Option<u64> {
    let key = record
        .envelope
        .key()
        .filter(|_| !planted::is("lane-ignored"))?;
    Some(FixedState::default().hash_one(&**key))
}

/// The outcome of a call about one delivery.
pub(super) fn single(finished: Finished) -> Handled {
    match finished {
        Finished::One(handled) => handled,
        Finished::Each(mut each) => each.pop().unwrap_or(Ok(())),
    }
}

//! Giving partitions up: revoked, lost, drained.

use std::time::Duration;

use interline_core::{Control, planted};
use interline_reliability::AfterDeadLetter;
use tokio::time::Instant;

use super::part::Mode;
use super::{Engine, Entry, EntryId, EntryState, Unfinished};

/// A drain under way.
pub(crate) struct Drain {
    until: Instant,
    pub(super) unfinished: Vec<Unfinished>,
}

impl Drain {
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// How long the rest may take; closing gets a second even after the deadline.
    pub(super) fn left(&self) -> Duration {
        let left = self.until.saturating_duration_since(Instant::now());
        left.max(Duration::from_secs(1))
    }
}

impl Engine {
    /// Stops taking events and gives everything up; what runs may finish until the deadline.
    pub(super) fn start_drain(&mut self, deadline: Duration) {
        let until = Instant::now() + deadline;
        // Declared before the first release, or the partitions would come back.
        if !planted::is("leave-not-declared") {
            self.control.leave();
        }
        if let Some(drain) = &mut self.drain {
            drain.until = drain.until.min(until);
        } else {
            self.drain = Some(Drain {
                until,
                unfinished: Vec::new(),
            });
        }
        let parts: Vec<usize> = self.parts.iter().map(|(at, _)| at).collect();
        for at in parts {
            self.start_leaving(at, until);
        }
    }

    /// Gives one partition up: held and waiting deliveries are let go of at once, since waiting
    /// for them would keep the partition from its next owner; running ones may finish.
    pub(super) fn start_leaving(&mut self, at: usize, until: Instant) {
        let part = &mut self.parts[at];
        part.mode = match part.mode {
            Mode::Leaving(earlier) => Mode::Leaving(earlier.min(until)),
            _ => Mode::Leaving(until),
        };
        self.let_go(at);
    }

    /// Lets go of what has not started.
    pub(super) fn let_go(&mut self, at: usize) {
        let part = &mut self.parts[at];
        part.backlog.clear();
        part.parked.clear();
        part.lanes.clear();
        for (_, entry) in self
            .entries
            .iter_mut()
            .filter(|(_, entry)| entry.part == at)
        {
            entry.next = None;
        }
        self.remove_entries(at, |entry| {
            !matches!(entry.state, EntryState::Running | EntryState::Storing)
        });
    }

    /// Removes entries of a partition for the next owner to read again.
    fn remove_entries(&mut self, at: usize, which: impl Fn(&Entry) -> bool) {
        let entries = self.entries.iter();
        let removed = entries.filter(|(_, entry)| entry.part == at && which(entry));
        let removed: Vec<usize> = removed.map(|(at, _)| at).collect();
        for at in &removed {
            let serial = self.entries[*at].serial;
            self.forget_claim(EntryId { at: *at, serial });
            self.entries.remove(*at);
        }
        self.status
            .count(|counts| counts.released += removed.len() as u64);
    }

    /// Drops what still runs in partitions whose time is up, so that they can be released: two
    /// owners must not run one key.
    pub(super) fn expire_leaving(&mut self, now: Instant) {
        let expired = |mode: Mode| matches!(mode, Mode::Leaving(until) if until <= now);
        let parts = self.parts.iter().filter(|(_, part)| expired(part.mode));
        let parts: Vec<usize> = parts.map(|(at, _)| at).collect();
        for at in parts {
            if self.parts[at].running + self.parts[at].storing > 0 {
                self.drop_entries(at);
                self.parts[at].running = 0;
                self.parts[at].storing = 0;
            }
        }
    }

    pub(super) fn next_leaving(&self) -> Option<Instant> {
        let busy = self
            .parts
            .iter()
            .filter(|(_, part)| part.running + part.storing > 0);
        busy.filter_map(|(_, part)| match part.mode {
            Mode::Leaving(until) => Some(until),
            _ => None,
        })
        .min()
    }

    /// Another member owns the partition now, or will: nothing of it may go on here.
    pub(super) fn lose(&mut self, at: usize) {
        if !self.parts.contains(at) {
            return;
        }
        self.let_go(at);
        self.drop_entries(at);
        let part = self.parts.remove(at);
        self.by_partition.remove(&*part.partition);
        tracing::debug!(partition = %part.partition, fence = part.fence, "lost");
    }

    pub(super) fn lose_all(&mut self) {
        let parts: Vec<usize> = self.parts.iter().map(|(at, _)| at).collect();
        parts.into_iter().for_each(|at| self.lose(at));
    }

    /// Drops the running calls and pending stores of a partition.
    fn drop_entries(&mut self, at: usize) {
        let (entries, runs) = (&self.entries, &self.runs);
        let of_part = |id: EntryId| {
            let entry = entries.get(id.at).filter(|entry| entry.serial == id.serial);
            entry.is_some_and(|entry| entry.part == at)
        };
        let cells = runs.about(of_part);
        let mut others = Vec::new();
        for cell in cells {
            self.runs.clear(cell);
            self.runs.free(cell, &mut others);
        }
        self.note_unfinished(at);
        self.remove_entries(at, |_| true);
        self.retry_innocent(&others);
    }

    /// A batch call may have held deliveries of other partitions; they run again.
    fn retry_innocent(&mut self, ids: &[EntryId]) {
        for id in ids {
            if let Some(entry) = self.entry(*id) {
                let at = entry.part;
                self.parts[at].running -= 1;
                self.begin(*id, Duration::ZERO);
            }
        }
    }

    fn note_unfinished(&mut self, at: usize) {
        let entries = self.entries.iter().filter(|(_, entry)| entry.part == at);
        let unfinished = entries.map(|(_, entry)| Unfinished {
            partition: (*self.parts[at].partition).clone(),
            position: entry.record.position,
            id: entry.record.envelope.id().clone(),
            ty: entry.record.envelope.ty().to_owned(),
            handler: self.handler_of(entry),
        });
        let unfinished: Vec<_> = unfinished.collect();
        if let Some(drain) = &mut self.drain {
            drain.unfinished.extend(unfinished);
        }
    }

    /// Stops a partition after a dead letter, if the policy says so.
    pub(super) fn halt_after_dead_letter(&mut self, at: usize) {
        let stops = self.config.policy.dead_letter.after == AfterDeadLetter::StopPartition;
        if let Some(part) = self.parts.get_mut(at)
            && stops
            && part.mode == Mode::Live
        {
            part.mode = Mode::Halted;
            tracing::error!(partition = %part.partition, "stopped after a dead letter");
            self.status.count(|counts| counts.halted += 1);
            part.regulate(&self.config, &self.control, true);
            self.let_go(at);
        }
    }
}

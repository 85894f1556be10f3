//! One partition: a ring of records.

use std::collections::VecDeque;
use std::sync::Arc;

use interline_core::{Budget, Position, Recorded};

use super::Bell;
use super::segment::{Dead, Segments, Slot};

/// The records of a partition from `base` on.
#[derive(Debug, Default)]
pub(super) struct Log {
    base: u64,
    entries: VecDeque<Entry>,
    /// The bytes of everything that was ever dropped.
    bytes_before: u64,
    /// Below this index every group has settled everything.
    settled: u64,
    bells: Vec<Arc<Bell>>,
    /// Something was appended that is not visible yet.
    pub(super) grown: bool,
}

#[derive(Debug)]
struct Entry {
    slot: Slot,
    stored_at: i64,
    /// The bytes of this and every earlier event: a difference gives the bytes of a stretch.
    bytes: u64,
}

/// How much a stretch of a log holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) events: u64,
    pub(super) bytes: u64,
}

impl std::ops::AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.bytes += other.bytes;
    }
}

impl std::ops::SubAssign for Amount {
    fn sub_assign(&mut self, other: Self) {
        self.events -= other.events;
        self.bytes -= other.bytes;
    }
}

impl Log {
    pub(super) fn base(&self) -> u64 {
        self.base
    }

    pub(super) fn end(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    pub(super) fn settled(&self) -> u64 {
        self.settled
    }

    /// Appends an event of this size.
    pub(super) fn append(&mut self, slot: Slot, stored_at: i64, size: u64) {
        let last = self.entries.back();
        let bytes = last.map_or(self.bytes_before, |entry| entry.bytes) + size;
        self.entries.push_back(Entry {
            slot,
            stored_at,
            bytes,
        });
    }

    /// What lies between two indices, as far as it is kept.
    pub(super) fn between(&self, from: u64, to: u64) -> Amount {
        let (from, to) = (from.max(self.base), to.max(self.base));
        Amount {
            events: to.saturating_sub(from),
            bytes: self.bytes_until(to).saturating_sub(self.bytes_until(from)),
        }
    }

    fn bytes_until(&self, index: u64) -> u64 {
        match index.checked_sub(self.base + 1) {
            Some(before) => self.entries.get(before as usize).map_or_else(
                || self.entries.back().map_or(self.bytes_before, |e| e.bytes),
                |entry| entry.bytes,
            ),
            None => self.bytes_before,
        }
    }

    /// Moves the mark below which every group has settled, and says what it passed over: forward
    /// as the first, backward as the second.
    pub(super) fn settle(&mut self, index: u64) -> (Amount, Amount) {
        let index = index.clamp(self.base, self.end());
        let forward = self.between(self.settled, index.max(self.settled));
        let backward = self.between(index, self.settled.max(index));
        self.settled = index;
        (forward, backward)
    }

    /// Drops the first `events` records and says how much it was.
    pub(super) fn drop_first(
        &mut self,
        events: u64,
        segments: &mut Segments,
        dead: &mut Dead,
    ) -> Amount {
        let until = (self.base + events).min(self.end());
        let dropped = self.between(self.base, until);
        self.bytes_before = self.bytes_until(until);
        for entry in self.entries.drain(..dropped.events as usize) {
            segments.release(entry.slot, dead);
        }
        self.base = until;
        self.settled = self.settled.max(until);
        // After a large backlog the ring would stay large for ever.
        if self.entries.capacity() > 4_096 && self.entries.capacity() / 8 > self.entries.len() {
            self.entries.shrink_to(self.entries.len() * 2);
        }
        dropped
    }

    /// How many of the first records were stored before `millis`.
    pub(super) fn older_than(&self, millis: i64) -> u64 {
        self.index_at(millis) - self.base
    }

    /// The index of the first record stored at `millis` or later.
    pub(super) fn index_at(&self, millis: i64) -> u64 {
        let before = |entry: &Entry| entry.stored_at < millis;
        self.base + self.entries.partition_point(before) as u64
    }

    /// Copies records from `from`, at least one if there is any before `until`.
    pub(super) fn read(
        &self,
        from: u64,
        until: u64,
        budget: Budget,
        segments: &Segments,
    ) -> Vec<Recorded> {
        let until = until.min(self.end());
        let Some(skip) = from.checked_sub(self.base).filter(|_| from < until) else {
            return Vec::new();
        };
        let events = (until - from).min(budget.events.max(1) as u64);
        let bytes = self.bytes_until(from).saturating_add(budget.bytes as u64);
        let mut records = Vec::with_capacity(events as usize);
        let range = skip as usize..(skip + events) as usize;
        for (index, entry) in (from..).zip(self.entries.range(range)) {
            if entry.bytes > bytes && !records.is_empty() {
                break;
            }
            records.push(Recorded {
                position: Position::from(index),
                stored_at: entry.stored_at,
                envelope: segments.envelope(entry.slot).clone(),
            });
        }
        records
    }

    pub(super) fn listen(&mut self, bell: &Arc<Bell>) {
        self.bells.push(Arc::clone(bell));
    }

    pub(super) fn unlisten(&mut self, bell: &Arc<Bell>) {
        if let Some(at) = self.bells.iter().position(|known| Arc::ptr_eq(known, bell)) {
            self.bells.swap_remove(at);
        }
    }

    pub(super) fn bells(&self) -> impl Iterator<Item = &Arc<Bell>> {
        self.bells.iter()
    }
}

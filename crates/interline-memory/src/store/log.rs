//! One partition: its records in chunks, which readers share.

use std::collections::VecDeque;
use std::iter;
use std::sync::Arc;

use interline_core::{Budget, Position, Recorded, Stretch};

use super::Bell;

/// The most records of a chunk.
const CHUNK: usize = 256;

/// A chunk takes no more once it holds this many bytes, since it is kept until none of it is
/// needed.
const CHUNK_BYTES: u64 = 256 << 10;

/// The records of a partition from `base` on.
#[derive(Debug, Default)]
pub(super) struct Log {
    base: u64,
    chunks: VecDeque<Chunk>,
    /// The last records, to which nobody else holds a reference.
    tail: Vec<Recorded>,
    /// The bytes of what was admitted from the tail's first record on.
    tail_bytes: u64,
    /// For each record from `base` on, the bytes of it and of all before: a difference gives the
    /// bytes of a stretch.
    sizes: VecDeque<u64>,
    /// The bytes of everything that was ever dropped.
    bytes_before: u64,
    /// Below this index every group has settled everything.
    settled: u64,
    bells: Vec<Arc<Bell>>,
    /// Something was appended that is not visible yet.
    pub(super) grown: bool,
}

/// Records that follow each other, kept until none of them is needed any more.
type Records = Arc<Vec<Recorded>>;

#[derive(Debug)]
struct Chunk {
    /// The index of its first record.
    first: u64,
    records: Records,
}

impl Chunk {
    fn end(&self) -> u64 {
        self.first + self.records.len() as u64
    }
}

/// Records that nobody needs any more, to be dropped when the lock is released.
pub(super) type Dead = Vec<Records>;

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
        self.base + self.sizes.len() as u64
    }

    pub(super) fn settled(&self) -> u64 {
        self.settled
    }

    /// Gives the next index to an event of this size, which has to be [`keep`](Self::keep)ed before
    /// anybody reads.
    pub(super) fn admit(&mut self, size: u64) -> u64 {
        let index = self.end();
        let before = self.sizes.back().copied().unwrap_or(self.bytes_before);
        self.sizes.push_back(before + size);
        self.tail_bytes += size;
        index
    }

    /// Keeps the next event that was admitted, which is made where it is to lie.
    #[inline]
    pub(super) fn keep(&mut self, record: impl FnOnce() -> Recorded) {
        if self.tail.len() == self.tail.capacity() {
            self.grow();
        }
        self.tail.extend(iter::once_with(record));
    }

    fn grow(&mut self) {
        self.seal();
        // What is hardly used stays small.
        let capacity = self.chunks.back().map_or(0, |chunk| chunk.records.len());
        self.tail.reserve_exact((capacity * 2).clamp(16, CHUNK));
    }

    /// Ends a batch: large events do not wait for a full chunk.
    pub(super) fn close_batch(&mut self) {
        self.grown = false;
        if self.tail_bytes >= CHUNK_BYTES {
            self.seal();
        }
    }

    /// The index of the first record of the tail.
    fn tail_first(&self) -> u64 {
        self.end() - self.tail.len() as u64
    }

    /// Makes the tail a chunk.
    fn seal(&mut self) {
        if !self.tail.is_empty() {
            let records = Arc::new(std::mem::take(&mut self.tail));
            // Not by the end: more may be admitted than is kept yet.
            let Position(_, first) = records[0].position;
            let chunk = Chunk { first, records };
            self.tail_bytes = self.between(chunk.end(), self.end()).bytes;
            self.chunks.push_back(chunk);
        }
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
        let Some(before) = index.checked_sub(self.base + 1) else {
            return self.bytes_before;
        };
        let known = self.sizes.get(before as usize).or(self.sizes.back());
        known.copied().unwrap_or(self.bytes_before)
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
    pub(super) fn drop_first(&mut self, events: u64, dead: &mut Dead) -> Amount {
        let until = (self.base + events).min(self.end());
        let dropped = self.between(self.base, until);
        if until == self.end() {
            self.seal();
        }
        while let Some(chunk) = self.chunks.pop_front_if(|chunk| chunk.end() <= until) {
            dead.push(chunk.records);
        }
        self.bytes_before = self.bytes_until(until);
        self.sizes.drain(..dropped.events as usize);
        self.base = until;
        self.settled = self.settled.max(until);
        // After a large backlog the ring would stay large for ever.
        if self.sizes.capacity() > 4_096 && self.sizes.capacity() / 8 > self.sizes.len() {
            self.sizes.shrink_to(self.sizes.len() * 2);
        }
        dropped
    }

    /// How many of the first records were stored before `millis`.
    pub(super) fn older_than(&self, millis: i64) -> u64 {
        self.index_at(millis) - self.base
    }

    /// The index of the first record stored at `millis` or later.
    pub(super) fn index_at(&self, millis: i64) -> u64 {
        let before = |record: &Recorded| record.stored_at < millis;
        let whole = |chunk: &Chunk| chunk.records.last().is_some_and(before);
        let (first, records) = match self.chunks.get(self.chunks.partition_point(whole)) {
            Some(chunk) => (chunk.first, &*chunk.records),
            None => (self.tail_first(), &self.tail),
        };
        (first + records.partition_point(before) as u64).max(self.base)
    }

    /// Records from `from`, at least one if there is any before `until`.
    pub(super) fn read(&mut self, from: u64, until: u64, budget: Budget) -> Stretch {
        let until = until.min(self.end());
        if from < self.base || from >= until {
            return Stretch::default();
        }
        if from >= self.tail_first() {
            // Copying is dearer than sealing, but sealed it leaves its free space unused; the next
            // chunk is made by what this one holds.
            if self.tail.len() < self.tail.capacity() / 4 {
                let skip = (from - self.tail_first()) as usize;
                let len = self.fitting(from, until, budget);
                return self.tail[skip..][..len].to_vec().into();
            }
            self.seal();
        }
        let at = self.chunks.partition_point(|chunk| chunk.end() <= from);
        let Chunk { first, records } = &self.chunks[at];
        let skip = (from - first) as usize;
        let end = until.min(self.chunks[at].end());
        let len = self.fitting(from, end, budget);
        Stretch::shared(Arc::clone(records), skip..skip + len)
    }

    /// How many of the records between two indices fit into `budget`, at least one.
    fn fitting(&self, from: u64, until: u64, budget: Budget) -> usize {
        let most = (until - from).min(budget.events.max(1) as u64) as usize;
        let bytes = self.bytes_until(from).saturating_add(budget.bytes as u64);
        if self.bytes_until(from + most as u64) <= bytes {
            return most;
        }
        let skip = (from - self.base) as usize;
        let sizes = self.sizes.range(skip..skip + most);
        sizes.take_while(|size| **size <= bytes).count().max(1)
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

//! How much to ask for.

/// The most events and about the most bytes of one answer.
const EVENTS: usize = 1_024;
const BYTES: usize = 1 << 20;

/// How many events of each partition the first request asks for: their size is not known yet.
const FIRST_COUNT: usize = 16;

/// How much to ask for, from what came before.
pub(super) struct Pace {
    count: usize,
    /// Bytes of an event.
    size: usize,
    /// Partitions that gave something.
    busy: usize,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            count: FIRST_COUNT,
            size: 1_024,
            busy: 1,
        }
    }

    /// How many events of each of `open` partitions to ask for.
    pub(super) fn next(&mut self, open: usize) -> usize {
        let share = EVENTS / self.busy;
        let fits = BYTES / (self.busy * self.size);
        // All the quiet ones may speak at once.
        let worst = 8 * BYTES / (open * self.size);
        let most = share.min(fits).min(worst).max(1);
        self.count = most.min(4 * self.count);
        self.count
    }

    /// Learns from an answer.
    pub(super) fn learn(&mut self, events: usize, size: usize, busy: usize) {
        if let Some(size) = size.checked_div(events) {
            self.size = size.max(64);
            self.busy = busy.max(1);
        }
    }
}

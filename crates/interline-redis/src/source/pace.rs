//! How much to ask for.

use fred::types::Resp3Frame;

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
    pub(super) fn learn(&mut self, sample: &Sample) {
        if let Some(size) = sample.bytes.checked_div(sample.events) {
            self.size = size.max(64);
            self.busy = sample.partitions;
        }
    }
}

/// What an answer was like.
#[derive(Default)]
pub(super) struct Sample {
    partitions: usize,
    events: usize,
    bytes: usize,
}

impl Sample {
    /// Adds the entries of one partition: the size of the largest of two stands for all.
    pub(super) fn add(&mut self, entries: &[Resp3Frame]) {
        let ends = entries.first().into_iter().chain(entries.last());
        self.partitions += 1;
        self.events += entries.len();
        self.bytes += entries.len() * ends.map(size).max().unwrap_or(0);
    }
}

/// The bytes of all strings of an entry.
fn size(frame: &Resp3Frame) -> usize {
    match frame {
        Resp3Frame::Array { data, .. } => data.iter().map(size).sum(),
        Resp3Frame::BlobString { data, .. } => data.len(),
        _ => 0,
    }
}

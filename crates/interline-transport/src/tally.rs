//! A publisher's counts.

use std::sync::atomic::{AtomicU64, Ordering};

use interline_core::{Outcome, PublisherStats};

/// Counts what a publisher does; shared between callers without a lock.
///
/// Each count is exact; a reading taken while events are under way may be of slightly different
/// moments.
#[derive(Debug, Default)]
pub struct Tally {
    sent: AtomicU64,
    stored: AtomicU64,
    duplicate: AtomicU64,
    rejected: AtomicU64,
    unknown: AtomicU64,
    bytes: AtomicU64,
    /// Events sent and stored in one step, which `sent` and `stored` do not count.
    at_once: AtomicU64,
}

impl Tally {
    /// Counts events that were handed over, with the bytes of their payloads.
    pub fn sent(&self, events: usize, bytes: usize) {
        self.sent.fetch_add(events as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts an event that was handed over and stored in one step.
    pub fn stored_at_once(&self, bytes: usize) {
        self.at_once.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts the outcomes of events that were counted as sent before.
    pub fn settled(&self, outcomes: &[Outcome]) {
        let mut counts = [0_u64; 4];
        for outcome in outcomes {
            counts[match outcome {
                Outcome::Stored { .. } => 0,
                Outcome::Duplicate { .. } => 1,
                Outcome::Rejected(_) => 2,
                Outcome::Unknown(_) => 3,
            }] += 1;
        }
        let places = [&self.stored, &self.duplicate, &self.rejected, &self.unknown];
        for (place, count) in places.into_iter().zip(counts) {
            if count > 0 {
                place.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    /// The counts now.
    #[must_use]
    pub fn stats(&self) -> PublisherStats {
        let mut stats = PublisherStats::default();
        let at_once = self.at_once.load(Ordering::Relaxed);
        stats.stored = at_once + self.stored.load(Ordering::Relaxed);
        stats.duplicate = self.duplicate.load(Ordering::Relaxed);
        stats.rejected = self.rejected.load(Ordering::Relaxed);
        stats.unknown = self.unknown.load(Ordering::Relaxed);
        // Read after the outcomes, so that what is in flight is never below zero.
        stats.sent = at_once + self.sent.load(Ordering::Relaxed);
        stats.bytes = self.bytes.load(Ordering::Relaxed);
        let settled = stats.stored + stats.duplicate + stats.rejected + stats.unknown;
        stats.in_flight = stats.sent.saturating_sub(settled);
        stats
    }
}

//! The horizon: the id below which everything is decided.
//!
//! Ids are given before their transactions end, and those may end in any order or not at all. A
//! reader that passes an id whose transaction is still open loses its event. Every writer gets
//! its transaction id before its id of the log. So the watch notes the last id L, then takes a
//! transaction id M of its own; once every transaction before M has ended, every id up to L is
//! decided. Pairs wait in a queue: under overlapping writers the newest pair alone would be
//! replaced again and again before it is decided, and the horizon would starve.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};

/// More pairs than this are not kept apart: the newest is replaced.
const PAIRS: usize = 1_024;

/// What readers know of the horizon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// It begins anew with every connection, and when a reader asks for it: what was seen of a
    /// server before it crashed may be undone.
    pub(crate) epoch: u64,
    /// Nothing until the first pair of the epoch is decided.
    pub(crate) horizon: Option<i64>,
}

/// The horizon as one task keeps it and all readers of the process see it.
#[derive(Debug, Default)]
pub(crate) struct Horizon {
    seen: watch::Sender<Seen>,
    wanted: AtomicU64,
    /// Rings when something was published.
    pub(crate) bell: Arc<Notify>,
    /// Counts what this process has published, for the notification of others.
    published: AtomicU64,
}

impl Horizon {
    /// Begins a new epoch; only what is seen in it or later counts for who asked.
    pub(crate) fn restart(&self) -> u64 {
        let epoch = self.wanted.fetch_add(1, Ordering::AcqRel) + 1;
        self.bell.notify_one();
        epoch
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.wanted.load(Ordering::Acquire)
    }

    /// Tells of every change.
    pub(crate) fn watch(&self) -> watch::Receiver<Seen> {
        self.seen.subscribe()
    }

    /// Whether anybody reads.
    pub(crate) fn is_watched(&self) -> bool {
        self.seen.receiver_count() > 0
    }

    pub(crate) fn show(&self, seen: Seen) {
        self.seen.send_if_modified(|known| {
            let differs = *known != seen;
            *known = seen;
            differs
        });
    }

    /// Says that this process stored events.
    pub(crate) fn published(&self) {
        self.published.fetch_add(1, Ordering::AcqRel);
        self.bell.notify_one();
    }

    /// Whether events were stored since this was asked last.
    pub(crate) fn take_published(&self) -> bool {
        self.published.swap(0, Ordering::AcqRel) > 0
    }
}

/// What one look at the server tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// The last id that was given; 0 before the first.
    pub(crate) last: i64,
    /// A transaction id taken after `last` was read, if it is higher than the newest pair's.
    pub(crate) taken: Option<i64>,
    /// Every transaction with a lower id has ended.
    pub(crate) oldest: i64,
}

/// The pairs that are not decided.
#[derive(Debug, Default)]
pub(crate) struct Undecided {
    pairs: VecDeque<(i64, i64)>,
    newest: i64,
    decided: Option<i64>,
}

impl Undecided {
    /// The id above which a look should take a transaction id.
    pub(crate) fn newest(&self) -> i64 {
        self.newest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    pub(crate) fn decided(&self) -> Option<i64> {
        self.decided
    }

    /// Takes in a look; the horizon.
    pub(crate) fn observe(&mut self, look: Look) -> Option<i64> {
        while let Some((last, taken)) = self.pairs.front().copied() {
            if taken >= look.oldest {
                break;
            }
            self.pairs.pop_front();
            self.decided = Some(last);
        }
        match look.taken {
            Some(taken) => {
                self.newest = look.last;
                if self.pairs.len() >= PAIRS {
                    self.pairs.pop_back();
                }
                self.pairs.push_back((look.last, taken));
            }
            // Nothing was ever stored.
            None if look.last == 0 => self.decided = self.decided.or(Some(0)),
            None => {}
        }
        self.decided
    }
}

/// How soon to look again.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    retries: usize,
}

/// A writer mostly ends within these; then the watch waits longer and longer.
const RETRIES: [Duration; 8] = [
    Duration::from_micros(200),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(50),
];

impl Pace {
    /// How long to wait for a pair to be decided.
    pub(crate) fn retry(&mut self, advanced: bool, poll: Duration) -> Duration {
        if advanced {
            self.retries = 0;
        }
        let pause = RETRIES.get(self.retries).copied().unwrap_or(poll);
        self.retries += 1;
        pause.min(poll)
    }

    pub(crate) fn rest(&mut self) {
        self.retries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(last: i64, taken: Option<i64>, oldest: i64) -> Look {
        Look {
            last,
            taken,
            oldest,
        }
    }

    #[test]
    fn nothing_is_decided_while_an_older_writer_is_open() {
        let mut undecided = Undecided::default();
        assert_eq!(undecided.observe(look(10, Some(100), 90)), None);
        assert_eq!(undecided.observe(look(10, None, 100)), None);
        assert_eq!(undecided.observe(look(10, None, 101)), Some(10));
        assert!(undecided.is_empty());
    }

    #[test]
    fn an_unused_sequence_holds_nothing() {
        let mut undecided = Undecided::default();
        assert_eq!(undecided.observe(look(0, None, 5)), Some(0));
        assert_eq!(undecided.observe(look(3, Some(9), 9)), Some(0));
        assert_eq!(undecided.observe(look(3, None, 10)), Some(3));
    }

    #[test]
    fn overlapping_writers_do_not_starve_it() {
        // There is always an open writer, each for three looks: the newest pair is never decided
        // when it is looked at, older ones are.
        let mut undecided = Undecided::default();
        let mut last = None;
        for step in 1..1_000_i64 {
            last = undecided.observe(look(step, Some(step * 10), (step - 3) * 10));
        }
        assert_eq!(last, Some(995));
    }

    #[test]
    fn a_writer_that_never_ends_does_not_fill_the_memory() {
        let mut undecided = Undecided::default();
        for step in 1..100_000_i64 {
            assert_eq!(undecided.observe(look(step, Some(step + 10), 5)), None);
        }
        assert!(undecided.pairs.len() <= PAIRS);
        assert_eq!(undecided.observe(look(99_999, None, 200_000)), Some(99_999));
    }
}

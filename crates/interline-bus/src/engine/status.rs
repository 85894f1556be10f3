//! What the outside may know of an engine and ask of it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use interline_core::{Error, ErrorKind, EventId, Partition, Position, Result};
use interline_reliability::FailureKind;
use slab::Slab;
use tokio::time::Instant;

use super::leave::Drain;
use super::part::Part;

/// What an engine can be asked.
#[derive(Debug)]
pub(crate) enum Command {
    Drain(Duration),
    /// A pause began or ended.
    Regulate,
}

/// What a group has done since it started, and what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupStats {
    /// Records read.
    pub delivered: u64,
    /// Attempts that succeeded.
    pub handled: u64,
    /// Attempts that failed, for whatever reason.
    pub failed: u64,
    /// Attempts that panicked.
    pub panicked: u64,
    /// Attempts that took too long.
    pub timed_out: u64,
    /// Failed attempts that will be followed by another.
    pub retried: u64,
    /// Events stored as dead letters.
    pub dead_lettered: u64,
    /// Events stored in the return topic.
    pub returned: u64,
    /// Events that the inbox knew.
    pub duplicates: u64,
    /// Events without a handler that were acked.
    pub unhandled: u64,
    /// Deliveries let go of for the next owner.
    pub released: u64,
    /// Checkpoints stored.
    pub checkpoints: u64,
    /// Checkpoints refused by the fence.
    pub stale: u64,
    /// Partitions stopped after a dead letter.
    pub halted: u64,
    /// Partitions owned now.
    pub partitions: usize,
    /// Deliveries running, held or waiting now.
    pub live: usize,
}

/// The shared side of an engine.
#[derive(Debug)]
pub(crate) struct Status {
    counts: Mutex<GroupStats>,
    /// The two counts that change with every event.
    delivered: AtomicU64,
    handled: AtomicU64,
    partitions: AtomicUsize,
    live: AtomicUsize,
    /// Whether nothing new may start. It is no command, since it has to hold from the moment in
    /// which it is said.
    paused: AtomicBool,
    started: Instant,
    /// When the present turn of the engine began, in milliseconds after the start plus one; 0
    /// while it rests.
    turn: AtomicU64,
    aborted: AtomicBool,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            counts: Mutex::default(),
            delivered: AtomicU64::new(0),
            handled: AtomicU64::new(0),
            partitions: AtomicUsize::new(0),
            live: AtomicUsize::new(0),
            paused: AtomicBool::new(false),
            started: Instant::now(),
            turn: AtomicU64::new(0),
            aborted: AtomicBool::new(false),
        }
    }
}

impl Status {
    pub(super) fn count(&self, change: impl FnOnce(&mut GroupStats)) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut counts);
    }

    pub(super) fn delivered(&self, events: usize) {
        self.delivered.fetch_add(events as u64, Ordering::Relaxed);
    }

    pub(super) fn handled(&self, events: u64) {
        // Only the engine writes, so no locked instruction is needed for each event.
        let handled = self.handled.load(Ordering::Relaxed);
        self.handled.store(handled + events, Ordering::Relaxed);
    }

    pub(super) fn failed(&self, kind: FailureKind) {
        self.count(|counts| {
            counts.failed += 1;
            match kind {
                FailureKind::Panic => counts.panicked += 1,
                FailureKind::Timeout => counts.timed_out += 1,
                _ => {}
            }
        });
    }

    pub(crate) fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::SeqCst);
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::SeqCst)
    }

    pub(super) fn observe(&self, parts: &Slab<Part>, live: usize) {
        self.partitions.store(parts.len(), Ordering::Relaxed);
        self.live.store(live, Ordering::Relaxed);
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }

    /// Says that the engine ends where it stands.
    pub(crate) fn abort(&self) {
        self.aborted.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::SeqCst)
    }

    pub(super) fn turn_begins(&self) {
        self.turn.store(self.millis() + 1, Ordering::Relaxed);
    }

    pub(super) fn turn_ends(&self) {
        self.turn.store(0, Ordering::Relaxed);
    }

    /// For how long the present turn has been going on: long only if a handler blocks.
    pub(crate) fn turn_lasts(&self) -> Duration {
        match self.turn.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            began => Duration::from_millis((self.millis() + 1).saturating_sub(began)),
        }
    }

    pub(crate) fn stats(&self) -> GroupStats {
        let counts = *self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        GroupStats {
            delivered: self.delivered.load(Ordering::Relaxed),
            handled: self.handled.load(Ordering::Relaxed),
            partitions: self.partitions.load(Ordering::Relaxed),
            live: self.live.load(Ordering::Relaxed),
            ..counts
        }
    }

    pub(super) fn report(&self, drain: Option<Drain>, error: Option<Error>) -> DrainReport {
        DrainReport {
            stats: self.stats(),
            unfinished: drain.map(|drain| drain.unfinished).unwrap_or_default(),
            error,
        }
    }
}

/// How a group ended.
#[derive(Debug, Default)]
pub struct DrainReport {
    /// What it did.
    pub stats: GroupStats,
    /// What was running at the deadline and was dropped; the next owner reads it again.
    pub unfinished: Vec<Unfinished>,
    /// What ended it, if it was not drained.
    pub error: Option<Error>,
}

/// A delivery that did not finish in time.
#[derive(Clone, Debug)]
pub struct Unfinished {
    /// Its partition.
    pub partition: Partition,
    /// Its position.
    pub position: Position,
    /// The event's id.
    pub id: EventId,
    /// The event's type.
    pub ty: String,
    /// The handler that did not finish.
    pub handler: &'static str,
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            partition,
            position,
            id,
            ty,
            handler,
        } = self;
        write!(f, "{ty} {id} at {partition} {position} in {handler}")
    }
}

impl DrainReport {
    /// Adds the report of another member.
    pub(crate) fn add(&mut self, other: Self) {
        let (sum, add) = (&mut self.stats, other.stats);
        sum.add(&add);
        self.unfinished.extend(other.unfinished);
        self.error = self.error.take().or(other.error);
    }

    /// The counts if everything finished.
    ///
    /// # Errors
    /// What ended the group, or [`ErrorKind::Timeout`] naming what did not finish.
    pub fn into_result(self) -> Result<GroupStats> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let Some(first) = self.unfinished.first() else {
            return Ok(self.stats);
        };
        Err(Error::new(
            ErrorKind::Timeout,
            "drain",
            format!(
                "{} deliveries did not finish: {first}",
                self.unfinished.len()
            ),
        )
        .remedy("allow more time or shorten the handler; the next owner reads them again"))
    }
}

impl GroupStats {
    pub(crate) fn add(&mut self, other: &Self) {
        self.delivered += other.delivered;
        self.handled += other.handled;
        self.failed += other.failed;
        self.panicked += other.panicked;
        self.timed_out += other.timed_out;
        self.retried += other.retried;
        self.dead_lettered += other.dead_lettered;
        self.returned += other.returned;
        self.duplicates += other.duplicates;
        self.unhandled += other.unhandled;
        self.released += other.released;
        self.checkpoints += other.checkpoints;
        self.stale += other.stale;
        self.halted += other.halted;
        self.partitions += other.partitions;
        self.live += other.live;
    }
}

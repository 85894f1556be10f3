//! Publishing.

use std::borrow::Cow;
use std::hash::BuildHasher;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Waker};
use std::time::Duration;

use foldhash::fast::FixedState;
use interline_core::{
    EventId, Outcome, Outgoing, PublisherOptions, PublisherStats, Receipt, Result, Topic,
};
use interline_transport::tally::Tally;
use smallvec::SmallVec;
use tokio::task::coop;
use tokio::time::{Instant, timeout_at};

use crate::error;
use crate::link::Link;
use crate::store::TopicLog;

/// A task may take 128 turns before others run.
const EVENTS_PER_TURN: u64 = 32;

/// How many topics a publisher remembers at most.
const KNOWN: usize = 32;

/// Stores events at once: an accepted event is stored, nothing is ever in flight.
#[derive(Debug)]
pub struct Publisher {
    link: Arc<Link>,
    options: PublisherOptions,
    tally: Tally,
    /// Events offered so far, taken or not.
    offered: AtomicU64,
    /// Topics that single events went to, each where its name says: found without a lock.
    known: [OnceLock<Arc<TopicLog>>; KNOWN],
}

/// Events of a batch that follow each other to one topic.
struct Run {
    log: Result<Arc<TopicLog>>,
    events: usize,
}

impl Publisher {
    pub(crate) fn new(link: Arc<Link>, options: PublisherOptions) -> Self {
        Self {
            link,
            options,
            tally: Tally::default(),
            offered: AtomicU64::new(0),
            known: [const { OnceLock::new() }; KNOWN],
        }
    }

    /// The topic, if it is there.
    fn topic(&self, topic: &Topic) -> Option<Cow<'_, Arc<TopicLog>>> {
        let at = FixedState::with_seed(0).hash_one(topic) as usize % KNOWN;
        let known = self.known[at].get();
        if let Some(log) = known.filter(|log| log.name == *topic && !log.is_gone()) {
            return Some(Cow::Borrowed(log));
        }
        let log = self.link.store.topic(topic)?;
        // The first one keeps the place.
        let _ = self.known[at].set(Arc::clone(&log));
        Some(Cow::Owned(log))
    }

    fn runs(&self, batch: &[Outgoing]) -> SmallVec<[Run; 1]> {
        let runs = batch.chunk_by(|a, b| a.topic == b.topic);
        runs.map(|run| Run {
            log: self.link.topic("publish", &run[0].topic),
            events: run.len(),
        })
        .collect()
    }

    /// Storing never waits by itself: without this a publishing loop would let no other task of
    /// its thread run. What counts is events, so that readers follow while those are still in the
    /// processor's cache.
    async fn take_turns(&self, events: usize) {
        let before = self.offered.load(Ordering::Relaxed);
        self.offer(before, events);
        for _ in 0..turns(before, events) {
            coop::consume_budget().await;
        }
    }

    fn offer(&self, before: u64, events: usize) {
        // Callers at the same time may count a turn less, which costs nobody anything.
        self.offered
            .store(before + events as u64, Ordering::Relaxed);
    }

    /// Waits until there is room; an error if none comes in time.
    async fn room(&self, log: &TopicLog, until: &mut Option<Instant>) -> Result<()> {
        // One deadline for the whole batch.
        let until = *until.get_or_insert_with(|| Instant::now() + self.options.publish_timeout);
        loop {
            let freed = log.room().notified();
            if log.has_room() {
                return Ok(());
            }
            self.link.check_open("publish")?;
            // A dead group would be waited for in vain.
            self.link.store.expire_groups(Instant::now());
            if log.has_room() {
                return Ok(());
            }
            if timeout_at(until, freed).await.is_err() {
                let (unread, slowest) = log.congestion();
                let slowest = slowest.as_ref().map(interline_core::Group::as_str);
                return Err(error::no_room(&log.name, unread, slowest));
            }
        }
    }

    fn store(&self, mut batch: Vec<Outgoing>, runs: SmallVec<[Run; 1]>) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(batch.len());
        let now = self.link.store.clock.millis(Instant::now());
        for Run { log, events } in runs {
            // A batch to one topic is kept as it is; only a mixed one is taken apart.
            let rest = batch.split_off(events);
            let run = std::mem::replace(&mut batch, rest);
            match log {
                Ok(log) => log.append(run, now, &mut outcomes),
                Err(error) => {
                    let refused = run.iter().map(|_| Outcome::Rejected(error.again()));
                    outcomes.extend(refused);
                }
            }
        }
        outcomes
    }
}

/// How many turns end with so many events more than `before`.
fn turns(before: u64, events: usize) -> u64 {
    (before + events as u64) / EVENTS_PER_TURN - before / EVENTS_PER_TURN
}

/// Takes a turn, unless others have to run first.
fn took_turn() -> bool {
    let turn = pin!(coop::consume_budget());
    turn.poll(&mut Context::from_waker(Waker::noop()))
        .is_ready()
}

impl interline_core::Publisher for Publisher {
    async fn enqueue(&self, batch: Vec<Outgoing>) -> Result<Receipt> {
        self.take_turns(batch.len()).await;
        self.link.check_open("publish")?;
        let mut runs = self.runs(&batch);
        let mut until = None;
        for run in &mut runs {
            if let Ok(log) = &run.log
                && !log.has_room()
                && let Err(error) = Box::pin(self.room(log, &mut until)).await
            {
                self.link.check_open("publish")?;
                run.log = Err(error);
            }
        }
        let bytes = batch.iter().filter_map(|event| event.envelope.payload());
        self.tally
            .sent(batch.len(), bytes.map(|payload| payload.len()).sum());
        let outcomes = self.store(batch, runs);
        self.tally.settled(&outcomes);
        Ok(Receipt::ready(outcomes))
    }

    fn publish_at_once(&self, event: &mut Option<Outgoing>) -> Option<Outcome> {
        let before = self.offered.load(Ordering::Relaxed);
        // Where others have to run first, `enqueue` waits for them.
        if (turns(before, 1) > 0 && !took_turn()) || self.link.is_closed() {
            return None;
        }
        let offered = event.as_ref()?;
        let log = self.topic(&offered.topic)?;
        if !log.has_room() {
            return None;
        }
        let payload = offered.envelope.payload();
        let bytes = payload.map_or(0, |payload| payload.len());
        let now = self.link.store.clock.millis(Instant::now());
        let outcome = log.append_one(event.take()?, now);
        self.offer(before, 1);
        if let Outcome::Stored { .. } = outcome {
            self.tally.stored_at_once(bytes);
        } else {
            self.tally.sent(1, bytes);
            self.tally.settled(std::slice::from_ref(&outcome));
        }
        Some(outcome)
    }

    async fn flush(&self, _deadline: Duration) -> Result<Vec<EventId>> {
        Ok(Vec::new())
    }

    fn stats(&self) -> PublisherStats {
        self.tally.stats()
    }
}

//! Batches that the server stores as a whole, for streams that are written to disk before they
//! answer: it is written once for all events of a batch.
//!
//! One batch is on its way at a time and nothing else of its stream, so that order holds when it is
//! refused. A single copy in it, or whatever else is wrong with one event, has all of it refused
//! without a word which one: its events then go out by themselves.

use async_nats::HeaderMap;
use interline_core::{EventId, Outcome};
use tokio::time::Instant;

use super::slot::{Hold, Slot, State};
use super::{Answer, Gone, Queue};
use crate::message::{BATCH_COMMIT, BATCH_ID, BATCH_SEQUENCE};

/// The most events of a batch that a server takes.
const MOST: usize = 1_000;

/// A batch on its way.
pub(super) struct Atomic {
    id: String,
    /// The numbers of its events, in order.
    numbers: Vec<u64>,
}

impl Atomic {
    pub(super) fn ends_with(&self, number: u64) -> bool {
        self.numbers.last() == Some(&number)
    }
}

/// Where an event stands in its batch.
pub(super) struct Part<'b> {
    batch: &'b str,
    /// From 1 on.
    sequence: usize,
    /// The last one has the batch stored, and is answered for all.
    is_last: bool,
}

impl Part<'_> {
    pub(super) fn is_last(&self) -> bool {
        self.is_last
    }

    pub(super) fn put(&self, headers: &mut HeaderMap) {
        headers.insert(BATCH_ID, self.batch);
        headers.insert(BATCH_SEQUENCE, self.sequence.to_string());
        if self.is_last {
            headers.insert(BATCH_COMMIT, "1");
        }
    }
}

impl Slot {
    /// Whether it waits to be sent in a batch.
    pub(super) fn goes_with_others(&self) -> bool {
        self.facts.takes_batches && !self.is_alone && matches!(self.state, State::Waiting)
    }
}

impl Queue {
    /// Sends what waits for the stream of this event together with it; by itself if nothing does.
    pub(super) fn send_together(&mut self, first: usize, now: Instant) -> Result<(), Gone> {
        let places = self.together(first);
        if places.len() < 2 {
            return self.send_alone(first, now);
        }
        let id = EventId::new().to_string();
        let mut numbers = Vec::with_capacity(places.len());
        for (sequence, at) in (1..).zip(&places) {
            let part = Part {
                batch: &id,
                sequence,
                is_last: sequence == places.len(),
            };
            match self.send(*at, now, Some(&part)) {
                Ok(()) => self.in_flight += 1,
                Err(Some(refused)) => {
                    // The server forgets a batch that is never ended.
                    self.settle(*at, Outcome::Rejected(refused));
                    self.part(&numbers);
                    return Ok(());
                }
                Err(None) => return Err(Gone),
            }
            numbers.push(self.base + *at as u64);
        }
        self.atomic = Some(Atomic { id, numbers });
        Ok(())
    }

    fn together(&self, first: usize) -> Vec<usize> {
        let stream = &self.slots[first].facts.stream;
        let slots = self.slots.range(first..).zip(first..);
        let fitting =
            slots.filter(|(slot, _)| slot.goes_with_others() && slot.facts.stream == *stream);
        fitting.map(|(_, at)| at).take(MOST).collect()
    }

    /// Takes the answer to a batch.
    pub(super) fn answer_all(&mut self, atomic: &Atomic, answer: Answer<'_>) {
        let Atomic { id, numbers } = atomic;
        match answer {
            Answer::StoredAll {
                stream,
                last,
                batch,
                count,
            } if batch == *id && count == numbers.len() => {
                for (back, number) in (0..).zip(numbers.iter().rev()) {
                    if let Some(at) = self.place(*number) {
                        let sequence = last.saturating_sub(back);
                        let outcome = self.slots[at].stored(&stream, sequence, false);
                        self.settle(at, outcome);
                    }
                }
            }
            Answer::NotNow(error) => self.hold_all(numbers, || Hold::Refused(error.again())),
            Answer::Rejected(_) => self.part(numbers),
            // The answer to another batch: what became of this one is not known.
            Answer::Stored { .. } | Answer::StoredAll { .. } => {
                self.hold_all(numbers, || Hold::Silent);
            }
        }
    }

    fn hold_all(&mut self, numbers: &[u64], why: impl Fn() -> Hold) {
        for number in numbers {
            if let Some(at) = self.place(*number) {
                self.hold(at, why());
            }
        }
    }

    /// Has the events of a batch that was not stored wait to be sent one by one.
    fn part(&mut self, numbers: &[u64]) {
        for number in numbers {
            let Some(at) = self.place(*number) else {
                continue;
            };
            self.wait(at);
            let slot = &mut self.slots[at];
            slot.is_alone = true;
            // Not stored, so that a copy of it is not our own.
            slot.first_sent.take_if(|first| *first == slot.sent);
            self.next = self.next.min(at);
        }
    }
}

//! The events of a publisher that have no outcome, in order.

mod atomic;
mod slot;

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::client::PublishErrorKind;
use bytes::Bytes;
use futures_util::FutureExt as _;
use interline_core::{
    Error, ErrorKind, EventId, Outcome, Outgoing, Purpose, ReceiptSender, Result, Topic, planted,
};
use interline_transport::partition::Spreader;
use interline_transport::tally::Tally;
use interline_transport::window::Places;
use tokio::task::unconstrained;
use tokio::time::Instant;

use self::atomic::{Atomic, Part};
use self::slot::{Hold, Slot, State};
use crate::error::{denied, error};
use crate::hub::Facts;
use crate::link::Session;
use crate::message::Encoder;
use crate::topics::DEDUPE;

/// How many events may be sent and unanswered. Without a bound the server's intake overflows and
/// drops events; more than this gains nothing.
const WINDOW: usize = 1_024;

/// Until when after its first sending an event may be sent again. Later the server may have
/// forgotten its id.
const SAFE: Duration = DEDUPE.saturating_sub(Duration::from_secs(10));

/// After which silence on a live connection an answer is taken for lost.
const SILENCE: Duration = Duration::from_secs(5);

/// What of a message's room is kept for what a dead letter of it adds.
const LETTER: usize = 16 << 10;

/// The events without outcome, and the connection that they go out on.
pub(super) struct Queue {
    slots: VecDeque<Slot>,
    /// The number of the first slot.
    base: u64,
    /// The slot from which on something may wait to be sent.
    next: usize,
    in_flight: usize,
    /// The batch on its way that is stored as a whole.
    atomic: Option<Atomic>,
    held: usize,
    /// What is refused for now is not sent again before this.
    pause: Option<Instant>,
    live: Option<Live>,
    batches: BTreeMap<u64, Batch>,
    batch: u64,
    spreader: Spreader,
    encoder: Encoder,
    /// The places of batches settled lately.
    freed: Option<Places>,
    pub(super) is_ending: bool,
    pub(super) tally: Tally,
}

/// The connection, and where its answers arrive.
struct Live {
    session: Session,
    inbox: String,
}

/// An event on its way into the queue.
pub(super) struct Entry {
    outgoing: Outgoing,
    facts: Result<Arc<Facts>>,
    partition: Option<u32>,
}

/// The connection is broken.
struct Gone;

struct Batch {
    outcomes: Vec<Option<Outcome>>,
    missing: usize,
    places: Places,
    sender: ReceiptSender,
}

/// What the server answered to an event.
pub(super) enum Answer<'a> {
    Stored {
        stream: Cow<'a, str>,
        sequence: u64,
        is_copy: bool,
    },
    /// A batch is stored as a whole, with so many events up to the last one.
    StoredAll {
        stream: Cow<'a, str>,
        last: u64,
        batch: Cow<'a, str>,
        count: usize,
    },
    /// Not stored, for now.
    NotNow(Error),
    Rejected(Error),
}

impl Entry {
    pub(super) fn new(
        outgoing: Outgoing,
        facts: Result<Arc<Facts>>,
        partition: Option<u32>,
    ) -> Self {
        Self {
            outgoing,
            facts,
            partition,
        }
    }
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            slots: VecDeque::new(),
            base: 0,
            next: 0,
            in_flight: 0,
            atomic: None,
            held: 0,
            pause: None,
            live: None,
            batches: BTreeMap::new(),
            batch: 0,
            spreader: Spreader::starting_at(fastrand::u32(..)),
            encoder: Encoder::default(),
            freed: None,
            is_ending: false,
            tally: Tally::default(),
        }
    }

    /// Adds a batch, whose events are moved to where they stay.
    pub(super) fn push(
        &mut self,
        entries: impl ExactSizeIterator<Item = Entry>,
        places: Places,
        sender: ReceiptSender,
    ) {
        let (batch, now) = (self.batch, Instant::now());
        self.batch += 1;
        self.spreader.next_batch();
        let entry = Batch {
            outcomes: std::iter::repeat_with(|| None)
                .take(entries.len())
                .collect(),
            missing: entries.len(),
            places,
            sender,
        };
        self.batches.insert(batch, entry);
        for (index, entry) in entries.enumerate() {
            let facts = match entry.facts {
                Ok(facts) => facts,
                Err(refused) => {
                    self.outcome(batch, index, Outcome::Rejected(refused));
                    continue;
                }
            };
            let spread = || self.spreader.next(facts.partitions);
            self.slots.push_back(Slot {
                partition: entry.partition.unwrap_or_else(spread),
                outgoing: entry.outgoing,
                facts,
                batch,
                index,
                since: now,
                first_sent: None,
                sent: now,
                is_alone: false,
                state: State::Waiting,
            });
        }
    }

    /// Sends what may be sent. Nothing waits here.
    pub(super) fn pump(&mut self) {
        if planted::is("receipt-before-answer") {
            return self.fire_and_forget();
        }
        let now = Instant::now();
        let is_paused = self.pause.is_some_and(|until| now < until);
        if self.live.is_none() || self.held > 0 || is_paused {
            return;
        }
        while self.in_flight < WINDOW && self.next < self.slots.len() {
            let at = self.next;
            let slot = &self.slots[at];
            let sent = match slot.state {
                State::Waiting if slot.goes_with_others() && self.in_flight > 0 => return,
                State::Waiting if slot.goes_with_others() => self.send_together(at, now),
                State::Waiting => self.send_alone(at, now),
                State::Sent | State::Held(_) | State::Done { .. } => {
                    self.next += 1;
                    Ok(())
                }
            };
            if let Err(Gone) = sent {
                // Its end is on its way to us.
                self.live = None;
                return;
            }
        }
    }

    fn send_alone(&mut self, at: usize, now: Instant) -> Result<(), Gone> {
        match self.send(at, now, None) {
            Ok(()) => self.in_flight += 1,
            Err(Some(refused)) => self.settle(at, Outcome::Rejected(refused)),
            Err(None) => return Err(Gone),
        }
        Ok(())
    }

    /// Says that everything is stored, whatever becomes of it: only ever as a planted bug.
    fn fire_and_forget(&mut self) {
        while self.next < self.slots.len() {
            let at = self.next;
            self.next += 1;
            let _ = self
                .send(at, Instant::now(), None)
                .map(|()| self.in_flight += 1);
            let slot = &self.slots[at];
            let stored = slot.stored(&slot.facts.stream, 0, false);
            self.settle(at, stored);
        }
    }

    /// Hands one event to the client, by itself or as part of a batch; the error of one that cannot
    /// be sent, or nothing if the connection is broken.
    fn send(
        &mut self,
        at: usize,
        now: Instant,
        part: Option<&Part<'_>>,
    ) -> Result<(), Option<Error>> {
        let number = self.base + at as u64;
        let slot = &mut self.slots[at];
        let live = self.live.as_ref().ok_or(None)?;
        let subject = slot.subject().map_err(Some)?;
        // Made only now: the messages of a whole window would be more than a processor keeps near.
        let (mut headers, payload) = self.encoder.encode(&slot.outgoing);
        if let Some(part) = part {
            part.put(&mut headers);
        }
        let room = live.session.info.max_payload;
        let spare = if slot.outgoing.purpose == Purpose::Event {
            LETTER
        } else {
            0
        };
        if payload.len() + (64 << 10) > room && size(&headers, &payload) + spare > room {
            return Err(Some(too_large(room)));
        }
        let client = &live.session.client;
        // The client has room for far more than the window, so that this is ready at once.
        let sent = if part.is_none_or(Part::is_last) {
            let reply = format!("{}.{number}", live.inbox);
            let sending = client.publish_with_reply_and_headers(subject, reply, headers, payload);
            unconstrained(sending).now_or_never()
        } else {
            let sending = client.publish_with_headers(subject, headers, payload);
            unconstrained(sending).now_or_never()
        };
        match sent {
            Some(Ok(())) => {}
            Some(Err(cause)) if cause.kind() == PublishErrorKind::MaxPayloadExceeded => {
                return Err(Some(too_large(room)));
            }
            Some(Err(_)) | None => return Err(None),
        }
        slot.first_sent.get_or_insert(now);
        slot.sent = now;
        slot.state = State::Sent;
        Ok(())
    }

    /// Begins a connection: everything without outcome goes out on it, in order.
    pub(super) fn begin(&mut self, session: Session, inbox: String) {
        self.live = Some(Live { session, inbox });
        self.pause = None;
        self.again();
        self.pump();
    }

    /// Ends the connection: what was sent on it may or may not have arrived.
    pub(super) fn end(&mut self) {
        self.live = None;
        self.again();
    }

    /// Makes everything without outcome wait to be sent, except what may not be sent any more.
    fn again(&mut self) {
        self.atomic = None;
        let sent = self.slots.iter().rposition(Slot::was_sent);
        let sent = sent.map_or(0, |last| last + 1);
        for at in 0..sent {
            let slot = &self.slots[at];
            if matches!(slot.state, State::Done { .. } | State::Waiting) {
                continue;
            }
            let is_late = slot.first_sent.is_some_and(|first| first.elapsed() > SAFE);
            if is_late || self.is_overtaken(at, sent) {
                let outcome = self.slots[at].given_up();
                self.settle(at, outcome);
            } else {
                self.wait(at);
            }
        }
        self.next = 0;
        self.trim();
    }

    fn wait(&mut self, at: usize) {
        match std::mem::replace(&mut self.slots[at].state, State::Waiting) {
            State::Sent => self.in_flight -= 1,
            State::Held(_) => self.held -= 1,
            State::Waiting | State::Done { .. } => {}
        }
    }

    /// Takes an answer to the event of this number.
    pub(super) fn answer(&mut self, number: u64, answer: Answer<'_>) {
        if let Some(atomic) = self.atomic.take_if(|atomic| atomic.ends_with(number)) {
            return self.answer_all(&atomic, answer);
        }
        let Some(at) = self.place(number) else {
            return;
        };
        let slot = &self.slots[at];
        match answer {
            Answer::Stored {
                stream,
                sequence,
                is_copy,
            } => {
                let outcome = slot.stored(&stream, sequence, is_copy);
                self.settle(at, outcome);
            }
            // Of a batch that was given up: its events are on their way again.
            Answer::StoredAll { .. } => {}
            Answer::Rejected(error) => self.settle(at, Outcome::Rejected(error)),
            Answer::NotNow(error) => self.hold(at, Hold::Refused(error)),
        }
    }

    fn place(&self, number: u64) -> Option<usize> {
        let at = usize::try_from(number.checked_sub(self.base)?).ok()?;
        let slot = self.slots.get(at)?;
        (!matches!(slot.state, State::Done { .. })).then_some(at)
    }

    fn hold(&mut self, at: usize, hold: Hold) {
        self.wait(at);
        self.slots[at].state = State::Held(hold);
        self.held += 1;
    }

    /// Rejects what was sent to a subject that the server forbids, in its own words.
    pub(super) fn deny(&mut self, what: &str) {
        for at in 0..self.slots.len() {
            let slot = &self.slots[at];
            let is_it = matches!(slot.state, State::Sent | State::Held(_))
                && slot
                    .subject()
                    .is_ok_and(|subject| what.contains(&format!("\"{subject}\"")));
            if is_it {
                self.settle(at, Outcome::Rejected(denied("publish", what)));
            }
        }
        self.trim();
    }

    /// Gives up what has waited for too long, and notices lost answers.
    pub(super) fn sweep(&mut self, limit: Duration) {
        let now = Instant::now();
        for at in 0..self.slots.len() {
            let slot = &self.slots[at];
            match &slot.state {
                State::Done { .. } => {}
                _ if now.duration_since(slot.since) >= limit => {
                    let outcome = slot.given_up();
                    self.settle(at, outcome);
                }
                State::Sent if now.duration_since(slot.sent) >= SILENCE => {
                    self.hold(at, Hold::Silent);
                }
                State::Waiting | State::Sent | State::Held(_) => {}
            }
        }
        self.trim();
    }

    /// The topics of what is held, once nothing is on its way any more.
    pub(super) fn held(&self) -> Option<Vec<Topic>> {
        if self.held == 0 || self.in_flight > 0 {
            return None;
        }
        let held = self
            .slots
            .iter()
            .filter(|slot| matches!(slot.state, State::Held(_)));
        let mut topics: Vec<Topic> = held.map(|slot| slot.outgoing.topic.clone()).collect();
        topics.sort_unstable();
        topics.dedup();
        Some(topics)
    }

    /// Rejects what is held for a topic that is not there.
    pub(super) fn reject_held(&mut self, topic: &Topic, why: impl Fn() -> Error) {
        for at in 0..self.slots.len() {
            let slot = &self.slots[at];
            if matches!(slot.state, State::Held(_)) && slot.outgoing.topic == *topic {
                self.settle(at, Outcome::Rejected(why()));
            }
        }
    }

    /// Lets what is held wait to be sent again, a little later.
    pub(super) fn resume(&mut self, after: Duration) {
        self.again();
        self.pause = Some(Instant::now() + after);
    }

    /// Whether a later event of the same key is stored, among all before `end`: sending this one
    /// again would break the order.
    fn is_overtaken(&self, at: usize, end: usize) -> bool {
        let held = &self.slots[at].outgoing;
        let Some(key) = held.envelope.key() else {
            return false;
        };
        self.slots.range(at + 1..end).any(|slot| {
            matches!(slot.state, State::Done { is_stored: true })
                && slot.outgoing.topic == held.topic
                && slot.outgoing.envelope.key() == Some(key)
        })
    }

    fn settle(&mut self, at: usize, outcome: Outcome) {
        self.wait(at);
        let slot = &mut self.slots[at];
        slot.state = State::Done {
            is_stored: outcome.is_ok(),
        };
        let (batch, index) = (slot.batch, slot.index);
        self.outcome(batch, index, outcome);
    }

    fn outcome(&mut self, number: u64, index: usize, outcome: Outcome) {
        let Some(batch) = self.batches.get_mut(&number) else {
            return;
        };
        match batch.outcomes.get_mut(index) {
            Some(slot @ None) => *slot = Some(outcome),
            _ => return,
        }
        batch.missing -= 1;
        if batch.missing > 0 {
            return;
        }
        let Some(batch) = self.batches.remove(&number) else {
            return;
        };
        let outcomes: Vec<Outcome> = batch.outcomes.into_iter().flatten().collect();
        self.tally.settled(&outcomes);
        self.freed.get_or_insert_default().join(batch.places);
        batch.sender.send(outcomes);
    }

    /// Drops what is settled in front.
    pub(super) fn trim(&mut self) {
        while let Some(Slot {
            state: State::Done { .. },
            ..
        }) = self.slots.front()
        {
            self.slots.pop_front();
            self.base += 1;
            self.next = self.next.saturating_sub(1);
        }
    }

    /// The places of the batches that were settled since the last time, if any were.
    pub(super) fn take_places(&mut self) -> Option<Places> {
        self.freed.take()
    }

    /// What has to be settled for all that is queued now to be.
    pub(super) fn mark(&self) -> u64 {
        self.batch
    }

    pub(super) fn is_settled(&self, mark: u64) -> bool {
        self.batches.range(..mark).next().is_none()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Gives up everything before `mark`; the ids that have no outcome.
    pub(super) fn give_up(&mut self, mark: u64) -> Vec<EventId> {
        let mut left = Vec::new();
        for at in 0..self.slots.len() {
            let slot = &self.slots[at];
            if slot.batch < mark && !matches!(slot.state, State::Done { .. }) {
                left.push(slot.outgoing.envelope.id().clone());
                let outcome = slot.given_up();
                self.settle(at, outcome);
            }
        }
        self.trim();
        left
    }
}

fn size(headers: &HeaderMap, payload: &Bytes) -> usize {
    let mut size = payload.len() + "NATS/1.0\r\n\r\n".len();
    for (name, values) in headers.iter() {
        let name: &str = name.as_ref();
        for value in values {
            size += name.len() + value.as_str().len() + 4;
        }
    }
    size
}

fn too_large(room: usize) -> Error {
    error(
        ErrorKind::Limit,
        "publish",
        format!("an event with its headers exceeds what a message of {room} bytes can hold"),
        "send less, or raise max_payload of the server",
    )
}

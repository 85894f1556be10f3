//! One partition of a reading.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::Message;
use interline_core::{Batch, Budget, Fence, Flow, Partition, Recorded, planted};
use interline_transport::wire::Decoder;
use tokio::time::Instant;

use super::consumer::{Consumer, Progress, Status};
use super::open::{Opened, Raw, Wanted};
use crate::link::Session;
use crate::message::{Place, decode, decode_raw, is_odd};

/// How many records, and how many bytes of them, may wait to be taken before no more are asked
/// for.
const READY: usize = 2_000;
const READY_BYTES: usize = 1 << 20;

/// After how many broken connections in a row at one place the next message is read carefully.
const DEATHS: u32 = 2;

/// Where a part goes on.
#[derive(Clone, Debug)]
pub(crate) enum Cursor {
    /// At the first record that is kept.
    First,
    /// Strictly after a sequence, behind which there is no record of the partition up to `seen`.
    After { after: u64, seen: u64 },
    /// At the first record of this time or later.
    Time(String),
}

impl Cursor {
    /// Behind the record of this sequence.
    pub(crate) fn at(sequence: u64) -> Self {
        Self::After {
            after: sequence,
            seen: sequence,
        }
    }

    /// The sequence that it is behind of; 0 if it is behind of none.
    pub(super) fn after(&self) -> u64 {
        match self {
            Self::After { after, .. } => *after,
            Self::First | Self::Time(_) => 0,
        }
    }
}

/// Where a part ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    /// Nowhere.
    Never,
    /// Behind this sequence.
    Behind(u64),
    /// Before the first record of this time, in milliseconds.
    Time(i64),
}

/// A partition that is read.
pub(super) struct Part {
    pub(super) partition: Partition,
    fence: Fence,
    cursor: Cursor,
    /// The sequence behind which it ends, once that is known.
    end: Option<u64>,
    /// The time of storing at which it ends, in milliseconds.
    end_time: Option<i64>,
    pub(super) flow: Flow,
    pub(super) stage: Stage,
    created: Option<String>,
    pub(super) failures: u32,
    /// How often in a row the connection broke while records were expected and none came.
    deaths: u32,
    ready: VecDeque<Recorded>,
    ready_bytes: usize,
    /// Whether the end was seen since somebody asked for it.
    is_news: bool,
    /// When a part that ends at a time has to look whether that has come.
    due: Option<Instant>,
    is_done: bool,
}

/// How far a part has come to its consumer.
pub(super) enum Stage {
    /// It has none.
    Closed,
    /// One is being made.
    Opening(u64),
    /// It has one.
    Open(Consumer),
}

impl Part {
    pub(super) fn new(partition: Partition, fence: Fence, cursor: Cursor, stop: Stop) -> Self {
        Self {
            partition,
            fence,
            cursor,
            end: match stop {
                Stop::Behind(last) => Some(last),
                Stop::Never | Stop::Time(_) => None,
            },
            end_time: match stop {
                Stop::Time(time) => Some(time),
                Stop::Never | Stop::Behind(_) => None,
            },
            flow: Flow::Open,
            stage: Stage::Closed,
            created: None,
            failures: 0,
            deaths: 0,
            ready: VecDeque::new(),
            ready_bytes: 0,
            is_news: false,
            due: None,
            is_done: false,
        }
    }

    /// Whether its end is reached and everything before was taken.
    pub(super) fn is_done(&self) -> bool {
        self.is_done && self.ready.is_empty()
    }

    pub(super) fn wanted(&self) -> Wanted {
        Wanted {
            partition: self.partition.clone(),
            cursor: self.cursor.clone(),
            created: self.created.clone(),
            is_careful: self.deaths >= DEATHS,
        }
    }

    pub(super) fn generation(&self) -> Option<u64> {
        match &self.stage {
            Stage::Open(consumer) => Some(consumer.generation),
            Stage::Closed | Stage::Opening(_) => None,
        }
    }

    pub(super) fn opened(&mut self, generation: u64, opened: Opened) {
        self.failures = 0;
        self.due = None;
        if let Some(time) = self.end_time {
            if time <= opened.now {
                // What is not there when its time has come is not wanted.
                self.end.get_or_insert(opened.last);
            } else {
                let wait = Duration::from_millis((time - opened.now).unsigned_abs());
                self.due = Some(Instant::now() + wait);
            }
        }
        let after = self.cursor.after();
        if opened.pending == 0 {
            self.saw_end(after, opened.last);
        }
        self.is_done |= self
            .end
            .is_some_and(|end| opened.pending == 0 || after >= end);
        self.created
            .get_or_insert_with(|| opened.facts.created.clone());
        self.stage = Stage::Open(Consumer::new(generation, opened));
    }

    /// There is nothing behind `after` in a stream that has come to `last`.
    fn saw_end(&mut self, after: u64, last: u64) {
        let seen = last.max(after);
        self.cursor = match self.cursor {
            // What came before the time is not wanted.
            Cursor::Time(_) => Cursor::at(last),
            Cursor::First | Cursor::After { .. } => Cursor::After { after, seen },
        };
        self.is_news = true;
    }

    /// Up to where there is no record behind the last one, if that is news.
    pub(super) fn take_seen(&mut self) -> Option<(u64, u64)> {
        match self.cursor {
            Cursor::After { after, seen } if std::mem::take(&mut self.is_news) => {
                Some((after, seen))
            }
            _ => None,
        }
    }

    /// Takes a record that has come by `now`.
    pub(super) fn record(
        &mut self,
        decoder: &mut Decoder,
        place: &Place<'_>,
        message: &Message,
        now: Instant,
    ) {
        let Stage::Open(consumer) = &mut self.stage else {
            return;
        };
        let is_next = consumer.gave(place.delivered, message.length, now);
        if !is_next && !planted::is("consumer-kept-after-cut") {
            // One was lost on the way: begin again behind the last that came.
            self.stage = Stage::Closed;
            return;
        }
        if !self.is_wanted(place) {
            return;
        }
        let partition = &self.partition;
        let (topic, index) = (&partition.topic, partition.index);
        let (headers, payload) = (message.headers.as_ref(), message.payload.clone());
        let record = decode(decoder, topic, index, place, headers, payload);
        self.push(record);
    }

    /// Notes that a record has come; whether it is before the end.
    fn is_wanted(&mut self, place: &Place<'_>) -> bool {
        let is_behind = self.end.is_some_and(|end| place.sequence > end)
            || self.end_time.is_some_and(|time| place.stored_at >= time);
        if is_behind || self.is_done {
            self.is_done = true;
            return false;
        }
        self.is_done = self
            .end
            .is_some_and(|end| place.sequence == end || place.pending == 0);
        self.cursor = Cursor::at(place.sequence);
        true
    }

    fn push(&mut self, record: Recorded) {
        self.ready_bytes += record.envelope.size();
        self.ready.push_back(record);
    }

    /// The connection broke.
    pub(super) fn broken(&mut self) {
        if let Stage::Open(consumer) = &self.stage {
            self.deaths = match consumer.progress() {
                Progress::Unasked => self.deaths,
                Progress::Waiting => self.deaths + 1,
                // The next one may be what broke it.
                Progress::Given => 1,
            };
        }
        self.stage = Stage::Closed;
    }

    /// Takes the next message as it is stored. If it is one that the client cannot read, the one
    /// behind it is taken in the same way.
    pub(super) fn careful(&mut self, decoder: &mut Decoder, raw: Option<Raw>) {
        self.stage = Stage::Closed;
        self.failures = 0;
        let Some(raw) = raw else {
            self.deaths = 0;
            return;
        };
        if !is_odd(&raw.headers) {
            self.deaths = 0;
        }
        let place = Place {
            consumer: "",
            sequence: raw.sequence,
            delivered: 0,
            stored_at: raw.stored_at,
            // Unknown; a consumer will tell.
            pending: 1,
        };
        if self.is_wanted(&place) {
            let partition = &self.partition;
            let (topic, index) = (&partition.topic, partition.index);
            let record = decode_raw(decoder, topic, index, &place, &raw.headers, raw.payload);
            self.push(record);
        }
    }

    /// Takes a word of the server about a request for records.
    pub(super) fn status(&mut self, message: &Message) {
        let Stage::Open(consumer) = &mut self.stage else {
            return;
        };
        match consumer.status(message) {
            Status::Goes => {}
            // Whatever was there has been given.
            Status::Idle => self.is_done |= self.end.is_some(),
            Status::Gone => self.stage = Stage::Closed,
        }
    }

    /// Asks for records if there is room for them.
    pub(super) fn pull(&mut self, session: &Session, inbox: &str) {
        let has_room = self.ready.len() < READY && self.ready_bytes < READY_BYTES;
        if self.flow == Flow::Stopped || self.is_done || !has_room {
            return;
        }
        if let Stage::Open(consumer) = &mut self.stage {
            consumer.pull(session, inbox);
        }
    }

    /// Begins anew after too long a silence, when the time of its end has come, or to see once
    /// more that there is nothing.
    pub(super) fn look(&mut self, session: &Session) {
        let Stage::Open(consumer) = &self.stage else {
            return;
        };
        let is_due = self.due.is_some_and(|due| due <= Instant::now());
        if is_due || consumer.is_silent() || consumer.is_stale() {
            consumer.drop_it(session);
            self.stage = Stage::Closed;
        }
    }

    /// Records that are there, within the budget, at least one.
    pub(super) fn take(&mut self, budget: Budget) -> Option<Batch> {
        if self.flow == Flow::Stopped || self.ready.is_empty() {
            return None;
        }
        let records = if self.ready.len() <= budget.events && self.ready_bytes <= budget.bytes {
            self.ready_bytes = 0;
            std::mem::take(&mut self.ready).into()
        } else {
            self.split(budget)
        };
        Some(Batch {
            partition: self.partition.clone(),
            fence: self.fence,
            records: records.into(),
        })
    }

    fn split(&mut self, budget: Budget) -> Vec<Recorded> {
        let (mut bytes, mut count) = (0, 0);
        for record in self.ready.iter().take(budget.events.max(1)) {
            let size = record.envelope.size();
            if count > 0 && bytes + size > budget.bytes {
                break;
            }
            bytes += size;
            count += 1;
        }
        self.ready_bytes = self.ready_bytes.saturating_sub(bytes);
        self.ready.drain(..count).collect()
    }

    /// Tells the server that the consumer is not needed any more; it would notice by itself.
    pub(super) fn drop_consumer(&self, session: &Session) {
        if let Stage::Open(consumer) = &self.stage {
            consumer.drop_it(session);
        }
    }
}

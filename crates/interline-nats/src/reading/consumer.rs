//! A consumer, and the requests to it.

use std::time::Duration;

use async_nats::{Message, StatusCode, Subject};
use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::task::unconstrained;
use tokio::time::Instant;

use super::open::{Opened, drop_consumer};
use crate::link::Session;

/// What is asked for at a time: enough to keep both sides busy, and few enough bytes that the
/// records of one partition do not delay the others.
const BATCH: usize = 1_000;
const BYTES: usize = 256 << 10;

/// A request for [`BATCH`] records of [`BYTES`] within 30 s. A server that has none says every 3 s
/// that it is there.
const PULL: &[u8] =
    br#"{"batch":1000,"max_bytes":262144,"expires":30000000000,"idle_heartbeat":3000000000}"#;

/// A request for one record of any size.
const PULL_ONE: &[u8] = br#"{"batch":1,"expires":30000000000,"idle_heartbeat":3000000000}"#;

/// After which silence to a request the consumer is taken for dead: three heartbeats.
const SILENCE: Duration = Duration::from_secs(9);

/// How long a partition may be quiet before it is looked at anew. Much less than what is kept:
/// whoever is away for longer than that cannot know whether something was lost.
const REFRESH: Duration = Duration::from_secs(300);

/// A consumer that this reading has made.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) generation: u64,
    name: String,
    stream: String,
    /// Where it is asked for records.
    asks: Subject,
    /// The number of records that it has given.
    delivered: u64,
    /// What it was asked for and has not given.
    asked: usize,
    asked_bytes: usize,
    heard: Instant,
    made: Instant,
    /// Whether it has nothing to give.
    is_idle: bool,
    /// How long a partition may be quiet before it is looked at anew.
    refresh: Duration,
    /// Whether the next record is larger than what is asked for at a time.
    is_large: bool,
}

/// What a word of the server means.
pub(super) enum Status {
    /// Nothing new.
    Goes,
    /// There is no record that was not given.
    Idle,
    /// The consumer is not there any more.
    Gone,
}

/// How far a consumer has come.
pub(super) enum Progress {
    /// It was asked for nothing.
    Unasked,
    /// It was asked and has given nothing.
    Waiting,
    /// It has given records.
    Given,
}

impl Consumer {
    pub(super) fn new(generation: u64, opened: Opened) -> Self {
        let (stream, name) = (opened.facts.stream.clone(), opened.name);
        Self {
            generation,
            asks: format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}").into(),
            name,
            stream,
            delivered: 0,
            asked: 0,
            asked_bytes: 0,
            heard: Instant::now(),
            made: Instant::now(),
            is_idle: false,
            refresh: match opened.max_age {
                Duration::ZERO => REFRESH,
                max_age => (max_age / 4).min(REFRESH),
            },
            is_large: false,
        }
    }

    /// Notes a record that has come by `now`; whether it is the next one.
    pub(super) fn gave(&mut self, number: u64, bytes: usize, now: Instant) -> bool {
        self.delivered += 1;
        self.asked = self.asked.saturating_sub(1);
        self.asked_bytes = self.asked_bytes.saturating_sub(bytes);
        self.heard = now;
        self.is_idle = false;
        self.is_large = false;
        number == self.delivered
    }

    /// Asks for more, so that the next records are on their way while the last ones are handled.
    pub(super) fn pull(&mut self, session: &Session, inbox: &str) {
        if self.asked >= BATCH / 2 && self.asked_bytes >= BYTES / 2 {
            return;
        }
        let (body, batch) = match self.is_large {
            true if self.asked > 0 => return,
            true => (PULL_ONE, 1),
            false => (PULL, BATCH),
        };
        if self.asked == 0 {
            // Silence counts from the request on.
            self.heard = Instant::now();
        }
        let reply = format!("{inbox}.{}", self.generation);
        let (client, asks) = (&session.client, self.asks.clone());
        let asking = client.publish_with_reply(asks, reply, Bytes::from_static(body));
        // There is always room in the client; a broken connection tells of itself.
        if let Some(Ok(())) = unconstrained(asking).now_or_never() {
            self.asked += batch;
            self.asked_bytes += BYTES;
        }
    }

    pub(super) fn status(&mut self, message: &Message) -> Status {
        self.heard = Instant::now();
        let said = message.description.as_deref().unwrap_or_default();
        match message.status {
            Some(StatusCode::IDLE_HEARTBEAT) => {
                self.is_idle = true;
                Status::Idle
            }
            Some(StatusCode::TIMEOUT | StatusCode::NOT_FOUND) => {
                self.ended(message);
                Status::Idle
            }
            Some(StatusCode::NO_RESPONDERS) => Status::Gone,
            _ if said.eq_ignore_ascii_case("message size exceeds maxbytes") => {
                let left = self.ended(message);
                // Nothing was given at all: the first record alone was too large.
                self.is_large |= left == Some(BATCH);
                Status::Goes
            }
            _ if said.eq_ignore_ascii_case("batch completed") => {
                self.ended(message);
                Status::Goes
            }
            _ => {
                tracing::debug!(target: "interline::nats", consumer = self.name, said, "a consumer is gone");
                Status::Gone
            }
        }
    }

    /// A request has ended; what of it was not given.
    fn ended(&mut self, message: &Message) -> Option<usize> {
        let number = |name: &str| {
            let value = message.headers.as_ref()?.get(name)?;
            value.as_str().parse::<usize>().ok()
        };
        let left = number("Nats-Pending-Messages");
        let bytes = number("Nats-Pending-Bytes");
        self.asked = self.asked.saturating_sub(left.unwrap_or(self.asked));
        self.asked_bytes = self
            .asked_bytes
            .saturating_sub(bytes.unwrap_or(self.asked_bytes));
        left
    }

    /// Goes on over another connection: only ever as a planted bug, since what was on its way is
    /// lost.
    pub(super) fn keep(&mut self) {
        (self.asked, self.asked_bytes) = (0, 0);
    }

    pub(super) fn progress(&self) -> Progress {
        match (self.delivered, self.asked) {
            (0, 0) => Progress::Unasked,
            (0, _) => Progress::Waiting,
            _ => Progress::Given,
        }
    }

    /// Whether it should have said something long ago.
    pub(super) fn is_silent(&self) -> bool {
        self.asked > 0 && self.heard.elapsed() > SILENCE
    }

    /// Whether the partition has been quiet for so long that it has to be looked at anew.
    pub(super) fn is_stale(&self) -> bool {
        self.is_idle && self.made.elapsed() > self.refresh
    }

    /// Tells the server that it is not needed any more.
    pub(super) fn drop_it(&self, session: &Session) {
        drop_consumer(session, &self.stream, &self.name);
    }
}

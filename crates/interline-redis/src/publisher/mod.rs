//! Publishing.

mod batch;
mod line;
mod sync;
mod ticket;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use interline_core::{
    Capabilities, Durability, Error, EventId, Key, Outcome, Outgoing, PublisherOptions,
    PublisherStats, Receipt, Result, Topic, limits, planted,
};
use interline_transport::partition::{Spreader, for_key};
use interline_transport::window::Window;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use self::batch::{Outcomes, Packed, Run, Session};
use self::line::Line;
use self::sync::Syncs;
use self::ticket::{Ticket, Tickets};
use crate::SCHEME;
use crate::client::{Link, Use};
use crate::codec::{pack, separate_key};
use crate::error::closed;
use crate::server::Server;
use crate::topics::Facts;

/// The bytes that may be without outcome before `enqueue` waits, in KiB: 64 MiB.
const WINDOW_KIB: usize = 64 << 10;

/// Stores events in the streams of a server; see [`interline_core::Publisher`].
///
/// Events that arrive while a batch is on its way form the next one, and the server stores a
/// batch in one step. A batch whose answer was lost is sent again under its number until the
/// publish timeout; the server recognises it and stores it once. An event that the caller
/// publishes again is stored again, unless the setting `dedupe_window` is on.
///
/// A `min_durability` of D2, in the options or in the URL, has every answer wait until the server
/// has synced its log, unless it does so before it answers (`appendfsync always`). With
/// `appendfsync everysec` that takes up to two seconds.
///
/// `flush` whose deadline passes gives up everything on its way, that of other callers too: what
/// was not sent is then `Rejected`, the rest `Unknown`.
pub struct Publisher {
    core: Arc<Core>,
    capabilities: Capabilities,
    publish_timeout: Duration,
    spreader: Mutex<Spreader>,
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("server", &self.core.server)
            .field("stats", &self.core.tickets.tally.stats())
            .finish_non_exhaustive()
    }
}

/// What the tasks of a publisher share.
struct Core {
    server: Arc<Server>,
    link: Link,
    tickets: Tickets,
    /// The durability that is wanted at least, and what waits for it where it has to be waited for.
    wanted: Durability,
    syncs: Syncs,
    lines: Mutex<HashMap<Topic, Arc<Line>>>,
    /// In milliseconds; 0 is none.
    window_ms: i64,
    stop: watch::Sender<bool>,
}

/// Closes a publisher from outside, without keeping it alive.
#[derive(Debug)]
pub(crate) struct Closer(std::sync::Weak<Core>);

impl Publisher {
    pub(crate) async fn open(
        server: Arc<Server>,
        capabilities: Capabilities,
        options: &PublisherOptions,
    ) -> Result<Self> {
        let window = Window::new(options.window, WINDOW_KIB).map_err(|error| error.on(SCHEME))?;
        let wanted = options.min_durability;
        let wanted = wanted.unwrap_or(server.resolved.min_durability);
        server.check_promise(wanted)?;
        let link = server.link(Use::Requests).await?;
        let dedupe = server.resolved.config.dedupe_window.unwrap_or_default();
        let core = Core {
            link,
            tickets: Tickets::new(window),
            wanted,
            syncs: Syncs::new(Arc::clone(&server)),
            lines: Mutex::default(),
            window_ms: i64::try_from(dedupe.as_millis()).unwrap_or(i64::MAX),
            stop: watch::Sender::new(false),
            server,
        };
        Ok(Self {
            core: Arc::new(core),
            capabilities,
            publish_timeout: options.publish_timeout,
            // Publishers that start at the same time do not march in step.
            spreader: Mutex::new(Spreader::starting_at(uuid::Uuid::new_v4().as_fields().0)),
        })
    }

    pub(crate) fn closer(&self) -> Closer {
        Closer(Arc::downgrade(&self.core))
    }

    /// Packs the events of `ticket` for `facts`' topic, leaving out those with an outcome.
    fn pack(&self, ticket: &Ticket, facts: &Facts, skip: &[(u32, Outcome)]) -> Vec<Packed> {
        let mut text = BytesMut::new();
        let mut ends = Vec::new();
        let mut spreader = self.spreader.lock().unwrap_or_else(PoisonError::into_inner);
        spreader.next_batch();
        let mut packed = Vec::new();
        for (index, outgoing) in (0_u32..).zip(&ticket.batch) {
            let skipped = skip.binary_search_by_key(&index, |(index, _)| *index);
            if outgoing.topic != facts.topic || skipped.is_ok() {
                continue;
            }
            let envelope = &outgoing.envelope;
            pack(envelope, &mut text);
            ends.push(text.len());
            packed.push(Packed {
                index,
                partition: match envelope.key() {
                    Some(key) => for_key(key, facts.partitions()),
                    None => spreader.next(facts.partitions()),
                },
                attributes: Bytes::new(),
                key: separate_key(envelope).map(Key::to_bytes),
                data: envelope.payload().cloned(),
                identity: (self.core.window_ms > 0).then(|| identity(outgoing)),
            });
        }
        drop(spreader);
        // All texts of a run share one buffer.
        let text = text.freeze();
        let mut begin = 0;
        for (event, end) in packed.iter_mut().zip(ends) {
            event.attributes = text.slice(begin..end);
            begin = end;
        }
        packed
    }

    /// Hands the events of `ticket` for one topic to its line.
    fn hand_over(&self, ticket: &Arc<Ticket>, facts: &Arc<Facts>, rejected: &[(u32, Outcome)]) {
        let events = self.pack(ticket, facts, rejected);
        if events.is_empty() {
            return;
        }
        let mut run = Run {
            ticket: Arc::clone(ticket),
            events: events.into_iter(),
            deadline: Instant::now() + self.publish_timeout,
        };
        // A line that is over gives the run back; the next one is new.
        while let Err(back) = self.core.line(facts).push(&self.core, run) {
            self.core.forget_line(&facts.topic);
            run = back;
        }
    }
}

/// By what the server recognises copies of an event.
fn identity(outgoing: &Outgoing) -> Uuid {
    if planted::is("dedupe-without-purpose") {
        let envelope = &outgoing.envelope;
        return envelope.id().identity(envelope.source());
    }
    outgoing.identity()
}

impl Core {
    fn lines(&self) -> MutexGuard<'_, HashMap<Topic, Arc<Line>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The line to a topic as it is known now.
    fn line(&self, facts: &Arc<Facts>) -> Arc<Line> {
        let mut lines = self.lines();
        if let Some(line) = lines.get(&facts.topic)
            && line.facts.incarnation == facts.incarnation
        {
            return Arc::clone(line);
        }
        let line = Arc::new(Line::new(Arc::clone(facts)));
        lines.insert(facts.topic.clone(), Arc::clone(&line));
        line
    }

    fn forget_line(&self, topic: &Topic) {
        self.lines().remove(topic);
    }

    /// The topic is not what it was.
    fn forget(&self, topic: &Topic) {
        self.server.forget(topic);
        self.forget_line(topic);
    }

    fn new_session(&self, topic: &Topic) -> Session {
        line::fresh_session(&self.server.resolved.keys, topic)
    }

    /// What an answer survives when it is told, and whether the disk has to be waited for.
    fn durability(&self) -> (Durability, bool) {
        let probe = self.server.probe();
        let level = probe.level(self.wanted);
        (level, level > probe.durability)
    }

    fn settle(&self, outcomes: Outcomes) {
        for (ticket, outcomes) in outcomes {
            self.tickets.settle(&ticket, outcomes);
        }
    }

    /// Waits until the publisher is closed.
    async fn stopped(&self) {
        let mut stop = self.stop.subscribe();
        // The sender is part of this.
        let _ = stop.wait_for(|stop| *stop).await;
    }

    async fn flush(&self, deadline: Duration) -> Vec<EventId> {
        let mark = self.tickets.mark();
        match tokio::time::timeout(deadline, self.tickets.settled(mark)).await {
            Ok(()) => Vec::new(),
            Err(_) => self.tickets.abandon(mark),
        }
    }
}

impl Closer {
    pub(crate) fn is_open(&self) -> bool {
        self.0.strong_count() > 0
    }

    /// Flushes until the deadline and ends the publisher; the ids that have no outcome.
    pub(crate) async fn close(&self, deadline: Duration) -> Vec<EventId> {
        let Some(core) = self.0.upgrade() else {
            return Vec::new();
        };
        core.tickets.window.close();
        let left = core.flush(deadline).await;
        core.stop.send_replace(true);
        left
    }
}

impl interline_core::Publisher for Publisher {
    async fn enqueue(&self, batch: Vec<Outgoing>) -> Result<Receipt> {
        self.core.server.check_open("publish")?;
        if batch.is_empty() {
            return Ok(Receipt::ready(Vec::new()));
        }
        let (topics, missing) = self.topics(&batch).await?;
        let bytes: usize = batch.iter().map(|outgoing| outgoing.envelope.size()).sum();
        let places = self.core.tickets.window.take(batch.len(), bytes).await;
        let places = places.ok_or_else(|| closed("publish"))?;
        // From here on nothing waits: a dropped call has sent all or nothing.
        let (sender, receipt) = Receipt::channel(batch.len());
        self.core.tickets.tally.sent(batch.len(), bytes);
        let ticket = self.core.tickets.open(batch, places, sender);
        let rejected = self.rejected(&ticket.batch, &missing);
        for facts in &topics {
            self.hand_over(&ticket, facts, &rejected);
        }
        if !rejected.is_empty() {
            self.core.tickets.settle(&ticket, rejected);
        }
        Ok(receipt)
    }

    async fn flush(&self, deadline: Duration) -> Result<Vec<EventId>> {
        Ok(self.core.flush(deadline).await)
    }

    fn stats(&self) -> PublisherStats {
        self.core.tickets.tally.stats()
    }
}

type Topics = (Vec<Arc<Facts>>, HashMap<Topic, Error>);

impl Publisher {
    /// The topics of a batch, each once, and why some cannot be published to. It waits for the
    /// server's answer the first time a topic is used.
    async fn topics(&self, batch: &[Outgoing]) -> Result<Topics> {
        let (mut topics, mut refused): Topics = Default::default();
        for outgoing in batch {
            let topic = &outgoing.topic;
            // Batches mostly go to one topic.
            if topics.iter().any(|facts| facts.topic == *topic) || refused.contains_key(topic) {
                continue;
            }
            let facts = match self.core.server.check_promise(self.core.wanted) {
                Ok(()) => self.core.server.require("publish", topic).await,
                Err(refused) => Err(refused),
            };
            match facts {
                Ok(facts) => topics.push(facts),
                Err(error) => {
                    refused.insert(topic.clone(), error);
                }
            }
        }
        Ok((topics, refused))
    }

    /// The events that are refused without being sent, with their places, ascending.
    fn rejected(&self, batch: &[Outgoing], missing: &HashMap<Topic, Error>) -> Vec<(u32, Outcome)> {
        let judge = |(index, outgoing): (u32, &Outgoing)| {
            let error = match missing.get(&outgoing.topic) {
                Some(error) => error.again(),
                None => limits::check(outgoing, &self.capabilities).err()?,
            };
            Some((index, Outcome::Rejected(error)))
        };
        (0..).zip(batch).filter_map(judge).collect()
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        // Events on their way still get their outcomes: each driver holds what it needs.
        self.core.tickets.window.close();
    }
}

//! Reading partitions: a consumer without acknowledgements for each, made anew behind the last
//! record whenever anything is in doubt.

mod consumer;
mod open;
mod part;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Message, Subscriber};
use futures_util::stream::{FuturesUnordered, ReadyChunks};
use futures_util::{FutureExt as _, StreamExt as _};
use interline_core::{
    Batch, BoxFuture, Budget, Error, ErrorKind, Fence, Flow, Partition, Result, planted,
};
use interline_transport::wire::{Decoder, Style};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use self::open::{Failure, Opening, open};
pub(crate) use self::open::{before, check_kept, pending, sequence};
pub(crate) use self::part::{Cursor, Stop};
use self::part::{Part, Stage};
use crate::error::broken;
use crate::horizons::Horizons;
use crate::hub::Hub;
use crate::link::Session;
use crate::message::Place;

/// How often silence and deadlines are looked at.
const TICK: Duration = Duration::from_secs(1);

/// How soon an opening that failed for now is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// How often a topic has to be missing in a row to be taken for deleted: a server that has just
/// come up may not know its streams yet.
const MISSING: u32 = 3;

/// Messages that are taken at a time.
const CHUNK: usize = 1_024;

/// A reading of any number of partitions over one connection.
pub(crate) struct Reading {
    hub: Arc<Hub>,
    operation: &'static str,
    live: Option<Live>,
    parts: Vec<Part>,
    /// The part of the last message: the next one is most likely of the same.
    last: usize,
    /// The part that was read last, so that they take turns.
    turn: usize,
    opening: FuturesUnordered<BoxFuture<'static, Answer>>,
    /// Unique among all readings of the server.
    name: String,
    generation: u64,
    decoder: Decoder,
    ticks: Option<Interval>,
    horizons: Option<Arc<Horizons>>,
}

/// What became of an opening.
struct Answer {
    generation: u64,
    opened: Result<Opening, Failure>,
}

/// The connection, and where records arrive.
struct Live {
    session: Session,
    inbox: String,
    messages: ReadyChunks<Subscriber>,
}

/// What a reading waited for.
enum Event {
    Messages(Option<Vec<Message>>),
    Opened(Answer),
    Died,
    Tick,
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading")
            .field("name", &self.name)
            .field("parts", &self.parts.len())
            .finish_non_exhaustive()
    }
}

impl Reading {
    pub(crate) fn new(hub: Arc<Hub>, operation: &'static str) -> Self {
        let random = std::iter::repeat_with(fastrand::alphanumeric).take(16);
        Self {
            hub,
            operation,
            live: None,
            parts: Vec::new(),
            last: 0,
            turn: 0,
            opening: FuturesUnordered::new(),
            name: format!("interline-{}", random.collect::<String>()),
            generation: 0,
            decoder: Decoder::new(Style::Dash),
            ticks: None,
            horizons: None,
        }
    }

    /// Notes there what partitions are seen to be empty.
    pub(crate) fn noting(mut self, horizons: &Arc<Horizons>) -> Self {
        self.horizons = Some(Arc::clone(horizons));
        self
    }

    /// Reads a partition too.
    pub(crate) fn add(&mut self, partition: Partition, fence: Fence, cursor: Cursor, stop: Stop) {
        self.remove(&partition);
        self.parts.push(Part::new(partition, fence, cursor, stop));
    }

    /// Reads a partition no more.
    pub(crate) fn remove(&mut self, partition: &Partition) {
        let Some(at) = self
            .parts
            .iter()
            .position(|part| part.partition == *partition)
        else {
            return;
        };
        let part = self.parts.swap_remove(at);
        if let Some(live) = &self.live {
            part.drop_consumer(&live.session);
        }
    }

    pub(crate) fn flow(&mut self, partition: &Partition, flow: Flow) {
        let part = self
            .parts
            .iter_mut()
            .find(|part| part.partition == *partition);
        if let Some(part) = part {
            part.flow = flow;
        }
    }

    /// The next records of one partition; nothing if there is no partition (any more).
    ///
    /// A dropped call loses nothing: whatever came is kept.
    pub(crate) async fn next(&mut self, budget: Budget) -> Result<Option<Batch>> {
        loop {
            if let Some(batch) = self.take(budget) {
                return Ok(Some(batch));
            }
            self.drop_done();
            if self.parts.is_empty() {
                return Ok(None);
            }
            self.connect().await?;
            self.work();
            match self.wait().await? {
                Event::Messages(Some(messages)) => self.sort(messages),
                Event::Opened(answer) => self.opened(answer)?,
                Event::Messages(None) | Event::Died => self.disconnected(),
                Event::Tick => self.look(),
            }
        }
    }

    /// Lets go of parts that have reached their end.
    fn drop_done(&mut self) {
        let live = self.live.as_ref();
        self.parts.retain(|part| {
            if let Some(live) = live.filter(|_| part.is_done()) {
                part.drop_consumer(&live.session);
            }
            !part.is_done()
        });
    }

    /// Records that are there.
    fn take(&mut self, budget: Budget) -> Option<Batch> {
        for step in 1..=self.parts.len() {
            let at = (self.turn + step) % self.parts.len();
            if let Some(batch) = self.parts[at].take(budget) {
                self.turn = at;
                return Some(batch);
            }
        }
        None
    }

    /// Makes sure that there is a connection.
    async fn connect(&mut self) -> Result<()> {
        if let Some(live) = &self.live
            && !live.session.is_dead()
        {
            return Ok(());
        }
        self.disconnected();
        let session = self.hub.reading().session(self.operation).await?;
        let inbox = session.client.new_inbox();
        let messages = session.client.subscribe(format!("{inbox}.*")).await;
        if let Ok(messages) = messages {
            self.live = Some(Live {
                session,
                inbox,
                messages: messages.ready_chunks(CHUNK),
            });
        }
        Ok(())
    }

    /// Whatever the connection would have brought will not come: every part begins anew behind
    /// its last record.
    fn disconnected(&mut self) {
        // What came before the end is not lost.
        while let Some(Some(messages)) = self.live.as_mut().and_then(next_now) {
            self.sort(messages);
        }
        self.live = None;
        self.opening.clear();
        for part in &mut self.parts {
            match &mut part.stage {
                Stage::Open(consumer) if planted::is("consumer-kept-after-cut") => consumer.keep(),
                _ => part.broken(),
            }
        }
    }

    /// Opens what is closed and asks for what there is room for.
    fn work(&mut self) {
        let Some(live) = &self.live else {
            return;
        };
        for part in &mut self.parts {
            match &mut part.stage {
                Stage::Closed => {
                    self.generation += 1;
                    let generation = self.generation;
                    part.stage = Stage::Opening(generation);
                    let name = format!("{}-{generation}", self.name);
                    let (hub, session) = (Arc::clone(&self.hub), live.session.clone());
                    let (wanted, operation) = (part.wanted(), self.operation);
                    let delay = if part.failures > 0 {
                        AGAIN
                    } else {
                        Duration::ZERO
                    };
                    self.opening.push(Box::pin(async move {
                        tokio::time::sleep(delay).await;
                        Answer {
                            generation,
                            opened: open(&hub, &session, operation, wanted, name).await,
                        }
                    }));
                }
                Stage::Opening(_) => {}
                Stage::Open(_) => part.pull(&live.session, &live.inbox),
            }
        }
    }

    async fn wait(&mut self) -> Result<Event> {
        let settings = &self.hub.settings;
        let Some(live) = &mut self.live else {
            return Err(broken(self.operation));
        };
        let ticks = self.ticks.get_or_insert_with(|| {
            let mut ticks = interval(TICK);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        Ok(tokio::select! {
            messages = live.messages.next() => Event::Messages(messages),
            Some(answer) = self.opening.next() => Event::Opened(answer),
            () = live.session.died() => Event::Died,
            _ = ticks.tick() => Event::Tick,
            () = settings.closed() => return Err(crate::error::closed(self.operation)),
        })
    }

    /// Hands messages to their parts.
    fn sort(&mut self, messages: Vec<Message>) {
        let now = Instant::now();
        for message in messages {
            // A record tells its consumer where it would be acknowledged, a word of the server
            // came to the consumer's own inbox; both end in the generation.
            let place = match message.status {
                None => Place::of(&message),
                Some(_) => None,
            };
            let name = place.map_or(message.subject.as_str(), |place| place.consumer);
            let generation = name.rsplit(['-', '.']).next();
            let generation = generation.and_then(|text| text.parse::<u64>().ok());
            let Some(at) = generation.and_then(|generation| self.find(generation)) else {
                // Of a consumer that was given up.
                continue;
            };
            self.last = at;
            let part = &mut self.parts[at];
            match (message.status, &place) {
                (Some(_), _) => part.status(&message),
                (None, Some(place)) => part.record(&mut self.decoder, place, &message, now),
                (None, None) => {}
            }
        }
    }

    fn find(&self, generation: u64) -> Option<usize> {
        let is_it = |part: &Part| part.generation() == Some(generation);
        if self.parts.get(self.last).is_some_and(is_it) {
            return Some(self.last);
        }
        self.parts.iter().position(is_it)
    }

    fn opened(&mut self, answer: Answer) -> Result<()> {
        let is_it = |part: &&mut Part| matches!(part.stage, Stage::Opening(generation) if generation == answer.generation);
        let Some(part) = self.parts.iter_mut().find(is_it) else {
            // Closed meanwhile. What was made is forgotten by the server by itself.
            return Ok(());
        };
        match answer.opened {
            Ok(Opening::Consumer(opened)) => {
                part.opened(answer.generation, opened);
                if let Some(horizons) = &self.horizons
                    && let Some((last, seen)) = part.take_seen()
                {
                    horizons.note(&part.partition, last, seen);
                }
            }
            Ok(Opening::Message(raw)) => part.careful(&mut self.decoder, raw),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Missing(error)) if part.failures + 1 >= MISSING => return Err(error),
            Err(Failure::Missing(error) | Failure::ForNow(error)) => {
                part.failures += 1;
                part.stage = Stage::Closed;
                tracing::debug!(
                    target: "interline::nats",
                    partition = %part.partition, %error, "cannot read for now"
                );
            }
        }
        Ok(())
    }

    /// Begins those parts anew that have been silent for too long, or whose time has come.
    fn look(&mut self) {
        if let Some(live) = &self.live {
            self.parts
                .iter_mut()
                .for_each(|part| part.look(&live.session));
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some(live) = &self.live {
            for part in &self.parts {
                part.drop_consumer(&live.session);
            }
        }
    }
}

/// Messages that have come already; nothing if none have.
fn next_now(live: &mut Live) -> Option<Option<Vec<Message>>> {
    live.messages.next().now_or_never()
}

/// Whether an error ends a reading.
fn is_final(error: &Error) -> bool {
    !error.is_transient() && error.kind() != ErrorKind::Protocol
}

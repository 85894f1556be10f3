//! Reading the log: many partitions with one statement, in batches of one partition each.

mod part;
mod rows;
mod session;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::OptionFuture;
use interline_core::{Batch, BoxFuture, Budget, Error, Fence, Flow, Partition, Position, Result};
use interline_transport::wire::{Decoder, Style};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use self::part::{Asked, Part, Place, Reading, Stream};
use self::rows::Slab;
use self::session::Line;
use crate::SCHEME;
use crate::error::{lost_connection, missing_topic, postgres};
use crate::horizon::Seen;
use crate::link::Link;
use crate::session::Session;
use crate::topics::Listed;

/// What one statement should bring at most, near enough, and the most rows of a partition.
const BYTES: usize = 4 << 20;
const ROWS: usize = 400;

/// Between tries to reach the server, first and at most.
const BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// A question to the server that goes on while its reader is asked something else.
type Pending<T> = BoxFuture<'static, Result<T>>;

/// Reads partitions from where they stand. One task owns it.
pub(crate) struct Fetcher {
    link: Arc<Link>,
    parts: Vec<Part>,
    next_serial: u64,
    connecting: Option<Pending<session::Connected>>,
    placing: Option<Pending<Vec<session::Placed>>>,
    line: Option<Line>,
    /// What is read belongs to a later epoch of the horizon than this line's connection.
    epoch: u64,
    reading: Option<Reading>,
    /// Rows of one partition that are not handed out yet.
    slab: Slab,
    /// A row that belongs to the batch after.
    held: Option<tokio_postgres::Row>,
    ready: VecDeque<Batch>,
    decoder: Decoder,
    seen: watch::Receiver<Seen>,
    topics: watch::Receiver<Listed>,
    closing: BoxFuture<'static, ()>,
    retry_at: Option<Instant>,
    failures: u32,
    /// Bytes of a row, on average.
    row_bytes: usize,
    turn: usize,
    /// The group whose leases are given up where the server has lost what was read.
    group: Option<Arc<str>>,
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher")
            .field("link", &self.link)
            .field("parts", &self.parts.len())
            .finish_non_exhaustive()
    }
}

impl Fetcher {
    pub(crate) fn new(link: Arc<Link>, group: Option<Arc<str>>) -> Self {
        Self {
            parts: Vec::new(),
            next_serial: 0,
            connecting: None,
            placing: None,
            line: None,
            epoch: 0,
            reading: None,
            slab: Slab::default(),
            held: None,
            ready: VecDeque::new(),
            decoder: Decoder::new(Style::Underscore),
            seen: link.horizon.watch(),
            topics: link.topics.watch(),
            closing: Box::pin(link.closing()),
            retry_at: None,
            failures: 0,
            row_bytes: 256,
            turn: 0,
            group,
            link,
        }
    }

    /// Reads `partition` too, after `after`, up to the id `stop` if there is one.
    pub(crate) fn open(
        &mut self,
        partition: Partition,
        fence: Fence,
        after: Option<Position>,
        stop: Option<i64>,
    ) {
        self.close(&partition);
        self.next_serial += 1;
        self.parts.push(Part {
            serial: self.next_serial,
            partition,
            fence,
            after,
            place: None,
            is_open: true,
            stop,
        });
    }

    pub(crate) fn close(&mut self, partition: &Partition) {
        self.parts.retain(|part| part.partition != *partition);
    }

    pub(crate) fn flow(&mut self, partition: &Partition, flow: Flow) {
        let part = self.parts.iter_mut().find(|p| p.partition == *partition);
        if let Some(part) = part {
            part.is_open = flow == Flow::Open;
        }
    }

    /// Whether nothing is read.
    pub(crate) fn is_idle(&self) -> bool {
        self.parts.is_empty()
    }

    /// Ends every reading behind the id `stop`.
    pub(crate) fn stop_at(&mut self, stop: i64) {
        for part in &mut self.parts {
            part.stop.get_or_insert(stop);
        }
    }

    /// The next records, or nothing once every partition is read to its end. Dropping the call
    /// loses nothing.
    pub(crate) async fn next(&mut self, budget: Budget) -> Result<Option<Batch>> {
        loop {
            self.link.check_open("read")?;
            if let Some(batch) = self.take_ready() {
                return Ok(Some(batch));
            }
            if !self.parts.is_empty() && self.parts.iter().all(Part::is_done) {
                return Ok(None);
            }
            match self.step(budget).await {
                Ok(()) => self.failures = 0,
                Err(error) if error.is_transient() => self.disconnect(&error),
                Err(error) => return Err(error),
            }
        }
    }

    /// The next batch whose partition is still read as it was when it was taken.
    fn take_ready(&mut self) -> Option<Batch> {
        while let Some(batch) = self.ready.pop_front() {
            let part = self.parts.iter().find(|p| p.partition == batch.partition);
            if part.is_some_and(|part| part.fence == batch.fence) {
                return Some(batch);
            }
        }
        None
    }

    async fn step(&mut self, budget: Budget) -> Result<()> {
        if let Some(at) = self.retry_at {
            let Self { closing, .. } = self;
            tokio::select! {
                () = sleep_until(at) => {}
                () = closing => return Ok(()),
            }
            self.retry_at = None;
        }
        self.check_topics()?;
        let Some(line) = &self.line else {
            return self.connect().await;
        };
        if self.reading.is_none() && self.parts.iter().any(|part| part.place.is_none()) {
            let session = Arc::clone(&line.session);
            return self.place(session).await;
        }
        if self.reading.is_none() {
            self.ask();
        }
        match self.reading.is_some() {
            true => self.pull(budget).await,
            false => self.wait().await,
        }
    }

    /// Notices topics that were deleted.
    fn check_topics(&mut self) -> Result<()> {
        if !self.topics.has_changed().unwrap_or(false) {
            return Ok(());
        }
        let listed = self.topics.borrow_and_update();
        for part in &self.parts {
            let topic = &part.partition.topic;
            if let Some(place) = &part.place
                && listed
                    .get(topic)
                    .is_none_or(|facts| facts.id != place.facts.id)
            {
                return Err(missing_topic("read", topic));
            }
        }
        Ok(())
    }

    /// Connects, and makes sure that the server still has what was read from it.
    async fn connect(&mut self) -> Result<()> {
        let connecting = match &mut self.connecting {
            Some(connecting) => connecting,
            none => {
                let link = Arc::clone(&self.link);
                none.insert(Box::pin(session::connect(
                    link,
                    session::places(&self.parts),
                    self.group.clone(),
                )))
            }
        };
        let connected = tokio::select! {
            connected = connecting => connected,
            () = &mut self.closing => return Ok(()),
        };
        self.connecting = None;
        let (line, gone) = connected?;
        self.line = Some(line);
        // What was seen of the horizon may be of a server that has crashed since.
        self.epoch = self.link.horizon.restart();
        self.give_up(&gone)
    }

    /// Asks where partitions stand that were opened since.
    async fn place(&mut self, line: Arc<Session>) -> Result<()> {
        let placing = match &mut self.placing {
            Some(placing) => placing,
            none => {
                let fresh = self.parts.iter().filter(|part| part.place.is_none());
                let link = Arc::clone(&self.link);
                none.insert(Box::pin(session::resolve(
                    link,
                    line,
                    fresh.map(session::Fresh::new).collect(),
                )))
            }
        };
        let placed = placing.await;
        self.placing = None;
        for (serial, facts, cursor) in placed? {
            if let Some(part) = self.parts.iter_mut().find(|part| part.serial == serial) {
                part.place = Some(Place {
                    facts,
                    cursor,
                    stored: None,
                    read_to: cursor,
                });
            }
        }
        Ok(())
    }

    /// Ends the reading of partitions whose last event the server has lost in a crash.
    fn give_up(&mut self, gone: &[session::Found]) -> Result<()> {
        for lost in gone {
            let Some(at) = self
                .parts
                .iter()
                .position(|part| part.serial == lost.serial)
            else {
                continue;
            };
            let part = self.parts.swap_remove(at);
            let cursor = part.place.map_or(0, |place| place.cursor);
            let from = self.link.places.position(cursor);
            if self.group.is_none() {
                return Err(crate::places::position_lost(
                    "read",
                    &part.partition,
                    from,
                    self.link.places.position(cursor.saturating_sub(1)),
                ));
            }
            tracing::warn!(
                target: "interline::postgres",
                partition = %part.partition, position = %from,
                "the server has lost the last event that was read; it is read again from the checkpoint"
            );
        }
        Ok(())
    }

    /// Forgets everything that came from the connection.
    fn disconnect(&mut self, error: &Error) {
        if self.failures == 0 {
            tracing::warn!(target: "interline::postgres", %error, "reading waits");
        }
        let backoff = BACKOFF * 2_u32.pow(self.failures.min(5));
        self.failures += 1;
        self.retry_at = Some(Instant::now() + backoff.min(MAX_BACKOFF));
        self.connecting = None;
        self.placing = None;
        self.reading = None;
        self.held = None;
        self.slab.clear();
        if let Some(line) = self.line.take() {
            line.session.kill();
        }
        for place in self.parts.iter_mut().filter_map(|part| part.place.as_mut()) {
            place.read_to = place.cursor;
        }
    }

    /// Starts a statement for what there is to read, if there is something.
    fn ask(&mut self) {
        let seen = *self.seen.borrow_and_update();
        let (Some(horizon), Some(line)) = (seen.horizon, &self.line) else {
            return;
        };
        if seen.epoch < self.epoch {
            return;
        }
        let wanting = |part: &&Part| part.wants(horizon);
        let count = self.parts.iter().filter(wanting).count();
        if count == 0 {
            return;
        }
        // Partitions take turns to be first.
        self.turn = (self.turn + 1) % self.parts.len();
        let (before, from) = self.parts.split_at(self.turn);
        let parts: Vec<&Part> = from.iter().chain(before).filter(wanting).collect();
        let limit = (BYTES / (self.row_bytes.max(1) * count)).clamp(1, ROWS);
        let asked = parts.iter().map(|part| Asked {
            serial: part.serial,
            rows: 0,
            is_broken: false,
        });
        self.reading = Some(Reading {
            asked: asked.collect(),
            horizon,
            limit,
            heard: Instant::now(),
            stream: Stream::Starting(line.read(&parts, horizon, limit)),
        });
        // The request goes out now, so that the server works while what came before is handled.
        if let Some(Reading { stream, .. }) = &mut self.reading
            && let Stream::Starting(starting) = stream
            && let Some(started) = starting.now_or_never()
        {
            *stream = match started {
                Ok(rows) => Stream::Rows(Box::pin(rows)),
                Err(error) => Stream::Failed(Some(error)),
            };
        }
    }

    /// Waits until there may be something to read, or the connection has ended: what was read from
    /// a server that has crashed may have to be read again.
    async fn wait(&mut self) -> Result<()> {
        let ended = self.line.as_ref().map(|line| line.session.ended());
        let Self {
            seen,
            topics,
            closing,
            ..
        } = self;
        tokio::select! {
            _ = seen.changed() => {}
            _ = topics.changed() => topics.mark_changed(),
            () = closing => {}
            Some(()) = OptionFuture::from(ended) => return Err(lost_connection()),
        }
        Ok(())
    }

    /// Takes rows until a batch is ready or the statement is at its end.
    async fn pull(&mut self, budget: Budget) -> Result<()> {
        loop {
            let row = match self.held.take() {
                Some(row) => Some(row),
                None => match &mut self.reading {
                    Some(reading) => reading.next().await?,
                    None => None,
                },
            };
            let Some(row) = row else {
                self.finish_batch();
                self.finish_reading();
                // The next statement runs while the last batch of this one is handled.
                self.ask();
                return Ok(());
            };
            if let Some(row) = self.take(row, budget)? {
                self.held = Some(row);
                self.finish_batch();
                return Ok(());
            }
        }
    }

    /// Puts a row into the batch that is being made; gives it back if it belongs to the next one.
    fn take(
        &mut self,
        row: tokio_postgres::Row,
        budget: Budget,
    ) -> Result<Option<tokio_postgres::Row>> {
        let failed = |error| postgres("read", error);
        let number: i64 = row.try_get(0).map_err(failed)?;
        let at = usize::try_from(number.unsigned_abs() - 1).unwrap_or(usize::MAX);
        let Some(asked) = self.reading.as_mut().and_then(|r| r.asked.get_mut(at)) else {
            return Ok(None);
        };
        let part = self.parts.iter().find(|part| part.serial == asked.serial);
        if number < 0 {
            return self.dropped(at, &row).map(|()| None);
        }
        asked.rows += 1;
        let is_wanted = part.is_some_and(|part| part.is_open);
        if !is_wanted || asked.is_broken {
            asked.is_broken = true;
            return Ok(None);
        }
        if self.slab.is_full(asked.serial, &row, budget) {
            asked.rows -= 1;
            return Ok(Some(row));
        }
        self.slab.push(asked.serial, &row).map_err(failed)?;
        Ok(None)
    }

    /// Retention has passed a reading.
    fn dropped(&self, at: usize, row: &tokio_postgres::Row) -> Result<()> {
        let serial = self.reading.as_ref().map(|r| r.asked[at].serial);
        let part = self.parts.iter().find(|part| Some(part.serial) == serial);
        let (Some(part), Ok(to)) = (part, row.try_get::<_, i64>(1)) else {
            return Ok(());
        };
        let from = part.place.map_or(0, |place| place.cursor);
        let places = &self.link.places;
        Err(crate::places::position_lost(
            "read",
            &part.partition,
            places.position(from),
            places.position(to),
        ))
    }

    /// Hands the rows that were taken out as a batch, unless nobody wants them any more.
    fn finish_batch(&mut self) {
        let Some(taken) = self.slab.take() else {
            return;
        };
        let part = self.parts.iter_mut().find(|p| p.serial == taken.serial);
        let reading = self.reading.as_mut();
        let Some(part) = part.filter(|part| part.is_open) else {
            let asked = reading.and_then(|r| r.asked.iter_mut().find(|a| a.serial == taken.serial));
            if let Some(asked) = asked {
                asked.is_broken = true;
            }
            return;
        };
        let Some(place) = &mut part.place else { return };
        (place.cursor, place.stored) = (taken.last, Some(taken.stored));
        let bytes = taken.bytes / taken.rows().max(1);
        self.row_bytes = (self.row_bytes * 3 + bytes) / 4;
        let places = &self.link.places;
        let records = taken.records(&mut self.decoder, SCHEME, &part.partition, places);
        self.ready.push_back(Batch {
            partition: part.partition.clone(),
            fence: part.fence,
            records: records.into(),
        });
    }

    /// Notes how far every partition of the statement was read.
    fn finish_reading(&mut self) {
        let Some(reading) = self.reading.take() else {
            return;
        };
        for asked in &reading.asked {
            let part = self.parts.iter_mut().find(|p| p.serial == asked.serial);
            let Some(part) = part else { continue };
            let target = part.target(reading.horizon);
            if let Some(place) = &mut part.place {
                place.read_to = match asked.is_broken || asked.rows >= reading.limit {
                    true => place.cursor,
                    false => target.max(place.cursor),
                };
            }
        }
    }
}

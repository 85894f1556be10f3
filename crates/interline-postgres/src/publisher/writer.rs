//! The task that sends: one connection, two statements on their way.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesOrdered, StreamExt};
use interline_core::{BoxFuture, Error, ErrorKind, Outcome, Position, Result, planted};
use tokio::time::{Instant, sleep_until, timeout_at};
use uuid::Uuid;

use super::call::Chunk;
use super::columns::Batch;
use super::insert::{Answer, Statements, Told};
use super::ledger::Ledger;
use crate::error::{error, missing_topic, postgres};
use crate::link::Link;
use crate::session::{Purpose, Session};

/// The most events and bytes of one statement. More gain nothing, and large payloads lose.
const EVENTS: usize = 500;
const BYTES: usize = 1 << 20;

/// Statements on their way. The second one fills the time in which the first one is written to
/// disk; more would wait behind it.
const DEPTH: usize = 2;

/// Between tries to reach the server, first and at most.
const BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// After which time without an answer the connection is given up and the batch sent again.
const SILENCE: Duration = Duration::from_secs(10);

type Flight = BoxFuture<'static, (Batch, Result<Answer, tokio_postgres::Error>)>;

/// The connection of the task.
struct Line {
    session: Session,
    insert: Statements,
    /// Batches may have copies of what is stored: the first one, which may have been sent on a
    /// connection that was lost, and those after one that had some.
    is_careful: bool,
    /// The number of the last statement that was sent.
    sent: u64,
    /// A batch that was refused, and those behind it that have landed; more are on their way.
    again: Vec<Chunk>,
    flights: FuturesOrdered<Flight>,
    /// What is on its way, in order.
    batches: VecDeque<Vec<Chunk>>,
    /// When the first statement on its way was sent.
    since: Instant,
}

pub(super) struct Writer {
    pub(super) link: Arc<Link>,
    pub(super) ledger: Arc<Ledger>,
    line: Option<Line>,
    failures: u32,
    /// Identities of the batch that is being made.
    seen: HashSet<(i32, Uuid), foldhash::fast::RandomState>,
}

impl Writer {
    pub(super) fn new(link: Arc<Link>, ledger: Arc<Ledger>) -> Self {
        Self {
            link,
            ledger,
            line: None,
            failures: 0,
            seen: HashSet::default(),
        }
    }

    /// Sends until nothing more comes.
    pub(super) async fn run(mut self) {
        while !(self.ledger.is_ending() && self.ledger.is_empty()) {
            if let Err(error) = self.step().await {
                self.line = None;
                self.ledger.expire(Instant::now(), &error);
                if self.ledger.is_empty() {
                    continue;
                }
                self.back_off(&error).await;
            }
        }
    }

    async fn back_off(&mut self, error: &Error) {
        if self.failures == 0 {
            tracing::warn!(target: "interline::postgres", %error, "publishing waits");
        }
        let pause = (BACKOFF * 2_u32.pow(self.failures.min(5))).min(MAX_BACKOFF);
        self.failures += 1;
        let until = Instant::now() + pause;
        let deadline = self.ledger.deadline().unwrap_or(until).min(until);
        sleep_until(deadline).await;
    }

    /// Sends what there is and waits for the next answer or event.
    async fn step(&mut self) -> Result<()> {
        if self.line.is_none() {
            if self.ledger.is_empty() {
                self.ledger.bell.notified().await;
                return Ok(());
            }
            match self.connect().await {
                Err(error) if !error.is_transient() => {
                    // It will not be let in, however often it tries.
                    let _ = self.ledger.abandon(&error);
                    return Ok(());
                }
                line => self.line = Some(line?),
            }
        }
        let Some(line) = &mut self.line else {
            return Ok(());
        };
        while line.flights.len() < DEPTH && line.again.is_empty() {
            let Some(batch) = next_batch(&self.ledger, &mut self.seen) else {
                break;
            };
            if planted::is("receipt-before-answer") {
                promise(&self.link, &self.ledger, &batch);
            }
            line.send(batch);
        }
        let wake = line.since + SILENCE;
        let wake = self.ledger.deadline().unwrap_or(wake).min(wake);
        let is_full = line.flights.len() >= DEPTH;
        let is_idle = line.flights.is_empty();
        tokio::select! {
            biased;
            Some((batch, answer)) = line.flights.next() => self.landed(batch, answer).await,
            () = self.ledger.bell.notified(), if !is_full => Ok(()),
            () = sleep_until(wake), if !is_idle => self.overdue().await,
        }
    }

    async fn connect(&mut self) -> Result<Line> {
        let opening = async {
            let resolved = &self.link.resolved;
            let session = resolved.session("publish", Purpose::Publish, None).await?;
            let failed = |error| postgres("publish", error);
            let begin = "set interline.batch = '0'";
            session.client.batch_execute(begin).await.map_err(failed)?;
            let insert = Statements::prepare(&resolved.schema, &session.client).await;
            Ok(Line {
                session,
                insert: insert.map_err(failed)?,
                is_careful: true,
                sent: 0,
                again: Vec::new(),
                flights: FuturesOrdered::new(),
                batches: VecDeque::new(),
                since: Instant::now(),
            })
        };
        let until = Instant::now() + SILENCE;
        let deadline = self.ledger.deadline().unwrap_or(until).min(until);
        timeout_at(deadline, opening)
            .await
            .map_err(|_| crate::error::late("publish"))?
    }

    /// Takes in the answer to a statement.
    async fn landed(
        &mut self,
        batch: Batch,
        answer: Result<Answer, tokio_postgres::Error>,
    ) -> Result<()> {
        if let Some(line) = &mut self.line {
            line.since = Instant::now();
            line.batches.pop_front();
        }
        let error = match answer {
            Ok(Answer::Told(told)) => {
                self.failures = 0;
                if let Some(line) = &mut self.line {
                    line.is_careful = told.ids.len() < batch.events;
                }
                self.settle(&batch, &told).await;
                return Ok(());
            }
            Ok(Answer::Behind) if !self.follows_refused() => error(
                ErrorKind::Unavailable,
                "publish",
                "a batch before it failed",
                "it is tried again by itself",
            ),
            Ok(Answer::Refused | Answer::Behind) => {
                self.again(batch);
                return Ok(());
            }
            Err(cause) => {
                // What the server says while it goes away tells nothing of the statement.
                let is_lost = cause
                    .code()
                    .is_none_or(|code| matches!(&code.code()[..2], "57" | "08"));
                let error = postgres("publish", cause);
                if is_lost {
                    return self.lost(batch.chunks, error).await;
                }
                error
            }
        };
        for chunk in &batch.chunks {
            chunk.call.failed(chunk.from);
        }
        if error.is_transient() {
            return self.failed(batch.chunks, error);
        }
        // It will never do.
        for chunk in &batch.chunks {
            let settled = chunk.call.refuse(chunk.from..chunk.to, &error);
            self.ledger.finish(&chunk.call, settled);
        }
        self.failed(Vec::new(), error)
    }

    /// Whether a batch that did not run follows one that was refused.
    fn follows_refused(&self) -> bool {
        self.line
            .as_ref()
            .is_some_and(|line| !line.again.is_empty())
    }

    /// Has a batch sent again, with care, that was refused or behind such a one. Nothing is sent
    /// before the last of those behind it has landed, so that nothing overtakes them.
    fn again(&mut self, batch: Batch) {
        for chunk in &batch.chunks {
            chunk.call.failed(chunk.from);
        }
        let Some(line) = &mut self.line else {
            return self.ledger.push_front(batch.chunks);
        };
        line.is_careful = true;
        line.sent -= 1;
        line.again.extend(batch.chunks);
        if line.flights.is_empty() {
            self.ledger.push_front(std::mem::take(&mut line.again));
        }
    }

    /// Begins anew after a statement that failed. Those behind it did not run.
    fn failed(&mut self, mut chunks: Vec<Chunk>, why: Error) -> Result<()> {
        if let Some(mut line) = self.line.take() {
            chunks.splice(..0, line.again.drain(..));
            for chunk in line.batches.into_iter().flatten() {
                chunk.call.failed(chunk.from);
                chunks.push(chunk);
            }
        }
        self.ledger.push_front(chunks);
        Err(why)
    }

    /// Begins anew after the connection was lost: what was on its way may be stored.
    async fn lost(&mut self, mut chunks: Vec<Chunk>, why: Error) -> Result<()> {
        if let Some(mut line) = self.line.take() {
            line.session.kill();
            chunks.splice(..0, line.again.drain(..));
            // An answer may have come all the same.
            while let Some((batch, answer)) = line.flights.next().await {
                match answer {
                    Ok(Answer::Told(told)) => self.settle(&batch, &told).await,
                    _ => chunks.extend(batch.chunks),
                }
            }
        }
        for chunk in &chunks {
            chunk.call.lost();
        }
        self.ledger.push_front(chunks);
        Err(why)
    }

    /// Nothing was heard for too long, or the time of a call is over.
    async fn overdue(&mut self) -> Result<()> {
        let now = Instant::now();
        let late = crate::error::late("publish");
        self.ledger.expire(now, &late);
        let silent = self
            .line
            .as_ref()
            .is_some_and(|line| now >= line.since + SILENCE);
        if !silent {
            return Ok(());
        }
        if let Some(line) = &self.line {
            // Whatever the server still waits for there, the next try would wait for that.
            line.session.cancel(&self.link.resolved);
        }
        self.lost(Vec::new(), late).await
    }

    async fn settle(&mut self, batch: &Batch, told: &Told) {
        let mut absent = Vec::new();
        let mut place = 1;
        for chunk in &batch.chunks {
            let (call, link) = (&chunk.call, &self.link);
            let outcomes = (chunk.from..chunk.to)
                .zip(place..)
                .filter_map(|(at, place)| {
                    if told.absent.contains(&place) {
                        absent.push((Arc::clone(call), at));
                        return None;
                    }
                    Some((at, told.outcome(link, &call.rows[at], place)))
                });
            self.ledger.finish(call, call.settle(outcomes));
            place += chunk.len() as i64;
        }
        if !told.ids.is_empty() {
            self.link.horizon.published();
        }
        if absent.is_empty() {
            return;
        }
        // The list of topics was out of date; whoever publishes next has the new one.
        let resolved = &self.link.resolved;
        let refreshed = self.link.ask("publish", async |client| {
            self.link.topics.refresh("publish", resolved, client).await
        });
        if let Err(error) = refreshed.await {
            tracing::debug!(target: "interline::postgres", %error, "topics not listed");
        }
        for (call, at) in absent {
            let gone = missing_topic("publish", &call.events[at].topic);
            let settled = call.settle([(at, Outcome::Rejected(gone))]);
            self.ledger.finish(&call, settled);
        }
    }
}

/// Says that a batch is stored which is yet to be sent: only ever as a planted bug.
fn promise(link: &Link, ledger: &Ledger, batch: &Batch) {
    for chunk in &batch.chunks {
        let stored = |at: usize| {
            let outcome = Outcome::Stored {
                partition: chunk.call.rows[at].part.unsigned_abs().into(),
                position: Position::default(),
                durability: link.capabilities.durability,
            };
            (at, outcome)
        };
        let settled = chunk.call.settle((chunk.from..chunk.to).map(stored));
        ledger.finish(&chunk.call, settled);
    }
}

impl Line {
    fn send(&mut self, batch: Batch) {
        if self.flights.is_empty() {
            self.since = Instant::now();
        }
        let before = self.sent;
        self.sent += 1;
        self.batches.push_back(batch.chunks.clone());
        let client = Arc::clone(&self.session.client);
        let (insert, is_careful) = (self.insert.clone(), self.is_careful);
        self.flights.push_back(Box::pin(async move {
            let answer = insert.run(&client, is_careful, &batch, before).await;
            (batch, answer)
        }));
    }
}

/// The next events to send, within the limits of a statement. An event whose copy is in it
/// already waits for the next one, which will know what became of the first.
fn next_batch(
    ledger: &Ledger,
    seen: &mut HashSet<(i32, Uuid), foldhash::fast::RandomState>,
) -> Option<Batch> {
    seen.clear();
    let mut batch = Batch {
        chunks: Vec::new(),
        events: 0,
    };
    let mut bytes = 0;
    while batch.events < EVENTS && bytes < BYTES {
        let Some(mut chunk) = ledger.pop() else { break };
        let room = EVENTS - batch.events;
        let mut to = chunk.from;
        while to < chunk.to && to - chunk.from < room && bytes < BYTES {
            let row = &chunk.call.rows[to];
            if !seen.insert((row.topic, row.event)) {
                break;
            }
            bytes += row.size as usize;
            to += 1;
        }
        let rest = Chunk {
            from: to,
            ..chunk.clone()
        };
        chunk.to = to;
        let is_cut = rest.from < rest.to;
        if is_cut {
            ledger.push_front(vec![rest]);
        }
        if chunk.len() > 0 && chunk.call.sending(chunk.to) {
            batch.events += chunk.len();
            batch.chunks.push(chunk);
        }
        if is_cut {
            break;
        }
    }
    (batch.events > 0).then_some(batch)
}

//! Reading partitions: one request waits at the server for all of them.
//!
//! While what it brought is handled, the next one is already on its way. A reading that waits is
//! woken through a stream of its own, which is among those that it reads: an entry there cannot
//! come too early, as a command that unblocks a client can.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fred::types::{Resp3Frame, Value};
use futures_util::future::try_join_all;
use interline_core::{
    Batch, Budget, Error, ErrorKind, Fence, Flow, Partition, Position, Recorded, Result, Topic,
};
use interline_transport::lease;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::client::{BLOCK, Link, Use};
use crate::codec::Unpacker;
use crate::error::{copy, error};
use crate::reply::{self, bytes, list, odd};
use crate::server::Server;
use crate::stand::{self, Stands, missing, went_back};
use crate::topics::Facts;

/// How often positions are compared with what the server keeps: no read tells that they are lost.
const COMPARE: Duration = Duration::from_secs(1);

/// The most events and about the most bytes of one answer.
const EVENTS: usize = 1_024;
const BYTES: usize = 1 << 20;

/// How many events of each partition the first request asks for: their size is not known yet.
const FIRST_COUNT: usize = 16;

/// The pause after the server refused for now.
const PAUSE: Duration = Duration::from_millis(50);

/// How long an entry that wakes a reading is kept.
const WAKE_LIFE_MS: i64 = 60_000;

/// A reading of partitions over a connection of its own.
pub(crate) struct Source {
    server: Arc<Server>,
    link: Option<Arc<Link>>,
    parts: Vec<Part>,
    /// What was read and not asked for yet; at most one answer.
    read: VecDeque<(u64, Batch)>,
    /// The one thing that is under way.
    task: Option<Task>,
    unpacker: Unpacker,
    wake: Wake,
    pace: Pace,
    /// When positions were compared last, and at which connection.
    compared: Option<(Instant, u64)>,
    ids: u64,
    /// Why the reading is over once what was read is handed out.
    failed: Option<Error>,
}

/// A partition that is read.
#[derive(Debug)]
struct Part {
    /// Tells it from the same partition opened again.
    id: u64,
    partition: Partition,
    fence: Fence,
    flow: Flow,
    /// Where it was opened, or nothing for its beginning; gone once it was compared.
    opened: Option<Option<Position>>,
    facts: Option<Arc<Facts>>,
    position: Position,
    /// The count of the last event whose id is one.
    count: Option<u64>,
}

/// Something under way at the server.
enum Task {
    Connect(JoinHandle<Result<Link>>),
    Compare(JoinHandle<Result<Vec<Compared>>>),
    Read(JoinHandle<Result<Resp3Frame>>, Vec<u64>),
    Wait(JoinHandle<()>),
}

/// What a comparison found in one topic.
struct Compared {
    facts: Arc<Facts>,
    /// The parts that were compared.
    ids: Vec<u64>,
    stands: Stands,
}

/// The stream that wakes a reading.
struct Wake {
    key: Bytes,
    seen: Position,
    /// An entry is on its way.
    is_rung: bool,
}

/// How much to ask for, from what came before.
struct Pace {
    count: usize,
    /// Bytes of an event.
    size: usize,
    /// Partitions that gave something.
    busy: usize,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("server", &self.server)
            .field("parts", &self.parts)
            .finish_non_exhaustive()
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        match self {
            Self::Connect(task) => task.abort(),
            Self::Compare(task) => task.abort(),
            Self::Read(task, _) => task.abort(),
            Self::Wait(task) => task.abort(),
        }
    }
}

impl Source {
    pub(crate) fn new(server: Arc<Server>) -> Self {
        let id = Uuid::new_v4().simple().to_string();
        Self {
            wake: Wake {
                key: server.resolved.keys.wake(&id),
                seen: Position::default(),
                is_rung: false,
            },
            server,
            link: None,
            parts: Vec::new(),
            read: VecDeque::new(),
            task: None,
            unpacker: Unpacker::new(),
            pace: Pace {
                count: FIRST_COUNT,
                size: 1_024,
                busy: 1,
            },
            compared: None,
            ids: 0,
            failed: None,
        }
    }

    /// Reads a partition too, strictly after a place or from the first event that is kept.
    pub(crate) fn open(&mut self, partition: &Partition, fence: Fence, after: Option<Position>) {
        self.close(partition);
        self.ids += 1;
        self.parts.push(Part {
            id: self.ids,
            partition: partition.clone(),
            fence,
            flow: Flow::Open,
            opened: Some(after),
            facts: None,
            position: after.unwrap_or_default(),
            count: None,
        });
        self.ring();
    }

    /// Reads a partition no more.
    pub(crate) fn close(&mut self, partition: &Partition) {
        let Some(at) = self.place(partition) else {
            return;
        };
        let part = self.parts.remove(at);
        self.read.retain(|(id, _)| *id != part.id);
    }

    pub(crate) fn flow(&mut self, partition: &Partition, flow: Flow) {
        let Some(at) = self.place(partition) else {
            return;
        };
        self.parts[at].flow = flow;
        if flow == Flow::Open {
            self.ring();
        }
    }

    /// How far a partition was read.
    pub(crate) fn position(&self, partition: &Partition) -> Option<Position> {
        let waiting = self.read.iter().find(|(_, batch)| batch.partition == *partition);
        let at = self.place(partition)?;
        // What waits here was not handed out.
        match waiting.and_then(|(_, batch)| batch.records.first()) {
            Some(_) => None,
            None => Some(self.parts[at].position),
        }
    }

    fn place(&self, partition: &Partition) -> Option<usize> {
        self.parts.iter().position(|part| part.partition == *partition)
    }

    /// Records of one partition whose flow is open. It waits through outages.
    ///
    /// # Errors
    /// Terminal; what was read before comes first.
    pub(crate) async fn next(&mut self, budget: Budget) -> Result<Batch> {
        loop {
            if let Some(batch) = self.take(budget) {
                return Ok(batch);
            }
            if let Some(failed) = &self.failed {
                return Err(copy(failed));
            }
            if self.task.is_none() {
                self.begin();
            }
            // Kept here while it is waited for, so that a dropped call loses nothing.
            match &mut self.task {
                None => std::future::pending().await,
                Some(Task::Wait(task)) => {
                    let _ = task.await;
                    self.task = None;
                }
                Some(Task::Connect(task)) => {
                    let link = flat(task.await);
                    self.task = None;
                    self.connected(link);
                }
                Some(Task::Compare(task)) => {
                    let found = flat(task.await);
                    self.task = None;
                    self.compare(found);
                }
                Some(Task::Read(task, _)) => {
                    let answer = flat(task.await);
                    let Some(Task::Read(_, asked)) = &mut self.task else {
                        continue;
                    };
                    let asked = std::mem::take(asked);
                    self.task = None;
                    self.came(answer, &asked);
                    // The next answer comes while this one is handled.
                    self.begin();
                }
            }
        }
    }

    /// What was read and may be handed out.
    fn take(&mut self, budget: Budget) -> Option<Batch> {
        let flows = |id: u64| {
            let part = self.parts.iter().find(|part| part.id == id);
            part.is_some_and(|part| part.flow == Flow::Open)
        };
        let at = self.read.iter().position(|(id, _)| flows(*id))?;
        let (id, batch) = self.read.remove(at)?;
        let (batch, rest) = split(batch, budget);
        if let Some(rest) = rest {
            self.read.insert(at, (id, rest));
        }
        Some(batch)
    }

    /// Begins what is to be done next, if anything is.
    fn begin(&mut self) {
        if self.failed.is_some() || self.parts.is_empty() || self.task.is_some() {
            return;
        }
        let Some(link) = self.link.clone() else {
            let server = Arc::clone(&self.server);
            let connect = async move { server.link(Use::Reading).await };
            self.task = Some(Task::Connect(tokio::spawn(connect)));
            return;
        };
        if !link.is_up() {
            self.task = Some(Task::Wait(tokio::spawn(async move { link.up().await })));
            return;
        }
        let is_due = self.compared.is_none_or(|(at, connects)| {
            at.elapsed() >= COMPARE || connects != link.connects()
        });
        if is_due || self.parts.iter().any(|part| part.opened.is_some()) {
            self.task = Some(Task::Compare(tokio::spawn(self.comparison(link))));
            return;
        }
        self.request(link);
    }

    fn wait(&mut self) {
        let until = Instant::now() + PAUSE;
        self.task = Some(Task::Wait(tokio::spawn(sleep_until(until))));
    }

    fn connected(&mut self, link: Result<Link>) {
        match link {
            Ok(link) => self.link = Some(Arc::new(link)),
            Err(failed) => self.judge(failed),
        }
    }

    /// Waits a little, or ends the reading.
    fn judge(&mut self, failed: Error) {
        if failed.is_transient() {
            self.wait();
        } else {
            self.failed = Some(failed);
        }
    }

    /// Asks how the partitions stand. Only between reads: an answer on its way would be newer
    /// than the positions that are compared.
    fn comparison(
        &self,
        link: Arc<Link>,
    ) -> impl Future<Output = Result<Vec<Compared>>> + Send + use<> {
        let mut topics: Vec<(Topic, Option<Arc<Facts>>, Vec<(u64, u32, Position)>)> = Vec::new();
        for part in &self.parts {
            let (topic, facts) = (&part.partition.topic, part.facts.clone());
            let place = (part.id, part.partition.index, part.position);
            match topics.iter_mut().find(|(known, ..)| known == topic) {
                Some((_, known, places)) => {
                    places.push(place);
                    *known = known.take().or(facts);
                }
                None => topics.push((topic.clone(), facts, vec![place])),
            }
        }
        let server = Arc::clone(&self.server);
        async move {
            let all = topics.into_iter().map(|(topic, facts, places)| {
                compare(&server, &link, topic, facts, places)
            });
            try_join_all(all).await
        }
    }

    fn compare(&mut self, found: Result<Vec<Compared>>) {
        let found = match found {
            Ok(found) => found,
            Err(failed) => return self.judge(failed),
        };
        let connects = self.link.as_ref().map_or(0, |link| link.connects());
        self.compared = Some((Instant::now(), connects));
        for topic in found {
            for (id, stand) in topic.ids.iter().zip(&topic.stands.stands) {
                let Some(part) = self.parts.iter_mut().find(|part| part.id == *id) else {
                    continue;
                };
                let is_new = part.opened.take();
                part.facts = Some(Arc::clone(&topic.facts));
                if is_new == Some(None) {
                    part.position = stand.beginning();
                    part.count = (part.position.1 != u64::MAX).then_some(part.position.1);
                    continue;
                }
                let index = part.partition.index;
                if let Err(lost) = stand.check(&topic.facts, index, part.position) {
                    self.failed = Some(lost);
                    return;
                }
                if is_new.is_some() {
                    part.count = stand.count_at(part.position);
                }
            }
        }
    }

    /// Sends the next request for every partition that flows.
    fn request(&mut self, link: Arc<Link>) {
        let flowing = self.parts.iter().filter(|part| part.flow == Flow::Open);
        let open: Vec<&Part> = flowing.collect();
        if open.is_empty() {
            return;
        }
        let count = self.pace.next(open.len());
        let block = i64::try_from(BLOCK.as_millis()).unwrap_or(1_000);
        let mut args: Vec<Value> = vec!["COUNT".into(), integer(count), "BLOCK".into()];
        args.extend([Value::Integer(block), "STREAMS".into()]);
        let streams = open.iter().filter_map(|part| part.stream().cloned());
        args.extend(streams.map(Value::Bytes));
        args.push(Value::Bytes(self.wake.key.clone()));
        args.extend(open.iter().map(|part| reply::id(part.position).into()));
        args.push(reply::id(self.wake.seen).into());
        let asked = open.iter().map(|part| part.id).collect();
        let read = async move { link.call("read", "XREAD", args).await };
        self.wake.is_rung = false;
        self.task = Some(Task::Read(tokio::spawn(read), asked));
    }

    /// Ends a read that waits at the server, so that the next one reads what has changed.
    fn ring(&mut self) {
        if !matches!(self.task, Some(Task::Read(..))) || self.wake.is_rung {
            return;
        }
        self.wake.is_rung = true;
        let (server, key) = (Arc::clone(&self.server), self.wake.key.clone());
        tokio::spawn(async move {
            let stream = Value::Bytes(key);
            let entry = ["MAXLEN", "1", "*", "w", ""].map(Value::from_static_str);
            let add = std::iter::once(stream.clone()).chain(entry).collect();
            // If it fails the read ends by itself after a second.
            let added = server.link.call("read", "XADD", add).await;
            if added.is_ok() {
                let life = vec![stream, Value::Integer(WAKE_LIFE_MS)];
                let _ = server.link.call("read", "PEXPIRE", life).await;
            }
        });
    }

    /// Takes an answer apart.
    fn came(&mut self, answer: Result<Resp3Frame>, asked: &[u64]) {
        let answer = match answer {
            Ok(answer) => answer,
            Err(failed) => {
                // What comes after a cut may be another server's.
                self.compared = None;
                return self.judge(failed);
            }
        };
        let (mut events, mut size, mut busy) = (0, 0, 0);
        let mut asked = asked.iter();
        for stream in list(answer) {
            let mut halves = list(stream).into_iter();
            let (Some(key), Some(entries)) = (halves.next().and_then(bytes), halves.next()) else {
                self.failed = Some(odd("read"));
                return;
            };
            if key == self.wake.key {
                self.wake.heard(entries);
                continue;
            }
            // Answers come in the order of the question.
            let is_it = |id: &&u64| self.stream_of(**id).is_some_and(|stream| stream == key);
            let Some(id) = asked.find(is_it) else {
                continue;
            };
            busy += 1;
            let (more, bytes) = self.part_came(*id, list(entries));
            events += more;
            size += bytes;
            if self.failed.is_some() {
                return;
            }
        }
        self.pace.learn(events, size, busy);
    }

    fn stream_of(&self, id: u64) -> Option<Bytes> {
        let part = self.parts.iter().find(|part| part.id == id)?;
        part.stream().cloned()
    }

    /// The events of one partition; how many came, and their bytes.
    fn part_came(&mut self, id: u64, entries: Vec<Resp3Frame>) -> (usize, usize) {
        let Some(part) = self.parts.iter_mut().find(|part| part.id == id) else {
            return (0, 0);
        };
        let (mut records, mut size) = (Vec::with_capacity(entries.len()), 0);
        for entry in entries {
            let mut halves = list(entry).into_iter();
            let at = halves.next().and_then(bytes);
            let at = at.as_deref().and_then(reply::position);
            let (Some(position), Some(fields)) = (at, halves.next()) else {
                self.failed = Some(odd("read"));
                break;
            };
            let Partition { topic, index } = &part.partition;
            let found = self.unpacker.unpack(topic, *index, position, list(fields));
            if found.is_own
                && let Err(lost) = part.counted(position)
            {
                self.failed = Some(lost);
                break;
            }
            part.position = position;
            size += found.envelope.size();
            records.push(Recorded {
                position,
                stored_at: i64::try_from(position.0).unwrap_or(i64::MAX),
                envelope: found.envelope,
            });
        }
        let events = records.len();
        if events > 0 {
            let batch = Batch {
                partition: part.partition.clone(),
                fence: part.fence,
                records,
            };
            self.read.push_back((id, batch));
        }
        (events, size)
    }
}

impl Part {
    fn stream(&self) -> Option<&Bytes> {
        let facts = self.facts.as_ref()?;
        facts.streams.get(self.partition.index as usize)
    }

    /// Notes an event whose id counts it.
    fn counted(&mut self, position: Position) -> Result<()> {
        let is_dense = self.facts.as_ref().is_some_and(|facts| facts.is_dense);
        if !is_dense || position.1 == 0 {
            return Ok(());
        }
        if let Some(last) = self.count.replace(position.1) {
            if position.1 > last + 1 {
                let count = position.1 - last - 1;
                return Err(missing(&self.partition, self.position, count));
            }
            if position.1 <= last {
                return Err(went_back(&self.partition, self.position, position));
            }
        }
        Ok(())
    }
}

impl Wake {
    fn heard(&mut self, entries: Resp3Frame) {
        let ids = list(entries).into_iter().filter_map(|entry| {
            let id = list(entry).into_iter().next().and_then(bytes)?;
            reply::position(&id)
        });
        self.seen = ids.max().unwrap_or(self.seen).max(self.seen);
    }
}

impl Pace {
    /// How many events of each of `open` partitions to ask for.
    fn next(&mut self, open: usize) -> usize {
        let share = EVENTS / self.busy;
        let fits = BYTES / (self.busy * self.size);
        // All the quiet ones may speak at once.
        let worst = 8 * BYTES / (open * self.size);
        let most = share.min(fits).min(worst).max(1);
        self.count = most.min(4 * self.count);
        self.count
    }

    fn learn(&mut self, events: usize, size: usize, busy: usize) {
        if events > 0 {
            self.size = (size / events).max(64);
            self.busy = busy.max(1);
        }
    }
}

async fn compare(
    server: &Server,
    link: &Link,
    topic: Topic,
    facts: Option<Arc<Facts>>,
    places: Vec<(u64, u32, Position)>,
) -> Result<Compared> {
    let facts = match facts {
        Some(facts) => facts,
        None => server.ask("read", &topic).await?.ok_or_else(|| {
            error(
                ErrorKind::NotFound,
                "read",
                format!("topic `{topic}` does not exist"),
                "create it and subscribe anew",
            )
        })?,
    };
    let (ids, asked): (Vec<_>, Vec<_>) = places
        .into_iter()
        .map(|(id, index, position)| (id, (index, position)))
        .unzip();
    let store = server.resolved.keys.store();
    let stands = stand::ask(link, "read", &facts, store, &asked).await?;
    Ok(Compared { facts, ids, stands })
}

/// The result of a task that is never aborted while it is waited for.
fn flat<T>(joined: Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    joined.unwrap_or_else(|cause| {
        Err(error(
            ErrorKind::Unavailable,
            "read",
            "the runtime is shutting down",
            "keep it running as long as the transport",
        )
        .because(cause))
    })
}

/// What of `batch` fits into `budget`, at least one record, and the rest.
fn split(mut batch: Batch, budget: Budget) -> (Batch, Option<Batch>) {
    let mut size = 0;
    let fits = batch
        .records
        .iter()
        .take(budget.events)
        .take_while(|record| {
            size += record.envelope.size();
            size <= budget.bytes
        })
        .count()
        .max(1);
    if fits >= batch.records.len() {
        return (batch, None);
    }
    let rest = Batch {
        partition: batch.partition.clone(),
        fence: batch.fence,
        records: batch.records.split_off(fits),
    };
    (batch, Some(rest))
}

fn integer(number: usize) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

impl lease::Source for Source {
    fn open(&mut self, partition: &Partition, fence: Fence, after: Option<Position>) {
        Self::open(self, partition, fence, after);
    }

    fn close(&mut self, partition: &Partition) {
        Self::close(self, partition);
    }

    fn flow(&mut self, partition: &Partition, flow: Flow) {
        Self::flow(self, partition, flow);
    }

    async fn next(&mut self, budget: Budget) -> Result<Batch> {
        Self::next(self, budget).await
    }
}

//! Reading partitions: one request waits at the server for all of them.
//!
//! While what it brought is handled, the next one is already on its way. A reading that waits is
//! woken through a stream of its own, which is among those that it reads: an entry there cannot
//! come too early, as a command that unblocks a client can.

mod compare;
mod pace;
mod part;
mod task;
mod unread;
mod wake;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fred::types::{Resp3Frame, Value};
use interline_core::{Batch, Budget, Error, Fence, Flow, Group, Partition, Position, Result};
use interline_transport::lease;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use self::compare::Compared;
use self::pace::{Pace, Sample};
use self::part::{Begin, Part};
use self::task::{Done, Task};
use self::unread::{Unread, id_of};
use self::wake::Wake;
use crate::client::{BLOCK, Link, Use};
use crate::codec::Unpacker;
use crate::reply::{self, bytes, list, odd};
use crate::server::Server;

/// How often positions are compared with what the server keeps: no read tells that they are lost.
const COMPARE: Duration = Duration::from_secs(1);

/// The pause after the server refused for now.
const PAUSE: Duration = Duration::from_millis(50);

/// A reading of partitions over a connection of its own.
pub(crate) struct Source {
    server: Arc<Server>,
    /// Who reads; nobody in a reading without a group.
    group: Option<Group>,
    link: Option<Arc<Link>>,
    parts: Vec<Part>,
    /// What was read and not handed out yet; at most one answer, and what waits for a stopped
    /// partition.
    read: VecDeque<Unread>,
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

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("server", &self.server)
            .field("parts", &self.parts)
            .finish_non_exhaustive()
    }
}

impl lease::Source for Source {
    fn open(&mut self, partition: &Partition, fence: Fence, after: Option<Position>) {
        lease::Source::close(self, partition);
        self.ids += 1;
        self.parts.push(Part {
            id: self.ids,
            partition: partition.clone(),
            fence,
            flow: Flow::Open,
            begin: match after {
                Some(_) => Begin::After,
                None => Begin::First,
            },
            facts: None,
            position: after.unwrap_or_default(),
            last: after.unwrap_or_default(),
            count: None,
        });
        self.ring();
    }

    fn close(&mut self, partition: &Partition) {
        if let Some(at) = self.place(partition) {
            let part = self.parts.remove(at);
            self.read.retain(|unread| unread.id != part.id);
        }
    }

    fn flow(&mut self, partition: &Partition, flow: Flow) {
        if let Some(at) = self.place(partition) {
            self.parts[at].flow = flow;
            if flow == Flow::Open {
                self.ring();
            }
        }
    }

    async fn next(&mut self, budget: Budget) -> Result<Batch> {
        loop {
            if let Some(batch) = self.take(budget) {
                return Ok(batch);
            }
            if let Some(failed) = &self.failed {
                return Err(failed.again());
            }
            self.begin();
            // It stays here while it is waited for, so that a dropped call loses nothing.
            let done = match &mut self.task {
                Some(task) => task.done().await,
                None => std::future::pending().await,
            };
            self.task = None;
            match done {
                Done::Waited => {}
                Done::Connected(link) => self.connected(link),
                Done::Compared(found) => self.compared(found),
                Done::Read(answer, asked) => {
                    self.came(answer, &asked);
                    // The next answer comes while this one is handled.
                    self.begin();
                }
            }
        }
    }
}

impl Source {
    pub(crate) fn new(server: Arc<Server>, group: Option<Group>) -> Self {
        let id = Uuid::new_v4().simple().to_string();
        Self {
            wake: Wake::new(server.resolved.keys.wake(&id)),
            server,
            group,
            link: None,
            parts: Vec::new(),
            read: VecDeque::new(),
            task: None,
            unpacker: Unpacker::new(),
            pace: Pace::new(),
            compared: None,
            ids: 0,
            failed: None,
        }
    }

    /// How far a partition was read and handed out; nothing while something waits here.
    pub(crate) fn position(&self, partition: &Partition) -> Option<Position> {
        let part = &self.parts[self.place(partition)?];
        let waits = self.read.iter().any(|unread| unread.id == part.id);
        (!waits).then_some(part.position)
    }

    fn place(&self, partition: &Partition) -> Option<usize> {
        let is_it = |part: &Part| part.partition == *partition;
        self.parts.iter().position(is_it)
    }

    /// Ends a read that waits at the server, because there is more to read than it asked for.
    fn ring(&mut self) {
        if matches!(self.task, Some(Task::Read(..))) {
            self.wake.ring(&self.server);
        }
    }

    /// What was read and may be handed out. Events are taken apart only here, while the next
    /// answer is on its way.
    fn take(&mut self, budget: Budget) -> Option<Batch> {
        while self.failed.is_none() {
            let (at, part) = self.read.iter().enumerate().find_map(|(at, unread)| {
                let part = self.parts.iter().position(|part| part.id == unread.id)?;
                (self.parts[part].flow == Flow::Open).then_some((at, part))
            })?;
            let part = &mut self.parts[part];
            let (records, failed) = self.read[at].take(part, &mut self.unpacker, budget);
            let lost = part.begin == Begin::Lost && self.group.is_some();
            // A group begins again at its checkpoint, if that is not lost, too.
            self.failed = failed.filter(|_| !lost);
            if lost || self.read[at].is_empty() {
                self.read.remove(at);
            }
            if !records.is_empty() {
                return Some(Batch {
                    partition: part.partition.clone(),
                    fence: part.fence,
                    records: records.into(),
                });
            }
        }
        None
    }

    /// Begins what is to be done next, if nothing is under way and there is something to do.
    fn begin(&mut self) {
        if self.failed.is_some() || self.parts.is_empty() || self.task.is_some() {
            return;
        }
        let server = Arc::clone(&self.server);
        let Some(link) = self.link.clone() else {
            let connect = async move { server.link(Use::Reading).await };
            self.task = Some(Task::Connect(tokio::spawn(connect)));
            return;
        };
        if !link.is_up() {
            self.task = Some(Task::Wait(tokio::spawn(async move { link.up().await })));
            return;
        }
        // Only between reads: an answer on its way would be newer than what is compared.
        let is_due = self
            .compared
            .is_none_or(|(at, connects)| at.elapsed() >= COMPARE || connects != link.connects());
        if is_due || self.parts.iter().any(|part| part.begin != Begin::Done) {
            let asked = compare::about(&self.parts);
            let group = self.group.clone();
            let compare = async move { compare::ask(&server, &link, group.as_ref(), asked).await };
            self.task = Some(Task::Compare(tokio::spawn(compare)));
            return;
        }
        self.request(link);
    }

    /// Waits a little, or ends the reading.
    fn judge(&mut self, failed: Error) {
        if failed.is_transient() {
            self.task = Some(Task::Wait(tokio::spawn(sleep(PAUSE))));
        } else {
            self.failed = Some(failed);
        }
    }

    fn connected(&mut self, link: Result<Link>) {
        match link {
            Ok(link) => self.link = Some(Arc::new(link)),
            Err(failed) => self.judge(failed),
        }
    }

    fn compared(&mut self, found: Result<Vec<Compared>>) {
        let found = match found {
            Ok(found) => found,
            Err(failed) => return self.judge(failed),
        };
        let connects = self.link.as_ref().map_or(0, |link| link.connects());
        self.compared = Some((Instant::now(), connects));
        for topic in found {
            for id in &topic.given_up {
                self.give_up(*id);
            }
            for (id, stand) in &topic.stands {
                let part = self.parts.iter_mut().find(|part| part.id == *id);
                if let Some(Err(lost)) = part.map(|part| part.compared(&topic.facts, stand)) {
                    self.failed = Some(lost);
                    return;
                }
            }
        }
    }

    /// Forgets a part whose lease was given up: whoever gets it next begins at the checkpoint.
    fn give_up(&mut self, id: u64) {
        let Some(at) = self.parts.iter().position(|part| part.id == id) else {
            return;
        };
        let part = self.parts.remove(at);
        self.read.retain(|unread| unread.id != id);
        tracing::warn!(
            target: "interline::redis",
            partition = %part.partition, position = %part.last,
            "the server has lost events that were read; the group begins again at its checkpoint"
        );
    }

    /// Sends the next request for every partition that flows.
    fn request(&mut self, link: Arc<Link>) {
        let flowing = self.parts.iter().filter(|part| part.flow == Flow::Open);
        let open: Vec<&Part> = flowing.collect();
        if open.is_empty() {
            return;
        }
        let count = i64::try_from(self.pace.next(open.len())).unwrap_or(1);
        let block = i64::try_from(BLOCK.as_millis()).unwrap_or(1_000);
        let mut args = Vec::with_capacity(2 * open.len() + 7);
        args.extend(["COUNT".into(), Value::Integer(count), "BLOCK".into()]);
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

    /// Takes an answer apart.
    fn came(&mut self, answer: Result<Resp3Frame>, asked: &[u64]) {
        let answer = match answer {
            Ok(answer) => answer,
            Err(failed) => return self.judge(failed),
        };
        let mut sample = Sample::default();
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
            // Answers come in the order of the question; a partition may be closed by now.
            let Some(at) = asked.find_map(|id| self.part_of(*id, &key)) else {
                continue;
            };
            let (part, entries) = (&mut self.parts[at], list(entries));
            if part.begin == Begin::Lost {
                continue;
            }
            let Some(last) = entries.last().and_then(id_of) else {
                self.failed = Some(odd("read"));
                return;
            };
            part.position = last;
            sample.add(&entries);
            self.read.push_back(Unread::new(part.id, entries));
        }
        self.pace.learn(&sample);
    }

    fn part_of(&self, id: u64, stream: &Bytes) -> Option<usize> {
        let is_it = |part: &Part| part.id == id && part.stream() == Some(stream);
        self.parts.iter().position(is_it)
    }
}

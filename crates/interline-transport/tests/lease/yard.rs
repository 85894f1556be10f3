//! A transport of tables and counters: partitions whose records are their numbers, and stores
//! that can be taken away.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use interline_core::{
    Batch, Budget, Committed, Envelope, Error, ErrorKind, Fence, Flow, Group, Kind, Partition,
    Position, Progress, Recorded, Result, Start, SubscribeSpec, Topic,
};
use interline_transport::lease::{
    Entry, Grant, LeaseStore, Leased, MemberId, Picture, Seen, Source, Timing,
};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::table::Table;

/// How the stores of a yard answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answers {
    AtOnce,
    /// With an error that passes.
    Refused,
    Never,
}

#[derive(Debug)]
pub(crate) struct Yard {
    begun: Instant,
    pub(crate) state: Mutex<State>,
    /// How many records every partition has.
    pub(crate) published: AtomicU64,
    /// How many records were read.
    pub(crate) read: AtomicU64,
    pub(crate) more: Notify,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) topics: BTreeMap<Topic, usize>,
    pub(crate) tables: BTreeMap<Topic, Table>,
    pub(crate) answers: Answers,
    pub(crate) calls: Vec<&'static str>,
}

impl Yard {
    pub(crate) fn new(topics: &[(&str, usize)]) -> Arc<Self> {
        let topic = |(name, partitions): &(&str, usize)| {
            (Topic::system(name).expect("a topic"), *partitions)
        };
        Arc::new(Self {
            begun: Instant::now(),
            state: Mutex::new(State {
                topics: topics.iter().map(topic).collect(),
                tables: BTreeMap::new(),
                answers: Answers::AtOnce,
                calls: Vec::new(),
            }),
            published: AtomicU64::new(0),
            read: AtomicU64::new(0),
            more: Notify::new(),
        })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn answer(&self, answers: Answers) {
        self.state().answers = answers;
    }

    /// How many calls of this name there were.
    pub(crate) fn count(&self, call: &str) -> usize {
        self.state()
            .calls
            .iter()
            .filter(|name| **name == call)
            .count()
    }

    pub(crate) fn publish(&self, records: u64) {
        self.published.fetch_add(records, Ordering::SeqCst);
        self.more.notify_waiters();
    }

    /// Zero stands for no lease.
    pub(crate) fn now(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64 + 1
    }

    async fn reach(&self, call: &'static str) -> Result<()> {
        let answers = {
            let mut state = self.state();
            state.calls.push(call);
            state.answers
        };
        match answers {
            Answers::AtOnce => Ok(()),
            Answers::Refused => Err(Error::new(ErrorKind::Unavailable, call, "not now")),
            Answers::Never => std::future::pending().await,
        }
    }
}

/// A yard as a transport.
#[derive(Clone, Debug)]
pub(crate) struct Home(pub(crate) Arc<Yard>);

impl Leased for Home {
    type Store = Store;
    type Source = Numbers;

    fn scheme(&self) -> &'static str {
        "yard"
    }

    async fn topics(&self, spec: &SubscribeSpec) -> Result<Vec<Topic>> {
        self.0.reach("topics").await?;
        let state = self.0.state();
        Ok(state
            .topics
            .keys()
            .filter(|t| spec.covers(t))
            .cloned()
            .collect())
    }

    fn store(&self, _group: &Group, topic: &Topic) -> Store {
        Store {
            yard: Arc::clone(&self.0),
            topic: topic.clone(),
        }
    }

    fn source(&self) -> Numbers {
        Numbers {
            yard: Arc::clone(&self.0),
            open: Vec::new(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Store {
    yard: Arc<Yard>,
    topic: Topic,
}

impl Store {
    async fn with<T>(
        &self,
        call: &'static str,
        work: impl FnOnce(&mut Table, u64) -> T,
    ) -> Result<T> {
        self.yard.reach(call).await?;
        let now = self.yard.now();
        let mut state = self.yard.state();
        let table = state.tables.get_mut(&self.topic);
        let missing = || Error::new(ErrorKind::NotFound, call, "no such topic");
        Ok(work(table.ok_or_else(missing)?, now))
    }
}

impl LeaseStore for Store {
    async fn begin(&self, _start: &Start) -> Result<()> {
        self.yard.reach("begin").await?;
        let now = self.yard.now();
        let lease = Timing::default().lease.as_millis() as u64;
        let mut state = self.yard.state();
        let partitions = state.topics[&self.topic];
        let table = || Table::new(vec![Progress::default(); partitions], lease, now);
        state.tables.entry(self.topic.clone()).or_insert_with(table);
        Ok(())
    }

    async fn look(&self, me: &MemberId, leaving: bool) -> Result<Picture> {
        self.with("look", |table, now| table.look(now, me, leaving))
            .await
    }

    async fn claim(&self, me: &MemberId, seen: Vec<Seen>) -> Result<Vec<Option<Grant>>> {
        self.with("claim", |table, now| table.claim(now, me, &seen, true))
            .await
    }

    async fn revoke(&self, me: &MemberId, owned: Vec<(u32, Fence)>) -> Result<()> {
        self.with("revoke", |table, _| table.revoke(me, &owned))
            .await
    }

    async fn commit(
        &self,
        me: &MemberId,
        entries: Vec<Entry>,
        release: bool,
    ) -> Result<Vec<Committed>> {
        let call = if release { "release" } else { "commit" };
        self.with(call, |table, now| table.commit(now, me, &entries, release))
            .await
    }

    async fn leave(&self, me: &MemberId) -> Result<()> {
        self.with("leave", |table, now| table.leave(now, me)).await
    }
}

/// Reads numbers.
#[derive(Debug)]
pub(crate) struct Numbers {
    yard: Arc<Yard>,
    open: Vec<(Partition, Fence, u64, Flow)>,
}

fn recorded(number: u64) -> Recorded {
    let kind = Kind::new("/test", "number").expect("a kind");
    let envelope = Envelope::builder(kind).payload(vec![0; 100]);
    Recorded {
        position: Position::from(number),
        stored_at: 0,
        envelope: envelope.build().expect("an envelope"),
    }
}

impl Source for Numbers {
    fn open(&mut self, partition: &Partition, fence: Fence, after: Option<Position>) {
        let next = after.map_or(0, |Position(_, number)| number + 1);
        self.open.push((partition.clone(), fence, next, Flow::Open));
    }

    fn close(&mut self, partition: &Partition) {
        self.open.retain(|(open, ..)| open != partition);
    }

    fn flow(&mut self, partition: &Partition, flow: Flow) {
        for (open, _, _, its) in &mut self.open {
            if open == partition {
                *its = flow;
            }
        }
    }

    async fn next(&mut self, budget: Budget) -> Result<Batch> {
        loop {
            let more = self.yard.more.notified();
            let topics: Vec<_> = self.yard.state().topics.keys().cloned().collect();
            let published = self.yard.published.load(Ordering::SeqCst);
            if let Some((gone, ..)) = self.open.iter().find(|o| !topics.contains(&o.0.topic)) {
                let what = format!("no topic `{}`", gone.topic);
                return Err(Error::new(ErrorKind::NotFound, "read", what));
            }
            let turn = usize::from(!self.open.is_empty());
            self.open.rotate_left(turn);
            let mut open = self.open.iter_mut();
            let some = open.find(|(_, _, next, flow)| *flow == Flow::Open && *next < published);
            if let Some((partition, fence, next, _)) = some {
                let end = published.min(*next + budget.events as u64);
                let records: Vec<_> = (*next..end).map(recorded).collect();
                *next = end;
                self.yard
                    .read
                    .fetch_add(records.len() as u64, Ordering::SeqCst);
                return Ok(Batch {
                    partition: partition.clone(),
                    fence: *fence,
                    records: records.into(),
                });
            }
            more.await;
        }
    }
}

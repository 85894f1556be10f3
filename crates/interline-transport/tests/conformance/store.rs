//! Tables of leases, and who a group is on a topic.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use interline_core::{
    Batch, Budget, Committed, Error, ErrorKind, Fence, Group, Pattern, Position, Progress,
    ReadSpec, Reader as _, Result, Start, Topic, Transport as _, Until,
};
use interline_transport::lease::{Entry, Grant, LeaseStore, MemberId, Picture, Seen, Timing};
use tokio::time::Instant;

use crate::table::Table;

/// The tables of every group, by topic.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    tables: Mutex<BTreeMap<(String, Topic), Table>>,
    begun: Mutex<Option<Instant>>,
}

impl Groups {
    pub(crate) fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, Topic), Table>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> u64 {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = begun.get_or_insert_with(Instant::now);
        // Zero stands for no lease.
        begun.elapsed().as_millis() as u64 + 1
    }
}

/// Where a group keeps its leases of a topic.
pub(crate) struct Store {
    pub(crate) memory: interline_memory::Transport,
    pub(crate) groups: Arc<Groups>,
    pub(crate) group: Group,
    pub(crate) topic: Topic,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.group, self.topic)
    }
}

impl Store {
    fn key(&self) -> (String, Topic) {
        (self.group.as_str().to_owned(), self.topic.clone())
    }

    /// Works on the table in one step.
    fn with<T>(&self, work: impl FnOnce(&mut Table, u64) -> T) -> Result<T> {
        let now = self.groups.now();
        match self.groups.lock().get_mut(&self.key()) {
            Some(table) => Ok(work(table, now)),
            None => Err(Error::new(ErrorKind::NotFound, "read", "no such topic")),
        }
    }
}

/// The checkpoints at `start` of every partition of a topic.
pub(crate) async fn starts(
    memory: &interline_memory::Transport,
    topic: &Topic,
    start: &Start,
) -> Result<Vec<Progress>> {
    // Before it is read, which would make it.
    let partitions = partitions(memory, topic).await?;
    let all = everything(memory, topic).await?;
    let last = |partition: u32, before: i64| {
        let records = all
            .iter()
            .filter(|batch| batch.partition.index == partition);
        let records = records.flat_map(|batch| &batch.records);
        let records = records.take_while(|record| record.stored_at < before);
        records.map(|record| record.position).last()
    };
    let frontier = |partition: u32| match start {
        Start::Earliest => None,
        Start::Latest => last(partition, i64::MAX),
        Start::Time(time) => last(partition, time.unix_millis()),
        Start::At(places) => {
            let mut places = places.iter();
            let place = places.find(|(at, _)| at.topic == *topic && at.index == partition);
            place.map(|(_, position)| *position)
        }
    };
    let frontiers: Vec<_> = (0..partitions).map(frontier).collect();
    for (partition, frontier) in (0..).zip(&frontiers) {
        if *frontier > last(partition, i64::MAX) {
            return Err(lost(topic, partition, *frontier));
        }
    }
    let progress = |frontier| Progress {
        frontier,
        ..Progress::default()
    };
    Ok(frontiers.into_iter().map(progress).collect())
}

fn lost(topic: &Topic, partition: u32, position: Option<Position>) -> Error {
    let position = position.unwrap_or_default();
    let what = format!("position {position} is not in {topic}/{partition}");
    Error::new(ErrorKind::PositionLost, "subscribe", what)
}

pub(crate) async fn partitions(memory: &interline_memory::Transport, topic: &Topic) -> Result<u32> {
    use interline_core::Admin as _;
    let topics = memory.admin().topics(&Pattern::new("*")?).await?;
    let found = topics.iter().find(|info| info.topic == *topic);
    let missing = || Error::new(ErrorKind::NotFound, "read", "no such topic");
    Ok(found.ok_or_else(missing)?.partitions)
}

/// Every record of a topic.
pub(crate) async fn everything(
    memory: &interline_memory::Transport,
    topic: &Topic,
) -> Result<Vec<Batch>> {
    let mut reader = memory
        .read(ReadSpec {
            topics: vec![Pattern::exact(topic.as_str())],
            start: Start::Earliest,
            until: Until::End,
        })
        .await?;
    let mut all = Vec::new();
    while let Some(batch) = reader.next(Budget::default()).await? {
        all.push(batch);
    }
    Ok(all)
}

impl LeaseStore for Store {
    async fn begin(&self, start: &Start) -> Result<()> {
        if self.groups.lock().contains_key(&self.key()) {
            return Ok(());
        }
        let starts = starts(&self.memory, &self.topic, start).await?;
        let lease = Timing::default().lease.as_millis() as u64;
        let now = self.groups.now();
        let mut tables = self.groups.lock();
        tables
            .entry(self.key())
            .or_insert_with(|| Table::new(starts, lease, now));
        Ok(())
    }

    async fn look(&self, me: &MemberId, leaving: bool) -> Result<Picture> {
        self.with(|table, now| table.look(now, me, leaving))
    }

    async fn claim(&self, me: &MemberId, seen: Vec<Seen>) -> Result<Vec<Option<Grant>>> {
        self.with(|table, now| table.claim(now, me, &seen, true))
    }

    async fn revoke(&self, me: &MemberId, owned: Vec<(u32, Fence)>) -> Result<()> {
        self.with(|table, _| table.revoke(me, &owned))
    }

    async fn commit(
        &self,
        me: &MemberId,
        entries: Vec<Entry>,
        release: bool,
    ) -> Result<Vec<Committed>> {
        self.with(|table, now| table.commit(now, me, &entries, release))
    }

    async fn leave(&self, me: &MemberId) -> Result<()> {
        self.with(|table, now| table.leave(now, me))
    }
}

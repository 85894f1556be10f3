//! Reading without a group.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use interline_core::{Batch, Budget, Partition, Position, ReadSpec, Result, Topic, Until};
use interline_transport::lease::Source as _;
use tokio::time::{Instant, sleep_until};

use crate::error::closed;
use crate::server::Server;
use crate::source::Source;
use crate::stand;
use crate::topics::{self, Facts};

/// A reading without a group; see [`interline_core::Reader`].
///
/// The server does not know that it reads, so what it has not read may be trimmed under it; it
/// then ends with [`PositionLost`](interline_core::ErrorKind::PositionLost), and so it does where a
/// crash of the server cost events that it has read.
#[derive(Debug)]
pub struct Reader {
    server: Arc<Server>,
    source: Source,
    /// The partitions that are still read, with the last position, if that is known.
    parts: BTreeMap<Partition, Option<Position>>,
    facts: Vec<Arc<Facts>>,
    until: Until,
    /// When the server's clock will have reached the time of `until`.
    due: Option<Instant>,
}

impl Reader {
    pub(crate) async fn open(server: Arc<Server>, spec: ReadSpec) -> Result<Self> {
        let facts = wanted(&server, &spec).await?;
        let mut reader = Self {
            source: Source::new(Arc::clone(&server), None),
            parts: BTreeMap::new(),
            until: spec.until,
            due: None,
            facts,
            server,
        };
        for facts in reader.facts.clone() {
            reader.add(&facts, &spec).await?;
        }
        Ok(reader)
    }

    async fn add(&mut self, facts: &Facts, spec: &ReadSpec) -> Result<()> {
        let (link, store) = (&self.server.link, self.server.resolved.keys.store());
        let starts = stand::start(link, "read", facts, store.clone(), &spec.start).await?;
        let ends = match spec.until {
            Until::Forever => vec![None; starts.len()],
            Until::End => self.ends(facts, None).await?,
            Until::Time(time) => {
                let now = stand::ask(link, "read", facts, store, &[]).await?.now;
                let wait = u64::try_from(time.unix_millis() - now).unwrap_or(0);
                self.due = Some(Instant::now() + Duration::from_millis(wait));
                vec![None; starts.len()]
            }
        };
        for ((index, start), end) in (0..).zip(starts).zip(ends) {
            let partition = facts.partition(index);
            if end.is_some_and(|end| end <= start) {
                continue;
            }
            self.source.open(&partition, 0, Some(start));
            self.parts.insert(partition, end);
        }
        Ok(())
    }

    /// The last position of each partition, or the last before a time.
    async fn ends(&self, facts: &Facts, before: Option<i64>) -> Result<Vec<Option<Position>>> {
        let newest = facts.streams.iter().map(|stream| async move {
            let found = stand::newest(&self.server.link, "read", stream, before).await?;
            Ok(Some(found.unwrap_or_default()))
        });
        futures_util::future::try_join_all(newest).await
    }

    /// The time has come: what is not there yet is not wanted.
    async fn end_by_clock(&mut self) -> Result<()> {
        let Until::Time(time) = self.until else {
            return Ok(());
        };
        for facts in self.facts.clone() {
            let ends = self.ends(&facts, Some(time.unix_millis())).await?;
            for (index, end) in (0..).zip(ends) {
                if let Some(known) = self.parts.get_mut(&facts.partition(index)) {
                    *known = end;
                }
            }
        }
        self.due = None;
        // What was read already may have passed its end.
        let done = |(partition, end): (&Partition, &Option<Position>)| {
            let is_done = self.source.position(partition) >= *end;
            is_done.then(|| partition.clone())
        };
        let done: Vec<_> = self.parts.iter().filter_map(done).collect();
        for partition in done {
            self.close(&partition);
        }
        Ok(())
    }

    fn close(&mut self, partition: &Partition) {
        self.parts.remove(partition);
        self.source.close(partition);
    }

    /// What of a batch is wanted.
    fn cut(&mut self, mut batch: Batch) -> Option<Batch> {
        let partition = batch.partition.clone();
        let end = *self.parts.get(&partition)?;
        let is_wanted = |position: Position, stored_at: i64| match (self.until, end) {
            (_, Some(end)) => position <= end,
            (Until::Time(time), None) => stored_at < time.unix_millis(),
            _ => true,
        };
        let all = batch.records.len();
        let keep = batch
            .records
            .partition_point(|record| is_wanted(record.position, record.stored_at));
        batch.records.truncate(keep);
        let last = batch.records.last().map(|record| record.position);
        if keep < all || (end.is_some() && last >= end) {
            self.close(&partition);
        }
        (!batch.records.is_empty()).then_some(batch)
    }
}

/// The topics of a reading.
async fn wanted(server: &Server, spec: &ReadSpec) -> Result<Vec<Arc<Facts>>> {
    let mut wanted: Vec<Topic> = Vec::new();
    for name in spec.topics.iter().filter_map(|pattern| pattern.as_exact()) {
        wanted.push(Topic::system(name)?);
    }
    if spec
        .topics
        .iter()
        .any(|pattern| pattern.as_exact().is_none())
    {
        let fits = |topic: &Topic| {
            let stars = spec.topics.iter().filter(|p| p.as_exact().is_none());
            !topic.is_system() && stars.into_iter().any(|p| p.matches(topic.as_str()))
        };
        let all = topics::names(server, "read").await?;
        wanted.extend(all.into_iter().filter(fits));
    }
    wanted.sort_unstable();
    wanted.dedup();
    let mut facts = Vec::with_capacity(wanted.len());
    for topic in &wanted {
        facts.push(server.require("read", topic).await?);
    }
    Ok(facts)
}

impl interline_core::Reader for Reader {
    async fn next(&mut self, budget: Budget) -> Result<Option<Batch>> {
        loop {
            self.server.check_open("read")?;
            if self.parts.is_empty() && self.until != Until::Forever {
                return Ok(None);
            }
            let due = self.due;
            let end = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let server = Arc::clone(&self.server);
            tokio::select! {
                batch = self.source.next(budget) => {
                    if let Some(batch) = self.cut(batch?) {
                        return Ok(Some(batch));
                    }
                }
                () = end => self.end_by_clock().await?,
                () = server.until_closed() => return Err(closed("read")),
            }
        }
    }
}

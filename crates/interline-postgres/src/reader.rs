//! Reading without a group.

use std::sync::Arc;
use std::time::Duration;

use interline_core::{Batch, Budget, Partition, Pattern, ReadSpec, Result, Topic, Until};
use tokio::time::{Instant, sleep_until};

use crate::error::{missing_topic, postgres};
use crate::fetch::Fetcher;
use crate::link::Link;
use crate::places::Bounds;
use crate::topics::wanted;

/// A reading without a group; see [`interline_core::Reader`].
///
/// What retention has dropped under it, and what the server has lost in a crash after it was
/// read, ends it with [`PositionLost`](interline_core::ErrorKind::PositionLost).
#[derive(Debug)]
pub struct Reader {
    link: Arc<Link>,
    fetcher: Fetcher,
    until: Until,
    /// When to ask the server whether the time of `until` has come.
    due: Option<Instant>,
    is_over: bool,
}

/// What of now counts for the time at which a reading ends.
const CLOCK: &str = "select (extract(epoch from clock_timestamp()) * 1000)::int8,
    {s}.last_id()";

impl Reader {
    pub(crate) async fn open(link: Arc<Link>, spec: ReadSpec) -> Result<Self> {
        let mut fetcher = Fetcher::new(Arc::clone(&link), None);
        let resolved = &link.resolved;
        let begun = link.ask("read", async |client| {
            let listed = link.topics.refresh("read", resolved, client).await?;
            for name in spec.topics.iter().filter_map(Pattern::as_exact) {
                let topic = Topic::system(name)?;
                if !listed.contains_key(&topic) {
                    return Err(missing_topic("read", &topic));
                }
            }
            let mut begun = Vec::new();
            for (topic, facts) in wanted(&spec.topics, &listed) {
                let schema = &resolved.schema;
                let bounds = Bounds::look("read", schema, client, facts, &spec.start).await?;
                for index in 0..facts.partitions {
                    let partition = Partition::new(topic.clone(), index);
                    let after = bounds.after("read", &link.places, &partition, &spec.start)?;
                    begun.push((partition, after, bounds.last));
                }
            }
            Ok(begun)
        });
        let begun = begun.await?;
        let is_over = begun.is_empty() && spec.until != Until::Forever;
        for (partition, after, last) in begun {
            let after = (after > 0).then(|| link.places.position(after));
            let stop = (spec.until == Until::End).then_some(last);
            fetcher.open(partition, 0, after, stop);
        }
        Ok(Self {
            due: matches!(spec.until, Until::Time(_)).then(Instant::now),
            link,
            fetcher,
            until: spec.until,
            is_over,
        })
    }

    /// When the time of `until` has come, what is not there yet is not wanted.
    async fn end_by_clock(&mut self) -> Result<()> {
        let Until::Time(time) = self.until else {
            return Ok(());
        };
        let sql = self.link.resolved.schema.sql(CLOCK);
        let asked = self.link.ask("read", async |client| {
            let row = client.query_one(&sql, &[]).await;
            row.map_err(|error| postgres("read", error))
        });
        let row = match asked.await {
            Ok(row) => row,
            // The reading waits through outages, and so does its end.
            Err(error) if error.is_transient() => {
                self.due = Some(Instant::now() + Duration::from_secs(1));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let left = time.unix_millis() - row.get::<_, i64>(0);
        if left <= 0 {
            self.fetcher.stop_at(row.get(1));
            self.due = None;
        } else {
            let left = Duration::from_millis(left.unsigned_abs()).min(Duration::from_secs(3_600));
            self.due = Some(Instant::now() + left);
        }
        Ok(())
    }

    /// Cuts off what was stored at the time of `until` or later, and ends there.
    fn cut(&mut self, mut batch: Batch) -> Option<Batch> {
        if let Until::Time(time) = self.until {
            let before = |stored_at: i64| stored_at < time.unix_millis();
            let keep = batch.records.iter().position(|r| !before(r.stored_at));
            if let Some(keep) = keep {
                self.fetcher.close(&batch.partition);
                self.is_over = self.fetcher.is_idle();
                batch.records.truncate(keep);
            }
        }
        (!batch.records.is_empty()).then_some(batch)
    }
}

impl interline_core::Reader for Reader {
    async fn next(&mut self, budget: Budget) -> Result<Option<Batch>> {
        while !self.is_over {
            let due = self.due;
            let clock = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let batch = tokio::select! {
                biased;
                batch = self.fetcher.next(budget) => batch?,
                () = clock => {
                    self.end_by_clock().await?;
                    continue;
                }
            };
            match batch.map(|batch| self.cut(batch)) {
                Some(Some(batch)) => return Ok(Some(batch)),
                Some(None) => {}
                None => self.is_over = true,
            }
        }
        self.link.check_open("read")?;
        Ok(None)
    }
}

//! Reading without a group.

use std::sync::Arc;

use interline_core::{Batch, Budget, Partition, Pattern, ReadSpec, Result, Start, Topic, Until};

use crate::hub::Hub;
use crate::reading::{Cursor, Reading, Stop, check_kept, sequence};
use crate::topics;

/// A reading without a group; see [`interline_core::Reader`].
///
/// The server keeps nothing about it that outlives it by more than half a minute.
#[derive(Debug)]
pub struct Reader(Reading);

impl Reader {
    pub(crate) async fn open(hub: &Arc<Hub>, spec: &ReadSpec) -> Result<Self> {
        let mut reading = Reading::new(Arc::clone(hub), "read");
        let session = hub.main.session("read").await?;
        for topic in wanted(hub, &spec.topics).await? {
            let (facts, info) = hub.look(&session, "read", &topic).await?;
            let last = info.state.last_seq;
            let stop = match spec.until {
                Until::Forever => Stop::Never,
                Until::End => Stop::Behind(last),
                Until::Time(time) => Stop::Time(time.unix_millis()),
            };
            for index in 0..facts.partitions {
                let partition = Partition::new(topic.clone(), index);
                let cursor = cursor(&spec.start, &partition, last);
                if let Cursor::After { after, seen } = cursor {
                    check_kept("read", &partition, after, seen, &info.state)?;
                }
                reading.add(partition, 0, cursor, stop);
            }
        }
        Ok(Self(reading))
    }
}

/// Where a partition starts whose stream ends at `last`.
fn cursor(start: &Start, partition: &Partition, last: u64) -> Cursor {
    match start {
        Start::Earliest => Cursor::First,
        Start::Latest => Cursor::at(last),
        Start::Time(time) => Cursor::Time(time.to_string()),
        Start::At(positions) => {
            let named = positions.iter().find(|(known, _)| known == partition);
            named.map_or(Cursor::First, |(_, position)| {
                Cursor::at(sequence(Some(*position)))
            })
        }
    }
}

/// The topics of a reading.
async fn wanted(hub: &Hub, patterns: &[Pattern]) -> Result<Vec<Topic>> {
    let mut topics = Vec::new();
    for pattern in patterns {
        match pattern.as_exact() {
            Some(name) => {
                let topic = Topic::system(name)?;
                hub.ask("read", &topic).await?;
                topics.push(topic);
            }
            None => {
                let all = topics::list(hub, "read").await?;
                let fits = |topic: &Topic| !topic.is_system() && pattern.matches(topic.as_str());
                topics.extend(all.into_iter().filter(fits));
            }
        }
    }
    topics.sort_unstable();
    topics.dedup();
    Ok(topics)
}

impl interline_core::Reader for Reader {
    async fn next(&mut self, budget: Budget) -> Result<Option<Batch>> {
        self.0.next(budget).await
    }
}

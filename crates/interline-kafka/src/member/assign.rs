//! Taking partitions over: where their reading starts.

use std::time::{Duration, Instant};

use interline_core::{Checkpoint, Partition, Position, Progress, Signal, Start};
use interline_transport::checkpoint;
use rdkafka::Offset;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::commits::Entry;
use super::{Member, Owned, Phase, add, next_fence};
use crate::ffi;
use crate::offsets;

/// How long one question to the cluster may hold the thread up.
pub(super) const ASK: Duration = Duration::from_secs(1);

/// How soon it is asked again.
const RETRY: Duration = Duration::from_millis(20);

/// The most bytes of metadata that a broker keeps with an offset, unless it is configured
/// otherwise (`offset.metadata.max.bytes`).
pub(crate) const MAX_METADATA: usize = 4_096;

/// Where a partition starts.
struct Beginning {
    partition: Partition,
    name: String,
    progress: Progress,
    start: i64,
    /// Nothing is stored for it yet.
    is_new: bool,
}

impl Member {
    /// Asks where the partitions of `list` start and begins to read them; goes on later if the
    /// cluster does not answer.
    pub(super) fn assign(&mut self, list: TopicPartitionList) {
        match self.beginnings(&list) {
            Ok(_) if self.is_leaving || self.closing.is_some() => {
                // The protocol wants an answer, but nothing is read any more.
                self.hand_to_consumer(&list);
            }
            Ok(beginnings) => self.begin(beginnings),
            Err(error) => {
                tracing::debug!(target: "interline::kafka", %error, "asking for offsets again");
                let retry_at = Instant::now() + RETRY;
                self.phase = Phase::Assigning { list, retry_at };
                return;
            }
        }
        self.phase = Phase::Steady;
    }

    fn beginnings(&self, list: &TopicPartitionList) -> KafkaResult<Vec<Beginning>> {
        if list.count() == 0 {
            return Ok(Vec::new());
        }
        let committed = self.consumer.committed_offsets(list.clone(), ASK)?;
        let mut beginnings = Vec::new();
        let mut new = Vec::new();
        for element in committed.elements() {
            element.error()?;
            let Some(partition) = self.partition(element.topic(), element.partition()) else {
                continue;
            };
            match element.offset() {
                Offset::Offset(start) => beginnings.push(Beginning {
                    progress: stored(&committed, element.topic(), element.partition(), start),
                    name: element.topic().to_owned(),
                    partition,
                    start,
                    is_new: false,
                }),
                _ => new.push((partition, element.topic().to_owned())),
            }
        }
        for (partition, name) in new {
            let start = match self.topics.is_fresh(&partition) {
                true => &self.spec.start,
                false => &Start::Earliest,
            };
            let start = offsets::start(&*self.consumer, &name, &partition, start, ASK)?;
            beginnings.push(Beginning {
                progress: Progress {
                    frontier: before(start),
                    ..Progress::default()
                },
                partition,
                name,
                start,
                is_new: true,
            });
        }
        Ok(beginnings)
    }

    fn begin(&mut self, beginnings: Vec<Beginning>) {
        let mut list = TopicPartitionList::with_capacity(beginnings.len());
        let mut assigned = Vec::with_capacity(beginnings.len());
        for beginning in beginnings {
            let Beginning {
                partition,
                name,
                progress,
                start,
                is_new,
            } = beginning;
            if add(&mut list, &name, partition.index, Offset::Offset(start)).is_err() {
                continue;
            }
            let fence = next_fence();
            // The queue has to be cut off before the consumer fetches into it.
            self.fetcher.open(partition.clone(), &name, fence, start);
            let owned = Owned {
                fence,
                start,
                is_released: false,
            };
            self.owned.insert(partition.clone(), owned);
            if is_new {
                // A restart before the first checkpoint would otherwise start elsewhere: at the
                // end of then.
                self.commits.push(Entry {
                    partition: partition.clone(),
                    name,
                    fence,
                    offset: start,
                    metadata: checkpoint::encode(&progress, MAX_METADATA),
                    release: false,
                    asked: None,
                });
            }
            assigned.push(Checkpoint {
                partition,
                fence,
                progress,
            });
        }
        if !assigned.is_empty() {
            self.outbox.push(Signal::Assigned(assigned));
        }
        self.hand_to_consumer(&list);
    }

    fn hand_to_consumer(&self, list: &TopicPartitionList) {
        if let Err(error) = self.consumer.incremental_assign(list) {
            // The group moved on meanwhile; it will say so.
            tracing::debug!(target: "interline::kafka", %error, "an assignment came too late");
        }
    }

    /// Reads a partition again that its owner gave up while the member stays.
    pub(super) fn take_again(&mut self, partition: &Partition) {
        let mut list = TopicPartitionList::new();
        let name = self.name(&partition.topic);
        if add(&mut list, &name, partition.index, Offset::Invalid).is_err() {
            return;
        }
        self.fetcher.close(partition);
        self.owned.remove(partition);
        if let Err(error) = self.consumer.incremental_unassign(&list) {
            tracing::debug!(target: "interline::kafka", %error, "a released partition was gone");
            return;
        }
        self.assign(list);
    }

    /// Reads a partition anew from where it stands: its fetching has stalled.
    pub(super) fn reopen(&mut self, partition: &Partition, next: i64) -> Result<(), KafkaError> {
        let Some(owned) = self.owned.get(partition) else {
            return Ok(());
        };
        let fence = owned.fence;
        let name = self.name(&partition.topic);
        let mut list = TopicPartitionList::new();
        add(&mut list, &name, partition.index, Offset::Offset(next))?;
        self.consumer.incremental_unassign(&list)?;
        self.fetcher.open(partition.clone(), &name, fence, next);
        self.consumer.incremental_assign(&list)
    }
}

/// The progress that is stored with offset `start`.
fn stored(list: &TopicPartitionList, topic: &str, index: i32, start: i64) -> Progress {
    let bare = Progress {
        frontier: before(start),
        ..Progress::default()
    };
    let metadata = ffi::metadata(list, topic, index);
    let text = std::str::from_utf8(&metadata).unwrap_or_default();
    if text.is_empty() {
        return bare;
    }
    match checkpoint::decode(text) {
        // The offset is what every other tool sees and moves: where they differ, it counts.
        Ok(progress) if progress.frontier == bare.frontier => progress,
        Ok(progress) if progress.frontier.is_none() => Progress {
            frontier: bare.frontier,
            ..progress
        },
        _ => bare,
    }
}

/// The last position before an offset.
pub(crate) fn before(start: i64) -> Option<Position> {
    let last = u64::try_from(start).ok()?.checked_sub(1)?;
    Some(Position::from(last))
}

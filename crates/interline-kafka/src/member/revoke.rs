//! Giving partitions up.

use std::time::Instant;

use interline_core::{Checkpoint, Committed, Partition, Position, Result, Signal, planted};
use interline_transport::checkpoint;
use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::sync::oneshot;

use super::assign::MAX_METADATA;
use super::commits::Entry;
use super::{Member, Phase};

impl Member {
    /// The group takes partitions away.
    pub(super) fn revoke(&mut self, list: TopicPartitionList, lost: bool) {
        let mut partitions = self.partitions(&list);
        partitions.retain(|partition| self.owned.contains_key(partition));
        for partition in &partitions {
            self.fetcher.close(partition);
        }
        self.outbox.retract(&partitions);
        partitions.retain(|partition| !self.is_released(partition));
        if lost || self.closing.is_some() {
            self.lose(&partitions);
            self.unassign(&list);
            return;
        }
        let told = partitions;
        let budget = self.cluster.resolved.config.revoke_budget;
        if !told.is_empty() {
            self.outbox.push(Signal::Revoking {
                partitions: told,
                deadline: budget,
            });
        }
        let deadline = Instant::now() + budget;
        self.phase = Phase::Revoking { list, deadline };
        self.go_on_revoking();
    }

    /// Unassigns once everything is released and its checkpoints have an answer, or at the
    /// deadline.
    pub(super) fn go_on_revoking(&mut self) {
        let Phase::Revoking { list, deadline } = &self.phase else {
            return;
        };
        let lost = self.consumer.assignment_lost();
        let late = Instant::now() >= *deadline;
        let open: Vec<Partition> = self
            .partitions(list)
            .into_iter()
            .filter(|p| self.owned.contains_key(p))
            .filter(|p| !self.is_released(p) || self.commits.is_releasing(p))
            .collect();
        if !open.is_empty() && !lost && !late {
            return;
        }
        let list = list.clone();
        // What was not released is gone all the same, and its owner has to know.
        let held = open
            .into_iter()
            .filter(|p| !self.is_released(p))
            .collect::<Vec<_>>();
        self.lose(&held);
        self.unassign(&list);
    }

    fn is_released(&self, partition: &Partition) -> bool {
        self.owned
            .get(partition)
            .is_some_and(|owned| owned.is_released)
    }

    fn lose(&mut self, partitions: &[Partition]) {
        if partitions.is_empty() {
            return;
        }
        for partition in partitions {
            self.owned.remove(partition);
        }
        self.outbox.push(Signal::Lost {
            partitions: partitions.to_vec(),
        });
    }

    fn unassign(&mut self, list: &TopicPartitionList) {
        for partition in self.partitions(list) {
            self.owned.remove(&partition);
        }
        if let Err(error) = self.consumer.incremental_unassign(list) {
            tracing::debug!(target: "interline::kafka", %error, "partitions were gone already");
        }
        self.unassigned = Some(Instant::now());
        self.phase = Phase::Steady;
    }

    /// Takes checkpoints to be stored, and with `release` gives their partitions up.
    pub(super) fn store(
        &mut self,
        checkpoints: Vec<Checkpoint>,
        release: bool,
        reply: oneshot::Sender<Result<Vec<Committed>>>,
    ) {
        let number = self.commits.ask(checkpoints.len(), reply);
        for (part, checkpoint) in checkpoints.into_iter().enumerate() {
            let asked = Some((number, part));
            let Checkpoint {
                partition,
                fence,
                progress,
            } = checkpoint;
            let owned = self.owned.get_mut(&partition);
            let Some(owned) = owned.filter(|owned| owned.fence == fence && !owned.is_released)
            else {
                self.commits.answer(asked, Committed::Stale);
                continue;
            };
            let offset = match progress.frontier {
                Some(position) => next_offset(position),
                None => owned.start,
            };
            if release {
                owned.is_released = true;
                self.fetcher.close(&partition);
                self.outbox.retract(std::slice::from_ref(&partition));
            }
            self.commits.push(Entry {
                name: self.name(&partition.topic),
                metadata: checkpoint::encode(&progress, MAX_METADATA),
                partition,
                fence,
                offset,
                release,
                asked,
            });
        }
    }

    /// The broker answered the last checkpoint of a partition.
    pub(super) fn released(&mut self, partition: &Partition) {
        let passing = match &self.phase {
            Phase::Revoking { list, .. } => self.partitions(list).contains(partition),
            _ => false,
        };
        if passing || self.is_leaving || self.closing.is_some() {
            return;
        }
        self.take_again(partition);
    }
}

/// What Kafka stores for a frontier: not the last offset that is settled, but the next to read.
fn next_offset(frontier: Position) -> i64 {
    let next = if planted::is("offset-one-too-far") {
        2
    } else {
        1
    };
    frontier.1.cast_signed().saturating_add(next)
}

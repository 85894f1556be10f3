//! Administration of topics and groups.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use interline_core::{
    Ensured, ErrorKind, Group, GroupInfo, LagAccuracy, Partition, PartitionLag, Pattern, Progress,
    Result, Start, Topic, TopicInfo, TopicSpec,
};
use interline_transport::checkpoint;
use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::cluster::{Cluster, missing};
use crate::error::{coded, error, kafka};
use crate::ffi;
use crate::member::{MAX_METADATA, before, listed};
use crate::monitor::Watch;
use crate::{assignment, offsets, topics};

/// Administration of a cluster; see [`interline_core::Admin`].
///
/// Groups are those of the classic protocol, which the members of this transport use; their lag
/// is an upper bound, because compaction and transactions leave gaps in the offsets.
#[derive(Clone, Debug)]
pub struct Admin(pub(crate) Arc<Cluster>);

impl interline_core::Admin for Admin {
    async fn ensure(&self, topics: Vec<TopicSpec>) -> Result<Vec<Ensured>> {
        let mut ensured = Vec::with_capacity(topics.len());
        for spec in topics {
            ensured.push(match topics::compare(&self.0, &spec).await {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    topics::create(&self.0, "ensure", &spec).await?
                }
                other => other?,
            });
        }
        Ok(ensured)
    }

    async fn topics(&self, pattern: &Pattern) -> Result<Vec<TopicInfo>> {
        let pattern = pattern.clone();
        self.0
            .blocking("topics", move |cluster| list_topics(cluster, &pattern))
            .await
    }

    async fn groups(&self, topic: Option<&Topic>) -> Result<Vec<GroupInfo>> {
        let topic = topic.cloned();
        self.0
            .blocking("groups", move |cluster| {
                list_groups(cluster, topic.as_ref())
            })
            .await
    }

    async fn reset(&self, group: &Group, topic: &Topic, start: Start) -> Result<()> {
        let (group, topic) = (group.clone(), topic.clone());
        self.0
            .blocking("reset", move |cluster| {
                reset(cluster, &group, &topic, &start)
            })
            .await
    }

    async fn delete_topic(&self, topic: &Topic) -> Result<()> {
        let name = self.0.resolved.names.topic(topic);
        let admin = self.0.admin("delete topic")?;
        let answers = admin.delete_topics(&[&name], &self.0.options()).await;
        let answer = answers
            .map_err(|error| kafka("delete topic", &error))?
            .pop();
        self.0.forget(topic);
        match answer {
            Some(Err((_, RDKafkaErrorCode::UnknownTopicOrPartition))) | Some(Ok(_)) | None => {
                Ok(())
            }
            Some(Err((_, code))) => Err(coded("delete topic", code)),
        }
    }

    async fn delete_group(&self, group: &Group) -> Result<()> {
        let name = self.0.resolved.names.group(group);
        let admin = self.0.admin("delete group")?;
        let answers = admin.delete_groups(&[&name], &self.0.options()).await;
        match answers
            .map_err(|error| kafka("delete group", &error))?
            .pop()
        {
            Some(Err((_, RDKafkaErrorCode::GroupIdNotFound))) | Some(Ok(_)) | None => Ok(()),
            Some(Err((_, code))) => Err(coded("delete group", code)),
        }
    }
}

/// A consumer that stands for `group` without joining it: it asks for offsets, and stores them
/// as long as the group has no member.
fn stand_in(
    cluster: &Cluster,
    operation: &'static str,
    group: &Group,
) -> Result<BaseConsumer<Watch>> {
    cluster
        .resolved
        .member(group, None)
        .create_with_context(cluster.watch.clone())
        .map_err(|error| kafka(operation, &error))
}

fn list_topics(cluster: &Cluster, pattern: &Pattern) -> Result<Vec<TopicInfo>> {
    let metadata = cluster.metadata("topics", None)?;
    let all = listed(&metadata, &cluster.resolved.names);
    let mut infos = Vec::new();
    for (topic, partitions) in all {
        if !pattern.matches(topic.as_str()) {
            continue;
        }
        let name = cluster.resolved.names.topic(&topic);
        let events = (0..partitions)
            .map(|index| watermarks(cluster, "topics", &name, index))
            .map(|ends| {
                ends.map(|(first, next)| (next - first).cast_unsigned())
                    .ok()
            })
            .sum();
        infos.push(TopicInfo {
            topic,
            partitions,
            events,
        });
    }
    Ok(infos)
}

fn watermarks(
    cluster: &Cluster,
    operation: &'static str,
    name: &str,
    index: u32,
) -> Result<(i64, i64)> {
    let index = i32::try_from(index).unwrap_or(i32::MAX);
    let timeout = cluster.resolved.config.request_timeout;
    cluster
        .client()
        .fetch_watermarks(name, index, timeout)
        .map_err(|error| kafka(operation, &error))
}

fn list_groups(cluster: &Cluster, topic: Option<&Topic>) -> Result<Vec<GroupInfo>> {
    let names = &cluster.resolved.names;
    let mut all = listed(&cluster.metadata("groups", None)?, names);
    if let Some(topic) = topic {
        if !all.contains_key(topic) {
            return Err(missing(cluster, "groups", topic));
        }
        all.retain(|known, _| known == topic);
    }
    let timeout = cluster.resolved.config.request_timeout;
    let groups = cluster
        .client()
        .fetch_group_list(None, timeout)
        .map_err(|error| kafka("groups", &error))?;
    let mut infos = Vec::new();
    for found in groups.groups() {
        let is_consumers = matches!(found.protocol_type(), "consumer" | "");
        let Some(group) = names.to_group(found.name()).filter(|_| is_consumers) else {
            continue;
        };
        let mut owners = BTreeMap::new();
        for member in found.members() {
            for (name, index) in assignment::partitions(member.assignment().unwrap_or_default()) {
                owners.insert(
                    (name, index),
                    format!("{} at {}", member.id(), member.client_host()),
                );
            }
        }
        let partitions = lags(cluster, &group, &all, &owners)?;
        if !partitions.is_empty() {
            let members = found.members().len();
            infos.push(GroupInfo {
                group,
                members,
                partitions,
            });
        }
    }
    infos.sort_by(|a, b| a.group.cmp(&b.group));
    Ok(infos)
}

/// Where a group stands in every partition of `topics` that it has a place or an owner in.
fn lags(
    cluster: &Cluster,
    group: &Group,
    topics: &BTreeMap<Topic, u32>,
    owners: &BTreeMap<(String, i32), String>,
) -> Result<Vec<PartitionLag>> {
    let stored = stored_offsets(cluster, "groups", group, topics)?;
    let mut lags = Vec::new();
    for element in stored.elements() {
        let (name, index) = (element.topic().to_owned(), element.partition());
        let owner = owners.get(&(name.clone(), index)).cloned();
        let committed = match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        let Some(topic) = cluster.resolved.names.to_topic(&name) else {
            continue;
        };
        if committed.is_none() && owner.is_none() {
            continue;
        }
        let (first, next) = match watermarks(cluster, "groups", &name, index.cast_unsigned()) {
            // Deleted since the topics were listed: the group has no place there any more.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            ends => ends?,
        };
        let done = done_beyond(&stored, &name, index);
        let waiting = (next - committed.unwrap_or(first).max(first)).max(0);
        lags.push(PartitionLag {
            partition: Partition::new(topic, index.cast_unsigned()),
            frontier: committed.and_then(before),
            end: before(next),
            lag: Some(waiting.cast_unsigned().saturating_sub(done)),
            accuracy: LagAccuracy::UpperBound,
            owner,
        });
    }
    lags.sort_by(|a, b| a.partition.cmp(&b.partition));
    Ok(lags)
}

/// How many events beyond the frontier are settled.
fn done_beyond(list: &TopicPartitionList, name: &str, index: i32) -> u64 {
    let metadata = ffi::metadata(list, name, index);
    let text = std::str::from_utf8(&metadata).unwrap_or_default();
    let progress = checkpoint::decode(text).unwrap_or_default();
    let lengths = progress
        .done
        .iter()
        .map(|range| range.last.1 - range.first.1 + 1);
    lengths.sum()
}

fn stored_offsets(
    cluster: &Cluster,
    operation: &'static str,
    group: &Group,
    topics: &BTreeMap<Topic, u32>,
) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (topic, count) in topics {
        let name = cluster.resolved.names.topic(topic);
        for index in 0..*count {
            list.add_partition(&name, i32::try_from(index).unwrap_or(i32::MAX));
        }
    }
    let consumer = stand_in(cluster, operation, group)?;
    consumer
        .committed_offsets(list, cluster.resolved.config.request_timeout)
        .map_err(|error| kafka(operation, &error))
}

/// The topics among `all` in which a group has stored a place.
pub(crate) fn topics_with_place(
    cluster: &Cluster,
    group: &Group,
    all: &BTreeMap<Topic, u32>,
) -> Result<BTreeSet<Topic>> {
    if all.is_empty() {
        return Ok(BTreeSet::new());
    }
    let stored = stored_offsets(cluster, "subscribe", group, all)?;
    let names = &cluster.resolved.names;
    let places = stored.elements();
    let places = places
        .iter()
        .filter(|e| matches!(e.offset(), Offset::Offset(_)));
    Ok(places.filter_map(|e| names.to_topic(e.topic())).collect())
}

fn reset(cluster: &Cluster, group: &Group, topic: &Topic, start: &Start) -> Result<()> {
    let all = listed(&cluster.metadata("reset", None)?, &cluster.resolved.names);
    let count = *all
        .get(topic)
        .ok_or_else(|| missing(cluster, "reset", topic))?;
    let consumer = stand_in(cluster, "reset", group)?;
    let failed = |error: KafkaError| kafka("reset", &error);
    let timeout = cluster.resolved.config.request_timeout;
    let name = cluster.resolved.names.topic(topic);
    let mut list = TopicPartitionList::new();
    for index in 0..count {
        let partition = Partition::new(topic.clone(), index);
        let (first, end) = offsets::ends(&consumer, &name, index, timeout).map_err(failed)?;
        let offset =
            offsets::start(&consumer, &name, &partition, start, timeout).map_err(failed)?;
        if offset < first || offset > end {
            return Err(error(
                ErrorKind::PositionLost,
                "reset",
                format!(
                    "{partition} holds {first} to {}, not {}",
                    end - 1,
                    offset - 1
                ),
                "choose a place that is kept",
            ));
        }
        let progress = Progress {
            frontier: before(offset),
            ..Progress::default()
        };
        let mut element = list.add_partition(&name, i32::try_from(index).unwrap_or(i32::MAX));
        element.set_offset(Offset::Offset(offset)).map_err(failed)?;
        element.set_metadata(checkpoint::encode(&progress, MAX_METADATA));
    }
    match consumer.commit(&list, CommitMode::Sync) {
        Ok(()) => Ok(()),
        Err(error) => match error.rdkafka_error_code() {
            // The coordinator takes commits of strangers only while nobody is in the group.
            Some(
                RDKafkaErrorCode::UnknownMemberId
                | RDKafkaErrorCode::IllegalGeneration
                | RDKafkaErrorCode::RebalanceInProgress,
            ) => Err(live_members(group)),
            _ => Err(failed(error)),
        },
    }
}

fn live_members(group: &Group) -> interline_core::Error {
    error(
        ErrorKind::Invalid,
        "reset",
        format!("group `{group}` has live members"),
        "stop them first",
    )
}

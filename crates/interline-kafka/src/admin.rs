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
use crate::error::{coded, error, kafka, kind};
use crate::ffi::Place;
use crate::member::{MAX_METADATA, before, listed};
use crate::monitor::Watch;
use crate::places::{Census, Ends, Name};
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
    let all: Vec<_> = all
        .into_iter()
        .filter(|(topic, _)| pattern.matches(topic.as_str()))
        .collect();
    let names = |(topic, count): &(Topic, u32)| {
        let name = cluster.resolved.names.topic(topic);
        (0..*count).map(move |index| (name.clone(), index.cast_signed()))
    };
    let census = Census::new(cluster, "topics")?;
    let ends = census.ends(&all.iter().flat_map(names).collect())?;
    let infos = all.into_iter().map(|(topic, partitions)| {
        let name = cluster.resolved.names.topic(&topic);
        let events = (0..partitions)
            .map(|index| {
                let found = ends.get(&(name.clone(), index.cast_signed()))?;
                let (first, next) = found.ok()?;
                Some((next - first).cast_unsigned())
            })
            .sum();
        TopicInfo {
            topic,
            partitions,
            events,
        }
    });
    Ok(infos.collect())
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
    let list = cluster
        .client()
        .fetch_group_list(None, timeout)
        .map_err(|error| kafka("groups", &error))?;
    let mut found = Vec::new();
    for info in list.groups() {
        let is_consumers = matches!(info.protocol_type(), "consumer" | "");
        if let Some(group) = names.to_group(info.name()).filter(|_| is_consumers) {
            found.push((group, info));
        }
    }
    let asked: Vec<String> = found
        .iter()
        .map(|(_, info)| info.name().to_owned())
        .collect();
    let census = Census::new(cluster, "groups")?;
    let mut standings = Vec::with_capacity(found.len());
    for ((group, info), places) in found.into_iter().zip(census.places(&asked)?) {
        let partitions = standing(cluster, &all, info, places);
        if !partitions.is_empty() {
            standings.push((group, info.members().len(), partitions));
        }
    }
    let partitions = standings.iter().flat_map(|(_, _, partitions)| partitions);
    let partitions = partitions.map(|(name, _)| name.clone()).collect();
    let ends = census.ends(&partitions)?;
    let mut infos = Vec::with_capacity(standings.len());
    for (group, members, partitions) in standings {
        let partitions = lags(partitions, &ends)?;
        if !partitions.is_empty() {
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

/// What is known of a group in one partition.
struct Standing {
    partition: Partition,
    /// What it has stored there, if anything.
    place: Option<Place>,
    owner: Option<String>,
}

/// Where a group has a place or an owner, in the partitions of `topics`.
fn standing(
    cluster: &Cluster,
    topics: &BTreeMap<Topic, u32>,
    info: &rdkafka::groups::GroupInfo,
    places: Vec<Place>,
) -> BTreeMap<Name, Standing> {
    let mut standing = BTreeMap::new();
    let at = |name: &Name| {
        let topic = cluster.resolved.names.to_topic(&name.0)?;
        let index = u32::try_from(name.1).ok()?;
        let is_there = topics.get(&topic).is_some_and(|count| index < *count);
        is_there.then(|| Standing {
            partition: Partition::new(topic, index),
            place: None,
            owner: None,
        })
    };
    for member in info.members() {
        for name in assignment::partitions(member.assignment().unwrap_or_default()) {
            if let Some(mut found) = at(&name) {
                found.owner = Some(format!("{} at {}", member.id(), member.client_host()));
                standing.insert(name, found);
            }
        }
    }
    for place in places.into_iter().filter(|place| place.offset >= 0) {
        let name = (place.topic.clone(), place.partition);
        let found = standing.remove(&name).or_else(|| at(&name));
        if let Some(mut found) = found {
            found.place = Some(place);
            standing.insert(name, found);
        }
    }
    standing
}

/// The lag of a group in each partition that still exists.
fn lags(standing: BTreeMap<Name, Standing>, ends: &Ends) -> Result<Vec<PartitionLag>> {
    let mut lags = Vec::with_capacity(standing.len());
    for (name, standing) in standing {
        let (first, next) = match ends.get(&name) {
            Some(Ok(ends)) => *ends,
            // Deleted since the topics were listed: the group has no place there any more.
            Some(Err(code)) if kind(*code).0 == ErrorKind::NotFound => continue,
            Some(Err(code)) => return Err(coded("groups", *code)),
            None => continue,
        };
        let place = standing.place.as_ref();
        let committed = place.map(|place| place.offset);
        let waiting = (next - committed.unwrap_or(first).max(first)).max(0);
        let done = place.map_or(0, |place| done_beyond(&place.metadata));
        lags.push(PartitionLag {
            partition: standing.partition,
            frontier: committed.and_then(before),
            end: before(next),
            lag: Some(waiting.cast_unsigned().saturating_sub(done)),
            accuracy: LagAccuracy::UpperBound,
            owner: standing.owner,
        });
    }
    lags.sort_by(|a, b| a.partition.cmp(&b.partition));
    Ok(lags)
}

/// How many events beyond the frontier are settled.
fn done_beyond(metadata: &[u8]) -> u64 {
    let text = std::str::from_utf8(metadata).unwrap_or_default();
    let progress = checkpoint::decode(text).unwrap_or_default();
    let lengths = progress
        .done
        .iter()
        .map(|range| range.last.1 - range.first.1 + 1);
    lengths.sum()
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
    let names = &cluster.resolved.names;
    let group = names.group(group);
    let places = Census::new(cluster, "subscribe")?.places(&[group])?.pop();
    let places = places.into_iter().flatten();
    let topics = places.filter(|place| place.offset >= 0);
    let topics = topics.filter_map(|place| names.to_topic(&place.topic));
    Ok(topics.filter(|topic| all.contains_key(topic)).collect())
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

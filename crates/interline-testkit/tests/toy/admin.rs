//! Administration.

use interline_core::{
    Admin, Ensured, ErrorKind, Group, GroupInfo, LagAccuracy, Partition, PartitionLag, Pattern,
    Position, Progress, Recorded, Result, Start, Topic, TopicInfo, TopicSpec,
};

use super::transport::{Members, Toy, error, index};

impl Admin for Toy {
    async fn ensure(&self, topics: Vec<TopicSpec>) -> Result<Vec<Ensured>> {
        let mut data = self.shared.lock();
        let ensure = |spec: TopicSpec| {
            let wanted = spec.partitions.map(|count| count as usize);
            let Some(logs) = data.topics.get(&spec.topic) else {
                data.topics
                    .insert(spec.topic, vec![Vec::new(); wanted.unwrap_or(4)]);
                return Ensured::Created;
            };
            match wanted.filter(|count| *count != logs.len()) {
                Some(count) => Ensured::Drift(vec![format!(
                    "partitions: {} instead of {count}",
                    logs.len()
                )]),
                None => Ensured::Exists,
            }
        };
        let answers = topics.into_iter().map(ensure).collect();
        drop(data);
        self.shared.changed();
        Ok(answers)
    }

    async fn topics(&self, pattern: &Pattern) -> Result<Vec<TopicInfo>> {
        let data = self.shared.lock();
        let info = |(topic, logs): (&Topic, &Vec<Vec<Recorded>>)| TopicInfo {
            topic: topic.clone(),
            partitions: logs.len() as u32,
            events: Some(logs.iter().map(Vec::len).sum::<usize>() as u64),
        };
        let fits = |(topic, _): &(&Topic, _)| pattern.matches(topic.as_str());
        Ok(data.topics.iter().filter(fits).map(info).collect())
    }

    async fn groups(&self, topic: Option<&Topic>) -> Result<Vec<GroupInfo>> {
        let data = self.shared.lock();
        if topic.is_some_and(|topic| !data.topics.contains_key(topic)) {
            return Err(error(
                ErrorKind::NotFound,
                "list groups",
                "there is no such topic",
            ));
        }
        let lag = |group: &Members, (partition, progress): (&Partition, &Progress)| {
            let end = data.partition(partition).map_or(0, Vec::len);
            let settled = progress.frontier.map_or(0, |at| index(at) + 1);
            let is_open = |at: &usize| !progress.is_done(Position::from(*at as u64));
            PartitionLag {
                partition: partition.clone(),
                frontier: progress.frontier,
                end: end.checked_sub(1).map(|at| Position::from(at as u64)),
                lag: Some((settled..end).filter(is_open).count() as u64),
                accuracy: LagAccuracy::Exact,
                owner: group.owned.get(partition).map(|_| "the member".to_owned()),
            }
        };
        let info = |(name, group): (&Group, &Members)| {
            let wanted = |(at, _): &(&Partition, _)| topic.is_none_or(|topic| at.topic == *topic);
            let partitions = group.progress.iter().filter(wanted);
            GroupInfo {
                group: name.clone(),
                members: usize::from(group.member.is_some()),
                partitions: partitions.map(|partition| lag(group, partition)).collect(),
            }
        };
        let known = data.groups.iter().map(info);
        Ok(known
            .filter(|info| topic.is_none() || !info.partitions.is_empty())
            .collect())
    }

    async fn reset(&self, group: &Group, topic: &Topic, start: Start) -> Result<()> {
        let mut data = self.shared.lock();
        if !data.topics.contains_key(topic) {
            return Err(error(
                ErrorKind::NotFound,
                "reset",
                "there is no such topic",
            ));
        }
        let places = data.places(topic, &start)?;
        let group = data.groups.entry(group.clone()).or_default();
        if group.member.is_some() {
            return Err(error(
                ErrorKind::Invalid,
                "reset",
                "the group has a live member",
            ));
        }
        for (partition, next) in places {
            let frontier = next.checked_sub(1).map(|at| Position::from(at as u64));
            group.progress.insert(
                partition,
                Progress {
                    frontier,
                    ..Progress::default()
                },
            );
        }
        Ok(())
    }

    async fn delete_topic(&self, topic: &Topic) -> Result<()> {
        self.shared.lock().topics.remove(topic);
        self.shared.changed();
        Ok(())
    }

    async fn delete_group(&self, group: &Group) -> Result<()> {
        let mut data = self.shared.lock();
        if data
            .groups
            .get(group)
            .is_some_and(|group| group.member.is_some())
        {
            return Err(error(
                ErrorKind::Invalid,
                "delete group",
                "the group has a live member",
            ));
        }
        data.groups.remove(group);
        Ok(())
    }
}

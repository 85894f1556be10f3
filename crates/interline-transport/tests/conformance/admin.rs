//! Administration: topics by memory, groups by their tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use interline_core::{
    Batch, Ensured, Error, ErrorKind, Group, GroupInfo, LagAccuracy, Partition, PartitionLag,
    Pattern, Result, Start, Topic, TopicInfo, TopicSpec, Transport as _,
};

use crate::store::{Groups, everything, starts};
use crate::table::Row;

#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) memory: interline_memory::Transport,
    pub(crate) groups: Arc<Groups>,
}

impl Admin {
    fn refuse_live(&self, group: &Group, topic: Option<&Topic>) -> Result<()> {
        let now = self.groups.now();
        let mut tables = self.groups.lock();
        let mut of_group = tables.iter_mut().filter(|((name, of), _)| {
            name == group.as_str() && topic.is_none_or(|topic| topic == of)
        });
        if of_group.any(|(_, table)| table.live(now) > 0) {
            let kind = ErrorKind::Invalid;
            return Err(Error::new(kind, "reset", "the group has live members"));
        }
        Ok(())
    }
}

fn lag(partition: Partition, row: &Row, now: u64, all: &[Batch]) -> PartitionLag {
    let records = all.iter().filter(|batch| batch.partition == partition);
    let records = records.flat_map(|batch| &batch.records);
    let left = records
        .clone()
        .filter(|record| !row.progress.is_done(record.position));
    PartitionLag {
        frontier: row.progress.frontier,
        end: records.clone().map(|record| record.position).last(),
        lag: Some(left.count() as u64),
        accuracy: LagAccuracy::Exact,
        owner: row.owner_at(now).map(|owner| owner.instance().to_owned()),
        partition,
    }
}

impl interline_core::Admin for Admin {
    async fn ensure(&self, topics: Vec<TopicSpec>) -> Result<Vec<Ensured>> {
        self.memory.admin().ensure(topics).await
    }

    async fn topics(&self, pattern: &Pattern) -> Result<Vec<TopicInfo>> {
        self.memory.admin().topics(pattern).await
    }

    async fn groups(&self, topic: Option<&Topic>) -> Result<Vec<GroupInfo>> {
        let now = self.groups.now();
        let keys: Vec<_> = self.groups.lock().keys().cloned().collect();
        let mut found: BTreeMap<String, GroupInfo> = BTreeMap::new();
        for (group, of) in keys {
            if topic.is_some_and(|topic| *topic != of) {
                continue;
            }
            let all = everything(&self.memory, &of).await?;
            let mut tables = self.groups.lock();
            let Some(table) = tables.get_mut(&(group.clone(), of.clone())) else {
                continue;
            };
            let info = found.entry(group.clone()).or_insert(GroupInfo {
                group: Group::new(&group)?,
                members: 0,
                partitions: Vec::new(),
            });
            info.members = info.members.max(table.live(now));
            let rows = (0..).zip(&table.rows);
            let lags =
                rows.map(|(index, row)| lag(Partition::new(of.clone(), index), row, now, &all));
            info.partitions.extend(lags);
        }
        if let (Some(topic), true) = (topic, found.is_empty()) {
            crate::store::partitions(&self.memory, topic).await?;
        }
        Ok(found.into_values().collect())
    }

    async fn reset(&self, group: &Group, topic: &Topic, start: Start) -> Result<()> {
        self.refuse_live(group, Some(topic))?;
        let starts = starts(&self.memory, topic, &start).await?;
        let mut tables = self.groups.lock();
        if let Some(table) = tables.get_mut(&(group.as_str().to_owned(), topic.clone())) {
            for (row, progress) in table.rows.iter_mut().zip(starts) {
                row.progress = progress;
            }
        }
        Ok(())
    }

    async fn delete_topic(&self, topic: &Topic) -> Result<()> {
        self.groups.lock().retain(|(_, of), _| of != topic);
        self.memory.admin().delete_topic(topic).await
    }

    async fn delete_group(&self, group: &Group) -> Result<()> {
        self.refuse_live(group, None)?;
        self.groups
            .lock()
            .retain(|(name, _), _| name != group.as_str());
        Ok(())
    }
}

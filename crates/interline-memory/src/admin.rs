//! Administration.

use std::sync::Arc;

use interline_core::{
    Cleanup, Ensured, Group, GroupInfo, Pattern, Result, Start, Topic, TopicInfo, TopicSpec,
};
use tokio::time::Instant;

use crate::error;
use crate::link::Link;
use crate::store::TopicLog;

/// Creates, lists and deletes topics and groups. Every call takes effect before it returns.
#[derive(Debug)]
pub struct Admin {
    link: Arc<Link>,
}

impl Admin {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        Self { link }
    }

    fn ensure_one(&self, spec: &TopicSpec) -> Ensured {
        let store = &self.link.store;
        let (log, made) = store.create(&spec.topic, || self.link.limits(spec));
        let drift = drift(spec, &log);
        match (made, drift.is_empty()) {
            (true, true) => Ensured::Created,
            (false, true) => Ensured::Exists,
            (_, false) => Ensured::Drift(drift),
        }
    }
}

fn drift(spec: &TopicSpec, log: &TopicLog) -> Vec<String> {
    let mut lines = Vec::new();
    let limits = &log.limits;
    if let Some(partitions) = spec
        .partitions
        .filter(|wanted| *wanted != limits.partitions)
    {
        lines.push(format!(
            "partitions: {} instead of {partitions}",
            limits.partitions
        ));
    }
    if let Some(retention) = spec.retention.filter(|wanted| *wanted != limits.retention) {
        lines.push(format!(
            "retention: {:?} instead of {retention:?}",
            limits.retention
        ));
    }
    if spec.cleanup == Some(Cleanup::Compact) {
        lines.push("cleanup: delete instead of compact".to_owned());
    }
    lines
}

impl interline_core::Admin for Admin {
    /// Replicas do not exist here and are not compared; compaction neither, which is reported.
    async fn ensure(&self, topics: Vec<TopicSpec>) -> Result<Vec<Ensured>> {
        self.link.check_open("ensure topics")?;
        Ok(topics.iter().map(|spec| self.ensure_one(spec)).collect())
    }

    async fn topics(&self, pattern: &Pattern) -> Result<Vec<TopicInfo>> {
        self.link.check_open("list topics")?;
        let mut logs = self.link.store.topics();
        logs.retain(|log| pattern.matches(log.name.as_str()));
        let info = |log: &Arc<TopicLog>| TopicInfo {
            topic: log.name.clone(),
            partitions: log.limits.partitions,
            events: Some(log.events()),
        };
        Ok(logs.iter().map(info).collect())
    }

    async fn groups(&self, topic: Option<&Topic>) -> Result<Vec<GroupInfo>> {
        self.link.check_open("list groups")?;
        if let Some(topic) = topic
            && self.link.store.topic(topic).is_none()
        {
            return Err(error::missing_topic("list groups", topic.as_str()));
        }
        let now = Instant::now();
        let groups = self.link.store.groups();
        Ok(groups
            .iter()
            .filter_map(|group| group.info(topic, now))
            .collect())
    }

    async fn reset(&self, group: &Group, topic: &Topic, start: Start) -> Result<()> {
        self.link.check_open("reset")?;
        let store = &self.link.store;
        let missing = || error::missing_topic("reset", topic.as_str());
        let log = store.topic(topic).ok_or_else(missing)?;
        store
            .group_or_new(group)
            .reset(&log, &start, Instant::now())
    }

    async fn delete_topic(&self, topic: &Topic) -> Result<()> {
        self.link.check_open("delete topic")?;
        self.link.store.delete(topic);
        Ok(())
    }

    async fn delete_group(&self, group: &Group) -> Result<()> {
        self.link.check_open("delete group")?;
        if let Some(known) = self.link.store.group(group) {
            known.delete(Instant::now())?;
            self.link.store.remove_group(group);
        }
        Ok(())
    }
}

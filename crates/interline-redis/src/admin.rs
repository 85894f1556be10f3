//! Administration of topics and groups.

use std::sync::Arc;
use std::time::Duration;

use fred::types::Value;
use interline_core::{
    Ensured, ErrorKind, Group, GroupInfo, LagAccuracy, Partition, PartitionLag, Pattern, Position,
    Range, Result, Start, Topic, TopicInfo, TopicSpec,
};
use interline_transport::checkpoint;
use interline_transport::lease::MemberId;

use crate::leases::GroupStore;
use crate::reply::{self, number, odd, text, texts};
use crate::scripts::{DISBAND, RESET, SURVEY};
use crate::server::Server;
use crate::topics::{self, Facts};

/// Manages topics and groups; see [`interline_core::Admin`].
#[derive(Clone, Debug)]
pub struct Admin(pub(crate) Arc<Server>);

impl Admin {
    /// Removes from a topic, now, what is older than its retention and settled by every group that
    /// was seen within it; how many events were removed. Every connection does so once a minute
    /// for all topics.
    ///
    /// Streams are cut in pieces of about 100 events: up to that many more may stay.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) for an unknown topic; when the server cannot be reached.
    pub async fn trim(&self, topic: &Topic) -> Result<u64> {
        self.0.check_open("trim")?;
        let facts = self.existing("trim", topic).await?;
        topics::trim(&self.0, &facts, Duration::ZERO).await
    }

    /// The topics that are there, with their names.
    async fn facts(&self, operation: &'static str, topics: Vec<Topic>) -> Result<Vec<Arc<Facts>>> {
        let asked = topics.iter().map(|topic| self.0.ask(operation, topic));
        let found = futures_util::future::try_join_all(asked).await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn existing(&self, operation: &'static str, topic: &Topic) -> Result<Arc<Facts>> {
        let found = self.0.ask(operation, topic).await?;
        found.ok_or_else(|| self.0.missing(operation, topic))
    }

    async fn info(&self, facts: &Facts) -> Result<TopicInfo> {
        let mut events = 0;
        let lengths = facts.streams.iter().map(|stream| {
            let stream = vec![Value::Bytes(stream.clone())];
            self.0.link.call("topics", "XLEN", stream)
        });
        for length in futures_util::future::try_join_all(lengths).await? {
            events += number::<u64>(length).unwrap_or(0);
        }
        Ok(TopicInfo {
            topic: facts.topic.clone(),
            partitions: facts.partitions(),
            events: Some(events),
        })
    }

    /// The groups that are known on a topic.
    async fn groups_of(&self, operation: &'static str, topic: &Topic) -> Result<Vec<Group>> {
        let key = vec![Value::Bytes(self.0.resolved.keys.groups(topic))];
        let names = texts(self.0.link.call(operation, "HKEYS", key).await?);
        let names = names.into_iter().flatten();
        Ok(names.filter_map(|name| Group::new(name).ok()).collect())
    }

    fn store(&self, group: &Group, topic: &Topic) -> GroupStore {
        GroupStore::new(Arc::clone(&self.0), group, topic)
    }

    async fn survey(&self, group: &Group, facts: &Facts) -> Result<GroupInfo> {
        let store = self.store(group, &facts.topic);
        let mut answer = store.run("groups", &SURVEY, group.as_str(), []).await?;
        let members = answer.next().and_then(number).unwrap_or(0);
        let mut partitions = Vec::new();
        for row in answer {
            let row = text(row).unwrap_or_default();
            partitions.push(lag(facts, &row).ok_or_else(|| odd("groups"))?);
        }
        partitions.sort_unstable_by(|a, b| a.partition.cmp(&b.partition));
        Ok(GroupInfo {
            group: group.clone(),
            members,
            partitions,
        })
    }
}

/// A row of a survey: number, owner, end, checkpoint.
fn lag(facts: &Facts, row: &str) -> Option<PartitionLag> {
    let mut words = row.split(' ');
    let index = words.next()?.parse().ok()?;
    let owner = words.next().filter(|owner| *owner != "-");
    let head = reply::position(words.next()?.as_bytes())?;
    let frontier = reply::position(words.next()?.as_bytes())?;
    // What cannot be read counts as nothing done: the owner to come will say why.
    let progress = words.next().and_then(|text| checkpoint::decode(text).ok());
    // The second half of a position counts events, unless another client chose it.
    let done = |range: &Range| range.last.1.saturating_sub(range.first.1) + 1;
    let done: u64 = progress.iter().flat_map(|p| &p.done).map(done).sum();
    let some = |position: Position| (position != Position::default()).then_some(position);
    let waiting = head.1.saturating_sub(frontier.1).saturating_sub(done);
    Some(PartitionLag {
        partition: Partition::new(facts.topic.clone(), index),
        frontier: some(frontier),
        end: some(head),
        lag: facts.is_dense.then_some(waiting),
        accuracy: LagAccuracy::Exact,
        owner: owner.map(|owner| MemberId::stored(owner).instance().to_owned()),
    })
}

impl interline_core::Admin for Admin {
    async fn ensure(&self, specs: Vec<TopicSpec>) -> Result<Vec<Ensured>> {
        self.0.check_open("ensure")?;
        let mut ensured = Vec::with_capacity(specs.len());
        for spec in specs {
            let (facts, made) = topics::create(&self.0, "ensure", &spec, None).await?;
            let facts = Arc::new(facts);
            self.0.learn(&facts);
            ensured.push(match made {
                true => Ensured::Created,
                false => topics::compare(&facts, &spec),
            });
        }
        Ok(ensured)
    }

    async fn topics(&self, pattern: &Pattern) -> Result<Vec<TopicInfo>> {
        self.0.check_open("topics")?;
        let names = topics::names(&self.0, "topics").await?;
        let names = names.into_iter().filter(|t| pattern.matches(t.as_str()));
        let mut infos = Vec::new();
        for facts in self.facts("topics", names.collect()).await? {
            infos.push(self.info(&facts).await?);
        }
        Ok(infos)
    }

    async fn groups(&self, topic: Option<&Topic>) -> Result<Vec<GroupInfo>> {
        self.0.check_open("groups")?;
        let topics = match topic {
            Some(topic) => vec![self.existing("groups", topic).await?],
            None => {
                let names = topics::names(&self.0, "groups").await?;
                self.facts("groups", names).await?
            }
        };
        let mut infos: Vec<GroupInfo> = Vec::new();
        for facts in topics {
            for group in self.groups_of("groups", &facts.topic).await? {
                let info = match self.survey(&group, &facts).await {
                    // Deleted since the topics were listed: no group stands there any more.
                    Err(gone) if topic.is_none() && gone.kind() == ErrorKind::NotFound => break,
                    info => info?,
                };
                match infos.iter_mut().find(|known| known.group == group) {
                    Some(known) => {
                        known.members = known.members.max(info.members);
                        known.partitions.extend(info.partitions);
                    }
                    None => infos.push(info),
                }
            }
        }
        infos.sort_unstable_by(|a, b| a.group.cmp(&b.group));
        Ok(infos)
    }

    async fn reset(&self, group: &Group, topic: &Topic, start: Start) -> Result<()> {
        self.0.check_open("reset")?;
        self.existing("reset", topic).await?;
        let store = self.store(group, topic);
        let starts = store.starts("reset", &start).await?;
        store.run("reset", &RESET, group.as_str(), starts).await?;
        Ok(())
    }

    async fn delete_topic(&self, topic: &Topic) -> Result<()> {
        self.0.check_open("delete topic")?;
        match self.0.ask("delete topic", topic).await? {
            Some(facts) => topics::delete(&self.0, &facts).await,
            None => Ok(()),
        }
    }

    async fn delete_group(&self, group: &Group) -> Result<()> {
        self.0.check_open("delete group")?;
        for topic in topics::names(&self.0, "delete group").await? {
            if !self
                .groups_of("delete group", &topic)
                .await?
                .contains(group)
            {
                continue;
            }
            let store = self.store(group, &topic);
            match store
                .run("delete group", &DISBAND, group.as_str(), [])
                .await
            {
                Err(gone) if gone.kind() == ErrorKind::NotFound => {}
                done => drop(done?),
            }
        }
        Ok(())
    }
}

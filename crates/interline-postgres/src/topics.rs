//! The topics of the schema, as last seen.

use std::collections::BTreeMap;
use std::sync::Arc;

use interline_core::{Pattern, Result, Topic, TopicSpec};
use interline_transport::settings::Profile;
use tokio::sync::{Mutex, watch};
use tokio_postgres::Client;

use crate::config::Resolved;
use crate::error::{missing_topic, postgres};

/// What is known of a topic. A topic that is deleted and made again is another one, with another
/// id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) id: i32,
    pub(crate) partitions: u32,
    /// Milliseconds.
    pub(crate) retention: i64,
}

pub(crate) type Listed = Arc<BTreeMap<Topic, Facts>>;

/// The list of topics, shared by everybody on one connection.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    listed: watch::Sender<Listed>,
    /// Held while the list is read: a list read before a topic was made must not be shown after.
    turn: Mutex<()>,
}

const LIST: &str = "select name, id, parts, retention from {s}.topics";

const CREATE: &str = "insert into {s}.topics (name, parts, retention) values ($1, $2, $3)
    on conflict do nothing";

impl Topics {
    /// Tells of every change of the list.
    pub(crate) fn watch(&self) -> watch::Receiver<Listed> {
        self.listed.subscribe()
    }

    pub(crate) fn known(&self, topic: &Topic) -> Option<Facts> {
        self.listed.borrow().get(topic).copied()
    }

    /// Reads the list again.
    pub(crate) async fn refresh(
        &self,
        operation: &'static str,
        resolved: &Resolved,
        client: &Client,
    ) -> Result<Listed> {
        let _turn = self.turn.lock().await;
        self.read(operation, resolved, client).await
    }

    async fn read(
        &self,
        operation: &'static str,
        resolved: &Resolved,
        client: &Client,
    ) -> Result<Listed> {
        let rows = client.query(&resolved.schema.sql(LIST), &[]).await;
        let rows = rows.map_err(|error| postgres(operation, error))?;
        let listed: BTreeMap<Topic, Facts> = rows
            .iter()
            .filter_map(|row| {
                let facts = Facts {
                    id: row.get(1),
                    partitions: row.get::<_, i32>(2).unsigned_abs(),
                    retention: row.get(3),
                };
                Some((Topic::system(row.get::<_, &str>(0)).ok()?, facts))
            })
            .collect();
        let listed = Arc::new(listed);
        self.listed.send_if_modified(|known| {
            let differs = **known != *listed;
            if differs {
                *known = Arc::clone(&listed);
            }
            differs
        });
        Ok(listed)
    }

    /// Makes a topic unless it is there; what it is, and whether it was made.
    pub(crate) async fn create(
        &self,
        operation: &'static str,
        resolved: &Resolved,
        client: &Client,
        spec: &TopicSpec,
    ) -> Result<(Facts, bool)> {
        let _turn = self.turn.lock().await;
        let retention = spec.retention.unwrap_or(resolved.config.retention);
        let millis = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        let partitions = spec.partitions.unwrap_or(resolved.config.partitions);
        let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
        let sql = resolved.schema.sql(CREATE);
        let made = client
            .execute(&sql, &[&spec.topic.as_str(), &partitions, &millis.max(1)])
            .await
            .map_err(|error| postgres(operation, error))?;
        let listed = self.read(operation, resolved, client).await?;
        let facts = listed.get(&spec.topic);
        let facts = facts.ok_or_else(|| missing_topic(operation, &spec.topic))?;
        Ok((*facts, made > 0))
    }

    /// What a topic is; one that is missing is made if the profile allows.
    pub(crate) async fn require(
        &self,
        operation: &'static str,
        resolved: &Resolved,
        client: &Client,
        topic: &Topic,
    ) -> Result<Facts> {
        if let Some(facts) = self.refresh(operation, resolved, client).await?.get(topic) {
            return Ok(*facts);
        }
        if resolved.profile == Profile::Production && !topic.is_system() {
            return Err(missing_topic(operation, topic));
        }
        let spec = TopicSpec::new(topic.clone());
        let (facts, _) = self.create(operation, resolved, client, &spec).await?;
        Ok(facts)
    }
}

/// The topics that `patterns` mean, as in a subscription without return topics.
pub(crate) fn wanted(patterns: &[Pattern], listed: &Listed) -> Vec<(Topic, Facts)> {
    let is_wanted = |topic: &Topic| {
        patterns.iter().any(|pattern| match pattern.as_exact() {
            Some(name) => name == topic.as_str(),
            None => !topic.is_system() && pattern.matches(topic.as_str()),
        })
    };
    let all = listed.iter().filter(|(topic, _)| is_wanted(topic));
    all.map(|(topic, facts)| (topic.clone(), *facts)).collect()
}

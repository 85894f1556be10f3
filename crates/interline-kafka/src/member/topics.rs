//! Which topics a member reads.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use interline_core::{ErrorKind, Partition, SubscribeSpec, Topic};
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::Metadata;

use super::Member;
use super::assign::ASK;
use crate::config::Names;
use crate::outbox::{End, Failure};

/// How long a topic that was named may be missing before the reading ends. Brokers forget topics
/// for a moment when they change places.
const GRACE: Duration = Duration::from_secs(15);

/// The topics that are read now.
pub(super) struct Topics {
    current: BTreeSet<Topic>,
    /// For a new group: the partitions for which its start counts. Later ones start at the
    /// earliest event.
    fresh: BTreeMap<Topic, u32>,
    pub(super) looked: Instant,
    missing: BTreeMap<Topic, Instant>,
}

impl Topics {
    pub(super) fn new(topics: Vec<Topic>, fresh: BTreeMap<Topic, u32>) -> Self {
        Self {
            current: topics.into_iter().collect(),
            fresh,
            looked: Instant::now(),
            missing: BTreeMap::new(),
        }
    }

    pub(super) fn is_fresh(&self, partition: &Partition) -> bool {
        let counted = self.fresh.get(&partition.topic);
        counted.is_some_and(|count| partition.index < *count)
    }
}

/// The topics of a cluster, with the number of their partitions.
pub(crate) fn listed(metadata: &Metadata, names: &Names) -> BTreeMap<Topic, u32> {
    let topics = metadata
        .topics()
        .iter()
        .filter(|topic| topic.error().is_none());
    topics
        .filter_map(|topic| {
            let partitions = u32::try_from(topic.partitions().len()).unwrap_or(u32::MAX);
            Some((names.to_topic(topic.name())?, partitions))
        })
        .collect()
}

/// The topics among `all` that belong to a reading.
pub(crate) fn covered(spec: &SubscribeSpec, all: &BTreeMap<Topic, u32>) -> BTreeSet<Topic> {
    all.keys()
        .filter(|topic| spec.covers(topic))
        .cloned()
        .collect()
}

impl Member {
    pub(super) fn subscribe(&self) {
        let names: Vec<String> = self.topics.current.iter().map(|t| self.name(t)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        if let Err(error) = self.consumer.subscribe(&names) {
            tracing::warn!(target: "interline::kafka", %error, "subscribing failed");
        }
    }

    /// Looks for topics that came or went.
    pub(super) fn refresh_topics(&mut self) {
        if self.topics.looked.elapsed() < self.cluster.resolved.config.topic_refresh
            || self.is_leaving
            || self.closing.is_some()
        {
            return;
        }
        self.topics.looked = Instant::now();
        let Ok(metadata) = self.consumer.fetch_metadata(None, ASK) else {
            return;
        };
        let all = listed(&metadata, &self.cluster.resolved.names);
        let mut wanted = covered(&self.spec, &all);
        self.note_missing(&wanted);
        // A topic that is missing for a moment is not given up: its partitions would be revoked.
        wanted.extend(self.topics.missing.keys().cloned());
        if wanted != self.topics.current {
            self.topics.current = wanted;
            self.subscribe();
        }
    }

    fn note_missing(&mut self, found: &BTreeSet<Topic>) {
        self.topics
            .missing
            .retain(|topic, _| !found.contains(topic));
        for topic in self.topics.current.difference(found) {
            let since = self
                .topics
                .missing
                .entry(topic.clone())
                .or_insert_with(Instant::now);
            if since.elapsed() < GRACE {
                continue;
            }
            let is_named = self
                .spec
                .topics
                .iter()
                .any(|p| p.as_exact() == Some(topic.as_str()));
            if is_named {
                self.outbox.end(End::Failed(Failure {
                    kind: ErrorKind::NotFound,
                    message: format!("topic `{topic}` was deleted"),
                    remedy: "create it again and subscribe anew",
                }));
            }
        }
        let gone = |since: &Instant| since.elapsed() >= GRACE;
        self.topics.missing.retain(|_, since| !gone(since));
    }

    /// What an error of the consumer, or of one partition, means for the reading.
    pub(super) fn judge(&mut self, code: RDKafkaErrorCode, text: &str) {
        let (kind, remedy) = crate::error::kind(code);
        let is_fatal = matches!(
            code,
            RDKafkaErrorCode::Fatal | RDKafkaErrorCode::FencedInstanceId
        );
        if kind == ErrorKind::Denied && code != RDKafkaErrorCode::Authentication || is_fatal {
            self.outbox.end(End::Failed(Failure {
                kind: if is_fatal { ErrorKind::Closed } else { kind },
                message: format!("{code}: {}", text.trim()),
                remedy: if is_fatal {
                    "another member has this instance's name: give each its own"
                } else {
                    remedy
                },
            }));
            return;
        }
        if kind == ErrorKind::NotFound {
            // Whether it is gone for good shows at the next look.
            let soon = self
                .cluster
                .resolved
                .config
                .topic_refresh
                .min(Duration::from_secs(1));
            self.topics.looked = Instant::now()
                .checked_sub(self.cluster.resolved.config.topic_refresh - soon)
                .unwrap_or_else(Instant::now);
        }
        tracing::debug!(target: "interline::kafka", %code, text, "the consumer reported an error");
    }
}

//! What all handles of a transport share: its connections and what is known of topics.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_nats::Subject;
use interline_core::{
    Cadence, Capabilities, Dedupe, Durability, ErrorKind, LagAccuracy, Result, Topic, TopicSpec,
};
use interline_transport::settings::Profile;

use crate::api::{Failed, StreamInfo};
use crate::durability::Syncs;
use crate::error::{closed, code, error};
use crate::link::{Link, Session, Settings};
use crate::names::Names;
use crate::topics::{self, DEDUPE, PARTITIONS_KEY};

/// What of the server's largest message is left for key, attributes and headers.
const HEAD: usize = 64 << 10;

pub(crate) struct Hub {
    pub(crate) settings: Arc<Settings>,
    pub(crate) capabilities: Capabilities,
    pub(crate) syncs: Syncs,
    /// Publishing and administration.
    pub(crate) main: Arc<Link>,
    /// Reading: a full stream of records must not delay answers to anything else.
    reading: OnceLock<Arc<Link>>,
    /// Leases and checkpoints, which must not wait behind records either.
    leases: OnceLock<Arc<Link>>,
    topics: Mutex<HashMap<Topic, Arc<Facts>>>,
}

/// What has to be known of a topic.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) stream: String,
    pub(crate) partitions: u32,
    /// When the stream was made: tells it from an earlier one of its name.
    pub(crate) created: String,
    pub(crate) durability: Durability,
    /// Whether events go there in batches that are stored as a whole: it takes them, and writes to
    /// disk before it answers, once for all of a batch.
    pub(crate) takes_batches: bool,
    /// The subject of each partition; of a stream that somebody else made there is one, if it has
    /// one subject alone.
    subjects: Vec<Subject>,
    is_foreign: bool,
}

impl Facts {
    fn new(names: &Names, syncs: Syncs, topic: &Topic, info: &StreamInfo) -> Self {
        let config = &info.config;
        let partitions = config.metadata.get(PARTITIONS_KEY);
        let partitions = partitions.and_then(|text| text.parse::<u32>().ok());
        let durability = syncs.of(config);
        let subjects = match partitions {
            Some(count) => (0..count).map(|p| names.subject(topic, p).into()).collect(),
            None => {
                let literal = |subject: &&String| !subject.contains(['*', '>']);
                let only = config
                    .subjects
                    .first()
                    .filter(|_| config.subjects.len() == 1);
                only.filter(literal)
                    .map(|subject| subject.as_str().into())
                    .into_iter()
                    .collect()
            }
        };
        Self {
            stream: config.name.clone(),
            partitions: partitions.unwrap_or(1),
            created: info.created.clone(),
            durability,
            takes_batches: syncs.always && config.allow_atomic,
            subjects,
            is_foreign: partitions.is_none(),
        }
    }

    /// Whether this is known of the very stream.
    fn is(&self, info: &StreamInfo) -> bool {
        self.created == info.created && self.stream == info.config.name
    }

    /// What is read of a partition: its subject, or everything that somebody else's stream holds.
    pub(crate) fn filter(&self, partition: u32) -> Option<&Subject> {
        let subject = self.subjects.get(partition as usize);
        subject.filter(|_| !self.is_foreign)
    }

    /// Whether somebody else made the stream.
    pub(crate) fn is_foreign(&self) -> bool {
        self.is_foreign
    }

    /// Where the events of a partition are published.
    pub(crate) fn subject(&self, partition: u32) -> Option<&Subject> {
        self.subjects.get(partition as usize)
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("place", &self.settings.resolved.place)
            .finish_non_exhaustive()
    }
}

impl Hub {
    pub(crate) fn new(
        settings: Arc<Settings>,
        session: Session,
        syncs: Syncs,
    ) -> Result<Arc<Self>> {
        let capabilities = capabilities(&session, syncs);
        let (has, wants) = (capabilities.durability, settings.resolved.min_durability);
        if has < wants {
            let place = &settings.resolved.place;
            return Err(error(
                ErrorKind::Config,
                "connect",
                format!("`{place}` gives durability {has} and {wants} is required"),
                format!(
                    "set `sync_interval: always` in the server's configuration and say so with \
                     `sync_always=on` (or let `monitor=host:port` ask for it), or accept less \
                     with `min_durability={has}`"
                ),
            ));
        }
        Ok(Arc::new(Self {
            main: Link::start("main", &settings, Some(session)),
            reading: OnceLock::new(),
            leases: OnceLock::new(),
            topics: Mutex::default(),
            capabilities,
            syncs,
            settings,
        }))
    }

    pub(crate) fn names(&self) -> &Names {
        &self.settings.resolved.names
    }

    pub(crate) fn is_development(&self) -> bool {
        self.settings.resolved.profile == Profile::Development
    }

    pub(crate) fn check_open(&self, operation: &'static str) -> Result<()> {
        if self.settings.is_closed() {
            return Err(closed(operation));
        }
        Ok(())
    }

    /// The connection for reading.
    pub(crate) fn reading(&self) -> &Arc<Link> {
        self.reading
            .get_or_init(|| Link::start("reading", &self.settings, None))
    }

    /// The connection for leases and checkpoints.
    pub(crate) fn leases(&self) -> &Arc<Link> {
        self.leases
            .get_or_init(|| Link::start("leases", &self.settings, None))
    }

    fn topics(&self) -> MutexGuard<'_, HashMap<Topic, Arc<Facts>>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a topic without asking.
    pub(crate) fn known(&self, topic: &Topic) -> Option<Arc<Facts>> {
        self.topics().get(topic).cloned()
    }

    pub(crate) fn forget(&self, topic: &Topic) {
        self.topics().remove(topic);
    }

    /// What a topic is, from memory or by asking.
    pub(crate) async fn facts(&self, operation: &'static str, topic: &Topic) -> Result<Arc<Facts>> {
        match self.known(topic) {
            Some(facts) => Ok(facts),
            None => self.ask(operation, topic).await,
        }
    }

    /// Asks what a topic is now.
    pub(crate) async fn ask(&self, operation: &'static str, topic: &Topic) -> Result<Arc<Facts>> {
        let session = self.main.session(operation).await?;
        Ok(self.look(&session, operation, topic).await?.0)
    }

    /// Asks what a topic is and holds now.
    pub(crate) async fn look(
        &self,
        session: &Session,
        operation: &'static str,
        topic: &Topic,
    ) -> Result<(Arc<Facts>, StreamInfo)> {
        let info = stream_info(session, operation, &self.names().stream(topic)).await;
        let info = info.map_err(|failed| self.missing_or(operation, topic, failed))?;
        let facts = match self.known(topic) {
            Some(known) if known.is(&info) => known,
            _ => Arc::new(Facts::new(self.names(), self.syncs, topic, &info)),
        };
        self.topics().insert(topic.clone(), Arc::clone(&facts));
        Ok((facts, info))
    }

    /// Makes sure that a topic is there: creates it in development, else says how to.
    pub(crate) async fn require(
        &self,
        operation: &'static str,
        topic: &Topic,
    ) -> Result<Arc<Facts>> {
        if let Some(facts) = self.known(topic) {
            return Ok(facts);
        }
        match self.ask(operation, topic).await {
            Err(error) if error.kind() == ErrorKind::NotFound && self.is_development() => {
                topics::create(self, operation, &TopicSpec::new(topic.clone())).await?;
                self.ask(operation, topic).await
            }
            other => other,
        }
    }

    /// The error of a request about a topic: that it is not there, with the way to make it, or
    /// whatever else it is.
    pub(crate) fn missing_or(
        &self,
        operation: &'static str,
        topic: &Topic,
        failed: Failed,
    ) -> interline_core::Error {
        if !failed.is(code::STREAM_NOT_FOUND) {
            return failed.error(operation);
        }
        self.forget(topic);
        error(
            ErrorKind::NotFound,
            operation,
            format!("topic `{topic}` does not exist"),
            format!(
                "create it with `interline topics create {topic}`, or use `profile=development`"
            ),
        )
    }
}

/// A stream as it is.
pub(crate) async fn stream_info(
    session: &Session,
    operation: &'static str,
    stream: &str,
) -> Result<StreamInfo, Failed> {
    session
        .ask(operation, &format!("STREAM.INFO.{stream}"), &())
        .await
}

fn capabilities(session: &Session, syncs: Syncs) -> Capabilities {
    let mut capabilities = declared();
    // Topics differ: each is looked at when it is first published to.
    capabilities.durability = syncs.level(topics::replicas(session));
    capabilities.durability_verified = syncs.is_verified;
    capabilities.max_payload = session.info.max_payload.saturating_sub(HEAD).max(1);
    capabilities
}

/// What this transport declares on one server as it comes: synced now and then, 1 MiB a message.
#[must_use]
pub fn declared() -> Capabilities {
    let mut capabilities = Capabilities::new(crate::SCHEME);
    capabilities.durability = Durability::Process;
    capabilities.dedupe = Dedupe::Window(DEDUPE);
    capabilities.max_payload = (1 << 20) - HEAD;
    capabilities.cadence = Cadence {
        every: std::time::Duration::from_millis(100),
        count: None,
    };
    capabilities.max_ranges = 1_024;
    capabilities.max_attempts = 1_024;
    capabilities.persistent = true;
    capabilities.start_at_time = true;
    capabilities.manage_topics = true;
    capabilities.foreign_writers = true;
    capabilities.lag = LagAccuracy::Exact;
    capabilities
}

//! The connection that all handles of a transport share: asking the cluster about itself.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use interline_core::{Durability, Error, ErrorKind, Result, Topic, TopicSpec};
use interline_transport::settings::Profile;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseProducer, Producer};

use crate::config::Resolved;
use crate::error::{self, coded, kafka};
use crate::ffi;
use crate::monitor::{Monitor, Watch};
use crate::served::Served;
use crate::topics;

/// How often a cluster that does not answer is asked again.
const PROBE: Duration = Duration::from_secs(1);

/// How often the hub's thread looks whether it is still needed.
const LOOK: Duration = Duration::from_millis(100);

/// How soon a request that failed for now is repeated.
pub(crate) const AGAIN: Duration = Duration::from_millis(50);

/// A connection to a cluster.
pub(crate) struct Cluster {
    pub(crate) resolved: Resolved,
    pub(crate) watch: Watch,
    hub: Arc<BaseProducer<Watch>>,
    admin: AdminClient<Watch>,
    closed: AtomicBool,
    topics: Mutex<HashMap<Topic, TopicFacts>>,
}

/// What a publisher has to know of a topic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TopicFacts {
    pub(crate) partitions: u32,
    pub(crate) replicas: usize,
    /// What an acknowledged event survives, and whether the cluster was asked.
    pub(crate) durability: Durability,
    pub(crate) is_probed: bool,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("place", &self.resolved.place)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// Makes the clients. Nothing has been asked of the cluster yet.
    pub(crate) fn new(resolved: Resolved, watch: Watch) -> Result<Arc<Self>> {
        // Without this OpenSSL tears itself down when the process exits, under the feet of
        // librdkafka's threads, and every few hundredth process that was refused dies by a signal.
        openssl_sys::init();
        let failed = |error| kafka("connect", &error);
        let config = resolved.client();
        let hub: BaseProducer<Watch> = config.create_with_context(watch.clone()).map_err(failed)?;
        let mut quiet = resolved.client();
        // Nobody serves its log lines: they would pile up.
        quiet.set_log_level(RDKafkaLogLevel::Emerg);
        let admin = quiet.create_with_context(watch.clone()).map_err(failed)?;
        let cluster = Arc::new(Self {
            resolved,
            watch,
            hub: Arc::new(hub),
            admin,
            closed: AtomicBool::new(false),
            topics: Mutex::default(),
        });
        let weak = Arc::downgrade(&cluster);
        let hub = Arc::clone(&cluster.hub);
        thread::Builder::new()
            .name("interline-kafka-hub".to_owned())
            .spawn(move || {
                let hub = Served::new(hub);
                let mut probed = Instant::now();
                while let Some(cluster) = weak.upgrade() {
                    if cluster.is_closed() {
                        return;
                    }
                    if cluster.watch.monitor.is_troubled() && probed.elapsed() > PROBE {
                        cluster.probe();
                        probed = Instant::now();
                    }
                    drop(cluster);
                    hub.take_all();
                    hub.wait(LOOK);
                }
            })
            .map_err(|cause| {
                Error::new(
                    ErrorKind::Unavailable,
                    "connect",
                    "no thread could be started",
                )
                .because(cause)
            })?;
        Ok(cluster)
    }

    pub(crate) fn monitor(&self) -> &Monitor {
        &self.watch.monitor
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(crate) fn is_development(&self) -> bool {
        self.resolved.profile == Profile::Development
    }

    fn timeout(&self) -> Duration {
        self.resolved.config.request_timeout
    }

    fn probe(&self) {
        let asked = self.hub.client().fetch_metadata(None, PROBE);
        if asked.is_ok() {
            self.monitor().healthy();
        }
    }

    /// Runs a blocking request of librdkafka off the caller's thread; one that fails for now is
    /// repeated until the request timeout, as leaders and coordinators move.
    pub(crate) async fn blocking<T, F>(self: &Arc<Self>, operation: &'static str, f: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&Self) -> Result<T> + Send + 'static,
    {
        let cluster = Arc::clone(self);
        let repeat = move || {
            let end = Instant::now() + cluster.timeout();
            loop {
                if cluster.is_closed() {
                    return Err(error::closed(operation));
                }
                match f(&cluster) {
                    Err(error) if error.is_transient() && Instant::now() < end => {
                        thread::sleep(AGAIN);
                    }
                    other => return other,
                }
            }
        };
        tokio::task::spawn_blocking(repeat)
            .await
            .map_err(|cause| error::closed(operation).because(cause))?
    }

    /// All topics, or one. Blocks.
    pub(crate) fn metadata(&self, operation: &'static str, name: Option<&str>) -> Result<Metadata> {
        self.metadata_within(operation, name, self.timeout())
    }

    pub(crate) fn metadata_within(
        &self,
        operation: &'static str,
        name: Option<&str>,
        timeout: Duration,
    ) -> Result<Metadata> {
        self.hub
            .client()
            .fetch_metadata(name, timeout)
            .map_err(|error| kafka(operation, &error))
    }

    /// The hub's client, for requests that the other modules make. They block.
    pub(crate) fn client(&self) -> &rdkafka::client::Client<Watch> {
        self.hub.client()
    }

    /// The client for changing things, with a token if one is needed.
    pub(crate) fn admin(&self, operation: &'static str) -> Result<&AdminClient<Watch>> {
        self.log_in(self.admin.inner(), operation)?;
        Ok(&self.admin)
    }

    /// A client for a few questions that remembers nothing of earlier ones.
    ///
    /// It has a group, which it never joins: librdkafka 2.12 follows a null pointer in a client
    /// without one when a coordinator answers that it is none (any more).
    pub(crate) fn short_lived(&self, operation: &'static str) -> Result<BaseConsumer<Watch>> {
        let mut quiet = self.resolved.reader();
        quiet.set_log_level(RDKafkaLogLevel::Emerg);
        let client: BaseConsumer<Watch> = quiet
            .create_with_context(self.watch.clone())
            .map_err(|error| kafka(operation, &error))?;
        self.log_in(client.client(), operation)?;
        Ok(client)
    }

    /// Gives a client that serves no events its token, if one is needed.
    fn log_in(
        &self,
        client: &rdkafka::client::Client<Watch>,
        operation: &'static str,
    ) -> Result<()> {
        let Some(tokens) = &self.watch.tokens else {
            return Ok(());
        };
        let refused = |why: String| {
            error::error(
                ErrorKind::Denied,
                operation,
                why,
                "check the source of the OAUTHBEARER token",
            )
        };
        let token = tokens.current().map_err(|why| refused(why.to_owned()))?;
        ffi::set_token(
            client,
            &token.token,
            &token.principal_name,
            token.lifetime_ms,
        )
        .map_err(refused)
    }

    pub(crate) fn options(&self) -> AdminOptions {
        AdminOptions::new()
            .request_timeout(Some(self.timeout()))
            .operation_timeout(Some(self.timeout()))
    }

    /// What is known of `topic` without asking.
    pub(crate) fn known(&self, topic: &Topic) -> Option<TopicFacts> {
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        topics.get(topic).copied()
    }

    pub(crate) fn forget(&self, topic: &Topic) {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        topics.remove(topic);
    }

    /// Makes sure that `topic` is there: creates it in development, else says how to.
    pub(crate) async fn require(
        self: &Arc<Self>,
        operation: &'static str,
        topic: &Topic,
    ) -> Result<TopicFacts> {
        if let Some(facts) = self.known(topic) {
            return Ok(facts);
        }
        let facts = match self.ask(operation, topic).await {
            Err(error) if error.kind() == ErrorKind::NotFound && self.is_development() => {
                topics::create(self, operation, &TopicSpec::new(topic.clone())).await?;
                self.ask(operation, topic).await?
            }
            other => other?,
        };
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        topics.insert(topic.clone(), facts);
        Ok(facts)
    }

    /// Asks for a topic's partitions and durability.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        operation: &'static str,
        topic: &Topic,
    ) -> Result<TopicFacts> {
        let name = self.resolved.names.topic(topic);
        let (wanted, asked) = (topic.clone(), name.clone());
        let (partitions, replicas) = self
            .blocking(operation, move |cluster| {
                let metadata = cluster.metadata(operation, Some(&asked))?;
                let found = metadata.topics().iter().find(|t| t.name() == asked);
                let code = found.and_then(rdkafka::metadata::MetadataTopic::error);
                let partitions = found.map_or(&[][..], |t| t.partitions());
                match code.map(RDKafkaErrorCode::from) {
                    None if !partitions.is_empty() => {}
                    Some(
                        code @ (RDKafkaErrorCode::TopicAuthorizationFailed
                        | RDKafkaErrorCode::LeaderNotAvailable),
                    ) => {
                        return Err(coded(operation, code));
                    }
                    _ => return Err(missing(cluster, operation, &wanted)),
                }
                let replicas = partitions.iter().map(|p| p.replicas().len()).min();
                Ok((partitions.len(), replicas.unwrap_or(0)))
            })
            .await?;
        let min_isr = self.min_isr(operation, &name).await;
        Ok(TopicFacts {
            partitions: u32::try_from(partitions).unwrap_or(u32::MAX),
            replicas,
            durability: durability(replicas, min_isr, self.resolved.min_durability),
            is_probed: min_isr.is_some(),
        })
    }

    /// `min.insync.replicas` of a topic; nothing if the cluster forbids to ask.
    async fn min_isr(&self, operation: &'static str, name: &str) -> Option<usize> {
        let config = self.topic_config(operation, name).await.ok()?;
        let value = config.get("min.insync.replicas")?.value.clone()?;
        value.parse().ok()
    }

    /// The settings of a topic.
    pub(crate) async fn topic_config(
        &self,
        operation: &'static str,
        name: &str,
    ) -> Result<ConfigResource> {
        let admin = self.admin(operation)?;
        let topic = [ResourceSpecifier::Topic(name)];
        let answers = admin.describe_configs(&topic, &self.options()).await;
        let answer = answers.map_err(|error| kafka(operation, &error))?.pop();
        let answer = answer.ok_or_else(|| coded(operation, RDKafkaErrorCode::Unknown))?;
        answer.map_err(|code| coded(operation, code))
    }
}

/// What an event acknowledged by all replicas in sync survives.
fn durability(replicas: usize, min_isr: Option<usize>, declared: Durability) -> Durability {
    match min_isr {
        // Kafka writes to disk later, by default: one replica alone survives its process.
        Some(min_isr) if replicas.min(min_isr) >= 2 => Durability::Quorum,
        Some(_) => Durability::Process,
        // The operator vouches for what may not be asked, as far as the replicas allow.
        None if replicas >= 2 => declared.clamp(Durability::Process, Durability::Quorum),
        None => Durability::Process,
    }
}

/// The error of a topic that is not there, with the way to make it.
pub(crate) fn missing(cluster: &Cluster, operation: &'static str, topic: &Topic) -> Error {
    let place = &cluster.resolved.place;
    let name = cluster.resolved.names.topic(topic);
    let brokers = place
        .split_once("://")
        .map_or(&**place, |(_, brokers)| brokers);
    error::error(
        ErrorKind::NotFound,
        operation,
        format!("topic `{name}` does not exist"),
        format!(
            "create it: kafka-topics --bootstrap-server {brokers} --create --topic {name} \
             --partitions 12 --replication-factor 3 --config min.insync.replicas=2"
        ),
    )
}

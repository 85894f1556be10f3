//! Publishing.

mod ledger;
mod session;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use interline_core::{
    Capabilities, Durability, Error, ErrorKind, EventId, Outcome, Outgoing, PublisherOptions,
    PublisherStats, Receipt, Result, Topic, limits,
};
use interline_transport::window::Window;

use self::ledger::Ledger;
use self::session::{Deliveries, Session};
use crate::SCHEME;
use crate::cluster::{Cluster, TopicFacts};
use crate::config::kafka_configs;
use crate::error::{closed, error};

/// The largest message that the client sends: more than any event within the limits, so that the
/// broker's own limit is what counts.
pub(crate) const MAX_MESSAGE: usize = 2 << 20;

/// The bytes that may be without outcome before `enqueue` waits, in KiB: 256 MiB.
const WINDOW_KIB: usize = 256 << 10;

/// The bytes that librdkafka may hold, in KiB. A batch larger than the window goes in alone.
pub(crate) const QUEUE_KIB: usize = 2 << 20;

/// Sends events to topics of a cluster; see [`interline_core::Publisher`].
///
/// The outcome of each event is exact: `Stored` was acknowledged by all replicas in sync,
/// `Rejected` is certainly not in the topic, `Unknown` was sent and never answered. Resends within
/// the session are recognised by the broker; an event that the caller publishes again is stored
/// again.
///
/// `flush` whose deadline passes gives up everything on its way, that of other callers too: what
/// was not sent is then `Rejected`, the rest `Unknown`.
pub struct Publisher {
    cluster: Arc<Cluster>,
    capabilities: Capabilities,
    ledger: Arc<Ledger>,
    session: Arc<Session>,
    durability: Arc<RwLock<HashMap<String, Durability>>>,
    min_durability: Durability,
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("cluster", &self.cluster)
            .field("stats", &self.ledger.tally.stats())
            .finish_non_exhaustive()
    }
}

/// Closes a publisher from outside, without keeping it alive.
pub(crate) struct Closer {
    ledger: Arc<Ledger>,
    session: Arc<Session>,
}

impl Publisher {
    pub(crate) fn new(
        cluster: Arc<Cluster>,
        capabilities: Capabilities,
        options: &PublisherOptions,
    ) -> Result<Self> {
        let window = Window::new(options.window, WINDOW_KIB).map_err(|error| error.on(SCHEME))?;
        let config = cluster.resolved.producer(options.publish_timeout);
        let ledger = Arc::new(Ledger::new(window));
        let durability = Arc::new(RwLock::default());
        let deliveries = Deliveries {
            watch: cluster.watch.clone(),
            ledger: Arc::clone(&ledger),
            durability: Arc::clone(&durability),
        };
        let configured = cluster.resolved.min_durability;
        Ok(Self {
            session: Session::start(config, deliveries)?,
            capabilities,
            ledger,
            durability,
            min_durability: options.min_durability.unwrap_or(configured),
            cluster,
        })
    }

    pub(crate) fn closer(&self) -> Closer {
        Closer {
            ledger: Arc::clone(&self.ledger),
            session: Arc::clone(&self.session),
        }
    }

    /// Why an event cannot be sent to `topic`, if so. It waits for the cluster's answer the first
    /// time a topic is used.
    async fn check_topic(&self, topic: &Topic) -> Result<(), Error> {
        let facts = self.cluster.require("publish", topic).await?;
        if facts.durability < self.min_durability {
            return Err(self.too_volatile(topic, facts));
        }
        let name = self.cluster.resolved.names.topic(topic);
        if !facts.is_probed {
            let level = facts.durability;
            tracing::warn!(target: "interline::kafka", topic = name, %level, "the durability is declared, since the cluster forbids to ask");
        }
        let mut known = self
            .durability
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        known.insert(name, facts.durability);
        Ok(())
    }

    fn too_volatile(&self, topic: &Topic, facts: TopicFacts) -> Error {
        let name = self.cluster.resolved.names.topic(topic);
        let (has, wants) = (facts.durability, self.min_durability);
        let fix = if facts.replicas < 2 {
            "give the topic 3 replicas and min.insync.replicas=2".to_owned()
        } else {
            let place = &self.cluster.resolved.place;
            kafka_configs(place, &name, "min.insync.replicas=2")
        };
        // It may be repaired at any time: ask again for the next event.
        self.cluster.forget(topic);
        error(
            ErrorKind::Config,
            "publish",
            format!("topic `{name}` gives durability {has} and {wants} is required"),
            format!("{fix}, or accept less with `min_durability={has}`"),
        )
    }

    /// The topics of a batch that cannot be sent to.
    async fn refused_topics(&self, batch: &[Outgoing]) -> HashMap<Topic, Error> {
        let mut refused = HashMap::new();
        let mut last: Option<&Topic> = None;
        for outgoing in batch {
            // Batches mostly go to one topic.
            if last == Some(&outgoing.topic) {
                continue;
            }
            last = Some(&outgoing.topic);
            if self.cluster.known(&outgoing.topic).is_some() && self.knows(&outgoing.topic) {
                continue;
            }
            if !refused.contains_key(&outgoing.topic)
                && let Err(error) = self.check_topic(&outgoing.topic).await
            {
                refused.insert(outgoing.topic.clone(), error);
            }
        }
        refused
    }

    fn knows(&self, topic: &Topic) -> bool {
        let name = self.cluster.resolved.names.topic(topic);
        let known = self
            .durability
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        known.contains_key(&name)
    }

    fn send_all(&self, batch: &[Outgoing], tag: usize, refused: &HashMap<Topic, Error>) {
        let producer = self.session.producer();
        let mut name = String::new();
        let mut topic: Option<&Topic> = None;
        for (index, outgoing) in batch.iter().enumerate() {
            let tag = tag + index;
            let check = limits::check(outgoing, &self.capabilities);
            let check = check.and_then(|()| match refused.get(&outgoing.topic) {
                Some(error) => Err(error.again()),
                None => Ok(()),
            });
            if let Err(error) = check {
                self.ledger.settle(tag, Outcome::Rejected(error));
                continue;
            }
            if topic != Some(&outgoing.topic) {
                topic = Some(&outgoing.topic);
                name = self.cluster.resolved.names.topic(&outgoing.topic);
            }
            self.session.send(&producer, &name, &outgoing.envelope, tag);
        }
    }
}

impl interline_core::Publisher for Publisher {
    async fn enqueue(&self, batch: Vec<Outgoing>) -> Result<Receipt> {
        if self.cluster.is_closed() {
            return Err(closed("publish"));
        }
        if batch.is_empty() {
            return Ok(Receipt::ready(Vec::new()));
        }
        if batch.len() > ledger::MOST {
            return Err(error(
                ErrorKind::Limit,
                "publish",
                format!(
                    "a batch of {} events exceeds the limit of {}",
                    batch.len(),
                    ledger::MOST
                ),
                "send smaller batches",
            ));
        }
        let refused = self.refused_topics(&batch).await;
        let bytes: usize = batch.iter().map(|outgoing| outgoing.envelope.size()).sum();
        let places = self.ledger.window.take(batch.len(), bytes).await;
        let places = places.ok_or_else(|| closed("publish"))?;
        // From here on nothing waits: a dropped call has sent all or nothing.
        let (sender, receipt) = Receipt::channel(batch.len());
        self.ledger.tally.sent(batch.len(), bytes);
        let ids = batch
            .iter()
            .map(|outgoing| outgoing.envelope.id().clone())
            .collect();
        let tag = self.ledger.open(ids, places, sender);
        self.send_all(&batch, tag, &refused);
        Ok(receipt)
    }

    async fn flush(&self, deadline: Duration) -> Result<Vec<EventId>> {
        Ok(self.closer().flush(deadline).await)
    }

    fn stats(&self) -> PublisherStats {
        self.ledger.tally.stats()
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.session.end();
    }
}

impl Closer {
    /// Waits for what is on its way; gives up and names it at the deadline.
    async fn flush(&self, deadline: Duration) -> Vec<EventId> {
        let mark = self.ledger.mark();
        if tokio::time::timeout(deadline, self.ledger.settled(mark))
            .await
            .is_ok()
        {
            return Vec::new();
        }
        let left = self.ledger.unsettled(mark);
        self.session.purge();
        // The outcomes of a purge come from memory, at once.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.ledger.settled(mark)).await;
        left
    }

    #[cfg(feature = "it")]
    pub(crate) fn break_producer(&self) {
        crate::ffi::break_for_good(&self.session.producer());
    }

    pub(crate) fn is_open(&self) -> bool {
        self.session.is_running()
    }

    /// Takes no more events, flushes, and ends the thread.
    pub(crate) async fn close(&self, deadline: Duration) -> Vec<EventId> {
        self.ledger.window.close();
        let left = self.flush(deadline).await;
        self.session.stop();
        left
    }
}

//! The transport.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use interline_core::{
    Capabilities, Error, ErrorKind, PublisherOptions, ReadSpec, Result, Start, State,
    SubscribeSpec, Topic,
};

use crate::admin::{Admin, topics_with_place};
use crate::cluster::{Cluster, missing};
use crate::control::Control;
use crate::error::closed;
use crate::feed::Feed;
use crate::member::{self, Handle, covered, listed};
use crate::publisher::{Closer, Publisher};
use crate::reader::Reader;

/// A connection to a Kafka cluster, cheap to clone; see [`interline_core::Transport`].
#[derive(Clone)]
pub struct Transport {
    cluster: Arc<Cluster>,
    capabilities: Capabilities,
    opened: Arc<Mutex<Opened>>,
}

/// What has to be closed with the transport.
#[derive(Default)]
struct Opened {
    publishers: Vec<Closer>,
    readings: Vec<Weak<Handle>>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

impl Transport {
    pub(crate) fn new(cluster: Arc<Cluster>, capabilities: Capabilities) -> Self {
        Self {
            cluster,
            capabilities,
            opened: Arc::default(),
        }
    }

    fn note(&self, handle: &Arc<Handle>) {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.readings.retain(|known| known.strong_count() > 0);
        opened.readings.push(Arc::downgrade(handle));
    }

    /// Makes sure that the topics named by a subscription are there.
    async fn require_named(&self, spec: &SubscribeSpec) -> Result<()> {
        for name in spec.topics.iter().filter_map(|pattern| pattern.as_exact()) {
            let topic = Topic::system(name)?;
            self.cluster.require("subscribe", &topic).await?;
        }
        Ok(())
    }
}

#[cfg(feature = "it")]
impl Transport {
    /// Breaks the producers of all publishers for good, for the tests of this crate.
    #[doc(hidden)]
    pub fn break_producers(&self) {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.publishers.iter().for_each(Closer::break_producer);
    }

    /// Has every reading fall silent, for the tests of this crate.
    #[doc(hidden)]
    pub fn stall_readings(&self) {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let readings = opened.readings.iter().filter_map(Weak::upgrade);
        readings.for_each(|reading| reading.send(member::Command::Stall));
    }
}

impl interline_core::Transport for Transport {
    type Publisher = Publisher;
    type Feed = Feed;
    type Control = Control;
    type Reader = Reader;
    type Admin = Admin;

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn state(&self) -> State {
        if self.cluster.is_closed() {
            return State::Failed {
                cause: "the connection was closed".to_owned(),
            };
        }
        self.cluster.monitor().state()
    }

    async fn publisher(&self, options: PublisherOptions) -> Result<Publisher> {
        if self.cluster.is_closed() {
            return Err(closed("publisher"));
        }
        let cluster = Arc::clone(&self.cluster);
        let publisher = Publisher::new(cluster, self.capabilities, &options)?;
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.publishers.retain(Closer::is_open);
        opened.publishers.push(publisher.closer());
        drop(opened);
        Ok(publisher)
    }

    async fn subscribe(&self, spec: SubscribeSpec) -> Result<(Feed, Control)> {
        self.require_named(&spec).await?;
        let wanted = spec.clone();
        let (topics, fresh) = self
            .cluster
            .blocking("subscribe", move |cluster| plan(cluster, &wanted))
            .await?;
        let handle = member::join(Arc::clone(&self.cluster), spec, topics, fresh)?;
        self.note(&handle);
        Ok((Feed(Arc::clone(&handle)), Control(handle)))
    }

    async fn read(&self, spec: ReadSpec) -> Result<Reader> {
        let reader = Reader::open(&self.cluster, spec).await?;
        self.note(reader.handle());
        Ok(reader)
    }

    fn admin(&self) -> Admin {
        Admin(Arc::clone(&self.cluster))
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        let end = Instant::now() + deadline;
        self.cluster.close();
        let Opened {
            publishers,
            readings,
        } = {
            let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *opened)
        };
        let mut left = 0;
        for publisher in publishers {
            let rest = end.saturating_duration_since(Instant::now());
            left += publisher.close(rest).await.len();
        }
        for reading in readings.iter().filter_map(Weak::upgrade) {
            reading
                .close(end.saturating_duration_since(Instant::now()))
                .await?;
        }
        if left == 0 {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Timeout,
            "close",
            format!("{left} events were not stored before the deadline"),
        )
        .on(crate::SCHEME)
        .remedy("their receipts tell which; close with a longer deadline"))
    }
}

/// The topics of a subscription, and the partitions for which its start counts. Blocks.
///
/// A group that has a place anywhere in a topic is not new there: what has none was added later,
/// and starting it elsewhere than at its beginning would skip events.
fn plan(cluster: &Cluster, spec: &SubscribeSpec) -> Result<(Vec<Topic>, BTreeMap<Topic, u32>)> {
    let all = listed(
        &cluster.metadata("subscribe", None)?,
        &cluster.resolved.names,
    );
    let topics = covered(spec, &all);
    for name in spec.topics.iter().filter_map(|pattern| pattern.as_exact()) {
        let topic = Topic::system(name)?;
        if !topics.contains(&topic) {
            return Err(missing(cluster, "subscribe", &topic));
        }
    }
    if spec.start == Start::Earliest {
        return Ok((topics.into_iter().collect(), BTreeMap::new()));
    }
    let own = topics.iter().filter(|topic| !topic.is_retry());
    let mut fresh: BTreeMap<Topic, u32> = own
        .filter_map(|topic| Some((topic.clone(), *all.get(topic)?)))
        .collect();
    let placed: BTreeSet<Topic> = topics_with_place(cluster, &spec.group, &fresh)?;
    fresh.retain(|topic, _| !placed.contains(topic));
    Ok((topics.into_iter().collect(), fresh))
}

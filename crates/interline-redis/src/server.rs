//! What the handles of one connection share.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use fred::types::Value;
use interline_core::{Durability, ErrorKind, Result, State, Topic};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use uuid::Uuid;

use crate::client::{Link, Use};
use crate::config::Resolved;
use crate::error::{closed, error};
use crate::keeper;
use crate::probe::Probe;
use crate::topics::{self, Facts};

/// A server with the connection for requests that are answered at once.
pub(crate) struct Server {
    pub(crate) resolved: Resolved,
    pub(crate) link: Link,
    probe: RwLock<Probe>,
    topics: RwLock<HashMap<Topic, Arc<Facts>>>,
    closed: watch::Sender<bool>,
    keeper: OnceLock<AbortHandle>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop_keeper();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("place", &self.resolved.place)
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

impl Server {
    pub(crate) async fn open(resolved: Resolved) -> Result<Arc<Self>> {
        let link = Link::open(&resolved, Use::Requests).await?;
        let probe = Probe::ask(&link, &resolved).await?;
        probe.check(&resolved, resolved.min_durability, "connect")?;
        probe.warn(&resolved);
        let mark: Value = Uuid::new_v4().simple().to_string().into();
        let store = Value::Bytes(resolved.keys.store());
        link.call("connect", "SETNX", vec![store, mark]).await?;
        let server = Arc::new(Self {
            resolved,
            link,
            probe: RwLock::new(probe),
            topics: RwLock::default(),
            closed: watch::Sender::new(false),
            keeper: OnceLock::new(),
        });
        let keeper = tokio::spawn(keeper::run(Arc::downgrade(&server)));
        server.keeper.get_or_init(|| keeper.abort_handle());
        Ok(server)
    }

    fn stop_keeper(&self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.abort();
        }
    }

    /// Takes over what the server says of itself now.
    pub(crate) fn probed(&self, probe: Probe) {
        if *self.probe() == probe {
            return;
        }
        probe.warn(&self.resolved);
        *self.probe.write().unwrap_or_else(PoisonError::into_inner) = probe;
    }

    /// Whether the server promises a publisher what it wants.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) if it does not, or not any more.
    pub(crate) fn check_promise(&self, wanted: Durability) -> Result<()> {
        self.probe().check(&self.resolved, wanted, "publish")
    }

    pub(crate) fn probe(&self) -> RwLockReadGuard<'_, Probe> {
        self.probe.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another connection to the same server.
    pub(crate) async fn link(&self, purpose: Use) -> Result<Link> {
        Link::open(&self.resolved, purpose).await
    }

    pub(crate) fn state(&self) -> State {
        if self.is_closed() {
            return State::Failed {
                cause: "the connection was closed".to_owned(),
            };
        }
        self.link.state()
    }

    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
        self.stop_keeper();
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    pub(crate) fn check_open(&self, operation: &'static str) -> Result<()> {
        match self.is_closed() {
            true => Err(closed(operation)),
            false => Ok(()),
        }
    }

    /// Waits until the connection is closed.
    pub(crate) async fn until_closed(&self) {
        let mut closed = self.closed.subscribe();
        // The sender is part of this.
        let _ = closed.wait_for(|closed| *closed).await;
    }

    /// What is known of a topic without asking.
    pub(crate) fn known(&self, topic: &Topic) -> Option<Arc<Facts>> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        topics.get(topic).cloned()
    }

    /// Asks again the next time: the topic is not what it was.
    pub(crate) fn forget(&self, topic: &Topic) {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        topics.remove(topic);
    }

    pub(crate) fn learn(&self, facts: &Arc<Facts>) {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        topics.insert(facts.topic.clone(), Arc::clone(facts));
    }

    /// The topic as it is at the server now.
    pub(crate) async fn ask(
        &self,
        operation: &'static str,
        topic: &Topic,
    ) -> Result<Option<Arc<Facts>>> {
        let facts = topics::ask(self, operation, topic).await?.map(Arc::new);
        match &facts {
            Some(facts) => self.learn(facts),
            None => self.forget(topic),
        }
        Ok(facts)
    }

    /// The topic, made if it is missing in the profile `development`.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if it is missing in `production`.
    pub(crate) async fn require(
        &self,
        operation: &'static str,
        topic: &Topic,
    ) -> Result<Arc<Facts>> {
        if let Some(known) = self.known(topic) {
            return Ok(known);
        }
        if let Some(facts) = self.ask(operation, topic).await? {
            return Ok(facts);
        }
        if !self.resolved.is_development() {
            return Err(self.missing(operation, topic));
        }
        let spec = interline_core::TopicSpec::new(topic.clone());
        let (facts, _) = topics::create(self, operation, &spec, None).await?;
        let facts = Arc::new(facts);
        self.learn(&facts);
        Ok(facts)
    }

    pub(crate) fn missing(&self, operation: &'static str, topic: &Topic) -> interline_core::Error {
        error(
            ErrorKind::NotFound,
            operation,
            format!("topic `{topic}` does not exist"),
            format!(
                "create it with `interline topics create {topic} --url {}` or use \
                 `profile=development`",
                self.resolved.place
            ),
        )
    }
}

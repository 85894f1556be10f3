//! What everything made from one connection shares.

use std::sync::Arc;
use std::time::Duration;

use interline_core::{Capabilities, Error, Pattern, Result, Topic};
use tokio::sync::watch;

use crate::config::Resolved;
use crate::error::closed;
use crate::horizon::Horizon;
use crate::places::Places;
use crate::session::{lend, within};
use crate::state::Monitor;
use crate::topics::{Facts, Topics};

/// The connection of a transport.
pub(crate) struct Link {
    pub(crate) resolved: Resolved,
    pub(crate) pool: deadpool_postgres::Pool,
    pub(crate) capabilities: Capabilities,
    pub(crate) horizon: Arc<Horizon>,
    pub(crate) topics: Topics,
    pub(crate) places: Places,
    pub(crate) monitor: Monitor,
    closed: watch::Sender<bool>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("place", &self.resolved.place)
            .field("schema", &self.resolved.schema)
            .field("state", &self.monitor.state())
            .finish_non_exhaustive()
    }
}

impl Link {
    pub(crate) fn new(
        resolved: Resolved,
        pool: deadpool_postgres::Pool,
        capabilities: Capabilities,
        places: Places,
    ) -> Arc<Self> {
        Arc::new(Self {
            horizon: Arc::new(Horizon::default()),
            topics: Topics::default(),
            monitor: Monitor::default(),
            closed: watch::Sender::new(false),
            resolved,
            pool,
            capabilities,
            places,
        })
    }

    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
        self.horizon.bell.notify_one();
        self.pool.close();
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

    /// Ends when the link is closed. It holds the link no longer than this call.
    pub(crate) fn closing(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut closed = self.closed.subscribe();
        async move {
            // A link that is gone is closed too.
            let _ = closed.wait_for(|closed| *closed).await;
        }
    }

    /// A connection of the pool.
    pub(crate) async fn lend(
        &self,
        operation: &'static str,
    ) -> Result<deadpool_postgres::Object> {
        self.check_open(operation)?;
        lend(operation, &self.pool).await
    }

    /// Asks something over a connection of the pool, which is given up if no answer comes: the
    /// next one to use it would wait for that answer.
    pub(crate) async fn ask<T, F>(&self, operation: &'static str, request: F) -> Result<T>
    where
        F: AsyncFnOnce(&deadpool_postgres::ClientWrapper) -> Result<T>,
    {
        let mut lent = Lent(Some(self.lend(operation).await?));
        let timeout = self.resolved.config.request_timeout;
        let Some(client) = &lent.0 else {
            return Err(closed(operation));
        };
        let answer = within(operation, timeout, request(client)).await?;
        if !answer.as_ref().is_err_and(Error::is_transient) {
            lent.give_back();
        }
        answer
    }

    /// What a topic is, from memory or from the server.
    pub(crate) async fn topic(&self, operation: &'static str, topic: &Topic) -> Result<Facts> {
        if let Some(facts) = self.topics.known(topic) {
            return Ok(facts);
        }
        let resolved = &self.resolved;
        self.ask(operation, async |client| {
            self.topics.require(operation, resolved, client, topic).await
        })
        .await
    }

    /// Makes sure that the topics named without stars are there.
    pub(crate) async fn named(&self, operation: &'static str, patterns: &[Pattern]) -> Result<()> {
        for name in patterns.iter().filter_map(Pattern::as_exact) {
            self.topic(operation, &Topic::system(name)?).await?;
        }
        Ok(())
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.resolved.config.request_timeout
    }
}

/// A connection that leaves the pool unless it is given back: a call that was dropped or failed
/// left it in an unknown state.
struct Lent(Option<deadpool_postgres::Object>);

impl Lent {
    fn give_back(&mut self) {
        self.0 = None;
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(object) = self.0.take() {
            drop(deadpool_postgres::Object::take(object));
        }
    }
}

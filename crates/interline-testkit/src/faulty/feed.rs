//! A feed that stalls on demand.

use interline_core::{AnyFeed, Budget, Feed, Result, Signal};

use super::Faults;

/// The feed of a [`Faulty`](super::Faulty) transport.
#[derive(Debug)]
pub struct FaultyFeed {
    inner: AnyFeed,
    faults: Faults,
}

impl FaultyFeed {
    pub(super) fn new(inner: AnyFeed, faults: Faults) -> Self {
        Self { inner, faults }
    }
}

impl Feed for FaultyFeed {
    async fn next(&mut self, budget: Budget) -> Result<Signal> {
        // Nothing is taken from the feed before the gate is passed, so nothing is lost here.
        self.faults.feeds().pass().await;
        self.inner.next(budget).await
    }
}

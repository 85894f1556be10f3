//! The reading of a member of a group.

use std::sync::Arc;

use interline_core::{
    Batch, Budget, Fence, Flow, Group, Partition, Position, Result, SubscribeSpec, Topic,
};
use interline_transport::lease;

use crate::SCHEME;
use crate::horizons::Horizons;
use crate::hub::Hub;
use crate::leases::Store;
use crate::reading::{Cursor, Reading, Stop, sequence};
use crate::topics;

/// What the leases of a group need of this transport.
#[derive(Clone, Debug)]
pub(crate) struct Leased {
    hub: Arc<Hub>,
    horizons: Arc<Horizons>,
}

impl Leased {
    pub(crate) fn new(hub: &Arc<Hub>) -> Self {
        Self {
            hub: Arc::clone(hub),
            horizons: Arc::default(),
        }
    }
}

/// A member's reading of what it owns.
#[derive(Debug)]
pub(crate) struct Source {
    reading: Reading,
    horizons: Arc<Horizons>,
}

impl lease::Leased for Leased {
    type Store = Store;
    type Source = Source;

    fn scheme(&self) -> &'static str {
        SCHEME
    }

    async fn topics(&self, spec: &SubscribeSpec) -> Result<Vec<Topic>> {
        topics::covered(&self.hub, spec).await
    }

    fn store(&self, group: &Group, topic: &Topic) -> Store {
        Store::new(&self.hub, &self.horizons, group, topic)
    }

    fn source(&self) -> Source {
        let reading = Reading::new(Arc::clone(&self.hub), "next");
        Source {
            reading: reading.noting(&self.horizons),
            horizons: Arc::clone(&self.horizons),
        }
    }
}

impl lease::Source for Source {
    fn open(&mut self, partition: &Partition, fence: Fence, after: Option<Position>) {
        let after = sequence(after);
        let cursor = Cursor::After {
            after,
            seen: self.horizons.behind(partition, after),
        };
        self.reading
            .add(partition.clone(), fence, cursor, Stop::Never);
    }

    fn close(&mut self, partition: &Partition) {
        self.reading.remove(partition);
    }

    fn flow(&mut self, partition: &Partition, flow: Flow) {
        self.reading.flow(partition, flow);
    }

    async fn next(&mut self, budget: Budget) -> Result<Batch> {
        match self.reading.next(budget).await? {
            Some(batch) => Ok(batch),
            // Nothing is open; the call is dropped when something is.
            None => std::future::pending().await,
        }
    }
}

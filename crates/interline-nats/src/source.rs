//! The reading of a member of a group.

use std::sync::Arc;

use interline_core::{
    Batch, Budget, Fence, Flow, Group, Partition, Position, Result, SubscribeSpec, Topic,
};
use interline_transport::lease;

use crate::SCHEME;
use crate::hub::Hub;
use crate::leases::Store;
use crate::reading::{Reading, Stop, from};
use crate::topics;

/// What the leases of a group need of this transport.
#[derive(Clone, Debug)]
pub(crate) struct Leased(pub(crate) Arc<Hub>);

/// A member's reading of what it owns.
#[derive(Debug)]
pub(crate) struct Source(Reading);

impl lease::Leased for Leased {
    type Store = Store;
    type Source = Source;

    fn scheme(&self) -> &'static str {
        SCHEME
    }

    async fn topics(&self, spec: &SubscribeSpec) -> Result<Vec<Topic>> {
        topics::covered(&self.0, spec).await
    }

    fn store(&self, group: &Group, topic: &Topic) -> Store {
        Store::new(&self.0, group, topic)
    }

    fn source(&self) -> Source {
        Source(Reading::new(Arc::clone(&self.0), "next"))
    }
}

impl lease::Source for Source {
    fn open(&mut self, partition: &Partition, fence: Fence, after: Option<Position>) {
        self.0
            .add(partition.clone(), fence, from(after), Stop::Never);
    }

    fn close(&mut self, partition: &Partition) {
        self.0.remove(partition);
    }

    fn flow(&mut self, partition: &Partition, flow: Flow) {
        self.0.flow(partition, flow);
    }

    async fn next(&mut self, budget: Budget) -> Result<Batch> {
        match self.0.next(budget).await? {
            Some(batch) => Ok(batch),
            // Nothing is open; the call is dropped when something is.
            None => std::future::pending().await,
        }
    }
}

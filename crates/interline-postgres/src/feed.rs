//! The feed of a member.

use std::sync::Arc;

use interline_core::{Batch, Budget, Fence, Flow, Group, Partition, Position, Result};
use interline_transport::lease;

use crate::error::closed;
use crate::fetch::Fetcher;
use crate::link::Link;

/// One member's feed of signals; see [`interline_core::Feed`].
///
/// It reads ahead on a connection of its own. After every loss of the connection the server is
/// asked for the last event that was read of each partition: one that is gone was lost in a crash
/// of the server, and its partition is lost and read again from the stored checkpoint.
pub type Feed = lease::Feed;

/// A member's reading of the partitions that it owns.
#[derive(Debug)]
pub(crate) struct Source(Fetcher);

impl Source {
    pub(crate) fn new(link: Arc<Link>, group: &Group) -> Self {
        Self(Fetcher::new(link, Some(group.as_str().into())))
    }
}

impl lease::Source for Source {
    fn open(&mut self, partition: &Partition, fence: Fence, after: Option<Position>) {
        self.0.open(partition.clone(), fence, after, None);
    }

    fn close(&mut self, partition: &Partition) {
        self.0.close(partition);
    }

    fn flow(&mut self, partition: &Partition, flow: Flow) {
        self.0.flow(partition, flow);
    }

    async fn next(&mut self, budget: Budget) -> Result<Batch> {
        // It has no end, so that nothing comes only when it is closed.
        let batch = self.0.next(budget).await?;
        batch.ok_or_else(|| closed("read"))
    }
}

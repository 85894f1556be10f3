//! The control of a member.

use std::sync::Arc;
use std::time::Duration;

use interline_core::{Checkpoint, Committed, Fence, Flow, Partition, Result};
use tokio::time::Instant;

use crate::link::Membership;

/// What a member tells the store. Commits take effect before they return.
#[derive(Debug)]
pub struct Control {
    membership: Arc<Membership>,
}

impl Control {
    pub(crate) fn new(membership: Arc<Membership>) -> Self {
        Self { membership }
    }

    fn store(&self, checkpoints: Vec<Checkpoint>, release: bool) -> Result<Vec<Committed>> {
        let Membership { group, id } = &*self.membership;
        group.commit(*id, checkpoints, release, Instant::now())
    }
}

impl interline_core::Control for Control {
    async fn commit(&self, checkpoints: Vec<Checkpoint>) -> Result<Vec<Committed>> {
        self.store(checkpoints, false)
    }

    async fn release(&self, checkpoints: Vec<Checkpoint>) -> Result<Vec<Committed>> {
        self.store(checkpoints, true)
    }

    fn flow(&self, partition: &Partition, fence: Fence, flow: Flow) {
        let Membership { group, id } = &*self.membership;
        group.flow(*id, partition, fence, flow);
    }

    fn leave(&self) {
        self.membership
            .group
            .leave(self.membership.id, Instant::now());
    }

    async fn close(&self, _deadline: Duration) -> Result<()> {
        self.membership.close();
        Ok(())
    }
}

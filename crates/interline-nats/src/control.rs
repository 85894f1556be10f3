//! What a member tells the server.

use std::time::Duration;

use interline_core::{Checkpoint, Committed, Fence, Flow, Partition, Result};
use interline_transport::lease;

use crate::source::Leased;

/// The control of a subscription; see [`interline_core::Control`].
#[derive(Clone, Debug)]
pub struct Control(pub(crate) lease::Control<Leased>);

impl interline_core::Control for Control {
    async fn commit(&self, checkpoints: Vec<Checkpoint>) -> Result<Vec<Committed>> {
        self.0.commit(checkpoints).await
    }

    async fn release(&self, checkpoints: Vec<Checkpoint>) -> Result<Vec<Committed>> {
        self.0.release(checkpoints).await
    }

    fn flow(&self, partition: &Partition, fence: Fence, flow: Flow) {
        self.0.flow(partition, fence, flow);
    }

    fn leave(&self) {
        self.0.leave();
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        self.0.close(deadline).await
    }
}

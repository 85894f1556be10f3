//! The control of a member.

use std::sync::Arc;
use std::time::Duration;

use interline_core::{Checkpoint, Committed, Error, ErrorKind, Fence, Flow, Partition, Result};
use tokio::sync::oneshot;

use crate::SCHEME;
use crate::error::closed;
use crate::member::{Command, Handle};

/// What a member tells its group; see [`interline_core::Control`].
///
/// Kafka hands partitions over per member, not one by one: after [`leave`], what is released
/// passes on once the last partition is released. A partition that is released while the member
/// stays comes back to it under a new fence.
///
/// [`leave`]: interline_core::Control::leave
#[derive(Debug)]
pub struct Control(pub(crate) Arc<Handle>);

impl Control {
    async fn store(
        &self,
        operation: &'static str,
        checkpoints: Vec<Checkpoint>,
        release: bool,
    ) -> Result<Vec<Committed>> {
        if checkpoints.is_empty() {
            return Ok(Vec::new());
        }
        let (reply, answer) = oneshot::channel();
        self.0.send(Command::Store {
            checkpoints,
            release,
            reply,
        });
        answer.await.map_err(|_| closed(operation))?
    }
}

impl interline_core::Control for Control {
    async fn commit(&self, checkpoints: Vec<Checkpoint>) -> Result<Vec<Committed>> {
        self.store("commit", checkpoints, false).await
    }

    async fn release(&self, checkpoints: Vec<Checkpoint>) -> Result<Vec<Committed>> {
        self.store("release", checkpoints, true).await
    }

    fn flow(&self, partition: &Partition, fence: Fence, flow: Flow) {
        self.0.outbox.flow(partition, fence, flow);
        self.0.send(Command::Flow {
            partition: partition.clone(),
            fence,
            flow,
        });
    }

    fn leave(&self) {
        self.0.send(Command::Leave);
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        self.0.close(deadline).await
    }
}

impl Handle {
    /// Ends the membership, or the reading, and waits for it.
    pub(crate) async fn close(&self, deadline: Duration) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Close { reply: Some(reply) });
        match tokio::time::timeout(deadline, answer).await {
            // A thread that has ended dropped the question: it is closed.
            Ok(_) => Ok(()),
            Err(_) => Err(Error::new(
                ErrorKind::Timeout,
                "close",
                "the group was not left before the deadline",
            )
            .on(SCHEME)
            .remedy("nothing: its members go on after the session timeout")),
        }
    }
}

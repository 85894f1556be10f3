//! A control whose commits fail on demand.

use std::time::Duration;

use interline_core::{AnyControl, Checkpoint, Committed, Control, Fence, Flow, Partition, Result};

use tokio::time::Instant;

use super::{CommitFault, Faults, Stored, planned};

/// The control of a [`Faulty`](super::Faulty) transport.
#[derive(Debug)]
pub struct FaultyControl {
    inner: AnyControl,
    faults: Faults,
}

impl FaultyControl {
    pub(super) fn new(inner: AnyControl, faults: Faults) -> Self {
        Self { inner, faults }
    }

    fn note(&self, checkpoints: Vec<Checkpoint>, answers: &[Committed]) {
        for (checkpoint, answer) in checkpoints.into_iter().zip(answers) {
            self.faults.checkpoints().note(Stored {
                checkpoint,
                answer: *answer,
                at: Instant::now(),
            });
        }
    }
}

impl Control for FaultyControl {
    async fn commit(&self, checkpoints: Vec<Checkpoint>) -> Result<Vec<Committed>> {
        self.faults.commits().pass().await;
        let fault = self.faults.next_commit();
        let count = checkpoints.len();
        let answers = match fault {
            None | Some(CommitFault::StoredError) => self.inner.commit(checkpoints.clone()).await?,
            Some(CommitFault::NotNow) => vec![Committed::NotNow; count],
            Some(CommitFault::Stale) => vec![Committed::Stale; count],
            Some(CommitFault::Error) => return Err(planned("commit")),
        };
        self.note(checkpoints, &answers);
        match fault {
            Some(CommitFault::StoredError) => Err(planned("commit").ambiguous()),
            _ => Ok(answers),
        }
    }

    async fn release(&self, checkpoints: Vec<Checkpoint>) -> Result<Vec<Committed>> {
        let answers = self.inner.release(checkpoints.clone()).await?;
        self.note(checkpoints, &answers);
        Ok(answers)
    }

    fn flow(&self, partition: &Partition, fence: Fence, flow: Flow) {
        self.inner.flow(partition, fence, flow);
    }

    fn leave(&self) {
        self.inner.leave();
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        self.inner.close(deadline).await
    }
}

//! The control of a subscription.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::{BoxFuture, Checkpoint, Fence, Partition, Result};

/// What a member tells its transport.
///
/// # Contract
/// A checkpoint is applied only if its fence is that of the present assignment. The caller keeps
/// one commit in flight per partition: a fence does not stop an older commit of the same owner
/// from landing late.
///
/// # Cancellation
/// A dropped `commit` or `release` may or may not be applied; sending it again is safe.
pub trait Control: Debug + Send + Sync + 'static {
    /// Stores checkpoints; one answer each, in order.
    ///
    /// # Errors
    /// When the subscription is closed or the transport has failed; nothing is known to be
    /// applied.
    fn commit(
        &self,
        checkpoints: Vec<Checkpoint>,
    ) -> impl Future<Output = Result<Vec<Committed>>> + Send;

    /// Stores the last checkpoints and gives their partitions up in one step.
    ///
    /// # Errors
    /// As for [`commit`](Self::commit). A partition whose checkpoint was not applied is given up
    /// all the same, and its next owner reads again from the older one.
    fn release(
        &self,
        checkpoints: Vec<Checkpoint>,
    ) -> impl Future<Output = Result<Vec<Committed>>> + Send;

    /// Opens or stops the flow of an owned partition, at once; ignored under another fence.
    fn flow(&self, partition: &Partition, fence: Fence, flow: Flow);

    /// Declares, at once, that this member takes no more partitions. A drain says so before it
    /// releases the first one, or it would get it back.
    fn leave(&self);

    /// Ends the membership; what is still owned is given up without a checkpoint. Closing twice
    /// is fine.
    ///
    /// # Errors
    /// When the server did not hear of it before the deadline; it will notice by itself.
    fn close(&self, deadline: Duration) -> impl Future<Output = Result<()>> + Send;
}

/// What became of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// Applied.
    Applied,
    /// Refused by the fence: the partition has, or may have, another owner.
    Stale,
    /// Not applied, and the partition is still owned: keep it and try again.
    NotNow,
}

/// Whether records of a partition are delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// They are.
    Open,
    /// They are not; what was delivered already may still be in a signal on its way.
    Stopped,
}

/// The erased twin of [`Control`].
trait DynControl: Debug + Send + Sync {
    fn commit(&self, checkpoints: Vec<Checkpoint>) -> BoxFuture<'_, Result<Vec<Committed>>>;
    fn release(&self, checkpoints: Vec<Checkpoint>) -> BoxFuture<'_, Result<Vec<Committed>>>;
    fn flow(&self, partition: &Partition, fence: Fence, flow: Flow);
    fn leave(&self);
    fn close(&self, deadline: Duration) -> BoxFuture<'_, Result<()>>;
}

impl<C: Control> DynControl for C {
    fn commit(&self, checkpoints: Vec<Checkpoint>) -> BoxFuture<'_, Result<Vec<Committed>>> {
        Box::pin(Control::commit(self, checkpoints))
    }

    fn release(&self, checkpoints: Vec<Checkpoint>) -> BoxFuture<'_, Result<Vec<Committed>>> {
        Box::pin(Control::release(self, checkpoints))
    }

    fn flow(&self, partition: &Partition, fence: Fence, flow: Flow) {
        Control::flow(self, partition, fence, flow);
    }

    fn leave(&self) {
        Control::leave(self);
    }

    fn close(&self, deadline: Duration) -> BoxFuture<'_, Result<()>> {
        Box::pin(Control::close(self, deadline))
    }
}

/// A control of any transport, cheap to clone.
#[derive(Clone, Debug)]
pub struct AnyControl(Arc<dyn DynControl>);

impl AnyControl {
    /// Erases `control`.
    pub fn new(control: impl Control) -> Self {
        Self(Arc::new(control))
    }
}

impl Control for AnyControl {
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

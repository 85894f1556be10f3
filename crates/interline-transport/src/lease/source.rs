//! A transport's reading of the partitions that a member owns.

use std::fmt::Debug;
use std::future::Future;

use interline_core::{Batch, Budget, Fence, Flow, Partition, Position, Result};

/// A transport's reading of the partitions that a member owns.
///
/// One task has it and reads ahead while the member handles what was read before. Calls other
/// than [`next`](Self::next) return at once, without I/O: what they ask for is done by the next
/// `next`, which is dropped for them if it waits.
pub trait Source: Debug + Send + 'static {
    /// Reads `partition` too, strictly after `after`, or from its first event that is kept. It is
    /// open in both senses: its flow is [`Open`](Flow::Open).
    fn open(&mut self, partition: &Partition, fence: Fence, after: Option<Position>);

    /// Reads `partition` no more; one that is not open is ignored. It may be opened again under
    /// another fence.
    fn close(&mut self, partition: &Partition);

    /// Stops the flow of an open partition or lets it go on where it stopped.
    fn flow(&mut self, partition: &Partition, flow: Flow);

    /// Waits for records of an open partition whose flow is open, under the fence that it was
    /// opened with; with no such partition it waits for ever. It waits through outages and sees
    /// to it that partitions take turns.
    ///
    /// # Ordering
    /// Records of a partition come in order, each once until it is closed.
    ///
    /// # Errors
    /// Terminal for the whole feed: [`PositionLost`](interline_core::ErrorKind::PositionLost), a
    /// permission taken away. Only [`NotFound`](interline_core::ErrorKind::NotFound), which a
    /// reading that finds no topic says rather than a lost position, is held against the list of
    /// topics first: if one is missing there, its partitions are closed and `next` is asked again.
    ///
    /// # Cancellation
    /// A dropped `next` loses no record: the next call returns it.
    fn next(&mut self, budget: Budget) -> impl Future<Output = Result<Batch>> + Send;
}

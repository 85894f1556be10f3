//! The feed of a subscription.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use super::Stretch;
use crate::{BoxFuture, Checkpoint, Envelope, Fence, Partition, Position, Result};

/// One member's feed of signals.
///
/// # Contract
/// The order of signals is the contract: records that follow `Assigned` belong to that
/// assignment, and after `Revoking` or `Lost` no record of it follows. Records of a partition
/// come in the order of their positions, each once per assignment, starting strictly after the
/// assigned frontier.
///
/// # Cancellation
/// A dropped `next` loses no signal: the next call returns it.
pub trait Feed: Debug + Send + 'static {
    /// The next signal. It waits through outages of the server.
    ///
    /// # Errors
    /// Terminal: the feed was closed, or can never go on (topic deleted, permission revoked,
    /// position lost).
    fn next(&mut self, budget: Budget) -> impl Future<Output = Result<Signal>> + Send;
}

/// How much one signal may carry. At least one record comes, whatever its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Records.
    pub events: usize,
    /// Bytes of their envelopes.
    pub bytes: usize,
}

impl Default for Budget {
    /// 1,024 records or 4 MiB.
    fn default() -> Self {
        Self {
            events: 1_024,
            bytes: 4 << 20,
        }
    }
}

/// What a feed tells its owner.
#[derive(Debug)]
pub enum Signal {
    /// Partitions are owned from now on, from these checkpoints.
    Assigned(Vec<Checkpoint>),
    /// Records of one owned partition.
    Batch(Batch),
    /// Partitions will pass to another owner: settle or drop what runs, then
    /// [`release`](crate::Control::release) before the deadline. No records of them follow.
    Revoking {
        /// Which.
        partitions: Vec<Partition>,
        /// How long from now.
        deadline: Duration,
    },
    /// Partitions were lost: drop what runs; nothing can be committed any more.
    Lost {
        /// Which.
        partitions: Vec<Partition>,
    },
}

/// Records of one partition, in order. Never empty.
#[derive(Debug)]
pub struct Batch {
    /// The partition.
    pub partition: Partition,
    /// The fence of the assignment that they belong to.
    pub fence: Fence,
    /// The records.
    pub records: Stretch,
}

/// An envelope as it stands in a partition.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Its position.
    pub position: Position,
    /// When it was stored, in milliseconds since 1970 by the store's clock.
    pub stored_at: i64,
    /// The envelope.
    pub envelope: Envelope,
}

/// The erased twin of [`Feed`].
trait DynFeed: Debug + Send {
    fn next(&mut self, budget: Budget) -> BoxFuture<'_, Result<Signal>>;
}

impl<F: Feed> DynFeed for F {
    fn next(&mut self, budget: Budget) -> BoxFuture<'_, Result<Signal>> {
        Box::pin(Feed::next(self, budget))
    }
}

/// A feed of any transport.
#[derive(Debug)]
pub struct AnyFeed(Box<dyn DynFeed>);

impl AnyFeed {
    /// Erases `feed`.
    pub fn new(feed: impl Feed) -> Self {
        Self(Box::new(feed))
    }
}

impl Feed for AnyFeed {
    async fn next(&mut self, budget: Budget) -> Result<Signal> {
        self.0.next(budget).await
    }
}

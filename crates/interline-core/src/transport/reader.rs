//! Reading without a group.

use std::fmt::Debug;
use std::future::Future;

use crate::{Batch, BoxFuture, Budget, Pattern, Result, Start, Timestamp};

/// A reading without a group: nothing is settled, nobody is disturbed.
///
/// # Ordering
/// Records of a partition come in order; partitions mix.
///
/// # Cancellation
/// A dropped `next` loses no record.
pub trait Reader: Debug + Send + 'static {
    /// The next records, or `None` once every partition has reached the end that
    /// [`ReadSpec::until`] names. It waits through outages of the server.
    ///
    /// # Errors
    /// Terminal, as for [`Feed::next`](crate::Feed::next).
    fn next(&mut self, budget: Budget) -> impl Future<Output = Result<Option<Batch>>> + Send;
}

/// What a reader reads.
#[derive(Clone, Debug)]
pub struct ReadSpec {
    /// The topics, as in [`SubscribeSpec::topics`](crate::SubscribeSpec::topics); patterns are
    /// expanded once.
    pub topics: Vec<Pattern>,
    /// Where it starts.
    pub start: Start,
    /// Where it ends.
    pub until: Until,
}

/// Where a reading ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Until {
    /// Nowhere: it waits for more.
    #[default]
    Forever,
    /// Behind the last event that was there when the reading began.
    End,
    /// Before the first event of a partition stored at this time or later.
    Time(Timestamp),
}

/// The erased twin of [`Reader`].
trait DynReader: Debug + Send {
    fn next(&mut self, budget: Budget) -> BoxFuture<'_, Result<Option<Batch>>>;
}

impl<R: Reader> DynReader for R {
    fn next(&mut self, budget: Budget) -> BoxFuture<'_, Result<Option<Batch>>> {
        Box::pin(Reader::next(self, budget))
    }
}

/// A reader of any transport.
#[derive(Debug)]
pub struct AnyReader(Box<dyn DynReader>);

impl AnyReader {
    /// Erases `reader`.
    pub fn new(reader: impl Reader) -> Self {
        Self(Box::new(reader))
    }
}

impl Reader for AnyReader {
    async fn next(&mut self, budget: Budget) -> Result<Option<Batch>> {
        self.0.next(budget).await
    }
}

//! Administration of topics and groups.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::{BoxFuture, Group, LagAccuracy, Partition, Pattern, Position, Result, Start, Topic};

/// Creates, lists and deletes topics, and tells how far groups have come.
///
/// # Cancellation
/// A dropped call may or may not have been carried out; every call may be repeated.
pub trait Admin: Debug + Send + Sync + 'static {
    /// Creates the topics that are missing and reports how the others differ; nothing that exists
    /// is changed. One answer per topic, in order.
    ///
    /// # Errors
    /// When the server refuses or cannot be reached.
    fn ensure(&self, topics: Vec<TopicSpec>) -> impl Future<Output = Result<Vec<Ensured>>> + Send;

    /// The topics whose name fits, with return and dead-letter topics, sorted by name.
    ///
    /// # Errors
    /// When the server cannot be reached.
    fn topics(&self, pattern: &Pattern) -> impl Future<Output = Result<Vec<TopicInfo>>> + Send;

    /// The groups that read `topic`, or any topic, with their progress and lag.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) for an unknown topic; when the server cannot be
    /// reached.
    fn groups(&self, topic: Option<&Topic>) -> impl Future<Output = Result<Vec<GroupInfo>>> + Send;

    /// Moves a group that has no live member to another place in a topic; its attempts and ranges
    /// there are forgotten.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) while a member is live;
    /// [`PositionLost`](crate::ErrorKind::PositionLost) for a place outside the partition.
    fn reset(
        &self,
        group: &Group,
        topic: &Topic,
        start: Start,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Deletes a topic with its events; a missing topic is fine.
    ///
    /// # Errors
    /// When the server refuses or cannot be reached.
    fn delete_topic(&self, topic: &Topic) -> impl Future<Output = Result<()>> + Send;

    /// Deletes a group with its checkpoints; a missing group is fine.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) while a member is live; when the server refuses or
    /// cannot be reached.
    fn delete_group(&self, group: &Group) -> impl Future<Output = Result<()>> + Send;
}

/// What a topic should be: a template for [`Admin::ensure`].
///
/// ```
/// use std::time::Duration;
/// use interline_core::{Cleanup, Topic, TopicSpec};
///
/// let spec = TopicSpec::new(Topic::new("schema.changed")?)
///     .partitions(6)
///     .cleanup(Cleanup::Compact);
/// assert_eq!(spec.partitions, Some(6));
/// # Ok::<(), interline_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicSpec {
    /// The topic.
    pub topic: Topic,
    /// How many partitions; `None` leaves it to the transport (12).
    pub partitions: Option<u32>,
    /// How many replicas, where there are any; `None` leaves it to the server.
    pub replication: Option<u16>,
    /// How long events are kept; `None` leaves it to the transport (7 days).
    pub retention: Option<Duration>,
    /// What happens to old events; `None` leaves it to the transport (delete).
    pub cleanup: Option<Cleanup>,
}

impl TopicSpec {
    /// A topic with the transport's defaults.
    #[must_use]
    pub fn new(topic: Topic) -> Self {
        Self {
            topic,
            partitions: None,
            replication: None,
            retention: None,
            cleanup: None,
        }
    }

    /// Sets the number of partitions.
    #[must_use]
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// Sets the number of replicas.
    #[must_use]
    pub fn replication(mut self, replication: u16) -> Self {
        self.replication = Some(replication);
        self
    }

    /// Sets how long events are kept.
    #[must_use]
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = Some(retention);
        self
    }

    /// Sets what happens to old events.
    #[must_use]
    pub fn cleanup(mut self, cleanup: Cleanup) -> Self {
        self.cleanup = Some(cleanup);
        self
    }
}

/// What happens to old events of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cleanup {
    /// They are deleted after the retention.
    Delete,
    /// The last event of each key is kept.
    Compact,
}

/// What [`Admin::ensure`] found or did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ensured {
    /// The topic was made.
    Created,
    /// It was there and fits.
    Exists,
    /// It was there and differs; each difference is a line such as `partitions: 3 instead of 12`.
    Drift(Vec<String>),
}

/// A topic as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// The topic.
    pub topic: Topic,
    /// The number of its partitions.
    pub partitions: u32,
    /// How many events it holds, or an upper bound where the store leaves gaps.
    pub events: Option<u64>,
}

/// A group as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupInfo {
    /// The group.
    pub group: Group,
    /// How many members are live now.
    pub members: usize,
    /// Its progress per partition, sorted.
    pub partitions: Vec<PartitionLag>,
}

/// How far a group has come in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionLag {
    /// The partition.
    pub partition: Partition,
    /// The last settled position; `None` before the first.
    pub frontier: Option<Position>,
    /// The position of the last event of the partition; `None` if it never had one.
    pub end: Option<Position>,
    /// How many events are not settled; `None` if the server did not tell.
    pub lag: Option<u64>,
    /// How exact the lag is.
    pub accuracy: LagAccuracy,
    /// The member that owns the partition now, as the transport names it.
    pub owner: Option<String>,
}

/// The erased twin of [`Admin`].
trait DynAdmin: Debug + Send + Sync {
    fn ensure(&self, topics: Vec<TopicSpec>) -> BoxFuture<'_, Result<Vec<Ensured>>>;
    fn topics<'a>(&'a self, pattern: &'a Pattern) -> BoxFuture<'a, Result<Vec<TopicInfo>>>;
    fn groups<'a>(&'a self, topic: Option<&'a Topic>) -> BoxFuture<'a, Result<Vec<GroupInfo>>>;
    fn reset<'a>(
        &'a self,
        group: &'a Group,
        topic: &'a Topic,
        start: Start,
    ) -> BoxFuture<'a, Result<()>>;
    fn delete_topic<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<()>>;
    fn delete_group<'a>(&'a self, group: &'a Group) -> BoxFuture<'a, Result<()>>;
}

impl<A: Admin> DynAdmin for A {
    fn ensure(&self, topics: Vec<TopicSpec>) -> BoxFuture<'_, Result<Vec<Ensured>>> {
        Box::pin(Admin::ensure(self, topics))
    }

    fn topics<'a>(&'a self, pattern: &'a Pattern) -> BoxFuture<'a, Result<Vec<TopicInfo>>> {
        Box::pin(Admin::topics(self, pattern))
    }

    fn groups<'a>(&'a self, topic: Option<&'a Topic>) -> BoxFuture<'a, Result<Vec<GroupInfo>>> {
        Box::pin(Admin::groups(self, topic))
    }

    fn reset<'a>(
        &'a self,
        group: &'a Group,
        topic: &'a Topic,
        start: Start,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(Admin::reset(self, group, topic, start))
    }

    fn delete_topic<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<()>> {
        Box::pin(Admin::delete_topic(self, topic))
    }

    fn delete_group<'a>(&'a self, group: &'a Group) -> BoxFuture<'a, Result<()>> {
        Box::pin(Admin::delete_group(self, group))
    }
}

/// An administration of any transport, cheap to clone.
#[derive(Clone, Debug)]
pub struct AnyAdmin(Arc<dyn DynAdmin>);

impl AnyAdmin {
    /// Erases `admin`.
    pub fn new(admin: impl Admin) -> Self {
        Self(Arc::new(admin))
    }
}

impl Admin for AnyAdmin {
    async fn ensure(&self, topics: Vec<TopicSpec>) -> Result<Vec<Ensured>> {
        self.0.ensure(topics).await
    }

    async fn topics(&self, pattern: &Pattern) -> Result<Vec<TopicInfo>> {
        self.0.topics(pattern).await
    }

    async fn groups(&self, topic: Option<&Topic>) -> Result<Vec<GroupInfo>> {
        self.0.groups(topic).await
    }

    async fn reset(&self, group: &Group, topic: &Topic, start: Start) -> Result<()> {
        self.0.reset(group, topic, start).await
    }

    async fn delete_topic(&self, topic: &Topic) -> Result<()> {
        self.0.delete_topic(topic).await
    }

    async fn delete_group(&self, group: &Group) -> Result<()> {
        self.0.delete_group(group).await
    }
}

//! The contract of a transport: a partitioned log with fenced checkpoints.
//!
//! A transport publishes to partitions, reads owned partitions from a position, stores
//! checkpoints that a former owner can no longer overwrite, and shares partitions among the
//! members of a group. Nothing else: lanes, retries, dead letters, dedupe and drain are written
//! once, in the engine above.
//!
//! Authors implement the static traits with `async fn`; users hold the erased handles
//! ([`AnyTransport`], [`AnyPublisher`], ..), which implement the same traits.

mod admin;
mod control;
mod feed;
mod progress;
mod publisher;
mod reader;
mod receipt;
mod stretch;

use std::any::Any;
use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use self::admin::{
    Admin, AnyAdmin, Cleanup, Ensured, GroupInfo, PartitionLag, TopicInfo, TopicSpec,
};
pub use self::control::{AnyControl, Committed, Control, Flow};
pub use self::feed::{AnyFeed, Batch, Budget, Feed, Recorded, Signal};
pub use self::progress::{Checkpoint, Fence, Position, Progress, Range, Start, Suspect};
pub use self::publisher::{
    AnyPublisher, Outgoing, Publisher, PublisherOptions, PublisherStats, Purpose,
};
pub use self::reader::{AnyReader, ReadSpec, Reader, Until};
pub use self::receipt::{Outcome, Receipt, ReceiptSender};
pub use self::stretch::Stretch;

use crate::{BoxFuture, Capabilities, Error, Group, Instance, Pattern, Result, Timestamp};

/// A connection to a broker, or to a broker's like in this process.
///
/// # Contract
/// Handles made here share the connection and stay valid until [`close`](Self::close).
/// Reconnecting is the transport's own work: handles wait through outages, and
/// [`state`](Self::state) tells of them.
///
/// # Cancellation
/// Every future may be dropped. `publisher`, `subscribe`, `read` and `admin` then leave nothing
/// behind; `close` goes on closing.
pub trait Transport: Debug + Send + Sync + 'static {
    /// The publisher that this transport makes.
    type Publisher: Publisher;
    /// The feed that this transport makes.
    type Feed: Feed;
    /// The control that belongs to a feed.
    type Control: Control;
    /// The reader that this transport makes.
    type Reader: Reader;
    /// The administration of topics and groups.
    type Admin: Admin;

    /// What the transport can do. It does not change while connected.
    fn capabilities(&self) -> Capabilities;

    /// Whether the server answers now.
    fn state(&self) -> State;

    /// Makes a publisher.
    fn publisher(
        &self,
        options: PublisherOptions,
    ) -> impl Future<Output = Result<Self::Publisher>> + Send;

    /// Joins a group as a new member.
    fn subscribe(
        &self,
        spec: SubscribeSpec,
    ) -> impl Future<Output = Result<(Self::Feed, Self::Control)>> + Send;

    /// Starts a reading without a group: nothing is settled and nobody else is disturbed.
    fn read(&self, spec: ReadSpec) -> impl Future<Output = Result<Self::Reader>> + Send;

    /// The administration of topics and groups.
    fn admin(&self) -> Self::Admin;

    /// Closes the connection: flushes publishers until the deadline and ends every reading.
    /// Closing twice is fine.
    fn close(&self, deadline: Duration) -> impl Future<Output = Result<()>> + Send;
}

/// Whether the server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It does.
    Connected,
    /// It does not; the transport tries again by itself.
    Reconnecting {
        /// Since when.
        since: SystemTime,
        /// What the last try said.
        cause: String,
    },
    /// It never will again; the handles answer [`Closed`](crate::ErrorKind::Closed).
    Failed {
        /// Why.
        cause: String,
    },
}

/// What a member of a group wants to read.
#[derive(Clone, Debug)]
pub struct SubscribeSpec {
    /// The group.
    pub group: Group,
    /// The topics. A pattern with stars is expanded over the transport's topic list again and
    /// again, and never matches a return or dead-letter topic; one without names its topic,
    /// whatever it is.
    pub topics: Vec<Pattern>,
    /// Whether the group's return topics of these topics are read too.
    pub returns: bool,
    /// Where a new group starts; a group with a checkpoint goes on from it.
    pub start: Start,
    /// The member, if it is to be the same across restarts.
    pub instance: Option<Instance>,
}

impl SubscribeSpec {
    /// Member of `group` reading `topics` and their return topics from the earliest event.
    #[must_use]
    pub fn new(group: Group, topics: Vec<Pattern>) -> Self {
        Self {
            group,
            topics,
            returns: true,
            start: Start::Earliest,
            instance: None,
        }
    }

    /// Whether `topic` belongs to this reading.
    #[must_use]
    pub fn covers(&self, topic: &crate::Topic) -> bool {
        let wanted = |topic: &crate::Topic| {
            self.topics.iter().any(|pattern| match pattern.as_exact() {
                Some(name) => name == topic.as_str(),
                None => !topic.is_system() && pattern.matches(topic.as_str()),
            })
        };
        if wanted(topic) {
            return true;
        }
        self.returns
            && topic.is_retry()
            && topic
                .origin()
                .is_some_and(|(origin, group)| group == self.group && wanted(&origin))
    }
}

/// The erased twin of [`Transport`].
trait DynTransport: Debug + Send + Sync {
    fn capabilities(&self) -> Capabilities;
    fn state(&self) -> State;
    fn publisher(&self, options: PublisherOptions) -> BoxFuture<'_, Result<AnyPublisher>>;
    fn subscribe(&self, spec: SubscribeSpec) -> BoxFuture<'_, Result<(AnyFeed, AnyControl)>>;
    fn read(&self, spec: ReadSpec) -> BoxFuture<'_, Result<AnyReader>>;
    fn admin(&self) -> AnyAdmin;
    fn close(&self, deadline: Duration) -> BoxFuture<'_, Result<()>>;
}

impl<T: Transport> DynTransport for T {
    fn capabilities(&self) -> Capabilities {
        Transport::capabilities(self)
    }

    fn state(&self) -> State {
        Transport::state(self)
    }

    fn publisher(&self, options: PublisherOptions) -> BoxFuture<'_, Result<AnyPublisher>> {
        Box::pin(async move {
            Ok(AnyPublisher::new(
                Transport::publisher(self, options).await?,
            ))
        })
    }

    fn subscribe(&self, spec: SubscribeSpec) -> BoxFuture<'_, Result<(AnyFeed, AnyControl)>> {
        Box::pin(async move {
            let (feed, control) = Transport::subscribe(self, spec).await?;
            Ok((AnyFeed::new(feed), AnyControl::new(control)))
        })
    }

    fn read(&self, spec: ReadSpec) -> BoxFuture<'_, Result<AnyReader>> {
        Box::pin(async move { Ok(AnyReader::new(Transport::read(self, spec).await?)) })
    }

    fn admin(&self) -> AnyAdmin {
        AnyAdmin::new(Transport::admin(self))
    }

    fn close(&self, deadline: Duration) -> BoxFuture<'_, Result<()>> {
        Box::pin(Transport::close(self, deadline))
    }
}

/// A transport of any kind, cheap to clone.
#[derive(Clone, Debug)]
pub struct AnyTransport(Arc<dyn DynTransport>);

impl AnyTransport {
    /// Erases `transport`; one that is erased already is taken as it is.
    pub fn new(transport: impl Transport) -> Self {
        let mut transport = Some(transport);
        let erased = (&mut transport as &mut dyn Any).downcast_mut::<Option<Self>>();
        if let Some(erased) = erased.and_then(Option::take) {
            return erased;
        }
        match transport {
            Some(transport) => Self(Arc::new(transport)),
            None => unreachable!("only an erased transport was taken"),
        }
    }
}

impl Transport for AnyTransport {
    type Publisher = AnyPublisher;
    type Feed = AnyFeed;
    type Control = AnyControl;
    type Reader = AnyReader;
    type Admin = AnyAdmin;

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn state(&self) -> State {
        self.0.state()
    }

    async fn publisher(&self, options: PublisherOptions) -> Result<AnyPublisher> {
        self.0.publisher(options).await
    }

    async fn subscribe(&self, spec: SubscribeSpec) -> Result<(AnyFeed, AnyControl)> {
        self.0.subscribe(spec).await
    }

    async fn read(&self, spec: ReadSpec) -> Result<AnyReader> {
        self.0.read(spec).await
    }

    fn admin(&self) -> AnyAdmin {
        self.0.admin()
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        self.0.close(deadline).await
    }
}

/// The error of an unsupported start, for transports that cannot start at a time.
///
/// # Errors
/// Always [`Unsupported`](crate::ErrorKind::Unsupported) if `start` needs more than
/// `capabilities` declare.
pub fn check_start(start: &Start, capabilities: &Capabilities) -> Result<()> {
    match start {
        Start::Time(_) if !capabilities.start_at_time => Err(Error::unsupported(
            capabilities.transport,
            "start at a time",
        )),
        _ => Ok(()),
    }
}

const _: () = {
    const fn handle<T: Send + Sync + Clone>() {}
    handle::<AnyTransport>();
    handle::<AnyPublisher>();
    handle::<AnyControl>();
    handle::<AnyAdmin>();
    const fn owned<T: Send>() {}
    owned::<AnyFeed>();
    owned::<AnyReader>();
    owned::<Timestamp>();
};

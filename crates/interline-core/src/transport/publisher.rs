//! Publishing.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::envelope::stable_hash;
use crate::{BoxFuture, Durability, Envelope, EventId, Outcome, Receipt, Result, Topic};

/// Sends events to topics.
///
/// # Contract
/// One outcome per event, in the order of the batch. [`Outcome::Stored`](crate::Outcome::Stored)
/// means durable to the level it names. Where the transport recognises copies, it resends an
/// unknown event under the same identity until
/// [`publish_timeout`](PublisherOptions::publish_timeout), then reports it as unknown.
///
/// # Ordering
/// Events of one key are stored in the order of the calls whose receipts were awaited, and in the
/// order of the batch within one call.
///
/// # Cancellation
/// A dropped `enqueue` has sent nothing; a dropped receipt cancels nothing.
pub trait Publisher: Debug + Send + Sync + 'static {
    /// Hands a batch over to be sent, waiting for room in the window if there is none.
    ///
    /// An event that breaks a limit is [`Rejected`](crate::Outcome::Rejected) alone; the others of
    /// its batch are sent.
    ///
    /// # Errors
    /// When the handle is closed or the transport has failed; nothing was sent.
    fn enqueue(&self, batch: Vec<Outgoing>) -> impl Future<Output = Result<Receipt>> + Send;

    /// Stores one event without a receipt, if that needs no waiting; else leaves it where it is,
    /// to be [`enqueue`](Self::enqueue)d.
    ///
    /// For a store in this process, where making a receipt costs more than storing. A transport
    /// that sends events has nothing to do here.
    #[must_use]
    fn publish_at_once(&self, _event: &mut Option<Outgoing>) -> Option<Outcome> {
        None
    }

    /// Waits until everything enqueued before has an outcome; gives up at the deadline and
    /// returns the ids that have none. What is given up resolves as unknown or rejected.
    ///
    /// # Errors
    /// When the transport has failed for good.
    fn flush(&self, deadline: Duration) -> impl Future<Output = Result<Vec<EventId>>> + Send;

    /// Counts since the publisher was made.
    fn stats(&self) -> PublisherStats;
}

/// An event on its way to a topic.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Where to.
    pub topic: Topic,
    /// What.
    pub envelope: Envelope,
    /// Why: copies are recognised among those of one purpose.
    pub purpose: Purpose,
}

impl Outgoing {
    /// An event published for the first time, or again by its publisher.
    #[must_use]
    pub fn new(topic: Topic, envelope: Envelope) -> Self {
        Self {
            topic,
            envelope,
            purpose: Purpose::Event,
        }
    }

    /// The identity under which a store recognises copies of this event in its topic.
    #[must_use]
    pub fn identity(&self) -> Uuid {
        let identity = self.envelope.id().identity(self.envelope.source());
        self.purpose.identity(identity)
    }
}

/// Why an event is published. The same event may be in a topic once per purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// By its publisher.
    #[default]
    Event,
    /// As the dead letter with this number (a hash of group, partition and position).
    DeadLetter(u64),
    /// Back to its group for the time that this number tells apart.
    Return(u64),
}

impl Purpose {
    fn identity(self, event: Uuid) -> Uuid {
        let (name, number): (&[u8], u64) = match self {
            Self::Event => return event,
            Self::DeadLetter(number) => (b"dlq", number),
            Self::Return(number) => (b"ret", number),
        };
        stable_hash(&[name, event.as_bytes(), &number.to_be_bytes()])
    }
}

/// How a publisher works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublisherOptions {
    /// How long an event is resent before its outcome is given up as unknown.
    pub publish_timeout: Duration,
    /// The least durability that is accepted; below it making the publisher fails.
    pub min_durability: Option<Durability>,
    /// How many events may be without outcome before `enqueue` waits.
    pub window: usize,
}

impl Default for PublisherOptions {
    /// 30 s, the profile's minimum, 8,192 events. A larger window holds more in memory and gains
    /// nothing but where the way to the server is long: events that wait leave the processor's
    /// caches, which costs Kafka's client a third more time for each.
    fn default() -> Self {
        Self {
            publish_timeout: Duration::from_secs(30),
            min_durability: None,
            window: 8_192,
        }
    }
}

/// What a publisher has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublisherStats {
    /// Events handed over.
    pub sent: u64,
    /// Events stored.
    pub stored: u64,
    /// Events recognised as copies.
    pub duplicate: u64,
    /// Events certainly not stored.
    pub rejected: u64,
    /// Events perhaps stored.
    pub unknown: u64,
    /// Events without outcome now.
    pub in_flight: u64,
    /// Payload bytes handed over.
    pub bytes: u64,
}

/// The erased twin of [`Publisher`].
trait DynPublisher: Debug + Send + Sync {
    fn enqueue(&self, batch: Vec<Outgoing>) -> BoxFuture<'_, Result<Receipt>>;
    fn publish_at_once(&self, event: &mut Option<Outgoing>) -> Option<Outcome>;
    fn flush(&self, deadline: Duration) -> BoxFuture<'_, Result<Vec<EventId>>>;
    fn stats(&self) -> PublisherStats;
}

impl<P: Publisher> DynPublisher for P {
    fn enqueue(&self, batch: Vec<Outgoing>) -> BoxFuture<'_, Result<Receipt>> {
        Box::pin(Publisher::enqueue(self, batch))
    }

    fn publish_at_once(&self, event: &mut Option<Outgoing>) -> Option<Outcome> {
        Publisher::publish_at_once(self, event)
    }

    fn flush(&self, deadline: Duration) -> BoxFuture<'_, Result<Vec<EventId>>> {
        Box::pin(Publisher::flush(self, deadline))
    }

    fn stats(&self) -> PublisherStats {
        Publisher::stats(self)
    }
}

/// A publisher of any transport, cheap to clone.
#[derive(Clone, Debug)]
pub struct AnyPublisher(Arc<dyn DynPublisher>);

impl AnyPublisher {
    /// Erases `publisher`.
    pub fn new(publisher: impl Publisher) -> Self {
        Self(Arc::new(publisher))
    }
}

impl Publisher for AnyPublisher {
    async fn enqueue(&self, batch: Vec<Outgoing>) -> Result<Receipt> {
        self.0.enqueue(batch).await
    }

    fn publish_at_once(&self, event: &mut Option<Outgoing>) -> Option<Outcome> {
        self.0.publish_at_once(event)
    }

    async fn flush(&self, deadline: Duration) -> Result<Vec<EventId>> {
        self.0.flush(deadline).await
    }

    fn stats(&self) -> PublisherStats {
        self.0.stats()
    }
}

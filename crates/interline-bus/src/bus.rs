//! The bus: typed publishing over one transport.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use interline_core::{
    AnyAdmin, AnyPublisher, AnyTransport, ByteString, Capabilities, Codec, Envelope, Error,
    ErrorKind, Event, EventId, Key, Outcome, Outgoing, Pattern, Publisher, PublisherOptions,
    PublisherStats, Receipt, Result, State, Timestamp, Topic, Transport,
};
use tokio::sync::OnceCell;

use crate::declared::{Declarations, Declared};
use crate::group::GroupBuilder;
use crate::handler::Witness;
use crate::publish::Publish;
use crate::replay::Replay;

/// One bus over one transport: publishes typed events and starts groups of handlers.
///
/// It is cheap to clone; clones share the connection and the publisher.
///
/// ```
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Tick(u8);
/// # impl interline_core::Event for Tick {
/// #     const TYPE: &'static str = "clock.tick";
/// #     const TOPIC: &'static str = "clock";
/// #     type Codec = interline_json::Json;
/// # }
/// use interline_bus::Bus;
/// use interline_memory as transport;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> interline_core::Result<()> {
/// let bus = Bus::new(transport::connect("memory://").await?).source("/clock");
/// let outcome = bus.publish(Tick(1)).subject("quartz").await?;
/// assert!(outcome.is_ok());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Bus(Arc<Inner>);

struct Inner {
    link: Arc<Link>,
    source: ByteString,
    witness: Option<Arc<dyn Witness>>,
    declarations: Declarations,
}

/// What handles with other sources share.
struct Link {
    transport: AnyTransport,
    options: PublisherOptions,
    publisher: OnceCell<AnyPublisher>,
}

impl Bus {
    /// A bus over `transport`, which may be a transport's own type or an [`AnyTransport`].
    pub fn new(transport: impl Transport) -> Self {
        Self::with_options(transport, PublisherOptions::default())
    }

    /// A bus whose publisher works by `options`.
    pub fn with_options(transport: impl Transport, options: PublisherOptions) -> Self {
        let link = Link {
            transport: AnyTransport::new(transport),
            options,
            publisher: OnceCell::new(),
        };
        Self::over(Arc::new(link), ByteString::from_static("/"), None)
    }

    fn over(link: Arc<Link>, source: ByteString, witness: Option<Arc<dyn Witness>>) -> Self {
        Self(Arc::new(Inner {
            link,
            source,
            witness,
            declarations: Declarations::default(),
        }))
    }

    /// A handle over the same connection that sets the `source` of the events published by it and
    /// its clones: a URI reference such as `/shop`.
    #[must_use]
    pub fn source(self, source: impl Into<ByteString>) -> Self {
        let Inner { link, witness, .. } = &*self.0;
        Self::over(Arc::clone(link), source.into(), witness.clone())
    }

    /// Lets `witness` look on while handlers of groups made from this handle are called.
    #[must_use]
    pub fn witness(self, witness: impl Witness) -> Self {
        let Inner { link, source, .. } = &*self.0;
        Self::over(Arc::clone(link), source.clone(), Some(Arc::new(witness)))
    }

    pub(crate) fn witnesses(&self) -> Option<&Arc<dyn Witness>> {
        self.0.witness.as_ref()
    }

    /// The transport.
    #[must_use]
    pub fn transport(&self) -> &AnyTransport {
        &self.0.link.transport
    }

    /// What the transport can do.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.transport().capabilities()
    }

    /// Whether the server answers.
    #[must_use]
    pub fn state(&self) -> State {
        self.transport().state()
    }

    /// The administration of topics and groups.
    #[must_use]
    pub fn admin(&self) -> AnyAdmin {
        self.transport().admin()
    }

    /// Publishes `event` to the topic of its type when awaited.
    ///
    /// # Errors
    /// The awaited result is the outcome if the event is stored or was stored before; otherwise
    /// the error, [ambiguous](Error::is_ambiguous) if it may be stored all the same.
    ///
    /// # Cancellation
    /// Dropped before it is first polled nothing is sent; later the event may be.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a published fact is handed over"
    )]
    pub fn publish<E: Event>(&self, event: E) -> Publish<'_> {
        let declared = self.declared::<E>();
        match declared.and_then(|declared| Ok((declared, encoded(&event)?))) {
            Ok((declared, (key, payload))) => {
                Publish::new(self, declared.outgoing(key, payload, Timestamp::now()))
            }
            Err(error) => Publish::refused(self, error),
        }
    }

    /// Publishes events of one type in one batch; one outcome each, in order.
    ///
    /// # Errors
    /// If an event has no form in its codec, or the handle is closed; nothing was sent.
    pub async fn publish_all<E: Event>(
        &self,
        events: impl IntoIterator<Item = E, IntoIter: Send> + Send,
    ) -> Result<Vec<Outcome>> {
        Ok(self.enqueue_all(events).await?.await)
    }

    /// Hands events of one type over to be sent and returns as soon as there is room; the receipt
    /// tells later what became of them.
    ///
    /// # Errors
    /// If an event has no form in its codec, or the handle is closed; nothing was sent.
    pub async fn enqueue_all<E: Event>(
        &self,
        events: impl IntoIterator<Item = E, IntoIter: Send> + Send,
    ) -> Result<Receipt> {
        let (declared, now) = (self.declared::<E>()?, Timestamp::now());
        let events = events.into_iter();
        // Collecting results forgets how many there are, and a growing vector moves every event.
        let mut batch = Vec::with_capacity(events.size_hint().0);
        for event in events {
            let (key, payload) = encoded(&event)?;
            batch.push(declared.outgoing(key, payload, now));
        }
        self.publisher().await?.enqueue(batch).await
    }

    /// Publishes envelopes as they are; one outcome each, in order.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a topic that belongs to interline, or when the handle is closed;
    /// nothing was sent.
    pub async fn publish_raw(&self, batch: Vec<(Topic, Envelope)>) -> Result<Vec<Outcome>> {
        let batch = batch
            .into_iter()
            .map(|(topic, envelope)| {
                if topic.is_system() {
                    return Err(Error::new(
                        ErrorKind::Invalid,
                        "publish",
                        format!("topic `{topic}` belongs to interline"),
                    )
                    .remedy("publish to the topic itself; dead letters are redriven"));
                }
                Ok(Outgoing::new(topic, envelope))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(self.publisher().await?.enqueue(batch).await?.await)
    }

    /// A group of handlers, to be given handlers and started.
    ///
    /// The name is checked when the group starts.
    pub fn group(&self, name: impl AsRef<str>) -> GroupBuilder {
        GroupBuilder::new(self.clone(), name.as_ref())
    }

    /// Handlers of which every instance gets every event, starting with the latest.
    ///
    /// It is a group of its own for this instance, with a random suffix, that is deleted when its
    /// workers drain.
    pub fn broadcast(&self, name: impl AsRef<str>) -> GroupBuilder {
        GroupBuilder::broadcast(self.clone(), name.as_ref())
    }

    /// Reads the topics that fit `pattern` again, beside any live group.
    pub fn replay(&self, pattern: Pattern) -> Replay {
        Replay::new(self.clone(), pattern)
    }

    /// Counts of the publisher; zeros before the first publish.
    #[must_use]
    pub fn stats(&self) -> PublisherStats {
        let publisher = self.0.link.publisher.get();
        publisher.map(Publisher::stats).unwrap_or_default()
    }

    /// Waits until everything published has an outcome; at the deadline the ids of what has none.
    ///
    /// # Errors
    /// When the transport has failed for good.
    pub async fn flush(&self, deadline: Duration) -> Result<Vec<EventId>> {
        match self.0.link.publisher.get() {
            Some(publisher) => publisher.flush(deadline).await,
            None => Ok(Vec::new()),
        }
    }

    /// Flushes, then closes the transport with every handle made from it.
    ///
    /// # Errors
    /// When something could not be sent before the deadline, or the transport could not close.
    pub async fn close(&self, deadline: Duration) -> Result<()> {
        let left = self.flush(deadline).await?;
        self.transport().close(deadline).await?;
        if left.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Timeout,
            "close",
            format!(
                "{} events have no outcome, the first is {}",
                left.len(),
                left[0]
            ),
        )
        .remedy("publish them again with the same ids, or allow more time")
        .ambiguous())
    }

    /// How long a publish may go without an outcome.
    pub(crate) fn publish_timeout(&self) -> Duration {
        self.0.link.options.publish_timeout
    }

    pub(crate) async fn publisher(&self) -> Result<&AnyPublisher> {
        let link = &self.0.link;
        link.publisher
            .get_or_try_init(|| link.transport.publisher(link.options.clone()))
            .await
    }

    /// [`Publisher::publish_at_once`], once there is a publisher.
    pub(crate) fn publish_at_once(&self, event: &mut Option<Outgoing>) -> Option<Outcome> {
        self.0.link.publisher.get()?.publish_at_once(event)
    }

    fn declared<E: Event>(&self) -> Result<&Declared> {
        self.0.declarations.of::<E>(&self.0.source)
    }
}

/// The key and the payload of an event. Payloads share a buffer, so that small ones do not cost an
/// allocation each.
fn encoded<E: Event>(event: &E) -> Result<(Option<Key>, Bytes)> {
    const ARENA: usize = 64 << 10;
    thread_local! {
        static BUFFER: RefCell<BytesMut> = RefCell::default();
    }
    let key = event.key().map(|key| Key::copy_from_slice(&key));
    BUFFER.with_borrow_mut(|buffer| {
        if buffer.capacity() < ARENA / 16 {
            buffer.reserve(ARENA);
        }
        if let Err(error) = E::Codec::default().encode(event, buffer) {
            buffer.clear();
            return Err(error);
        }
        Ok((key, buffer.split().freeze()))
    })
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus")
            .field("transport", self.transport())
            .field("source", &self.0.source)
            .finish_non_exhaustive()
    }
}

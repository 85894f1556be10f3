//! Extractors: what a handler may ask for beside the event.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use interline_core::{Envelope, Error, ErrorKind, Event, EventId, Group, Result, Topic};
use interline_reliability::Failure;

use crate::Delivery;
use crate::bus::Bus;
use crate::publish::Publish;

/// Something that a handler can take as an argument.
///
/// It works in two steps: [`source`](Self::source) once, when the group starts, so that what is
/// missing is an error at the start; and [`extract`](Self::extract) for every delivery.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a handler",
    label = "no extractor",
    note = "the first argument is the event; the others are `Context`, `State<T>`, `Envelope` or a type of yours that implements `Extract`"
)]
pub trait Extract: Sized + Send + 'static {
    /// What is looked up once.
    type Source: Send + Sync + 'static;

    /// Looks up what every extraction needs.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the group was not given it.
    fn source(setup: &Setup) -> Result<Self::Source>;

    /// The argument for one delivery.
    ///
    /// # Errors
    /// A failure ends the attempt as if the handler had returned it.
    fn extract(source: &Self::Source, delivery: &Delivery<'_>) -> Result<Self, Failure>;
}

/// An extractor that is the same for every delivery, so that batch handlers can take it.
pub trait Shared: Extract {
    /// The argument.
    fn shared(source: &Self::Source) -> Self;
}

/// What a group was given: its bus and its shared state.
#[derive(Clone)]
pub struct Setup {
    pub(crate) bus: Bus,
    states: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
}

impl Setup {
    pub(crate) fn new(bus: Bus) -> Self {
        Self {
            bus,
            states: HashMap::new(),
        }
    }

    pub(crate) fn insert<T: Clone + Send + Sync + 'static>(&mut self, state: T) {
        self.states.insert(TypeId::of::<T>(), Arc::new(state));
    }

    /// The shared state of type `T`.
    #[must_use]
    pub fn state<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        self.states.get(&TypeId::of::<T>())?.downcast_ref().cloned()
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Setup({} states)", self.states.len())
    }
}

/// Shared state of a group, given with `.state(value)`; it is cloned for each delivery, so it is
/// a handle such as a pool or an `Arc`.
#[derive(Clone, Copy, Debug, Default)]
pub struct State<T>(pub T);

impl<T: Clone + Send + Sync + 'static> Extract for State<T> {
    type Source = T;

    fn source(setup: &Setup) -> Result<T> {
        setup.state().ok_or_else(|| {
            Error::new(
                ErrorKind::Config,
                "start",
                format!(
                    "a handler asks for the state {}, which the group has not",
                    type_name::<T>()
                ),
            )
            .remedy("add `.state(value)` to the group")
        })
    }

    fn extract(source: &T, _: &Delivery<'_>) -> Result<Self, Failure> {
        Ok(Self(source.clone()))
    }
}

impl<T: Clone + Send + Sync + 'static> Shared for State<T> {
    fn shared(source: &T) -> Self {
        Self(source.clone())
    }
}

impl Extract for Envelope {
    type Source = ();

    fn source(_: &Setup) -> Result<()> {
        Ok(())
    }

    fn extract((): &(), delivery: &Delivery<'_>) -> Result<Self, Failure> {
        Ok(delivery.envelope().clone())
    }
}

/// The delivery that is being handled, and the way to publish what follows from it.
pub struct Context {
    envelope: Envelope,
    topic: Topic,
    group: Group,
    attempt: u32,
    bus: Bus,
    published: AtomicU32,
}

impl Context {
    pub(super) fn new(bus: &Bus, delivery: &Delivery<'_>) -> Self {
        Self {
            envelope: delivery.envelope().clone(),
            topic: delivery.topic().clone(),
            group: delivery.group().clone(),
            attempt: delivery.attempt(),
            bus: bus.clone(),
            published: AtomicU32::new(0),
        }
    }

    /// The envelope of the event.
    #[must_use]
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// The id of the event: the same in every attempt, so it is a good idempotency key.
    #[must_use]
    pub fn event_id(&self) -> &EventId {
        self.envelope.id()
    }

    /// The topic where the event was published.
    #[must_use]
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// The group that handles it.
    #[must_use]
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// Which attempt this is, from 1; after a crash at least so many.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Publishes an event that follows from this one.
    ///
    /// Causation, correlation and tenant are set, and the id is derived from this event, the
    /// group and the number of the call: an attempt that runs again publishes the same ids in
    /// the same order.
    pub fn publish<E: Event>(&self, event: E) -> Publish<'_> {
        let index = self.published.fetch_add(1, Ordering::Relaxed);
        self.bus
            .publish(event)
            .caused_by(&self.envelope)
            .id(self.event_id().derived(self.group.as_str(), index))
    }
}

impl Extract for Context {
    type Source = Bus;

    fn source(setup: &Setup) -> Result<Bus> {
        Ok(setup.bus.clone())
    }

    fn extract(source: &Bus, delivery: &Delivery<'_>) -> Result<Self, Failure> {
        Ok(Self::new(source, delivery))
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("envelope", &self.envelope)
            .field("topic", &self.topic)
            .field("group", &self.group)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

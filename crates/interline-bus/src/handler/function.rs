//! Async functions as handlers.

use std::any::type_name;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use interline_core::{Bytes, Codec, Event, Pattern, Result};
use interline_reliability::{Failure, FailureKind};

use super::Handled;
use super::extract::{Extract, Setup};
use super::slot::{Finished, Reused, Route, Slot, guarded};
use crate::Delivery;

/// An async function that takes an event and up to four extractors and returns [`Handled`].
///
/// Written by the compiler for functions and closures; nobody implements it by hand.
#[diagnostic::on_unimplemented(
    message = "this is no handler",
    label = "not an async function of an event and extractors",
    note = "write `async fn name(event: YourEvent, ..) -> Handled`; arguments after the event are extractors, and every future has to be Send"
)]
pub trait Handler<Args>: Send + Sync + Sized + 'static {
    /// The event that it takes.
    type Event: Event;
    /// What it runs.
    type Future: Future<Output = Handled> + Send + 'static;
    /// What its extractors look up once.
    type Sources: Send + Sync + 'static;

    /// Looks the sources up.
    ///
    /// # Errors
    /// When the group lacks something that an extractor needs.
    fn sources(setup: &Setup) -> Result<Self::Sources>;

    /// Makes the future of one call.
    ///
    /// # Errors
    /// The failure of an extractor.
    fn call(
        &self,
        event: Self::Event,
        sources: &Self::Sources,
        delivery: &Delivery<'_>,
    ) -> Result<Self::Future, Failure>;
}

/// An async function that takes one to four extractors, such as the whole
/// [`Envelope`](interline_core::Envelope), and returns [`Handled`].
#[diagnostic::on_unimplemented(
    message = "this is no raw handler",
    label = "not an async function of extractors",
    note = "write `async fn name(envelope: Envelope, ..) -> Handled`; every argument is an extractor"
)]
pub trait RawHandler<Args>: Send + Sync + Sized + 'static {
    /// What it runs.
    type Future: Future<Output = Handled> + Send + 'static;
    /// What its extractors look up once.
    type Sources: Send + Sync + 'static;

    /// Looks the sources up.
    ///
    /// # Errors
    /// When the group lacks something that an extractor needs.
    fn sources(setup: &Setup) -> Result<Self::Sources>;

    /// Makes the future of one call.
    ///
    /// # Errors
    /// The failure of an extractor.
    fn call(
        &self,
        sources: &Self::Sources,
        delivery: &Delivery<'_>,
    ) -> Result<Self::Future, Failure>;
}

macro_rules! handlers {
    ($($arg:ident)*) => {
        impl<F, Fut, E, $($arg,)*> Handler<(E, $($arg,)*)> for F
        where
            F: Fn(E, $($arg),*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = Handled> + Send + 'static,
            E: Event,
            $($arg: Extract,)*
        {
            type Event = E;
            type Future = Fut;
            type Sources = ($($arg::Source,)*);

            #[allow(unused_variables, clippy::unused_unit, reason = "a handler may have no extractors")]
            fn sources(setup: &Setup) -> Result<Self::Sources> {
                Ok(($($arg::source(setup)?,)*))
            }

            #[allow(non_snake_case, unused_variables, reason = "written for each number of arguments")]
            fn call(
                &self,
                event: E,
                sources: &Self::Sources,
                delivery: &Delivery<'_>,
            ) -> Result<Fut, Failure> {
                let ($($arg,)*) = sources;
                Ok(self(event, $($arg::extract($arg, delivery)?),*))
            }
        }
    };
}
handlers!();
handlers!(A);
handlers!(A B);
handlers!(A B C);
handlers!(A B C D);

macro_rules! raw_handlers {
    ($($arg:ident)*) => {
        impl<F, Fut, $($arg,)*> RawHandler<($($arg,)*)> for F
        where
            F: Fn($($arg),*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = Handled> + Send + 'static,
            $($arg: Extract,)*
        {
            type Future = Fut;
            type Sources = ($($arg::Source,)*);

            fn sources(setup: &Setup) -> Result<Self::Sources> {
                Ok(($($arg::source(setup)?,)*))
            }

            #[allow(non_snake_case, reason = "written for each number of arguments")]
            fn call(&self, sources: &Self::Sources, delivery: &Delivery<'_>) -> Result<Fut, Failure> {
                let ($($arg,)*) = sources;
                Ok(self($($arg::extract($arg, delivery)?),*))
            }
        }
    };
}
raw_handlers!(A);
raw_handlers!(A B);
raw_handlers!(A B C);
raw_handlers!(A B C D);

/// The route of a typed handler.
pub(crate) fn typed_route<Args, H>(
    pattern: Pattern,
    handler: H,
    limit: Option<usize>,
    setup: &Setup,
) -> Result<Route>
where
    Args: 'static,
    H: Handler<Args>,
{
    let sources = H::sources(setup)?;
    let codec = <H::Event as Event>::Codec::default();
    let call = move |delivery: &Delivery<'_>| {
        let event = decoded::<H::Event>(&codec, delivery)?;
        handler.call(event, &sources, delivery)
    };
    Ok(single_route(pattern, type_name::<H>(), limit, call))
}

/// Reads the event out of a delivery; an event without data is read from empty bytes.
pub(super) fn decoded<E: Event>(codec: &E::Codec, delivery: &Delivery<'_>) -> Result<E, Failure> {
    static EMPTY: Bytes = Bytes::new();
    let envelope = delivery.envelope();
    let payload = envelope.payload().unwrap_or(&EMPTY);
    codec
        .decode(envelope.content_type(), payload)
        .map_err(|error| Failure::new(FailureKind::Undecodable, error.to_string()))
}

/// The route of a raw handler.
pub(crate) fn raw_route<Args, H>(
    pattern: Pattern,
    handler: H,
    limit: Option<usize>,
    setup: &Setup,
) -> Result<Route>
where
    Args: 'static,
    H: RawHandler<Args>,
{
    let sources = H::sources(setup)?;
    let call = move |delivery: &Delivery<'_>| handler.call(&sources, delivery);
    Ok(single_route(pattern, type_name::<H>(), limit, call))
}

/// A route whose calls are about one delivery each; `call` makes their futures.
fn single_route<Fut>(
    pattern: Pattern,
    name: &'static str,
    limit: Option<usize>,
    call: impl Fn(&Delivery<'_>) -> Result<Fut, Failure> + Send + Sync + 'static,
) -> Route
where
    Fut: Future<Output = Handled> + Send + 'static,
{
    let call = Arc::new(call);
    Route {
        pattern,
        name,
        limit,
        batch: None,
        slot: Box::new(move || {
            Box::new(Single {
                call: Arc::clone(&call),
                future: Reused::new(),
            })
        }),
    }
}

struct Single<C, Fut> {
    call: Arc<C>,
    future: Reused<Fut>,
}

impl<C, Fut> Slot for Single<C, Fut>
where
    C: Fn(&Delivery<'_>) -> Result<Fut, Failure> + Send + Sync,
    Fut: Future<Output = Handled> + Send,
{
    fn start(&mut self, deliveries: &[Delivery<'_>]) -> Handled {
        let Some(delivery) = deliveries.first() else {
            return Ok(());
        };
        self.future.set(guarded(|| (self.call)(delivery))?);
        Ok(())
    }

    fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<Finished> {
        let polled = self.future.poll(cx);
        polled.map(|output| Finished::One(output.and_then(|handled| handled)))
    }

    fn clear(&mut self) {
        self.future.clear();
    }
}

//! Handlers that take several events at once.

use std::any::type_name;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use interline_core::{Event, Pattern, Result};
use interline_reliability::Failure;

use super::Handled;
use super::extract::{Context, Setup, Shared};
use super::function::decoded;
use super::slot::{Finished, Reused, Route, Slot, guarded};
use crate::Delivery;

/// How events are gathered for a batch handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchOptions {
    /// A batch starts as soon as it holds this many events.
    pub max_size: usize,
    /// A batch starts at the latest when its first event has waited this long.
    pub max_wait: Duration,
}

impl Default for BatchOptions {
    /// 100 events or 50 ms.
    fn default() -> Self {
        Self {
            max_size: 100,
            max_wait: Duration::from_millis(50),
        }
    }
}

/// One event of a batch.
#[derive(Debug)]
pub struct Item<E> {
    /// The event.
    pub event: E,
    /// Its delivery.
    pub context: Context,
}

/// What a batch handler returns.
pub trait Outcomes: Send + 'static {
    /// The outcomes in the order of the batch.
    fn into_outcomes(self, len: usize) -> Vec<Handled>;
}

impl Outcomes for Vec<Handled> {
    fn into_outcomes(self, _: usize) -> Vec<Handled> {
        self
    }
}

impl Outcomes for Handled {
    fn into_outcomes(self, len: usize) -> Vec<Handled> {
        vec![self; len]
    }
}

/// An async function that takes a `Vec<Item<E>>` and up to two shared extractors, and returns one
/// outcome for all (`Handled`) or one each (`Vec<Handled>`).
///
/// A batch holds at most one event of each key, so that a failed event never has a later one of
/// its key behind it. Each event is settled, retried or dead-lettered by its own outcome.
#[diagnostic::on_unimplemented(
    message = "this is no batch handler",
    label = "not an async function of a Vec<Item<Event>>",
    note = "write `async fn name(batch: Vec<Item<YourEvent>>, ..) -> Vec<Handled>`, or `-> Handled` for one outcome"
)]
pub trait BatchHandler<Args>: Send + Sync + Sized + 'static {
    /// The event that it takes.
    type Event: Event;
    /// What it runs.
    type Future: Future<Output: Outcomes> + Send + 'static;
    /// What its extractors look up once.
    type Sources: Send + Sync + 'static;

    /// Looks the sources up.
    ///
    /// # Errors
    /// When the group lacks something that an extractor needs.
    fn sources(setup: &Setup) -> Result<Self::Sources>;

    /// Makes the future of one call.
    fn call(&self, batch: Vec<Item<Self::Event>>, sources: &Self::Sources) -> Self::Future;
}

macro_rules! batch_handlers {
    ($($arg:ident)*) => {
        impl<F, Fut, E, $($arg,)*> BatchHandler<(E, $($arg,)*)> for F
        where
            F: Fn(Vec<Item<E>>, $($arg),*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output: Outcomes> + Send + 'static,
            E: Event,
            $($arg: Shared,)*
        {
            type Event = E;
            type Future = Fut;
            type Sources = ($($arg::Source,)*);

            #[allow(unused_variables, clippy::unused_unit, reason = "a handler may have no extractors")]
            fn sources(setup: &Setup) -> Result<Self::Sources> {
                Ok(($($arg::source(setup)?,)*))
            }

            #[allow(non_snake_case, unused_variables, reason = "written for each number of arguments")]
            fn call(&self, batch: Vec<Item<E>>, sources: &Self::Sources) -> Fut {
                let ($($arg,)*) = sources;
                self(batch, $($arg::shared($arg)),*)
            }
        }
    };
}
batch_handlers!();
batch_handlers!(A);
batch_handlers!(A B);

/// The route of a batch handler.
pub(crate) fn batch_route<Args, H>(
    handler: H,
    options: BatchOptions,
    limit: Option<usize>,
    setup: &Setup,
) -> Result<Route>
where
    Args: 'static,
    H: BatchHandler<Args>,
{
    let call = Arc::new((handler, H::sources(setup)?));
    let bus = setup.bus.clone();
    Ok(Route {
        pattern: Pattern::exact(H::Event::TYPE),
        name: type_name::<H>(),
        limit,
        batch: Some(BatchOptions {
            max_size: options.max_size.max(1),
            ..options
        }),
        slot: Box::new(move || {
            Box::new(Batched::<Args, H> {
                call: Arc::clone(&call),
                bus: bus.clone(),
                codec: Default::default(),
                future: Reused::new(),
                outcomes: Vec::new(),
                _args: PhantomData,
            })
        }),
    })
}

struct Batched<Args, H: BatchHandler<Args>> {
    call: Arc<(H, H::Sources)>,
    bus: crate::Bus,
    codec: <H::Event as Event>::Codec,
    future: Reused<H::Future>,
    /// The failure of each event that could not be decoded; `None` for those that run.
    outcomes: Vec<Option<Failure>>,
    _args: PhantomData<fn(Args)>,
}

impl<Args: 'static, H: BatchHandler<Args>> Slot for Batched<Args, H> {
    fn start(&mut self, deliveries: &[Delivery<'_>]) -> Handled {
        self.outcomes.clear();
        let mut batch = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            let event = guarded(|| decoded::<H::Event>(&self.codec, delivery));
            self.outcomes.push(match event {
                Ok(event) => {
                    let context = Context::new(&self.bus, delivery);
                    batch.push(Item { event, context });
                    None
                }
                Err(failure) => Some(failure),
            });
        }
        let (handler, sources) = &*self.call;
        self.future
            .set(guarded(|| Ok(handler.call(batch, sources)))?);
        Ok(())
    }

    fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<Finished> {
        let running = self.outcomes.iter().filter(|known| known.is_none()).count();
        self.future.poll(cx).map(|output| {
            let mut handled = match output {
                Ok(output) => output.into_outcomes(running),
                Err(failure) => vec![Err(failure); running],
            }
            .into_iter();
            let outcomes = self.outcomes.drain(..).map(|known| match known {
                Some(failure) => Err(failure),
                None => handled.next().unwrap_or_else(missing),
            });
            Finished::Each(outcomes.collect())
        })
    }

    fn clear(&mut self) {
        self.future.clear();
    }
}

fn missing() -> Handled {
    use interline_reliability::Fail;
    Err("the batch handler returned fewer outcomes than events".transient())
}

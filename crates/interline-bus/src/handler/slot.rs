//! The erased form of a handler: a route makes slots, a slot runs one call at a time.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use interline_core::Pattern;
use interline_reliability::{Failure, FailureKind};

use super::{BatchOptions, Handled};
use crate::Delivery;

/// A handler as the engine knows it.
pub(crate) struct Route {
    /// The types that it takes.
    pub(crate) pattern: Pattern,
    /// Its name, as dead letters and `describe` show it.
    pub(crate) name: &'static str,
    /// How many calls may run at a time, if it says.
    pub(crate) limit: Option<usize>,
    /// How events are gathered, if it takes batches.
    pub(crate) batch: Option<BatchOptions>,
    /// Makes a slot. Slots are reused, so that a call allocates nothing of its own.
    pub(crate) slot: Box<dyn Fn() -> Box<dyn Slot> + Send + Sync>,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.pattern, self.name)
    }
}

/// What a call ended in.
#[derive(Debug)]
pub(crate) enum Finished {
    /// The one outcome, for every event of the call.
    One(Handled),
    /// One outcome for each event of the call, in order; missing ones have failed.
    Each(Vec<Handled>),
}

/// Room for one running call of a handler.
pub(crate) trait Slot: Send {
    /// Decodes the events and makes the handler's future; it does not run yet.
    ///
    /// # Errors
    /// When nothing can run because the (only) event cannot be decoded.
    fn start(&mut self, deliveries: &[Delivery<'_>]) -> Handled;

    /// Runs the future as far as it goes.
    fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<Finished>;

    /// Drops the future where it stands.
    fn clear(&mut self);
}

/// A future that is replaced in place: one allocation serves every call of a slot.
pub(super) struct Reused<F>(Pin<Box<Option<F>>>);

impl<F: Future> Reused<F> {
    pub(super) fn new() -> Self {
        Self(Box::pin(None))
    }

    pub(super) fn set(&mut self, future: F) {
        self.0.set(Some(future));
    }

    pub(super) fn clear(&mut self) {
        // A destructor of the user's code may panic; the slot is empty all the same.
        let _ = catch_unwind(AssertUnwindSafe(|| self.0.set(None)));
    }

    /// Polls; a panic becomes a failure and the future is gone.
    pub(super) fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<F::Output, Failure>> {
        let polled = catch_unwind(AssertUnwindSafe(|| match self.0.as_mut().as_pin_mut() {
            Some(future) => future.poll(cx).map(Ok),
            None => Poll::Ready(Err(Failure::new(
                FailureKind::Transient,
                "nothing was started",
            ))),
        }));
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => {
                self.clear();
                Poll::Ready(output)
            }
            Err(panic) => {
                self.clear();
                Poll::Ready(Err(panicked(&*panic)))
            }
        }
    }
}

/// Runs user code that is no future (decoding, extractors, the call itself).
pub(super) fn guarded<T>(call: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| Err(panicked(&*panic)))
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Failure {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "the handler panicked".to_owned());
    Failure::new(FailureKind::Panic, text)
}

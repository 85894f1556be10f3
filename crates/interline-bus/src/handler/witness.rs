//! Looking on while handlers are called.

use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use interline_core::Envelope;

use super::Handled;
use super::slot::{Finished, Route, Slot};
use crate::Delivery;

/// Looks on while the handlers of a [`Bus`](crate::Bus) are called, and may end an attempt before
/// its handler runs. It is there for tests: both methods run within the engine's turn and must
/// not block.
pub trait Witness: Send + Sync + 'static {
    /// An attempt begins.
    ///
    /// # Errors
    /// A failure ends the attempt as if the handler had returned it; in a batch, that of every
    /// event of the call.
    fn begins(&self, delivery: &Delivery<'_>) -> Handled;

    /// The handler returned. An attempt that times out, panics or is dropped does not end here.
    fn returned(&self, envelope: &Envelope, handled: &Handled);
}

impl Route {
    /// The route with a witness of its calls.
    pub(crate) fn witnessed(self, witness: Arc<dyn Witness>) -> Self {
        let make = self.slot;
        Self {
            slot: Box::new(move || {
                Box::new(Witnessed {
                    slot: make(),
                    witness: Arc::clone(&witness),
                    events: Vec::new(),
                })
            }),
            ..self
        }
    }
}

struct Witnessed {
    slot: Box<dyn Slot>,
    witness: Arc<dyn Witness>,
    /// The events of the running call.
    events: Vec<Envelope>,
}

impl Slot for Witnessed {
    fn start(&mut self, deliveries: &[Delivery<'_>]) -> Handled {
        for delivery in deliveries {
            self.witness.begins(delivery)?;
        }
        let events = deliveries
            .iter()
            .map(|delivery| delivery.envelope().clone());
        self.events = events.collect();
        self.slot.start(deliveries)
    }

    fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<Finished> {
        let polled = self.slot.poll(cx);
        if let Poll::Ready(finished) = &polled {
            let events = std::mem::take(&mut self.events);
            for (at, event) in events.iter().enumerate() {
                let handled = match finished {
                    Finished::One(handled) => Some(handled),
                    Finished::Each(each) => each.get(at),
                };
                if let Some(handled) = handled {
                    self.witness.returned(event, handled);
                }
            }
        }
        polled
    }

    fn clear(&mut self) {
        self.slot.clear();
    }
}

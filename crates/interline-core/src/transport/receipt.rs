//! What became of a publish.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_channel::oneshot;

use crate::{Durability, Error, ErrorKind, Position, Result};

/// What became of one event.
#[derive(Debug)]
pub enum Outcome {
    /// Stored at a position, as durably as said.
    Stored {
        /// The partition's number within the topic.
        partition: u32,
        /// Where.
        position: Position,
        /// What the acknowledgement survives.
        durability: Durability,
    },
    /// The same event was stored before; this copy was not.
    Duplicate {
        /// Where, if the transport knows.
        position: Option<Position>,
    },
    /// Certainly not stored.
    Rejected(Error),
    /// Perhaps stored: the answer was lost. Publishing again with the same id is safe where the
    /// transport recognises copies.
    Unknown(Error),
}

impl Outcome {
    /// Whether the event is in the topic.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Stored { .. } | Self::Duplicate { .. })
    }

    /// The outcome as a result: [`Rejected`](Self::Rejected) and [`Unknown`](Self::Unknown)
    /// become their errors, the latter marked ambiguous.
    ///
    /// # Errors
    /// The error of an event that is not, or perhaps not, stored.
    pub fn into_result(self) -> Result<Self> {
        match self {
            Self::Rejected(error) => Err(error),
            Self::Unknown(error) => Err(error.ambiguous()),
            stored => Ok(stored),
        }
    }
}

/// The future of the outcomes of one [`enqueue`](crate::Publisher::enqueue), in its order.
///
/// It always resolves, to one outcome per event. Dropping it cancels nothing. If whoever resolves
/// it dies, every event is [`Outcome::Unknown`].
#[must_use = "a receipt tells whether the events were stored"]
pub struct Receipt(Repr);

enum Repr {
    Ready(Vec<Outcome>),
    Waiting(oneshot::Receiver<Vec<Outcome>>, usize),
}

/// Resolves a [`Receipt`].
pub struct ReceiptSender(oneshot::Sender<Vec<Outcome>>);

impl Receipt {
    /// A receipt that is resolved already.
    pub fn ready(outcomes: Vec<Outcome>) -> Self {
        Self(Repr::Ready(outcomes))
    }

    /// A receipt for `events` events and the sender that resolves it.
    pub fn channel(events: usize) -> (ReceiptSender, Self) {
        let (sender, receiver) = oneshot::channel();
        (ReceiptSender(sender), Self(Repr::Waiting(receiver, events)))
    }
}

impl ReceiptSender {
    /// Resolves the receipt; nothing happens if it was dropped.
    pub fn send(self, outcomes: Vec<Outcome>) {
        // A caller that dropped its receipt does not want to know.
        let _ = self.0.send(outcomes);
    }
}

impl Future for Receipt {
    type Output = Vec<Outcome>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Vec<Outcome>> {
        match &mut self.0 {
            Repr::Ready(outcomes) => Poll::Ready(std::mem::take(outcomes)),
            Repr::Waiting(receiver, events) => Pin::new(receiver).poll(cx).map(|sent| {
                sent.unwrap_or_else(|_| {
                    std::iter::repeat_with(|| Outcome::Unknown(lost()))
                        .take(*events)
                        .collect()
                })
            }),
        }
    }
}

fn lost() -> Error {
    Error::new(
        ErrorKind::Closed,
        "publish",
        "the publisher was dropped before the outcome was known",
    )
    .remedy("flush before dropping, or publish again with the same id")
    .ambiguous()
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Repr::Ready(_) => "Receipt(ready)",
            Repr::Waiting(..) => "Receipt(waiting)",
        })
    }
}

impl fmt::Debug for ReceiptSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReceiptSender")
    }
}

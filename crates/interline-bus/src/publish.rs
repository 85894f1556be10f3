//! One event on its way.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use interline_core::{
    AttributeValue, BoxFuture, ByteString, Envelope, Error, EventId, HeaderName, Key, Outcome,
    Outgoing, Publisher, Receipt, Result, Topic, extension,
};

use crate::Bus;

/// An event about to be published: the future of its outcome, made by [`Bus::publish`].
///
/// Nothing is sent before it is polled, and nothing can be changed any more after that.
#[must_use = "nothing is published before it is awaited"]
pub struct Publish<'a> {
    bus: &'a Bus,
    step: Step<'a>,
}

/// A future that a transport needs no waiting for is never boxed.
enum Step<'a> {
    /// Nothing once the event has left.
    Fresh(Option<Outgoing>),
    Refused(Option<Error>),
    Handing(BoxFuture<'a, Result<Receipt>>),
    Waiting(Receipt),
}

impl<'a> Publish<'a> {
    pub(crate) fn new(bus: &'a Bus, outgoing: Outgoing) -> Self {
        let step = Step::Fresh(Some(outgoing));
        Self { bus, step }
    }

    pub(crate) fn refused(bus: &'a Bus, error: Error) -> Self {
        let step = Step::Refused(Some(error));
        Self { bus, step }
    }

    fn change(mut self, change: impl FnOnce(Outgoing) -> Result<Outgoing>) -> Self {
        if let Step::Fresh(event) = &mut self.step
            && let Some(outgoing) = event.take()
        {
            match change(outgoing) {
                Ok(outgoing) => *event = Some(outgoing),
                Err(error) => self.step = Step::Refused(Some(error)),
            }
        }
        self
    }

    fn set(self, set: impl FnOnce(&mut Envelope) -> Result<()>) -> Self {
        self.change(|mut outgoing| {
            set(&mut outgoing.envelope)?;
            Ok(outgoing)
        })
    }

    /// Sets the id; publishing again under the same id is recognised where the transport can.
    pub fn id(self, id: EventId) -> Self {
        self.change(|mut outgoing| {
            outgoing.envelope = outgoing.envelope.with_id(id);
            Ok(outgoing)
        })
    }

    /// Publishes to another topic than that of the type.
    pub fn topic(self, topic: Topic) -> Self {
        self.change(|mut outgoing| {
            outgoing.topic = topic;
            Ok(outgoing)
        })
    }

    /// Replaces the key that the event gives.
    pub fn key(self, key: impl Into<Key>) -> Self {
        self.change(|mut outgoing| {
            outgoing.envelope = outgoing.envelope.with_key(Some(key.into()));
            Ok(outgoing)
        })
    }

    /// Sets what the event is about.
    pub fn subject(self, subject: impl Into<ByteString>) -> Self {
        self.set(|envelope| {
            envelope.set_subject(subject);
            Ok(())
        })
    }

    /// Sets an extension attribute.
    pub fn attribute(self, name: impl Into<ByteString>, value: impl Into<AttributeValue>) -> Self {
        self.set(|envelope| envelope.set_attribute(name, value))
    }

    /// Sets the tenant.
    pub fn tenant(self, tenant: impl Into<ByteString>) -> Self {
        self.attribute(extension::TENANT_ID, tenant.into())
    }

    /// Adds a header.
    pub fn header(self, name: impl Into<ByteString>, value: impl Into<Bytes>) -> Self {
        self.set(|envelope| {
            let name = HeaderName::new(name)?;
            envelope.headers_mut().push(name, value);
            Ok(())
        })
    }

    /// Sets causation and correlation from the event that led to this one.
    pub fn caused_by(self, parent: &Envelope) -> Self {
        self.change(|mut outgoing| {
            outgoing.envelope = outgoing.envelope.caused_by(parent);
            Ok(outgoing)
        })
    }

    /// Hands the event over to be sent; the receipt tells later what became of it.
    ///
    /// # Errors
    /// The first mistake made while building, or when the handle is closed; nothing was sent.
    pub async fn enqueue(self) -> Result<Receipt> {
        match self.step {
            Step::Fresh(Some(event)) => hand_over(self.bus, event).await,
            Step::Fresh(None) => Err(refusal(None)),
            Step::Refused(error) => Err(refusal(error)),
            Step::Handing(handing) => handing.await,
            Step::Waiting(receipt) => Ok(receipt),
        }
    }
}

async fn hand_over(bus: &Bus, event: Outgoing) -> Result<Receipt> {
    bus.publisher().await?.enqueue(vec![event]).await
}

impl Future for Publish<'_> {
    type Output = Result<Outcome>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Outcome>> {
        let Self { bus, step } = &mut *self;
        loop {
            match step {
                Step::Fresh(event) => {
                    if let Some(outcome) = bus.publish_at_once(event) {
                        return Poll::Ready(outcome.into_result());
                    }
                    *step = match event.take() {
                        Some(event) => Step::Handing(Box::pin(hand_over(bus, event))),
                        None => Step::Refused(None),
                    };
                }
                Step::Refused(error) => {
                    return Poll::Ready(Err(refusal(error.take())));
                }
                Step::Handing(handing) => {
                    *step = match ready!(handing.as_mut().poll(cx)) {
                        Ok(receipt) => Step::Waiting(receipt),
                        Err(error) => Step::Refused(Some(error)),
                    };
                }
                Step::Waiting(receipt) => {
                    let outcome = ready!(Pin::new(receipt).poll(cx)).pop();
                    let outcome = outcome.ok_or_else(|| refusal(None));
                    return Poll::Ready(outcome.and_then(Outcome::into_result));
                }
            }
        }
    }
}

/// Why nothing is sent; polled again after its end, a future has no better reason.
fn refusal(error: Option<Error>) -> Error {
    error.unwrap_or_else(|| Error::closed("publish"))
}

impl fmt::Debug for Publish<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = match &self.step {
            Step::Fresh(event) => return f.debug_tuple("Publish").field(event).finish(),
            Step::Refused(_) => "refused",
            Step::Handing(_) => "handing over",
            Step::Waiting(_) => "waiting",
        };
        f.debug_tuple("Publish").field(&step).finish()
    }
}

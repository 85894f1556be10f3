//! The raw layer: deliveries and explicit settlement over the same engine.

use std::sync::Arc;

use interline_core::{Envelope, EventId, Group, Result, Topic};
use interline_reliability::{Fail, Failure};
use tokio::sync::{mpsc, oneshot};

use crate::handler::{Context, Handled};
use crate::{GroupBuilder, Workers};

/// How many deliveries may wait to be taken: enough for a taker that settles many at a time. How
/// many are out at all is the matter of the group's lanes.
const ROOM: usize = 512;

/// Deliveries of a group, to be settled one by one.
///
/// The engine is the same as for handlers: lanes, retry, dead letters and timeouts apply. A
/// delivery dropped unsettled counts as a transient failure, so it is retried, never lost.
#[derive(Debug)]
pub struct Deliveries {
    receiver: mpsc::Receiver<RawDelivery>,
}

/// A delivery that waits for its settlement.
#[derive(Debug)]
#[must_use = "a delivery that is dropped unsettled is retried"]
pub struct RawDelivery {
    context: Context,
    settled: oneshot::Sender<Handled>,
}

impl GroupBuilder {
    /// Starts the group with deliveries instead of handlers: every type of its topics.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use interline_bus::Bus;
    /// # use interline_core::{Envelope, Kind, Topic};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> interline_core::Result<()> {
    /// # let bus = Bus::new(interline_memory::connect("memory://").await?);
    /// let envelope = Envelope::builder(Kind::new("/demo", "a.b.c")?).payload("hello").build()?;
    /// bus.publish_raw(vec![(Topic::new("letters")?, envelope)]).await?;
    /// let (workers, mut deliveries) = bus.group("readers").topics("letters").deliveries().await?;
    /// let delivery = deliveries.next().await.expect("one was published");
    /// assert_eq!(delivery.envelope().payload().unwrap(), "hello");
    /// delivery.ack();
    /// workers.drain(Duration::from_secs(1)).await?.into_result()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn deliveries(self) -> Result<(Workers, Deliveries)> {
        let (sender, receiver) = mpsc::channel(ROOM);
        let sender = Arc::new(sender);
        let handler = move |context: Context| {
            let sender = Arc::clone(&sender);
            async move {
                let (settled, settlement) = oneshot::channel();
                let delivery = RawDelivery { context, settled };
                if sender.send(delivery).await.is_err() {
                    return Err("nobody takes deliveries any more".transient());
                }
                match settlement.await {
                    Ok(handled) => handled,
                    Err(_) => Err("the delivery was dropped unsettled".transient()),
                }
            }
        };
        let workers = self.on_raw("*", handler).start().await?;
        Ok((workers, Deliveries { receiver }))
    }
}

impl Deliveries {
    /// The next delivery, or `None` once the workers have ended.
    ///
    /// # Cancellation
    /// A dropped call loses no delivery.
    pub async fn next(&mut self) -> Option<RawDelivery> {
        self.receiver.recv().await
    }
}

impl RawDelivery {
    /// The envelope.
    #[must_use]
    pub fn envelope(&self) -> &Envelope {
        self.context.envelope()
    }

    /// The event's id.
    #[must_use]
    pub fn id(&self) -> &EventId {
        self.context.event_id()
    }

    /// The topic where the event was published.
    #[must_use]
    pub fn topic(&self) -> &Topic {
        self.context.topic()
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> &Group {
        self.context.group()
    }

    /// Which attempt this is, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.context.attempt()
    }

    /// Settles the delivery.
    pub fn ack(self) {
        self.settle(Ok(()));
    }

    /// Ends the attempt; the policy decides whether the event is retried or dead-lettered.
    pub fn fail(self, failure: Failure) {
        self.settle(Err(failure));
    }

    fn settle(self, handled: Handled) {
        // If the attempt is over already (timeout, partition lost), the settlement comes too late.
        let _ = self.settled.send(handled);
    }
}

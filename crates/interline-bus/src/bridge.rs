//! The bridge: events of one bus, published on another.

use interline_core::{ErrorKind, Outcome, Outgoing, Publisher as _};
use interline_reliability::{Fail as _, Retry, without_marks};

use crate::bus::Bus;
use crate::group::GroupBuilder;
use crate::handler::{Context, Handled};

/// How many keys are on their way at a time: their publishes meet in the target's batches.
const LANES: usize = 512;

impl GroupBuilder {
    /// Makes the group a bridge: it publishes what it reads on `to`, in topics of the same names
    /// and with the same ids, attributes, headers and bytes.
    ///
    /// With a transport whose events are published inside the caller's own transaction this is
    /// the relay of an outbox. An event is settled when `to` has stored it, so that whatever
    /// dies, each is published at least once; what is published again has the same id.
    ///
    /// # Ordering
    /// One event per key is on its way at a time: the next one is sent when the last one is
    /// stored, also while `to` cannot be reached.
    ///
    /// # Errors
    /// Only an event that `to` will never take (over a limit, invalid) becomes a dead letter, of
    /// this group and on this side; after any other error it is tried again without end. A
    /// [`retry`](Self::retry) or [`timeout`](Self::timeout) set later changes that.
    ///
    /// ```
    /// # use interline_bus::Bus;
    /// # use interline_core::{Envelope, Kind, Pattern, Topic};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> interline_core::Result<()> {
    /// let here = Bus::new(interline_memory::connect("memory://").await?);
    /// let there = Bus::new(interline_memory::connect("memory://").await?);
    /// let workers = here.group("outbox").topics("orders").bridge(&there).start().await?;
    ///
    /// let event = Envelope::builder(Kind::new("/shop", "shop.order.placed")?).key("ada").build()?;
    /// here.publish_raw(vec![(Topic::new("orders")?, event.clone())]).await?;
    ///
    /// let mut records = there.replay(Pattern::exact("orders")).open().await?;
    /// let found = records.next().await?;
    /// assert_eq!(found.map(|record| record.envelope), Some(event));
    /// # workers.drain(std::time::Duration::from_secs(1)).await?.into_result()?;
    /// # Ok(()) }
    /// ```
    pub fn bridge(self, to: &Bus) -> Self {
        // A publisher gives an outcome by itself by then; dropped earlier, the event might be
        // stored behind one that follows it.
        let patience = to.publish_timeout() * 2;
        let to = to.clone();
        self.retry(Retry::exponential().max(u32::MAX))
            .timeout(patience)
            .lanes(LANES)
            .on_raw("*", move |context: Context| forward(to.clone(), context))
    }
}

async fn forward(to: Bus, context: Context) -> Handled {
    let envelope = without_marks(context.envelope());
    let outgoing = Outgoing::new(context.topic().clone(), envelope);
    let receipt = to.publisher().await?.enqueue(vec![outgoing]).await?;
    match receipt.await.pop().map(Outcome::into_result) {
        Some(Err(error)) if matches!(error.kind(), ErrorKind::Limit | ErrorKind::Invalid) => {
            Err(error.permanent())
        }
        Some(outcome) => Ok(outcome.map(drop)?),
        None => Err(interline_core::Error::closed("publish").into()),
    }
}

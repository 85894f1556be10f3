//! What is stored elsewhere before a delivery is settled: dead letters, returns, the inbox.
//!
//! Each is awaited. What fails is tried again as it is, with growing delays and without end: the
//! delivery stays live meanwhile, and the handler does not run again for it.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use interline_core::{
    AnyPublisher, Bytes, Error, ErrorKind, HeaderName, Outcome, Outgoing, Publisher, Purpose,
    Result, Timestamp, planted,
};
use interline_reliability::{Cause, Claim, DeadLetter, Failure, Inbox, Origin, Returned};
use tokio::time::sleep;
use uuid::Uuid;

use super::{Engine, EntryId, EntryState};

/// The answer of a store.
pub(super) enum Stored {
    Claim(Result<Claim>),
    Marked,
    Returned,
    Buried(Box<DeadLetter>),
}

impl Engine {
    /// Asks the inbox whether the event was handled before.
    pub(super) fn claim(&mut self, id: EntryId) {
        let Some((inbox, identity)) = self.inbox_of(id) else {
            return;
        };
        let group = self.config.group.clone();
        // A claim outlives its attempt, so that it lapses only if this process died.
        let lease = self.config.policy.timeouts.handler + self.config.policy.timeouts.stuck;
        self.push_store(id, async move {
            Stored::Claim(inbox.claim(&group, identity, lease).await)
        });
    }

    /// Tells the inbox that the event was handled.
    pub(super) fn mark_done(&mut self, id: EntryId) {
        let Some((inbox, identity)) = self.inbox_of(id) else {
            return;
        };
        let group = self.config.group.clone();
        self.push_store(id, async move {
            let mut delays = delays();
            while let Err(error) = inbox.done(&group, identity).await {
                tracing::warn!(%error, "the inbox does not answer; the delivery is not settled");
                sleep(delays.next().unwrap_or(LONGEST)).await;
            }
            Stored::Marked
        });
    }

    /// Gives the claim of a failed attempt back; if that fails it lapses by itself.
    pub(super) fn forget_claim(&mut self, id: EntryId) {
        let claimed = self
            .entry_mut(id)
            .is_some_and(|e| std::mem::take(&mut e.claimed));
        let Some((inbox, identity)) = self.inbox_of(id).filter(|_| claimed) else {
            return;
        };
        let group = self.config.group.clone();
        tokio::spawn(async move {
            if let Err(error) = inbox.release(&group, identity).await {
                tracing::debug!(%error, "a claim was not given back and will lapse");
            }
        });
    }

    /// Stores the event in the return topic, to come back after `delay`.
    pub(super) fn store_return(&mut self, id: EntryId, delay: Duration) {
        let Some(entry) = self.entry(id) else { return };
        let part = &self.parts[entry.part];
        let marks = Returned {
            due: Some(self.clock.due_after(delay)),
            attempts: entry.attempts,
            first_failure: entry.first_failure,
            redriven: Returned::read(&part.partition.topic, &entry.record).redriven,
        };
        let origin = self.origin(id);
        let outgoing = Outgoing {
            topic: part.topic.retry(&self.config.group),
            envelope: marks.mark(&entry.record.envelope),
            purpose: Purpose::Return(origin.map_or(0, |origin| origin.number())),
        };
        let publisher = self.publisher.clone();
        self.push_store(id, async move {
            store(&publisher, outgoing, "the return topic").await;
            Stored::Returned
        });
    }

    /// Stores the event as a dead letter.
    pub(super) fn store_dead_letter(&mut self, id: EntryId, failure: &Failure) {
        let (Some(entry), Some(origin)) = (self.entry(id), self.origin(id)) else {
            return;
        };
        let first = entry.first_failure.unwrap_or_else(Timestamp::now);
        let handler = self.handler_of(entry);
        let cause = Cause::new(failure, entry.attempts, first, handler);
        let topic = &self.parts[entry.part].topic;
        let policy = &self.config.policy.dead_letter;
        let number = origin.number();
        let letter = DeadLetter::new(origin, cause, &entry.record.envelope);
        tracing::warn!(group = %self.config.group, letter = %letter, "dead letter");
        let outgoing = Outgoing {
            topic: policy.topic_for(topic, &self.config.filed_under),
            envelope: letter.to_envelope(),
            purpose: if planted::is("dead-letter-without-namespace") {
                Purpose::Event
            } else {
                Purpose::DeadLetter(number)
            },
        };
        let publisher = self.publisher.clone();
        if planted::is("dead-letter-not-awaited") {
            drop(publisher.enqueue(vec![outgoing]));
            return self.settle(id);
        }
        self.push_store(id, async move {
            store(&publisher, outgoing, "the dead-letter topic").await;
            Stored::Buried(Box::new(letter))
        });
    }

    /// Where a delivery comes from, as its dead letter names it.
    fn origin(&self, id: EntryId) -> Option<Origin> {
        let entry = self.entry(id)?;
        Some(Origin {
            group: self.config.group.clone(),
            partition: (*self.parts[entry.part].partition).clone(),
            position: entry.record.position,
        })
    }

    fn inbox_of(&self, id: EntryId) -> Option<(Arc<dyn Inbox>, Uuid)> {
        let envelope = &self.entry(id)?.record.envelope;
        let inbox = self.config.policy.inbox.clone()?;
        Some((inbox, envelope.id().identity(envelope.source())))
    }

    fn push_store(&mut self, id: EntryId, store: impl Future<Output = Stored> + Send + 'static) {
        let Some(entry) = self.entry_mut(id) else {
            return;
        };
        entry.state = EntryState::Storing;
        let at = entry.part;
        self.parts[at].storing += 1;
        self.stores.push(Box::pin(async move { (id, store.await) }));
    }
}

const LONGEST: Duration = Duration::from_secs(10);

/// 100 ms doubling up to 10 s with jitter, without end.
fn delays() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(LONGEST)
        .with_jitter()
        .without_max_times()
        .build()
}

/// Publishes until it is stored.
async fn store(publisher: &AnyPublisher, mut outgoing: Outgoing, place: &str) {
    let mut delays = delays();
    while let Err(error) = try_store(publisher, outgoing.clone()).await {
        if error.kind() == ErrorKind::Limit && outgoing.envelope.payload().is_some() {
            outgoing.envelope = without_payload(&outgoing);
            continue;
        }
        tracing::error!(%error, "{place} takes nothing; the delivery waits for it");
        sleep(delays.next().unwrap_or(LONGEST)).await;
    }
}

async fn try_store(publisher: &AnyPublisher, outgoing: Outgoing) -> Result<()> {
    let mut outcomes = publisher.enqueue(vec![outgoing]).await?.await;
    let outcome = outcomes.pop().map(Outcome::into_result);
    outcome
        .unwrap_or_else(|| Err(Error::closed("publish")))
        .map(|_| ())
}

/// Another client may have written more than may be published: the cause is kept, the data stays
/// where it was read, and the header says how much it is.
fn without_payload(outgoing: &Outgoing) -> interline_core::Envelope {
    let size = outgoing.envelope.payload().map_or(0, Bytes::len);
    let mut envelope = outgoing.envelope.clone().with_payload(None);
    let name = HeaderName::from_static("interline-dl-payload-left-behind");
    envelope.headers_mut().push(name, size.to_string());
    envelope
}

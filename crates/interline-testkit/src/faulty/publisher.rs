//! A publisher whose events are refused, or whose outcomes come late, on demand.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use interline_core::{
    AnyPublisher, EventId, Outcome, Outgoing, Publisher, PublisherStats, Receipt, Result,
};
use tokio::time::timeout;

use super::{Faults, Refusal, planned};
use crate::Journal;

/// The publisher of a [`Faulty`](super::Faulty) transport.
#[derive(Debug)]
pub struct FaultyPublisher {
    inner: AnyPublisher,
    faults: Faults,
    held: Arc<Held>,
}

/// Events whose outcomes are held back, by the number of their batch.
#[derive(Debug, Default)]
struct Held {
    batches: Mutex<(u64, BTreeMap<u64, Vec<EventId>>)>,
    released: Journal<()>,
}

impl Held {
    fn add(&self, ids: Vec<EventId>) -> u64 {
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        batches.0 += 1;
        let number = batches.0;
        batches.1.insert(number, ids);
        number
    }

    fn release(&self, number: u64) {
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        batches.1.remove(&number);
        drop(batches);
        self.released.note(());
    }

    fn ids(&self) -> Vec<EventId> {
        let batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        batches.1.values().flatten().cloned().collect()
    }
}

impl FaultyPublisher {
    pub(super) fn new(inner: AnyPublisher, faults: Faults) -> Self {
        Self {
            inner,
            faults,
            held: Arc::default(),
        }
    }
}

impl Publisher for FaultyPublisher {
    async fn enqueue(&self, batch: Vec<Outgoing>) -> Result<Receipt> {
        let refusals: Vec<_> = batch
            .iter()
            .map(|event| self.faults.refusal(&event.topic))
            .collect();
        let ids = batch
            .iter()
            .map(|event| event.envelope.id().clone())
            .collect();
        let sent = batch.into_iter().zip(&refusals);
        let sent = sent.filter(|(_, refusal)| {
            !matches!(refusal, Some(Refusal::Rejected | Refusal::UnknownNotStored))
        });
        let inner = self
            .inner
            .enqueue(sent.map(|(event, _)| event).collect())
            .await?;
        let (sender, receipt) = Receipt::channel(refusals.len());
        let (faults, held) = (self.faults.clone(), Arc::clone(&self.held));
        let number = held.add(ids);
        // A receipt resolves whether or not anybody waits for it.
        tokio::spawn(async move {
            let outcomes = merged(refusals, inner.await);
            faults.outcomes().pass().await;
            held.release(number);
            sender.send(outcomes);
        });
        Ok(receipt)
    }

    async fn flush(&self, deadline: Duration) -> Result<Vec<EventId>> {
        let left = self.inner.flush(deadline).await?;
        let all = self
            .held
            .released
            .until(|_| self.held.ids().is_empty().then_some(()));
        if timeout(deadline, all).await.is_err() {
            return Ok(self.held.ids());
        }
        Ok(left)
    }

    fn stats(&self) -> PublisherStats {
        self.inner.stats()
    }
}

/// The outcomes of a batch of which only a part was sent.
fn merged(refusals: Vec<Option<Refusal>>, sent: Vec<Outcome>) -> Vec<Outcome> {
    let mut sent = sent.into_iter();
    let lost = || Outcome::Unknown(planned("publish").ambiguous());
    let outcome = |refusal: Option<Refusal>| match refusal {
        None => sent.next().unwrap_or_else(lost),
        Some(Refusal::Rejected) => Outcome::Rejected(planned("publish")),
        Some(Refusal::UnknownNotStored) => lost(),
        Some(Refusal::UnknownStored) => {
            drop(sent.next());
            lost()
        }
    };
    refusals.into_iter().map(outcome).collect()
}

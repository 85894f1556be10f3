//! Batches whose outcomes are not all known.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use interline_core::{EventId, Outcome, ReceiptSender};
use interline_transport::tally::Tally;
use interline_transport::window::{Places, Taken, Window};

/// The bits of a delivery's tag that number the event within its batch.
const INDEX_BITS: u32 = 20;

/// The most events of one batch in the ledger; a larger batch has several entries.
pub(super) const MOST: usize = 1 << INDEX_BITS;

const _: () = assert!(usize::BITS == 64, "a delivery's tag takes 64 bits");

/// How many deliveries of a batch give their places in the window back together. One by one the
/// lock of the window would cost more than the delivery.
const RETURNED: usize = 256;

/// The batches on their way, and the window that bounds them.
#[derive(Debug)]
pub(super) struct Ledger {
    batches: Mutex<Batches>,
    pub(super) window: Window,
    pub(super) tally: Tally,
}

#[derive(Debug, Default)]
struct Batches {
    open: BTreeMap<usize, Batch>,
    next: usize,
}

#[derive(Debug)]
struct Batch {
    outcomes: Vec<Option<Outcome>>,
    ids: Vec<EventId>,
    missing: usize,
    /// What it still holds.
    places: Places,
    sender: Option<ReceiptSender>,
}

impl Ledger {
    pub(super) fn new(window: Window) -> Self {
        Self {
            batches: Mutex::default(),
            window,
            tally: Tally::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Batches> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a batch; the tag of its first event, the others follow.
    pub(super) fn open(
        &self,
        ids: Vec<EventId>,
        places: Taken<'_>,
        sender: ReceiptSender,
    ) -> usize {
        let batch = Batch {
            outcomes: std::iter::repeat_with(|| None).take(ids.len()).collect(),
            missing: ids.len(),
            ids,
            places: places.keep(),
            sender: Some(sender),
        };
        let mut batches = self.lock();
        let number = batches.next;
        batches.next += 1;
        batches.open.insert(number, batch);
        number << INDEX_BITS
    }

    /// Sets the outcome of the event with this tag; the last one of a batch resolves its receipt.
    pub(super) fn settle(&self, tag: usize, outcome: Outcome) {
        let (number, index) = (tag >> INDEX_BITS, tag & (MOST - 1));
        let mut batches = self.lock();
        let Some(batch) = batches.open.get_mut(&number) else {
            return;
        };
        match batch.outcomes.get_mut(index) {
            Some(slot @ None) => *slot = Some(outcome),
            _ => return,
        }
        batch.missing -= 1;
        if batch.missing > 0 {
            if batch.missing.is_multiple_of(RETURNED) {
                let freed = batch.places.shrink_to(batch.missing);
                drop(batches);
                self.window.give_back(freed);
            }
            return;
        }
        let Some(batch) = batches.open.remove(&number) else {
            return;
        };
        drop(batches);
        self.finish(batch);
    }

    fn finish(&self, batch: Batch) {
        self.window.give_back(batch.places);
        let outcomes: Vec<Outcome> = batch.outcomes.into_iter().flatten().collect();
        self.tally.settled(&outcomes);
        if let Some(sender) = batch.sender {
            sender.send(outcomes);
        }
        self.window.settle();
    }

    /// What the batches that are open now have to be waited for with.
    pub(super) fn mark(&self) -> usize {
        self.lock().next
    }

    /// Waits until every batch opened before `mark` is settled.
    pub(super) async fn settled(&self, mark: usize) {
        let is_settled = || self.lock().open.range(..mark).next().is_none();
        self.window.settled(is_settled).await;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().open.is_empty()
    }

    /// The events of batches opened before `mark` that have no outcome.
    pub(super) fn unsettled(&self, mark: usize) -> Vec<EventId> {
        let batches = self.lock();
        let mut ids = Vec::new();
        for (_, batch) in batches.open.range(..mark) {
            let pairs = batch.ids.iter().zip(&batch.outcomes);
            ids.extend(pairs.filter(|(_, o)| o.is_none()).map(|(id, _)| id.clone()));
        }
        ids
    }
}

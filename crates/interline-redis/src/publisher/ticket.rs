//! Batches whose outcomes are not all known.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use interline_core::{EventId, Outcome, Outgoing, ReceiptSender};
use interline_transport::tally::Tally;
use interline_transport::window::{Places, Taken, Window};

use crate::error::closed;

/// What one call of `enqueue` handed over.
#[derive(Debug)]
pub(super) struct Ticket {
    number: u64,
    pub(super) batch: Vec<Outgoing>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    slots: Vec<Slot>,
    missing: usize,
    sender: Option<ReceiptSender>,
    places: Places,
}

/// How far an event has come.
#[derive(Debug)]
enum Slot {
    Waiting,
    /// Its batch was sent at least once.
    Sent,
    Done(Outcome),
}

/// The batches on their way, and the window that bounds them.
#[derive(Debug)]
pub(super) struct Tickets {
    open: Mutex<Open>,
    pub(super) window: Window,
    pub(super) tally: Tally,
}

#[derive(Debug, Default)]
struct Open {
    tickets: BTreeMap<u64, Arc<Ticket>>,
    next: u64,
}

impl Ticket {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody still waits for its outcomes.
    pub(super) fn is_open(&self) -> bool {
        self.lock().missing > 0
    }

    /// From here on these events may be stored.
    pub(super) fn sent(&self, indices: &[u32]) {
        let mut state = self.lock();
        for index in indices {
            if let Some(slot @ Slot::Waiting) = state.slots.get_mut(*index as usize) {
                *slot = Slot::Sent;
            }
        }
    }
}

impl Tickets {
    pub(super) fn new(window: Window) -> Self {
        Self {
            open: Mutex::default(),
            window,
            tally: Tally::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(
        &self,
        batch: Vec<Outgoing>,
        places: Taken<'_>,
        sender: ReceiptSender,
    ) -> Arc<Ticket> {
        let mut slots = Vec::new();
        slots.resize_with(batch.len(), || Slot::Waiting);
        let state = State {
            missing: slots.len(),
            slots,
            sender: Some(sender),
            places: places.keep(),
        };
        let mut open = self.lock();
        let ticket = Arc::new(Ticket {
            number: open.next,
            batch,
            state: Mutex::new(state),
        });
        open.next += 1;
        open.tickets.insert(ticket.number, Arc::clone(&ticket));
        ticket
    }

    /// Sets outcomes of a ticket's events; the last one resolves its receipt.
    pub(super) fn settle(
        &self,
        ticket: &Ticket,
        outcomes: impl IntoIterator<Item = (u32, Outcome)>,
    ) {
        let mut state = ticket.lock();
        for (index, outcome) in outcomes {
            match state.slots.get_mut(index as usize) {
                Some(Slot::Done(_)) | None => {}
                Some(slot) => {
                    *slot = Slot::Done(outcome);
                    state.missing -= 1;
                }
            }
        }
        self.finish(ticket, state);
    }

    fn finish(&self, ticket: &Ticket, mut state: MutexGuard<'_, State>) {
        if state.missing > 0 {
            return;
        }
        let Some(sender) = state.sender.take() else {
            return;
        };
        let slots = std::mem::take(&mut state.slots);
        let places = std::mem::take(&mut state.places);
        drop(state);
        let outcomes = slots.into_iter().filter_map(|slot| match slot {
            Slot::Done(outcome) => Some(outcome),
            Slot::Waiting | Slot::Sent => None,
        });
        let outcomes: Vec<Outcome> = outcomes.collect();
        self.tally.settled(&outcomes);
        self.lock().tickets.remove(&ticket.number);
        self.window.give_back(places);
        sender.send(outcomes);
        self.window.settle();
    }

    /// What the tickets that are open now have to be waited for with.
    pub(super) fn mark(&self) -> u64 {
        self.lock().next
    }

    /// Waits until every ticket opened before `mark` is settled.
    pub(super) async fn settled(&self, mark: u64) {
        let is_settled = || self.lock().tickets.range(..mark).next().is_none();
        self.window.settled(is_settled).await;
    }

    /// Gives up the tickets opened before `mark`: what was never sent is rejected, the rest
    /// unknown. The ids of both.
    pub(super) fn abandon(&self, mark: u64) -> Vec<EventId> {
        let open: Vec<_> = {
            let open = self.lock();
            open.tickets
                .range(..mark)
                .map(|(_, t)| Arc::clone(t))
                .collect()
        };
        let mut ids = Vec::new();
        for ticket in open {
            let mut state = ticket.lock();
            let left = state.slots.iter_mut().zip(&ticket.batch);
            let mut given_up = 0;
            for (slot, outgoing) in left {
                let reason = || closed("publish").remedy("flush with a longer deadline");
                *slot = Slot::Done(match slot {
                    Slot::Done(_) => continue,
                    Slot::Waiting => Outcome::Rejected(reason()),
                    Slot::Sent => Outcome::Unknown(reason().ambiguous()),
                });
                given_up += 1;
                ids.push(outgoing.envelope.id().clone());
            }
            state.missing -= given_up;
            self.finish(&ticket, state);
        }
        ids
    }
}

//! The calls that have no outcome yet, the queue of what has to be sent, and the window.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use interline_core::{Error, EventId, Receipt};
use interline_transport::tally::Tally;
use interline_transport::window::{Taken, Window};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::call::{Call, Chunk, Parts, Settled};

/// Shared by the callers and the task that sends.
#[derive(Debug)]
pub(super) struct Ledger {
    state: Mutex<State>,
    pub(super) window: Window,
    /// Rings for the task that sends.
    pub(super) bell: Notify,
    pub(super) tally: Tally,
}

#[derive(Debug, Default)]
struct State {
    open: BTreeMap<u64, Arc<Call>>,
    next: u64,
    queue: VecDeque<Chunk>,
    /// No further event comes.
    ending: bool,
}

impl Ledger {
    pub(super) fn new(window: Window) -> Self {
        Self {
            state: Mutex::default(),
            window,
            bell: Notify::new(),
            tally: Tally::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the events of a call over.
    pub(super) fn open(&self, parts: Parts, deadline: Instant, places: Taken<'_>) -> Receipt {
        let places = places.keep();
        let (sender, receipt) = Receipt::channel(parts.events.len());
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        let call = Arc::new(Call::open(number, parts, deadline, places, sender));
        state.open.insert(number, Arc::clone(&call));
        state.queue.extend(Call::chunks(&call));
        drop(state);
        // Nothing may be left to send.
        self.finish(&call, call.settle([]));
        self.bell.notify_one();
        receipt
    }

    /// Ends a call whose outcomes are known.
    pub(super) fn finish(&self, call: &Call, settled: Option<Settled>) {
        let Some(settled) = settled else { return };
        self.lock().open.remove(&call.number);
        self.window.give_back(settled.places);
        self.tally.settled(&settled.outcomes);
        settled.sender.send(settled.outcomes);
        self.window.settle();
    }

    /// What is next to be sent.
    pub(super) fn pop(&self) -> Option<Chunk> {
        self.lock().queue.pop_front()
    }

    /// Puts back what was not sent, or has to be sent again, before everything else.
    pub(super) fn push_front(&self, chunks: Vec<Chunk>) {
        let mut state = self.lock();
        for chunk in chunks.into_iter().rev() {
            state.queue.push_front(chunk);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().open.is_empty()
    }

    /// When the first call is given up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let state = self.lock();
        // All calls have the same time, so the first one opened is the first one late.
        state.open.values().next().map(|call| call.deadline)
    }

    /// Gives up the calls whose time is over.
    pub(super) fn expire(&self, now: Instant, why: &Error) {
        let late: Vec<_> = {
            let state = self.lock();
            let calls = state.open.values();
            calls
                .take_while(|call| call.deadline <= now)
                .cloned()
                .collect()
        };
        self.give_up(late, why);
    }

    fn give_up(&self, calls: Vec<Arc<Call>>, why: &Error) {
        for call in calls {
            self.finish(&call, call.give_up(why));
        }
    }

    /// No further event comes; the task ends when the last one is settled.
    pub(super) fn end(&self) {
        self.window.close();
        self.lock().ending = true;
        self.bell.notify_one();
    }

    pub(super) fn is_ending(&self) -> bool {
        self.lock().ending
    }

    /// Waits until every call opened before now is settled.
    pub(super) async fn settled(&self) {
        let mark = self.lock().next;
        let is_settled = || self.lock().open.range(..mark).next().is_none();
        self.window.settled(is_settled).await;
    }

    /// Gives everything up; the events that had no outcome.
    pub(super) fn abandon(&self, why: &Error) -> Vec<EventId> {
        let calls: Vec<_> = self.lock().open.values().cloned().collect();
        let left = calls.iter().flat_map(|call| call.unsettled()).collect();
        self.give_up(calls, why);
        left
    }
}

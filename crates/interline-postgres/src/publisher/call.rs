//! The events of one `enqueue`, on their way to outcomes.

use std::sync::{Arc, Mutex, PoisonError};

use interline_core::{Error, EventId, Outcome, Outgoing, ReceiptSender};
use interline_transport::window::Places;
use tokio::time::Instant;
use uuid::Uuid;

/// One event as the log stores it, beside its envelope.
#[derive(Debug)]
pub(super) struct Row {
    /// The topic's id; 0 for an event that was refused and is not sent.
    pub(super) topic: i32,
    pub(super) part: i16,
    pub(super) event: Uuid,
    /// The bytes of its envelope, near enough.
    pub(super) size: u32,
}

/// The events of one `enqueue`.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) number: u64,
    pub(super) events: Vec<Outgoing>,
    pub(super) rows: Vec<Row>,
    /// When its events are given up.
    pub(super) deadline: Instant,
    fate: Mutex<Fate>,
}

#[derive(Debug)]
struct Fate {
    outcomes: Vec<Option<Outcome>>,
    missing: usize,
    sender: Option<ReceiptSender>,
    /// What it holds of the window.
    places: Places,
    /// Events before this one are on their way or may be stored.
    sent: usize,
    /// Events before this one may be stored: a connection was lost that had carried them.
    doubtful: usize,
}

/// Events of a call that follow each other.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    pub(super) call: Arc<Call>,
    pub(super) from: usize,
    pub(super) to: usize,
}

impl Chunk {
    pub(super) fn len(&self) -> usize {
        self.to - self.from
    }
}

/// A call without its fate, which begins with [`Call::open`].
pub(super) struct Parts {
    pub(super) events: Vec<Outgoing>,
    pub(super) rows: Vec<Row>,
    /// The outcome of what is not sent.
    pub(super) outcomes: Vec<Option<Outcome>>,
}

impl Call {
    pub(super) fn open(
        number: u64,
        parts: Parts,
        deadline: Instant,
        places: Places,
        sender: ReceiptSender,
    ) -> Self {
        let missing = parts.outcomes.iter().filter(|o| o.is_none()).count();
        Self {
            number,
            events: parts.events,
            rows: parts.rows,
            deadline,
            fate: Mutex::new(Fate {
                outcomes: parts.outcomes,
                missing,
                sender: Some(sender),
                places,
                sent: 0,
                doubtful: 0,
            }),
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Fate) -> T) -> T {
        change(&mut self.fate.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The runs of events that have to be sent.
    pub(super) fn chunks(call: &Arc<Self>) -> Vec<Chunk> {
        let mut chunks: Vec<Chunk> = Vec::new();
        for (at, _) in call
            .rows
            .iter()
            .enumerate()
            .filter(|(_, row)| row.topic != 0)
        {
            match chunks.last_mut() {
                Some(chunk) if chunk.to == at => chunk.to += 1,
                _ => chunks.push(Chunk {
                    call: Arc::clone(call),
                    from: at,
                    to: at + 1,
                }),
            }
        }
        chunks
    }

    /// Notes that events before `to` are being sent; whether the call still wants that.
    pub(super) fn sending(&self, to: usize) -> bool {
        self.with(|fate| {
            fate.sent = fate.sent.max(to);
            fate.missing > 0
        })
    }

    /// Notes that the connection was lost which carried what was sent.
    pub(super) fn lost(&self) {
        self.with(|fate| fate.doubtful = fate.sent);
    }

    /// Notes that the server refused a statement with events from `from` on.
    pub(super) fn failed(&self, from: usize) {
        self.with(|fate| fate.sent = fate.doubtful.max(fate.sent.min(from)));
    }

    /// Sets outcomes; the outcomes of all of them once nothing is missing.
    pub(super) fn settle(
        &self,
        outcomes: impl IntoIterator<Item = (usize, Outcome)>,
    ) -> Option<Settled> {
        self.with(|fate| {
            for (at, outcome) in outcomes {
                if let Some(slot @ None) = fate.outcomes.get_mut(at) {
                    *slot = Some(outcome);
                    fate.missing -= 1;
                }
            }
            fate.finish()
        })
    }

    /// What has no outcome is given up: unknown if it may be stored, else refused.
    pub(super) fn give_up(&self, why: &Error) -> Option<Settled> {
        self.with(|fate| {
            let sent = fate.sent;
            for (at, slot) in fate.outcomes.iter_mut().enumerate() {
                if slot.is_none() {
                    *slot = Some(match at < sent {
                        true => Outcome::Unknown(why.again().ambiguous()),
                        false => Outcome::Rejected(why.again()),
                    });
                }
            }
            fate.missing = 0;
            fate.finish()
        })
    }

    /// The server refuses events for good: unknown if an earlier try may have stored them.
    pub(super) fn refuse(&self, events: std::ops::Range<usize>, why: &Error) -> Option<Settled> {
        let doubtful = self.with(|fate| fate.doubtful);
        self.settle(events.map(|at| {
            let outcome = match at < doubtful {
                true => Outcome::Unknown(why.again().ambiguous()),
                false => Outcome::Rejected(why.again()),
            };
            (at, outcome)
        }))
    }

    /// The events without an outcome.
    pub(super) fn unsettled(&self) -> Vec<EventId> {
        self.with(|fate| {
            let pairs = self.events.iter().zip(&fate.outcomes);
            pairs
                .filter(|(_, outcome)| outcome.is_none())
                .map(|(event, _)| event.envelope.id().clone())
                .collect()
        })
    }
}

/// The outcomes of a call, who waits for them, and the places that are free again.
pub(super) struct Settled {
    pub(super) outcomes: Vec<Outcome>,
    pub(super) sender: ReceiptSender,
    pub(super) places: Places,
}

impl Fate {
    fn finish(&mut self) -> Option<Settled> {
        if self.missing > 0 {
            return None;
        }
        let sender = self.sender.take()?;
        let outcomes = std::mem::take(&mut self.outcomes);
        Some(Settled {
            outcomes: outcomes.into_iter().flatten().collect(),
            sender,
            places: std::mem::take(&mut self.places),
        })
    }
}

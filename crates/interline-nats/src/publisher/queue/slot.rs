//! An event in the queue, and what becomes of it.

use std::sync::Arc;

use async_nats::Subject;
use interline_core::{Error, ErrorKind, Outcome, Outgoing, Position, Result};
use tokio::time::Instant;

use crate::error::error;
use crate::hub::Facts;
use crate::publisher::late;

/// An event in the queue.
pub(super) struct Slot {
    pub(super) outgoing: Outgoing,
    pub(super) facts: Arc<Facts>,
    pub(super) partition: u32,
    pub(super) batch: u64,
    pub(super) index: usize,
    pub(super) since: Instant,
    pub(super) first_sent: Option<Instant>,
    pub(super) sent: Instant,
    /// It was refused together with others: it goes out by itself.
    pub(super) is_alone: bool,
    pub(super) state: State,
}

pub(super) enum State {
    Waiting,
    Sent,
    /// Not answered, or refused for now. Nothing is sent until it is known what became of all
    /// that is on its way: a later event of its key may be stored already.
    Held(Hold),
    Done {
        is_stored: bool,
    },
}

/// Why an event is held.
pub(super) enum Hold {
    /// The server said so: it is not stored.
    Refused(Error),
    /// There was no answer: it may be stored.
    Silent,
}

impl Slot {
    pub(super) fn was_sent(&self) -> bool {
        !matches!(self.state, State::Waiting)
    }

    pub(super) fn subject(&self) -> Result<Subject> {
        let facts = &self.facts;
        facts.subject(self.partition).cloned().ok_or_else(|| {
            error(
                ErrorKind::Unsupported,
                "publish",
                format!(
                    "the stream `{}` has no subject of its own for events",
                    facts.stream
                ),
                "publish to a topic that interline made, or to a stream with one subject",
            )
        })
    }

    pub(super) fn stored(&self, stream: &str, sequence: u64, is_copy: bool) -> Outcome {
        let position = Position::from(sequence);
        if self.facts.stream != stream {
            return Outcome::Rejected(error(
                ErrorKind::Protocol,
                "publish",
                format!(
                    "stream `{}` took an event that is not its own",
                    stream.escape_debug()
                ),
                "let no other stream listen to the subjects of topics",
            ));
        }
        // A copy of an event that was sent more than once is most likely our own.
        if is_copy && self.first_sent == Some(self.sent) {
            return Outcome::Duplicate {
                position: Some(position),
            };
        }
        Outcome::Stored {
            partition: self.partition,
            position,
            durability: self.facts.durability,
        }
    }

    pub(super) fn given_up(&self) -> Outcome {
        match &self.state {
            State::Held(Hold::Refused(error)) => Outcome::Rejected(error.again()),
            _ => late(self.first_sent.is_some(), self.since),
        }
    }
}

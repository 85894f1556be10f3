//! One call of the script that stores events.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use fred::types::{Resp3Frame, Value};
use interline_core::{Durability, ErrorKind, Outcome, Position};
use tokio::time::Instant;
use uuid::Uuid;

use super::ticket::Ticket;
use crate::error::{self, error};
use crate::reply;
use crate::scripts::PUBLISH;
use crate::topics::Facts;

/// The most events of one call, and about the most bytes: the server does nothing else meanwhile.
const EVENTS: usize = 512;
const BYTES: usize = 1 << 20;

/// An event ready to be sent.
#[derive(Debug)]
pub(super) struct Packed {
    /// Its place in its ticket.
    pub(super) index: u32,
    pub(super) partition: u32,
    pub(super) attributes: Bytes,
    pub(super) key: Option<Bytes>,
    pub(super) data: Option<Bytes>,
    pub(super) identity: Option<Uuid>,
}

impl Packed {
    fn size(&self) -> usize {
        let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        self.attributes.len() + len(&self.key) + len(&self.data) + 64
    }
}

/// Events of one ticket that follow each other.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) ticket: Arc<Ticket>,
    pub(super) events: std::vec::IntoIter<Packed>,
    /// When it is given up.
    pub(super) deadline: Instant,
}

/// Events that are stored by one call, in order.
#[derive(Debug)]
pub(super) struct Batch {
    /// Its number in the session.
    pub(super) number: u64,
    pub(super) deadline: Instant,
    /// It was sent and no answer came.
    pub(super) maybe_stored: bool,
    /// The tickets with the places of their events, in order.
    parts: Vec<(Arc<Ticket>, Vec<u32>)>,
    /// The partitions that it goes to.
    partitions: Vec<u32>,
    /// Three bytes per event, see the script.
    layout: BytesMut,
    values: Vec<Value>,
    bytes: usize,
}

/// Outcomes by the places of the events in their tickets.
pub(super) type Outcomes = Vec<(Arc<Ticket>, Vec<(u32, Outcome)>)>;

/// What the server said of a batch.
pub(super) enum Answer {
    /// What became of each event, per ticket.
    Outcomes(Outcomes),
    /// The topic was deleted.
    Gone,
    /// Batches before this one are missing in the session.
    Gap,
    /// The session has gone on without it, or the answer makes no sense.
    Odd,
}

impl Batch {
    /// Takes events from the front of `runs`, as many as one call may carry.
    pub(super) fn take(runs: &mut std::collections::VecDeque<Run>) -> Option<Self> {
        let mut batch = Self {
            number: 0,
            deadline: runs.front()?.deadline,
            maybe_stored: false,
            parts: Vec::new(),
            partitions: Vec::new(),
            layout: BytesMut::new(),
            values: Vec::new(),
            bytes: 0,
        };
        while let Some(run) = runs.front_mut() {
            // Nobody waits for events of a ticket that was given up.
            if !run.ticket.is_open() {
                runs.pop_front();
                continue;
            }
            let mut indices = Vec::with_capacity(run.events.len().min(EVENTS));
            while let Some(next) = run.events.as_slice().first() {
                if !batch.has_room(next.size()) {
                    break;
                }
                let Some(event) = run.events.next() else {
                    break;
                };
                indices.push(event.index);
                batch.push(event);
            }
            if !indices.is_empty() {
                batch.parts.push((Arc::clone(&run.ticket), indices));
            }
            if run.events.len() > 0 {
                break;
            }
            runs.pop_front();
        }
        (!batch.parts.is_empty()).then_some(batch)
    }

    fn has_room(&self, size: usize) -> bool {
        let events = self.layout.len() / 3;
        events == 0 || (events < EVENTS && self.bytes + size <= BYTES)
    }

    fn push(&mut self, event: Packed) {
        self.bytes += event.size();
        // Few partitions at a time: a scan beats a map.
        let known = self.partitions.iter().position(|p| *p == event.partition);
        let slot = known.unwrap_or_else(|| {
            self.partitions.push(event.partition);
            self.partitions.len() - 1
        });
        let flags = u8::from(event.key.is_some()) + 2 * u8::from(event.data.is_some());
        self.layout.put_u8(flags);
        // At most as many as events of a batch.
        self.layout.put_u16(slot as u16);
        self.values.push(Value::Bytes(event.attributes));
        self.values.extend(event.key.map(Value::Bytes));
        self.values.extend(event.data.map(Value::Bytes));
        if let Some(identity) = event.identity {
            let identity = Bytes::copy_from_slice(identity.as_bytes());
            self.values.push(Value::Bytes(identity));
        }
    }

    /// The arguments of the call. `window` is in milliseconds; 0 is none.
    pub(super) fn args(&self, facts: &Facts, session: &Session, window: i64) -> Vec<Value> {
        let mut keys = vec![facts.key.clone(), session.key.clone()];
        if window > 0 {
            keys.extend(session.seen.iter().cloned());
        }
        let stream = |index: &u32| facts.streams.get(*index as usize).cloned();
        keys.extend(self.partitions.iter().filter_map(stream));
        let mut args = PUBLISH.head(&keys);
        args.reserve(6 + self.partitions.len() + self.values.len());
        args.push(Value::Bytes(facts.incarnation.clone()));
        args.push(number(self.number));
        args.push(number(session.life_ms));
        args.push(Value::Integer(window));
        args.push(Value::Integer(i64::from(facts.is_dense)));
        args.push(Value::Bytes(Bytes::copy_from_slice(&self.layout)));
        args.extend(self.partitions.iter().map(|p| number(u64::from(*p))));
        args.extend(self.values.iter().cloned());
        args
    }

    /// From here on the events may be stored.
    pub(super) fn sent(&self) {
        for (ticket, indices) in &self.parts {
            ticket.sent(indices);
        }
    }

    /// Whether the script stored nothing of the batch.
    pub(super) fn is_refusal(&self, frame: &Resp3Frame) -> bool {
        let text = match frame {
            Resp3Frame::BlobString { data, .. } | Resp3Frame::SimpleString { data, .. } => data,
            _ => return false,
        };
        matches!(&**text, b"gap" | b"gone")
    }

    /// One outcome for all events.
    pub(super) fn all(&self, mut outcome: impl FnMut() -> Outcome) -> Outcomes {
        let part = |(ticket, indices): &(Arc<Ticket>, Vec<u32>)| {
            let outcomes = indices.iter().map(|index| (*index, outcome()));
            (Arc::clone(ticket), outcomes.collect())
        };
        self.parts.iter().map(part).collect()
    }

    /// What is said of a batch without having heard of it: only ever as a planted bug.
    pub(super) fn promised(&self, durability: Durability) -> Outcomes {
        self.all(|| stored(0, Position::default(), durability))
    }

    /// Reads what the script answered.
    pub(super) fn answer(&self, frame: Resp3Frame, durability: Durability) -> Answer {
        let Some(text) = reply::text(frame) else {
            return Answer::Odd;
        };
        match &*text {
            "gone" => return Answer::Gone,
            "gap" => return Answer::Gap,
            _ => {}
        }
        match self.outcomes(&text, durability) {
            Some(outcomes) => Answer::Outcomes(outcomes),
            None => Answer::Odd,
        }
    }

    fn outcomes(&self, text: &str, durability: Durability) -> Option<Outcomes> {
        let mut pieces = text.split('|');
        let heads = pieces.next()?.split(',');
        let heads = heads.map(|id| reply::position(id.as_bytes()));
        let mut heads: Vec<Position> = heads.collect::<Option<_>>()?;
        let mut exceptions = pieces.map(exception).peekable();
        if heads.len() != self.partitions.len() {
            return None;
        }
        let mut index = 0;
        let mut next = || {
            let slot = self.layout.get(3 * index + 1..3 * index + 3)?;
            let slot = usize::from(u16::from_be_bytes([slot[0], slot[1]]));
            let (head, partition) = (heads.get_mut(slot)?, *self.partitions.get(slot)?);
            let mut outcome = None;
            while let Some(Some((_, kind, rest))) =
                exceptions.next_if(|e| e.is_none_or(|(at, ..)| at == index))
            {
                match kind {
                    '^' => head.0 = rest.parse().ok()?,
                    '!' => outcome = Some(Outcome::Rejected(error::server("publish", rest))),
                    '=' => {
                        let position = reply::position(rest.as_bytes());
                        outcome = Some(Outcome::Duplicate { position });
                    }
                    _ => *head = reply::position(rest.as_bytes())?,
                }
                if kind == '@' {
                    // The id is given by the server, not counted.
                    outcome = Some(stored(partition, *head, durability));
                }
            }
            index += 1;
            Some(outcome.unwrap_or_else(|| {
                head.1 += 1;
                stored(partition, *head, durability)
            }))
        };
        let part = |(ticket, indices): &(Arc<Ticket>, Vec<u32>)| {
            let outcomes = indices.iter().map(|index| Some((*index, next()?)));
            Some((Arc::clone(ticket), outcomes.collect::<Option<_>>()?))
        };
        self.parts.iter().map(part).collect()
    }
}

/// The session of a publisher in one topic: numbers its batches, so that the server recognises
/// one that is sent again.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) key: Bytes,
    pub(super) seen: [Bytes; 2],
    /// How long the server remembers it after the last batch.
    pub(super) life_ms: u64,
    /// The number of the next batch.
    pub(super) next: u64,
}

fn stored(partition: u32, position: Position, durability: Durability) -> Outcome {
    Outcome::Stored {
        partition,
        position,
        durability,
    }
}

/// The place, the kind and the rest of an exception.
fn exception(text: &str) -> Option<(usize, char, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let kind = text[end..].chars().next()?;
    Some((text[..end].parse().ok()?, kind, &text[end + 1..]))
}

fn number(value: u64) -> Value {
    Value::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

/// What is said of an event that ran out of time.
pub(super) fn timed_out(last: Option<&interline_core::Error>) -> interline_core::Error {
    match last {
        Some(cause) => cause.again(),
        None => error(
            ErrorKind::Timeout,
            "publish",
            "the server did not answer in time",
            "check that the server is up",
        ),
    }
}

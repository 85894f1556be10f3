//! Entries that were read and not taken apart yet.

use std::vec::IntoIter;

use fred::types::Resp3Frame;
use interline_core::{Budget, Error, Partition, Position, Recorded, planted};

use super::part::Part;
use crate::codec::Unpacker;
use crate::reply::{self, bytes, list, odd};

/// Entries of one partition.
pub(super) struct Unread {
    /// The part that they belong to.
    pub(super) id: u64,
    entries: IntoIter<Resp3Frame>,
    /// What did not fit: the size of an event is known once it is taken apart.
    held: Option<Recorded>,
}

impl Unread {
    pub(super) fn new(id: u64, entries: Vec<Resp3Frame>) -> Self {
        Self {
            id,
            entries: entries.into_iter(),
            held: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_none() && self.entries.len() == 0
    }

    /// The records of the next entries, as many as fit into `budget` and at least one; and why no
    /// more can follow, if so.
    pub(super) fn take(
        &mut self,
        part: &mut Part,
        unpacker: &mut Unpacker,
        budget: Budget,
    ) -> (Vec<Recorded>, Option<Error>) {
        let events = (self.entries.len() + 1).min(budget.events.max(1));
        let (mut records, mut size) = (Vec::with_capacity(events), 0);
        while records.len() < events {
            let next = self.held.take().map(Ok);
            let next = next.or_else(|| Some(record(self.entries.next()?, part, unpacker)));
            let record = match next {
                Some(Ok(record)) => record,
                Some(Err(failed)) => return (records, Some(failed)),
                None => break,
            };
            size += record.envelope.size();
            if size > budget.bytes && !records.is_empty() {
                self.held = Some(record).filter(|_| !planted::is("cursor-before-hand-over"));
                break;
            }
            records.push(record);
        }
        (records, None)
    }
}

fn record(
    entry: Resp3Frame,
    part: &mut Part,
    unpacker: &mut Unpacker,
) -> interline_core::Result<Recorded> {
    let mut halves = list(entry).into_iter();
    let id = halves.next().and_then(bytes);
    let position = id.as_deref().and_then(reply::position);
    let (Some(position), Some(fields)) = (position, halves.next()) else {
        return Err(odd("read"));
    };
    let Partition { topic, index } = &part.partition;
    let found = unpacker.unpack(topic, *index, position, list(fields));
    if found.is_own {
        part.counted(position)?;
    }
    part.last = position;
    Ok(Recorded {
        position,
        stored_at: i64::try_from(position.0).unwrap_or(i64::MAX),
        envelope: found.envelope,
    })
}

/// The id of an entry.
pub(super) fn id_of(entry: &Resp3Frame) -> Option<Position> {
    let Resp3Frame::Array { data, .. } = entry else {
        return None;
    };
    match data.first()? {
        Resp3Frame::BlobString { data, .. } => reply::position(data),
        _ => None,
    }
}

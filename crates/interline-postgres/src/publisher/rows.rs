//! From envelopes to rows of the log.

use std::collections::HashMap;

use bytes::BufMut;
use interline_core::{Envelope, Error, Outcome, Outgoing, Result, Topic, limits};
use interline_transport::partition::Spreader;
use interline_transport::wire::{Style, for_each_header};
use sha2::{Digest, Sha256};

use super::call::{Parts, Row};
use crate::link::Link;
use crate::topics::Facts;

/// What is known of the topics of a batch, or why they take nothing.
pub(super) type Known = HashMap<Topic, Result<Facts>>;

/// The topics of a batch. It waits for the server the first time a topic is used.
pub(super) async fn topics(link: &Link, batch: &[Outgoing]) -> Known {
    let mut known = Known::new();
    let mut last: Option<&Topic> = None;
    for outgoing in batch {
        // Batches mostly go to one topic.
        if last == Some(&outgoing.topic) {
            continue;
        }
        last = Some(&outgoing.topic);
        if !known.contains_key(&outgoing.topic) {
            let facts = link.topic("publish", &outgoing.topic).await;
            known.insert(outgoing.topic.clone(), facts);
        }
    }
    known
}

/// The rows of a batch, with the outcomes of what is refused. `run` is where events without a key
/// begin.
pub(super) fn parts(link: &Link, events: Vec<Outgoing>, known: &Known, run: u32) -> Parts {
    let mut rows = Vec::with_capacity(events.len());
    let mut outcomes = Vec::with_capacity(events.len());
    let mut spreader = Spreader::starting_at(run);
    let mut last: Option<(&Topic, &Result<Facts>)> = None;
    for outgoing in &events {
        let facts = match last {
            Some((topic, facts)) if *topic == outgoing.topic => Some(facts),
            _ => known.get(&outgoing.topic),
        };
        last = facts.map(|facts| (&outgoing.topic, facts));
        let row = facts.map(|facts| {
            limits::check(outgoing, &link.capabilities)?;
            let facts = facts.as_ref().map_err(|error| error.again())?;
            let part = partition(&outgoing.envelope, facts.partitions, &mut spreader);
            Ok::<_, Error>(Row {
                topic: facts.id,
                part: part as i16,
                event: outgoing.identity(),
                size: outgoing.envelope.size() as u32,
            })
        });
        let refused = |error| (not_sent(), Some(Outcome::Rejected(error)));
        let (row, outcome) = match row {
            Some(Ok(row)) => (row, None),
            Some(Err(error)) => refused(error),
            None => refused(crate::error::missing_topic("publish", &outgoing.topic)),
        };
        rows.push(row);
        outcomes.push(outcome);
    }
    Parts {
        events,
        rows,
        outcomes,
    }
}

fn not_sent() -> Row {
    Row {
        topic: 0,
        part: 0,
        event: uuid::Uuid::nil(),
        size: 0,
    }
}

/// The partition of an event among `partitions`.
fn partition(envelope: &Envelope, partitions: u32, spreader: &mut Spreader) -> u32 {
    match envelope.key() {
        Some(key) => of_key(key, partitions),
        None => spreader.next(partitions),
    }
}

/// The partition of a key: the first four bytes of its SHA-256, which every server can compute
/// too, so that whoever publishes through SQL finds the same one.
pub(crate) fn of_key(key: &[u8], partitions: u32) -> u32 {
    let hash = Sha256::digest(key);
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]) % partitions.max(1)
}

/// Adds the headers of `envelope` as the log stores them.
pub(crate) fn pack_headers(envelope: &Envelope, out: &mut impl BufMut) {
    for_each_header(envelope, Style::Underscore, |name, value| {
        // A name is far shorter: the limits on headers are checked before.
        let name = &name.as_bytes()[..name.len().min(usize::from(u16::MAX))];
        out.put_u16(name.len() as u16);
        out.put_slice(name);
        out.put_u32(value.len() as u32);
        out.put_slice(value);
    });
}

#[cfg(test)]
mod tests {
    use super::of_key;

    #[test]
    fn a_key_has_the_partition_that_the_server_computes() {
        // select interline.part('ada', 12), interline.part('', 12), interline.part('\xff00', 256)
        assert_eq!(
            [
                of_key(b"ada", 12),
                of_key(b"", 12),
                of_key(b"\xff\x00", 256)
            ],
            [1, 2, 149]
        );
    }
}

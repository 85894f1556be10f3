//! Envelopes as messages of NATS, and back.
//!
//! Attributes are headers as the CloudEvents binding for NATS names them. The rest takes care of
//! what a message of NATS has no place for: a key that is no text, no payload at all, headers
//! whose order counts or that hold other bytes than text.

use std::collections::VecDeque;
use std::sync::Arc;

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::{HeaderMap, HeaderName, HeaderValue, Message};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use interline_core::{
    Envelope, Headers, Kind, Outgoing, Position, Purpose, Recorded, Topic, planted,
};
use interline_transport::wire::{
    Decoder, Origin, Style, for_each_kind_attribute, for_each_own_attribute,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use crate::SCHEME;

/// The key in base64, if it is not text or empty.
const KEY: HeaderName = HeaderName::from_static("interline-key");

/// Set if there is no payload, which is not an empty one.
const NO_PAYLOAD: HeaderName = HeaderName::from_static("interline-no-payload");

/// The free headers in their order, which the protocol's libraries do not keep: names whose
/// values follow under them, and `name=value` for those that may not stand alone.
const LIST: HeaderName = HeaderName::from_static("interline-headers");

/// What a message says of the batch that it is stored with; it belongs to no envelope.
pub(crate) const BATCH_ID: HeaderName = HeaderName::from_static("Nats-Batch-Id");
pub(crate) const BATCH_SEQUENCE: HeaderName = HeaderName::from_static("Nats-Batch-Sequence");
pub(crate) const BATCH_COMMIT: HeaderName = HeaderName::from_static("Nats-Batch-Commit");

/// What stands as it is in [`LIST`].
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// How many kinds of events are remembered.
const KINDS: usize = 32;

/// Makes messages of events; one for each publisher, since it remembers the headers that events of
/// a kind share: the client's map hashes every name, and grows twice until it holds them all.
#[derive(Default)]
pub(crate) struct Encoder(VecDeque<(Arc<Kind>, HeaderMap)>);

impl Encoder {
    /// The headers and the payload of an event.
    pub(crate) fn encode(&mut self, outgoing: &Outgoing) -> (HeaderMap, Bytes) {
        let envelope = &outgoing.envelope;
        let mut headers = self.of_kind(envelope.kind());
        headers.insert(NATS_MESSAGE_ID, message_id(outgoing));
        let mut has_text_key = false;
        for_each_own_attribute(envelope, Style::Dash, |name, value| {
            has_text_key |= name == "ce-partitionkey";
            headers.insert(header_name(name), value);
        });
        if let Some(key) = envelope.key().filter(|_| !has_text_key) {
            headers.insert(KEY, STANDARD_NO_PAD.encode(key));
        }
        if envelope.payload().is_none() {
            headers.insert(NO_PAYLOAD, "1");
        }
        put_free(&mut headers, envelope.headers());
        let payload = envelope.payload().cloned().unwrap_or_default();
        (headers, payload)
    }

    fn of_kind(&mut self, kind: &Arc<Kind>) -> HeaderMap {
        let known = self.0.iter().find(|(known, _)| Arc::ptr_eq(known, kind));
        if let Some((_, headers)) = known {
            return headers.clone();
        }
        let mut headers = HeaderMap::new();
        for_each_kind_attribute(kind, Style::Dash, |name, value| {
            headers.insert(header_name(name), value);
        });
        self.0.truncate(KINDS - 1);
        self.0.push_front((Arc::clone(kind), headers.clone()));
        headers
    }
}

/// The id by which the server recognises copies: the same event may be in a topic once for each
/// purpose.
fn message_id(outgoing: &Outgoing) -> String {
    let purpose = match outgoing.purpose {
        Purpose::Event => "evt",
        Purpose::DeadLetter(_) => "dlq",
        Purpose::Return(_) => "ret",
    };
    if planted::is("dedupe-without-source") {
        return format!("{purpose}:{}", outgoing.envelope.id());
    }
    format!("{purpose}:{}", outgoing.identity().simple())
}

/// Known names are shared, others copied.
fn header_name(name: &str) -> HeaderName {
    static NAMES: [(&str, HeaderName); 12] = {
        const fn of(name: &'static str) -> (&'static str, HeaderName) {
            (name, HeaderName::from_static(name))
        }
        [
            of("ce-id"),
            of("ce-time"),
            of("ce-partitionkey"),
            of("ce-specversion"),
            of("ce-source"),
            of("ce-type"),
            of("ce-datacontenttype"),
            of("ce-dataschema"),
            of("ce-subject"),
            of("ce-correlationid"),
            of("ce-causationid"),
            of("ce-traceparent"),
        ]
    };
    let known = NAMES.iter().find(|(known, _)| *known == name);
    match known {
        Some((_, known)) => known.clone(),
        // Attribute names are lower-case letters and digits.
        None => async_nats::header::IntoHeaderName::into_header_name(name),
    }
}

fn put_free(headers: &mut HeaderMap, free: &Headers) {
    let mut list = Vec::new();
    let mut is_plain = free.len() < 2;
    for (name, value) in free.iter() {
        let name = name.as_str();
        let listed = percent_encode(name.as_bytes(), ESCAPED);
        match native(name, value) {
            Some((name, value)) => {
                list.push(listed.to_string());
                headers.append(name, value);
            }
            None => {
                is_plain = false;
                list.push(format!("{listed}={}", percent_encode(value, ESCAPED)));
            }
        }
    }
    if !is_plain {
        headers.insert(LIST, list.join(","));
    }
}

/// A header as NATS can carry it: a server obeys what begins with `Nats-`, readers trim values
/// and end them at a line break, and a name may stand for an attribute.
fn native(name: &str, value: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let begins = |prefix: &str| {
        let start = name.get(..prefix.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    let text = std::str::from_utf8(value).ok()?;
    let has_meaning =
        begins("nats-") || begins("ce-") || begins("content-type") || is_mine(name.as_bytes());
    if name.is_empty() || has_meaning || text.trim() != text {
        return None;
    }
    Some((name.parse().ok()?, text.parse().ok()?))
}

/// Whether it is one of this wire's own, which belong to no envelope.
fn is_mine(name: &[u8]) -> bool {
    [KEY, NO_PAYLOAD, LIST]
        .iter()
        .any(|mine| bytes(mine) == name)
}

/// Whether it told the server what to do with the message.
fn is_of_server(name: &[u8]) -> bool {
    let its = [NATS_MESSAGE_ID, BATCH_ID, BATCH_SEQUENCE, BATCH_COMMIT];
    name.starts_with(b"Nats-") && its.iter().any(|its| bytes(its) == name)
}

fn bytes(name: &HeaderName) -> &[u8] {
    name.as_ref()
}

/// Where a message stands in its stream, from the subject that it would be acknowledged on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place<'m> {
    pub(crate) consumer: &'m str,
    /// The sequence in the stream.
    pub(crate) sequence: u64,
    /// The number of messages that this consumer has given so far.
    pub(crate) delivered: u64,
    /// When it was stored, in milliseconds.
    pub(crate) stored_at: i64,
    /// How many more messages of this consumer were stored when it gave this one.
    pub(crate) pending: u64,
}

impl<'m> Place<'m> {
    /// `$JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<times>.<sequence>.<number>.<nanos>.<pending>[.<token>]`
    pub(crate) fn of(message: &'m Message) -> Option<Self> {
        let reply = message.reply.as_ref()?.strip_prefix("$JS.ACK.")?;
        let dots = reply.bytes().filter(|byte| *byte == b'.').count();
        let mut tokens = reply.split('.');
        if dots > 6 {
            tokens.nth(1)?;
        }
        let _stream = tokens.next()?;
        let consumer = tokens.next()?;
        let _times = tokens.next()?;
        let sequence = tokens.next()?.parse().ok()?;
        let delivered = tokens.next()?.parse().ok()?;
        let nanos: i64 = tokens.next()?.parse().ok()?;
        Some(Self {
            consumer,
            sequence,
            delivered,
            stored_at: nanos.div_euclid(1_000_000),
            pending: tokens.next()?.parse().ok()?,
        })
    }
}

/// The record that a message holds.
pub(crate) fn decode(
    decoder: &mut Decoder,
    topic: &Topic,
    partition: u32,
    place: &Place<'_>,
    headers: Option<&HeaderMap>,
    payload: Bytes,
) -> Recorded {
    let position = Position::from(place.sequence);
    let origin = Origin {
        scheme: SCHEME,
        topic,
        partition,
        position,
    };
    Recorded {
        position,
        stored_at: place.stored_at,
        envelope: match headers {
            Some(headers) => with_headers(decoder, &origin, headers, payload),
            None => {
                let none = std::iter::empty::<(&[u8], &[u8])>();
                decoder.decode(&origin, &Bytes::new(), none, None, Some(payload))
            }
        },
    }
}

/// The envelope of a message that the client has read.
fn with_headers(
    decoder: &mut Decoder,
    origin: &Origin<'_>,
    headers: &HeaderMap,
    payload: Bytes,
) -> Envelope {
    let mut pairs: Vec<Pair<'_>> = Vec::with_capacity(headers.len());
    let (mut free, mut has_mine) = (0, false);
    for (name, values) in headers.iter().filter(|(n, _)| !is_of_server(bytes(n))) {
        let name = bytes(name);
        if !is_attribute(name) {
            free += values.len();
            has_mine |= is_mine(name);
        }
        pairs.extend(values.iter().map(|value| (name, value.as_ref())));
    }
    if has_mine || free > 1 {
        // The order of names in the client's map is not that of the wire; a stable sort keeps the
        // values of one name in order.
        pairs.sort_by_key(|(name, _)| *name);
        return with_pairs(decoder, origin, pairs, payload);
    }
    // One free header, or none, has no order.
    let pairs = pairs.iter().copied();
    decoder.decode(origin, &Bytes::new(), pairs, None, Some(payload))
}

/// A header.
type Pair<'h> = (&'h [u8], &'h [u8]);

/// The envelope of a message whose headers are in order.
fn with_pairs(
    decoder: &mut Decoder,
    origin: &Origin<'_>,
    mut pairs: Vec<Pair<'_>>,
    payload: Bytes,
) -> Envelope {
    let first = |name: &HeaderName| {
        let found = pairs.iter().find(|(known, _)| *known == bytes(name));
        found.map(|(_, value)| *value)
    };
    let key = first(&KEY).and_then(|value| STANDARD_NO_PAD.decode(value).ok());
    let has_payload = first(&NO_PAYLOAD).is_none() || !payload.is_empty();
    let list = first(&LIST).and_then(|list| std::str::from_utf8(list).ok());
    let list = Listed::parse(list.unwrap_or_default());
    pairs.retain(|(name, _)| !is_of_server(name) && !is_mine(name));
    let pairs = list.restore(pairs);
    let payload = has_payload.then_some(payload);
    let pairs = pairs.iter().copied();
    decoder.decode(origin, &Bytes::new(), pairs, key.map(Bytes::from), payload)
}

/// The record of a message as it is stored, for one that the client cannot read.
pub(crate) fn decode_raw(
    decoder: &mut Decoder,
    topic: &Topic,
    partition: u32,
    place: &Place<'_>,
    headers: &[u8],
    payload: Bytes,
) -> Recorded {
    let position = Position::from(place.sequence);
    let origin = Origin {
        scheme: SCHEME,
        topic,
        partition,
        position,
    };
    Recorded {
        position,
        stored_at: place.stored_at,
        envelope: with_pairs(decoder, &origin, lines(headers).collect(), payload),
    }
}

/// The headers of a block as it is stored.
fn lines(block: &[u8]) -> impl Iterator<Item = Pair<'_>> {
    let lines = block.split(|byte| *byte == b'\n').skip(1);
    lines
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty())
        .map(|line| match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii()),
            None => (line, &line[..0]),
        })
}

/// Whether the client gives the connection up when it meets this block of headers.
pub(crate) fn is_odd(block: &[u8]) -> bool {
    if block.is_empty() {
        return false;
    }
    let Ok(text) = std::str::from_utf8(block) else {
        return true;
    };
    let mut lines = text.lines();
    let is_plain = lines
        .next()
        .is_some_and(|first| first.trim_end() == "NATS/1.0");
    let is_header = |line: &str| match line.split_once(':') {
        Some((name, _)) => name.parse::<HeaderName>().is_ok(),
        None => line.is_empty(),
    };
    !is_plain || !lines.all(is_header)
}

fn is_attribute(name: &[u8]) -> bool {
    name.get(..3)
        .is_some_and(|start| start.eq_ignore_ascii_case(b"ce-"))
}

/// The free headers of an envelope, in order; a value that stands in the list itself comes with
/// its name.
#[derive(Default)]
struct Listed(Vec<(Vec<u8>, Option<Vec<u8>>)>);

impl Listed {
    fn parse(list: &str) -> Self {
        let decoded = |text: &str| percent_decode_str(text).collect();
        let item = |item: &str| match item.split_once('=') {
            Some((name, value)) => (decoded(name), Some(decoded(value))),
            None => (decoded(item), None),
        };
        Self(
            list.split(',')
                .filter(|i| !i.is_empty())
                .map(item)
                .collect(),
        )
    }

    /// Puts the listed headers behind the others, in the order of the list.
    fn restore<'l>(&'l self, mut pairs: Vec<Pair<'l>>) -> Vec<Pair<'l>> {
        let mut behind: Vec<Pair<'_>> = Vec::with_capacity(self.0.len());
        for (name, value) in &self.0 {
            let place = || pairs.iter().position(|(known, _)| known == name);
            match value {
                Some(value) => behind.push((name, value)),
                None => behind.extend(place().map(|place| pairs.remove(place))),
            }
        }
        pairs.append(&mut behind);
        pairs
    }
}

#[cfg(test)]
mod tests;

//! Envelopes as messages of NATS, and back.
//!
//! Attributes are headers as the CloudEvents binding for NATS names them. The rest takes care of
//! what a message of NATS has no place for: a key that is no text, no payload at all, headers
//! whose order counts or that hold other bytes than text.

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::{HeaderMap, HeaderName, HeaderValue, Message};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use interline_core::{Envelope, Headers, Outgoing, Position, Purpose, Recorded, Topic};
use interline_transport::wire::{Decoder, Origin, Style, for_each_attribute};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use crate::SCHEME;

/// The key in base64, if it is not text or empty.
const KEY: HeaderName = HeaderName::from_static("interline-key");

/// Set if there is no payload, which is not an empty one.
const NO_PAYLOAD: HeaderName = HeaderName::from_static("interline-no-payload");

/// The free headers in their order, which the protocol's libraries do not keep: names whose
/// values follow under them, and `name=value` for those that may not stand alone.
const LIST: HeaderName = HeaderName::from_static("interline-headers");

/// What stands as it is in [`LIST`].
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// The headers and the payload of an event.
pub(crate) fn encode(outgoing: &Outgoing) -> (HeaderMap, Bytes) {
    let envelope = &outgoing.envelope;
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, message_id(outgoing));
    let mut has_text_key = false;
    for_each_attribute(envelope, Style::Dash, |name, value| {
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

/// The id by which the server recognises copies: the same event may be in a topic once for each
/// purpose.
fn message_id(outgoing: &Outgoing) -> String {
    let purpose = match outgoing.purpose {
        Purpose::Event => "evt",
        Purpose::DeadLetter(_) => "dlq",
        Purpose::Return(_) => "ret",
    };
    format!("{purpose}:{}", outgoing.identity().simple())
}

/// Known names are shared, others copied.
fn header_name(name: &str) -> HeaderName {
    const NAMES: [(&str, HeaderName); 12] = {
        const fn of(name: &'static str) -> (&'static str, HeaderName) {
            (name, HeaderName::from_static(name))
        }
        [
            of("ce-specversion"),
            of("ce-id"),
            of("ce-source"),
            of("ce-type"),
            of("ce-datacontenttype"),
            of("ce-time"),
            of("ce-partitionkey"),
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
    let has_meaning = begins("nats-") || begins("ce-") || begins("content-type") || is_ours(name);
    if name.is_empty() || has_meaning || text.trim() != text {
        return None;
    }
    Some((name.parse().ok()?, text.parse().ok()?))
}

fn is_ours(name: &str) -> bool {
    [KEY, NO_PAYLOAD, LIST].iter().any(|ours| text(ours) == name)
}

fn text(name: &HeaderName) -> &str {
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

fn with_headers(
    decoder: &mut Decoder,
    origin: &Origin<'_>,
    headers: &HeaderMap,
    payload: Bytes,
) -> Envelope {
    let key = headers
        .get(KEY)
        .and_then(|value| STANDARD_NO_PAD.decode(value.as_str()).ok())
        .map(Bytes::from);
    let payload = match headers.get(NO_PAYLOAD) {
        Some(_) if payload.is_empty() => None,
        _ => Some(payload),
    };
    let list = headers.get(LIST).map(|list| Listed::parse(list.as_str()));
    let pairs = pairs(headers);
    // One free header, or none, has no order.
    let more = pairs.clone().filter(|(name, _)| !is_attribute(name)).nth(1);
    if list.is_none() && more.is_none() {
        return decoder.decode(origin, &Bytes::new(), pairs, key, payload);
    }
    let mut ordered: Vec<(&[u8], &[u8])> = pairs.collect();
    // A stable sort keeps the values of one name in order.
    ordered.sort_by_key(|(name, _)| *name);
    let listed = list.unwrap_or_default();
    if !listed.is_empty() {
        listed.restore(&mut ordered);
    }
    decoder.decode(origin, &Bytes::new(), ordered.iter().copied(), key, payload)
}

/// The headers that belong to the envelope. The order of names is not that of the wire.
fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
    let all = headers.iter().flat_map(|(name, values)| {
        let name: &str = name.as_ref();
        values.iter().map(move |value| (name, value))
    });
    all.filter(|(name, _)| *name != text(&NATS_MESSAGE_ID) && !is_ours(name))
        .map(|(name, value)| (name.as_bytes(), value.as_ref()))
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
        Self(list.split(',').filter(|i| !i.is_empty()).map(item).collect())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts the listed headers behind the others, in the order of the list.
    fn restore<'l>(&'l self, pairs: &mut Vec<(&'l [u8], &'l [u8])>) {
        let mut behind: Vec<(&[u8], &[u8])> = Vec::with_capacity(self.0.len());
        for (name, value) in &self.0 {
            let place = || pairs.iter().position(|(known, _)| known == name);
            match value {
                Some(value) => behind.push((name, value)),
                None => behind.extend(place().map(|place| pairs.remove(place))),
            }
        }
        pairs.append(&mut behind);
    }
}

#[cfg(test)]
mod tests;

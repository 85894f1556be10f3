//! What is sent: a Protobuf event of 128 bytes and prebuilt envelopes, for both sides.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use bytes::{Bytes, BytesMut};
use interline_core::{
    Codec, Envelope, Error, ErrorKind, Event, EventId, Key, Kind, Timestamp, undecodable,
};
use interline_transport::wire::{Style, for_each_header};
use prost::Message;
use uuid::Uuid;

/// An event whose encoding takes 128 bytes, with two strings.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Order {
    #[prost(string, tag = "1")]
    pub(crate) customer: String,
    #[prost(string, tag = "2")]
    pub(crate) note: String,
    #[prost(uint64, tag = "3")]
    pub(crate) number: u64,
}

impl Order {
    /// What makes numbers take six bytes.
    const LARGE: u64 = 1 << 40;

    pub(crate) fn new(key: usize, number: u64) -> Self {
        Self {
            customer: format!("customer-{key:06}"),
            note: "x".repeat(101),
            number: number | Self::LARGE,
        }
    }
}

impl Event for Order {
    const TYPE: &'static str = "bench.order.placed";
    const TOPIC: &'static str = "bench";
    type Codec = Protobuf;

    fn key(&self) -> Option<Cow<'_, [u8]>> {
        Some(self.customer.as_bytes().into())
    }
}

/// How many prepared events there are, each with a key of its own: few enough to stay near the
/// processor, where an event is that was just made.
const PREPARED: usize = 1_000;

static ORDERS: LazyLock<Vec<Order>> =
    LazyLock::new(|| (0..PREPARED).map(|n| Order::new(n, n as u64)).collect());

/// One of the events that are ready before a round begins, by its number: whoever publishes a fact
/// has it, so that neither making nor copying it counts.
#[derive(Clone, Copy)]
pub(crate) struct Prepared(usize);

impl Prepared {
    /// All of them, over and over again.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        LazyLock::force(&ORDERS);
        (0..PREPARED).map(Self).cycle()
    }

    fn order(self) -> &'static Order {
        &ORDERS[self.0]
    }
}

impl Event for Prepared {
    const TYPE: &'static str = Order::TYPE;
    const TOPIC: &'static str = Order::TOPIC;
    type Codec = Protobuf;

    fn key(&self) -> Option<Cow<'_, [u8]>> {
        self.order().key()
    }
}

impl Codec<Prepared> for Protobuf {
    fn content_type(&self) -> &'static str {
        "application/protobuf"
    }

    fn encode(&self, value: &Prepared, buffer: &mut BytesMut) -> Result<(), Error> {
        self.encode(value.order(), buffer)
    }

    fn decode(&self, content_type: Option<&str>, payload: &Bytes) -> Result<Prepared, Error> {
        let order: Order = self.decode(content_type, payload)?;
        let number = (order.number & !Order::LARGE) as usize;
        let known = (number < PREPARED).then_some(Prepared(number));
        known.ok_or_else(|| undecodable("an order of somebody else"))
    }
}

/// Protobuf by prost.
#[derive(Debug, Default)]
pub(crate) struct Protobuf;

impl Codec<Order> for Protobuf {
    fn content_type(&self) -> &'static str {
        "application/protobuf"
    }

    fn encode(&self, value: &Order, buffer: &mut BytesMut) -> Result<(), Error> {
        value
            .encode(buffer)
            .map_err(|error| Error::new(ErrorKind::Invalid, "encode", error.to_string()))
    }

    fn decode(&self, _: Option<&str>, payload: &Bytes) -> Result<Order, Error> {
        Order::decode(&**payload).map_err(undecodable)
    }
}

/// Envelopes with keys and a payload of `size` bytes.
pub(crate) fn envelopes(keys: usize, size: usize) -> crate::Result<Vec<Envelope>> {
    let kind =
        Arc::new(Kind::new("/bench", "bench.raw.sent")?.content_type("application/octet-stream"));
    let payload = Bytes::from(vec![b'x'; size]);
    let envelope = |key: usize| {
        Envelope::from_parts(
            EventId::new(),
            Arc::clone(&kind),
            Some(Timestamp::now()),
            Some(format!("key-{key:06}").into()),
            Some(payload.clone()),
        )
    };
    Ok((0..keys).map(envelope).collect())
}

/// One event as each side holds it: everything is ready but its id, so that a round costs the
/// sending alone.
pub(crate) struct Sample {
    pub(crate) envelope: Envelope,
    pub(crate) key: Bytes,
    pub(crate) payload: Bytes,
    /// The headers that the transport writes for the envelope.
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    /// Which of them is the id.
    id: usize,
}

impl Sample {
    /// `keys` of them, with payloads of `size` bytes.
    pub(crate) fn all(style: Style, keys: usize, size: usize) -> crate::Result<Vec<Self>> {
        let sample = |envelope: Envelope| {
            let mut headers = Vec::new();
            for_each_header(&envelope, style, |name, value| {
                headers.push((name.to_owned(), value.to_vec()));
            });
            let is_id = |(name, _): &(String, Vec<u8>)| name == "ce_id" || name == "ce-id";
            Ok(Self {
                key: envelope.key().map(Key::to_bytes).unwrap_or_default(),
                payload: envelope.payload().cloned().unwrap_or_default(),
                id: headers.iter().position(is_id).ok_or("no id is written")?,
                headers,
                envelope,
            })
        };
        envelopes(keys, size)?.into_iter().map(sample).collect()
    }

    /// Another event of the same content, as a publisher gives it.
    pub(crate) fn fresh(&self) -> Envelope {
        self.envelope.clone().with_id(EventId::new())
    }

    /// The headers of an event with this id.
    pub(crate) fn headers_with<'s>(
        &'s self,
        id: &'s str,
    ) -> impl Iterator<Item = (&'s str, &'s [u8])> {
        let with = move |(at, (name, value)): (usize, &'s (String, Vec<u8>))| {
            let value = if at == self.id { id.as_bytes() } else { value };
            (name.as_str(), value)
        };
        self.headers.iter().enumerate().map(with)
    }
}

/// The id of one more event.
pub(crate) fn new_id() -> Uuid {
    EventId::new().as_uuid().unwrap_or_default()
}

/// Reads every byte, as whoever consumes an event does.
pub(crate) fn touch(bytes: &[u8]) {
    std::hint::black_box(bytes.iter().fold(0, |sum, byte| sum ^ byte));
}

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use interline_core::{Envelope, EventId, HeaderName, Key, Kind, Position, Topic, extension};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

/// What a wire carries, all of it in one buffer as a transport reads it.
struct Wire {
    buffer: Bytes,
    headers: Vec<(Bytes, Bytes)>,
    key: Option<Bytes>,
    payload: Option<Bytes>,
}

impl Wire {
    fn new(headers: &[(&[u8], &[u8])], key: Option<&[u8]>, payload: Option<&[u8]>) -> Self {
        let mut buffer = BytesMut::new();
        for (name, value) in headers {
            buffer.extend_from_slice(name);
            buffer.extend_from_slice(value);
        }
        let (buffer, mut at) = (buffer.freeze(), 0);
        let mut cut = |part: &[u8]| {
            at += part.len();
            buffer.slice(at - part.len()..at)
        };
        Self {
            headers: headers.iter().map(|(n, v)| (cut(n), cut(v))).collect(),
            buffer: buffer.clone(),
            key: key.map(Bytes::copy_from_slice),
            payload: payload.map(Bytes::copy_from_slice),
        }
    }

    fn of(envelope: &Envelope, style: Style) -> Self {
        let mut headers = Vec::new();
        for_each_header(envelope, style, |name, value| {
            headers.push((name.as_bytes().to_vec(), value.to_vec()));
        });
        let headers: Vec<_> = headers.iter().map(|(n, v)| (&**n, &**v)).collect();
        let (key, payload) = (envelope.key(), envelope.payload());
        Self::new(&headers, key.map(|k| &**k), payload.map(|p| &**p))
    }

    fn read_from(&self, topic: &Topic, style: Style) -> Envelope {
        let origin = Origin {
            scheme: "kafka",
            topic,
            partition: 3,
            position: Position::from(42),
        };
        let headers = self.headers.iter().map(|(n, v)| (&**n, &**v));
        let (key, payload) = (self.key.clone(), self.payload.clone());
        Decoder::new(style).decode(&origin, &self.buffer, headers, key, payload)
    }

    fn read(&self) -> Envelope {
        self.read_from(&topic(), Style::Underscore)
    }
}

fn topic() -> Topic {
    Topic::new("shop.orders").unwrap()
}

const REQUIRED: [(&[u8], &[u8]); 4] = [
    (b"ce_specversion", b"1.0"),
    (b"ce_id", b"1"),
    (b"ce_source", b"/shop"),
    (b"ce_type", b"order.placed"),
];

fn text() -> impl Strategy<Value = String> {
    "[ -~äß\u{1F600}]{1,20}"
}

prop_compose! {
    fn any_envelope()(
        id in prop_oneof![Just(None), text().prop_map(Some)],
        (source, ty) in (text(), text()),
        (content_type, schema, subject) in (option::of(text()), option::of(text()), option::of(text())),
        millis in option::of(0_i64..4_000_000_000_000),
        key in option::of(vec(any::<u8>(), 0..10)),
        payload in option::of(vec(any::<u8>(), 0..50)),
        attributes in vec(("[a-z0-9]{1,20}", text()), 0..5),
        headers in vec(("[!-9;-~]{1,20}", vec(any::<u8>(), 0..20)), 0..5),
    ) -> Envelope {
        let mut kind = Kind::new(source, ty).unwrap();
        if let Some(content_type) = content_type {
            kind = kind.content_type(content_type);
        }
        if let Some(schema) = schema {
            kind = kind.schema(schema);
        }
        let id = id.map_or_else(EventId::new, |id| EventId::parse(id).unwrap());
        let time = millis.map(interline_core::Timestamp::from_unix_millis);
        let (key, payload) = (key.map(Key::from), payload.map(Bytes::from));
        let mut envelope = Envelope::from_parts(id, Arc::new(kind), time, key, payload);
        if let Some(subject) = subject {
            envelope.set_subject(subject);
        }
        for (name, value) in attributes {
            let _ = envelope.set_attribute(name, value).is_ok();
        }
        for (name, value) in headers {
            if let Ok(name) = HeaderName::new(name) {
                envelope.headers_mut().push(name, value);
            }
        }
        envelope
    }
}

proptest! {
    #[test]
    fn an_envelope_is_read_back(envelope in any_envelope()) {
        for style in [Style::Underscore, Style::Dash] {
            let back = Wire::of(&envelope, style).read_from(&topic(), style);
            prop_assert_eq!(&back, &envelope);
            prop_assert!(!back.is_foreign());
        }
    }

    #[test]
    fn nothing_that_others_write_is_lost(
        headers in vec((
            prop_oneof![
                "(ce_|ce-)?(id|source|type|specversion|time|subject|partitionkey|x|Y|data)".prop_map(String::into_bytes),
                "[Cc]ontent-[Tt]ype".prop_map(String::into_bytes),
                vec(any::<u8>(), 0..8),
            ],
            prop_oneof![
                Just(b"1.0".to_vec()),
                vec(any::<u8>(), 0..8),
                "[a-z%\"\\\\]{0,8}".prop_map(String::into_bytes),
            ],
        ), 0..12),
        key in option::of(vec(any::<u8>(), 0..4)),
        payload in option::of(vec(any::<u8>(), 0..4)),
    ) {
        let headers: Vec<_> = headers.iter().map(|(n, v)| (&**n, &**v)).collect();
        for style in [Style::Underscore, Style::Dash] {
            let wire = Wire::new(&headers, key.as_deref(), payload.as_deref());
            let envelope = wire.read_from(&topic(), style);
            prop_assert_eq!(envelope.payload(), wire.payload.as_ref());
            if key.is_some() {
                prop_assert_eq!(envelope.key().map(Key::to_bytes), wire.key);
            }
            if envelope.is_foreign() {
                prop_assert_eq!(envelope.headers().len(), headers.len());
            }
            // Sent on and read again it is the same event.
            let again = Wire::of(&envelope, style).read_from(&topic(), style);
            prop_assert_eq!(again.id(), envelope.id());
            prop_assert!(!again.is_foreign());
        }
    }
}

#[test]
fn headers_are_those_of_the_kafka_binding() {
    let kind = Kind::new("/shop", "order.placed")
        .unwrap()
        .content_type("application/json");
    let envelope = Envelope::builder(kind)
        .id(EventId::parse("1").unwrap())
        .time("2018-04-05T17:31:00Z".parse().unwrap())
        .subject("order/1")
        .key("ada")
        .attribute(extension::TENANT_ID, "acme")
        .attribute("mine", 7)
        .header("x", "y")
        .build()
        .unwrap();
    let mut lines = Vec::new();
    for_each_header(&envelope, Style::Underscore, |name, value| {
        lines.push(format!("{name}: {}", String::from_utf8_lossy(value)));
    });
    assert_eq!(
        lines,
        [
            "ce_specversion: 1.0",
            "ce_source: /shop",
            "ce_type: order.placed",
            "content-type: application/json",
            "ce_id: 1",
            "ce_time: 2018-04-05T17:31:00Z",
            "ce_subject: order/1",
            "ce_partitionkey: ada",
            "ce_tenantid: acme",
            "ce_mine: 7",
            "x: y",
        ]
    );
}

#[test]
fn values_on_nats_are_escaped_once() {
    let kind = Kind::new("/a b", "t%\"é").unwrap();
    let envelope = Envelope::builder(kind).build().unwrap();
    let mut lines = Vec::new();
    for_each_header(&envelope, Style::Dash, |name, value| {
        lines.push(format!("{name}: {}", String::from_utf8_lossy(value)));
    });
    assert!(lines.contains(&"ce-source: /a%20b".to_owned()), "{lines:?}");
    assert!(
        lines.contains(&"ce-type: t%25%22%C3%A9".to_owned()),
        "{lines:?}"
    );
    let quoted = Wire::new(
        &[
            (b"Ce-Specversion".to_ascii_lowercase().as_slice(), b"1.0"),
            (b"CE-id", b"\"a\\\"%c3%a9\""),
            (b"ce-source", b"/s"),
            (b"ce-type", b"t"),
        ],
        None,
        None,
    );
    let back = quoted.read_from(&topic(), Style::Dash);
    assert_eq!(back.id().to_string(), "a\"é");
}

#[test]
fn a_record_without_attributes_is_foreign() {
    let wire = Wire::new(
        &[
            (b"content-type", b"application/json"),
            (b"a", b"\xff"),
            (b"a", b""),
        ],
        Some(b""),
        Some(b"{}"),
    );
    let envelope = wire.read();
    assert!(envelope.is_foreign());
    assert_eq!(envelope.id().to_string(), "shop.orders/3/42");
    assert_eq!(envelope.ty(), "shop.orders");
    assert_eq!(envelope.source(), "kafka:///shop.orders");
    assert_eq!(envelope.content_type(), Some("application/json"));
    assert_eq!(envelope.headers().len(), 3);
    assert_eq!(envelope.key().unwrap(), "");
    assert_eq!(envelope.payload().unwrap(), "{}");
    assert_eq!(wire.read().id(), envelope.id());
}

#[test]
fn broken_attributes_make_it_foreign_and_stay() {
    type Header = (&'static [u8], &'static [u8]);
    let broken: [(usize, Header); 5] = [
        (0, (b"ce_specversion", b"0.3")),
        (1, (b"ce_id", b"")),
        (1, (b"ce_id", b"\xff")),
        (2, (b"ce_source", b"a\nb")),
        (3, (b"x", b"no type")),
    ];
    for (at, header) in broken {
        let mut headers = REQUIRED;
        headers[at] = header;
        let envelope = Wire::new(&headers, None, Some(b"x")).read();
        assert!(envelope.is_foreign(), "{header:?}");
        assert_eq!(envelope.headers().len(), 4);
        let kept = envelope
            .headers()
            .get(std::str::from_utf8(header.0).unwrap());
        assert_eq!(kept.unwrap(), header.1);
    }
}

#[test]
fn a_broken_optional_attribute_stays_a_header() {
    let mut headers = REQUIRED.to_vec();
    headers.extend([
        (&b"ce_time"[..], &b"yesterday"[..]),
        (b"ce_subject", b"\xff"),
        (b"ce_Upper", b"x"),
        (b"ce_fine", b"x"),
        (b"ce_fine", b"again"),
        (b"ce_id", b"2"),
    ]);
    let envelope = Wire::new(&headers, None, None).read();
    assert!(!envelope.is_foreign());
    assert_eq!((envelope.time(), envelope.subject()), (None, None));
    assert_eq!(envelope.id().to_string(), "1");
    assert_eq!(envelope.attribute("fine").unwrap().as_str(), Some("x"));
    let names: Vec<_> = envelope
        .headers()
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(
        names,
        ["ce_time", "ce_subject", "ce_Upper", "ce_fine", "ce_id"]
    );
    assert_eq!(envelope.payload(), None);
}

#[test]
fn structured_events_are_read_and_broken_ones_are_kept() {
    let document: &[u8] = br#"{"specversion":"1.0","id":"1","source":"/s","type":"t",
        "partitionkey":"in","data":{"a":1}}"#;
    let headers: [(&[u8], &[u8]); 3] = [
        (
            b"Content-Type",
            b"Application/CloudEvents+JSON; charset=UTF-8",
        ),
        (b"x", b"y"),
        (b"interline-dl-cause", b"forged"),
    ];
    let envelope = Wire::new(&headers, Some(b"out"), Some(document)).read();
    assert!(!envelope.is_foreign());
    assert_eq!(
        (envelope.id().to_string().as_str(), envelope.ty()),
        ("1", "t")
    );
    assert_eq!(envelope.key().unwrap(), "out");
    assert_eq!(envelope.headers().len(), 1);
    let keyless = Wire::new(&headers, None, Some(document)).read();
    assert_eq!(keyless.key().unwrap(), "in");
    for payload in [None, Some(&b"{"[..]), Some(b"[]")] {
        let broken = Wire::new(&headers, None, payload).read();
        assert!(broken.is_foreign());
        assert_eq!(broken.payload().map(|p| &**p), payload);
    }
}

#[test]
fn the_key_of_the_wire_is_the_truth() {
    let mut headers = REQUIRED.to_vec();
    headers.push((b"ce_partitionkey", b"attribute"));
    let key = |key| Wire::new(&headers, key, None).read().key().cloned();
    assert_eq!(key(Some(b"wire")).unwrap(), "wire");
    assert_eq!(key(None).unwrap(), "attribute");
}

#[test]
fn interlines_own_headers_are_believed_from_its_own_topics_alone() {
    let mut headers = REQUIRED.to_vec();
    headers.push((b"Interline-dl-cause", b"x"));
    for headers in [&headers[..], &headers[4..]] {
        let wire = Wire::new(headers, None, None);
        assert_eq!(wire.read().headers().get("Interline-dl-cause"), None);
        let dlq = Topic::system("shop.orders.billing.dlq").unwrap();
        let kept = wire.read_from(&dlq, Style::Underscore);
        assert!(kept.headers().get("Interline-dl-cause").is_some());
    }
}

#[test]
fn the_id_of_a_foreign_record_in_a_long_topic_is_stable() {
    let long = Topic::system(format!("{}.g.dlq", "x".repeat(150))).unwrap();
    let wire = Wire::new(&[], None, None);
    let read = || wire.read_from(&long, Style::Underscore).id().clone();
    assert_eq!(read(), read());
}

#[test]
fn kinds_are_shared_and_keep_no_buffer_alive() {
    let wire = Wire::new(&REQUIRED, None, None);
    let mut decoder = Decoder::new(Style::Underscore);
    let mut read = || {
        let topic = topic();
        let origin = Origin {
            scheme: "kafka",
            topic: &topic,
            partition: 0,
            position: Position::from(0),
        };
        let headers = wire.headers.iter().map(|(n, v)| (&**n, &**v));
        decoder.decode(&origin, &wire.buffer, headers, None, None)
    };
    let (first, second) = (read(), read());
    assert!(Arc::ptr_eq(first.kind(), second.kind()));
    let Wire {
        buffer, headers, ..
    } = wire;
    drop(headers);
    assert!(
        buffer.is_unique(),
        "nothing of the envelopes points into it"
    );
}

use interline_core::{EventId, HeaderName as Name, Key, Kind};

use super::*;

fn topic() -> Topic {
    Topic::new("orders").unwrap()
}

fn event(key: Option<&[u8]>, payload: Option<&[u8]>, headers: &[(&str, &[u8])]) -> Envelope {
    let kind = Kind::new("/shop", "order.placed").unwrap();
    let mut envelope = Envelope::builder(kind)
        .id(EventId::parse("größe 1").unwrap())
        .tenant("a b")
        .build()
        .unwrap()
        .with_key(key.map(Key::copy_from_slice))
        .with_payload(payload.map(Bytes::copy_from_slice));
    for (name, value) in headers {
        envelope
            .headers_mut()
            .push(Name::foreign(*name), Bytes::copy_from_slice(value));
    }
    envelope
}

fn place() -> Place<'static> {
    Place {
        consumer: "c",
        sequence: 7,
        delivered: 1,
        stored_at: 5,
        pending: 0,
    }
}

fn around(envelope: &Envelope) -> Envelope {
    let (headers, payload) = Encoder::default().encode(&Outgoing::new(topic(), envelope.clone()));
    let mut decoder = Decoder::new(Style::Dash);
    let record = decode(&mut decoder, &topic(), 0, &place(), Some(&headers), payload);
    assert_eq!((record.position, record.stored_at), (Position::from(7), 5));
    record.envelope
}

#[test]
fn everything_comes_back() {
    let keys: [Option<&[u8]>; 5] = [
        None,
        Some(b""),
        Some(b"ada"),
        Some(b"\0\xff"),
        Some(" é ".as_bytes()),
    ];
    let payloads: [Option<&[u8]>; 3] = [None, Some(b""), Some(b"\r\nx")];
    let headers: [&[(&str, &[u8])]; 6] = [
        &[],
        &[("x", b"1")],
        &[
            ("z", b"1"),
            ("a", b"2"),
            ("z", b""),
            ("m", b"3"),
            ("a", b"4"),
        ],
        &[
            ("x", b"\r\n"),
            ("y", b"\xff\0"),
            (" odd:name", b" v "),
            ("", b"v"),
        ],
        &[("Nats-Rollup", b"all"), ("nats-msg-id", b"1"), ("x", b"1")],
        &[("ce-id", b"second"), ("x=,%", b"a,b=c%")],
    ];
    for key in keys {
        for payload in payloads {
            for headers in headers {
                let envelope = event(key, payload, headers);
                assert_eq!(
                    around(&envelope),
                    envelope,
                    "{key:?} {payload:?} {headers:?}"
                );
            }
        }
    }
}

#[test]
fn nothing_that_a_server_obeys_is_sent() {
    let odd = event(
        Some(b"k"),
        None,
        &[("Nats-Rollup", b"all"), ("x", b"a\r\nNats-TTL: 1s")],
    );
    let (headers, _) = Encoder::default().encode(&Outgoing::new(topic(), odd));
    for (name, values) in headers.iter() {
        let name: &str = name.as_ref();
        assert!(
            !name.starts_with("Nats-") || name == "Nats-Msg-Id",
            "{name}"
        );
        assert!(
            values
                .iter()
                .all(|value| !value.as_str().contains(['\r', '\n']))
        );
    }
}

#[test]
fn copies_are_told_apart_by_purpose() {
    let envelope = event(None, None, &[]);
    let purposes = [
        Purpose::Event,
        Purpose::DeadLetter(1),
        Purpose::DeadLetter(2),
        Purpose::Return(1),
    ];
    let mut ids: Vec<String> = purposes
        .into_iter()
        .map(|purpose| {
            let mut outgoing = Outgoing::new(topic(), envelope.clone());
            outgoing.purpose = purpose;
            message_id(&outgoing)
        })
        .collect();
    ids.dedup();
    assert_eq!(ids.len(), 4, "{ids:?}");
}

#[test]
fn foreign_messages_are_taken_as_they_are() {
    let mut decoder = Decoder::new(Style::Dash);
    let bare = decode(
        &mut decoder,
        &topic(),
        0,
        &place(),
        None,
        Bytes::from_static(b"x"),
    );
    assert!(bare.envelope.is_foreign());
    assert_eq!(bare.envelope.payload().unwrap(), "x");
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("b", "1"),
        ("a", "2"),
        ("b", "3"),
        ("interline-dl-cause", "no"),
    ] {
        headers.append(name, value);
    }
    // A list that lies drops nothing and invents nothing.
    headers.insert(LIST, "missing,b,,%FF=%00");
    let listed = decode(
        &mut decoder,
        &topic(),
        0,
        &place(),
        Some(&headers),
        Bytes::new(),
    );
    let found: Vec<(String, Bytes)> = listed
        .envelope
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.clone()))
        .collect();
    let wanted: [(&str, &[u8]); 4] = [("a", b"2"), ("b", b"3"), ("b", b"1"), ("\u{fffd}", b"\0")];
    let wanted: Vec<(String, Bytes)> = wanted
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Bytes::copy_from_slice(value)))
        .collect();
    assert_eq!(found, wanted);
}

#[test]
fn a_raw_message_is_read_as_the_client_would_read_it() {
    let mut decoder = Decoder::new(Style::Dash);
    let block = b"NATS/1.0\r\nNats-Msg-Id: 1\r\nb:1\r\na:  \xfe \r\nb: 2\r\nnonsense\r\n\r\n";
    let record = decode_raw(
        &mut decoder,
        &topic(),
        0,
        &place(),
        block,
        Bytes::from_static(b"x"),
    );
    let found: Vec<(&str, &[u8])> = record
        .envelope
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), &value[..]))
        .collect();
    let wanted: [(&str, &[u8]); 4] = [("b", b"1"), ("a", b"\xfe"), ("b", b"2"), ("nonsense", b"")];
    assert_eq!(found, wanted);
    assert_eq!(record.stored_at, 5);
    assert!(is_odd(block) && !is_odd(b"NATS/1.0\r\na: 1\r\n\r\n") && !is_odd(b""));
    for odd in [
        &b"HTTP/1.0\r\n"[..],
        b"NATS/1.0\r\na b: 1\r\n",
        b"NATS/1.0 x\r\n\r\n",
    ] {
        assert!(is_odd(odd), "{odd:?}");
    }
}

#[test]
fn a_place_is_read_from_either_form() {
    let message = |reply: &str| Message {
        subject: "orders.0".into(),
        reply: Some(reply.into()),
        payload: Bytes::new(),
        headers: None,
        status: None,
        description: None,
        length: 0,
    };
    let wanted = Place {
        consumer: "c-1",
        sequence: 17,
        delivered: 3,
        stored_at: 1_700_000_000_123,
        pending: 9,
    };
    for reply in [
        "$JS.ACK.orders.c-1.1.17.3.1700000000123456789.9",
        "$JS.ACK.hub.ACC.orders.c-1.1.17.3.1700000000123456789.9.tok",
    ] {
        assert_eq!(Place::of(&message(reply)), Some(wanted), "{reply}");
    }
    for reply in ["", "$JS.ACK.", "$JS.ACK.orders.c-1.1.x.3.1.9", "_INBOX.a"] {
        assert_eq!(Place::of(&message(reply)), None, "{reply}");
    }
}

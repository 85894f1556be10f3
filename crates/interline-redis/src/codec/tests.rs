use interline_core::{EventId, HeaderName, Kind};
use proptest::prelude::*;

use super::*;

fn string(value: &[u8]) -> Resp3Frame {
    Resp3Frame::BlobString {
        data: Bytes::copy_from_slice(value),
        attributes: None,
    }
}

fn unpack(fields: &[(&[u8], &[u8])]) -> Unpacked {
    let fields = fields
        .iter()
        .flat_map(|(name, value)| [string(name), string(value)])
        .collect();
    let topic = Topic::new("orders").unwrap();
    Unpacker::new().unpack(&topic, 3, Position(5, 7), fields)
}

fn round_trip(envelope: &Envelope) -> Unpacked {
    let mut text = BytesMut::new();
    pack(envelope, &mut text);
    let mut fields: Vec<(&[u8], &[u8])> = vec![(b"ce", &text)];
    if let Some(key) = separate_key(envelope) {
        fields.push((b"key", key));
    }
    if let Some(data) = envelope.payload() {
        fields.push((b"data", data));
    }
    unpack(&fields)
}

#[test]
fn attributes_read_as_a_form() {
    let kind = Kind::new("/shop", "order.placed").unwrap();
    let envelope = Envelope::builder(kind)
        .id(EventId::parse("7").unwrap())
        .header("x-hop", "a+b&c")
        .build()
        .unwrap();
    let mut text = BytesMut::new();
    pack(&envelope, &mut text);
    assert_eq!(
        std::str::from_utf8(&text).unwrap(),
        "ce_specversion=1.0&ce_source=/shop&ce_type=order.placed&ce_id=7&x-hop=a%2Bb%26c"
    );
    assert!(round_trip(&envelope).is_own);
    assert_eq!(round_trip(&envelope).envelope, envelope);
}

#[test]
fn a_form_written_elsewhere_is_read() {
    let text = b"ce_specversion=1.0&ce_id=1&ce_source=%2Fshop&ce_type=x&ce_subject=two+words&&=&y";
    let found = unpack(&[(b"ce", text), (b"data", b"{}")]).envelope;
    assert!(!found.is_foreign());
    assert_eq!(
        (found.source(), found.subject()),
        ("/shop", Some("two words"))
    );
    assert_eq!(found.headers().get("y").map(Bytes::len), Some(0));
}

#[test]
fn an_entry_of_another_client_keeps_its_fields() {
    let found = unpack(&[(b"temperature", b"20"), (b"key", b"k"), (b"data", b"\xff")]);
    assert!(!found.is_own && found.envelope.is_foreign());
    assert_eq!(found.envelope.headers().text("temperature"), Some("20"));
    assert_eq!(found.envelope.key().unwrap(), "k");
    assert_eq!(found.envelope.payload().unwrap(), &b"\xff"[..]);
    assert_eq!(found.envelope.id().to_string(), "orders/3/5-7");
}

proptest! {
    #[test]
    fn every_envelope_comes_back(
        key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..8)),
        data in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)),
        value in proptest::collection::vec(any::<u8>(), 0..40),
        name in "[!-9;-~]{1,20}",
    ) {
        let kind = Kind::new("/a b%+&=", "t").unwrap();
        let mut envelope = Envelope::builder(kind).build().unwrap()
            .with_key(key.map(Key::from))
            .with_payload(data.map(Bytes::from));
        if let Ok(name) = HeaderName::new(name) {
            envelope.headers_mut().push(name, value);
        }
        prop_assert_eq!(&round_trip(&envelope).envelope, &envelope);
    }

    #[test]
    fn nothing_harms_the_reader(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        unpack(&[(b"ce", &text)]);
    }
}

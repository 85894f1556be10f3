//! The codecs `Json` and `Raw`.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use interline_core::{Codec, ErrorKind};
use interline_json::{Json, Raw};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u64,
    customer: String,
}

fn decode(content_type: Option<&str>, payload: &str) -> interline_core::Result<Order> {
    Json.decode(content_type, &Bytes::copy_from_slice(payload.as_bytes()))
}

#[test]
fn a_value_comes_back() {
    let order = Order {
        id: 1,
        customer: "ada \"\n".into(),
    };
    let mut buffer = BytesMut::from("before");
    Json.encode(&order, &mut buffer).unwrap();
    let written = buffer.split_off(6).freeze();
    assert_eq!(written, r#"{"id":1,"customer":"ada \"\n"}"#);
    let given = Codec::<Order>::content_type(&Json);
    assert_eq!(
        decode(Some(given), std::str::from_utf8(&written).unwrap()).unwrap(),
        order
    );
}

#[test]
fn json_reads_json_only() {
    let payload = r#"{"id":1,"customer":"ada"}"#;
    for yes in [
        None,
        Some("application/json"),
        Some("text/json"),
        Some("application/vnd.shop.order+json; charset=UTF-8"),
    ] {
        assert!(decode(yes, payload).is_ok(), "{yes:?}");
    }
    for no in [
        "",
        "text/plain",
        "application/avro",
        "application/json; charset=utf-16",
        "a\nb",
    ] {
        let error = decode(Some(no), payload).expect_err(no);
        assert_eq!(error.kind(), ErrorKind::Undecodable);
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

#[test]
fn errors_tell_the_place_and_never_the_payload() {
    for (payload, place) in [
        (r#"{"id":"hunter2"}"#, "line 1, column 15"),
        (r#"{"id":1,"customer":"hunter2","x""#, "line 1"),
        ("{\n\"id\": hunter2", "line 2"),
        ("hunter2", "line 1, column 1"),
        ("", "line 1, column 0"),
    ] {
        let error = decode(None, payload).expect_err(payload);
        assert_eq!(error.kind(), ErrorKind::Undecodable);
        let shown = format!("{error:?}");
        assert!(shown.contains(place), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn a_value_without_a_form_is_invalid() {
    let value = BTreeMap::from([(vec![1_u8], "hunter2".to_owned())]);
    let error = Json.encode(&value, &mut BytesMut::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(!format!("{error:?}").contains("hunter2"));
}

#[test]
fn depth_is_limited() {
    let deep = Bytes::from("[".repeat(100_000));
    let error = Codec::<Nested>::decode(&Json, None, &deep).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Undecodable);
}

#[derive(Debug, Serialize, Deserialize)]
struct Nested(Vec<Self>);

#[test]
fn raw_takes_bytes_as_they_are() {
    let bytes = Bytes::from_static(b"\x00\xff{");
    let mut buffer = BytesMut::new();
    Raw.encode(&bytes, &mut buffer).unwrap();
    assert_eq!(buffer, bytes);
    let back: Bytes = Raw.decode(Some("no/matter"), &bytes).unwrap();
    assert_eq!(back.as_ptr(), bytes.as_ptr(), "shared, not copied");
    let owned: Vec<u8> = Raw.decode(None, &bytes).unwrap();
    assert_eq!(owned, bytes);
    assert_eq!(
        Codec::<Bytes>::content_type(&Raw),
        "application/octet-stream"
    );
}

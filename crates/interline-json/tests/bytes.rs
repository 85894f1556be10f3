//! What is written comes back as it was, byte for byte.

#![expect(clippy::unwrap_used, reason = "a helper of tests may fail its test")]

use bytes::Bytes;
use interline_core::{
    AttributeValue, Attributes, Envelope, EventId, HeaderName, Key, Kind, Timestamp, extension,
    is_attribute_char,
};
use interline_json::cloudevents;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn event(content_type: Option<&str>, payload: Option<&[u8]>) -> Envelope {
    let mut kind = Kind::new("/s", "t").unwrap();
    if let Some(content_type) = content_type {
        kind = kind.content_type(content_type);
    }
    Envelope::from_parts(
        EventId::parse("1").unwrap(),
        kind.into(),
        None,
        None,
        payload.map(Bytes::copy_from_slice),
    )
}

fn text(document: Vec<u8>) -> String {
    String::from_utf8(document).expect("JSON is UTF-8")
}

/// The envelope that comes back from the document and from the line; only the line has headers.
fn assert_kept(envelope: &Envelope) {
    let line = cloudevents::to_line(envelope).unwrap();
    let breaks = line.iter().filter(|byte| matches!(byte, b'\n' | b'\r'));
    assert_eq!(breaks.count(), 1);
    assert_eq!(&cloudevents::from_line(line).unwrap(), envelope);

    let document = cloudevents::to_vec(envelope).unwrap();
    let mut bare = envelope.clone();
    bare.headers_mut().retain(|_| false);
    assert_eq!(cloudevents::from_slice(&document.into()).unwrap(), bare);
}

#[test]
fn json_is_written_as_it_stands() {
    let payload = br#"{ "b":1.50, "a":18446744073709551616, "a":[ ] }"#;
    let event = event(Some("application/json"), Some(payload));
    let document = text(cloudevents::to_vec(&event).unwrap());
    assert!(
        document.ends_with(r#","data":{ "b":1.50, "a":18446744073709551616, "a":[ ] }}"#),
        "{document}"
    );
    assert_kept(&event);
}

#[test]
fn what_data_cannot_give_back_is_base64() {
    let json = Some("application/json");
    for (content_type, payload) in [
        (json, &b" 1"[..]),
        (json, b"1\n"),
        (json, b""),
        (json, b"{"),
        (json, b"1 2"),
        (json, b"\"\xff\""),
        (json, b"\xef\xbb\xbf1"),
        (None, b"1"),
        (Some("application/octet-stream"), b"text"),
        (Some("text/plain"), b"\xff"),
        (Some("text/plain; charset=iso-8859-1"), b"text"),
    ] {
        let event = event(content_type, Some(payload));
        let document = text(cloudevents::to_vec(&event).unwrap());
        assert!(document.contains("data_base64"), "{document}");
        assert_kept(&event);
    }
}

#[test]
fn a_line_breaks_only_at_its_end() {
    let event = event(Some("application/json"), Some(b"{\n\"a\":\r\n1}"));
    let document = text(cloudevents::to_vec(&event).unwrap());
    assert!(document.contains("\"data\":{\n"), "{document}");
    assert_kept(&event);
}

#[test]
fn no_data_differs_from_empty_data() {
    for content_type in [None, Some("text/plain"), Some("application/json")] {
        for payload in [None, Some(&b""[..]), Some(b"null")] {
            assert_kept(&event(content_type, payload));
        }
    }
}

#[test]
fn keys_are_text_where_they_can_be() {
    let written = |key: &'static [u8]| {
        let event = event(None, None).with_key(Some(key.into()));
        assert_kept(&event);
        text(cloudevents::to_vec(&event).unwrap())
    };
    assert!(written(b"ada").contains(r#""partitionkey":"ada""#));
    assert!(written("käse \"1\"".as_bytes()).contains(r#""partitionkey":"käse \"1\"""#));
    assert!(written(b"").contains(r#""interlinekey":"""#));
    assert!(written(b"\xff").contains(r#""interlinekey":"/w==""#));
    assert!(written(b"a\nb").contains(r#""interlinekey":"YQpi""#));

    let both = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t",
        "partitionkey":"a","interlinekey":"YQ=="}"#;
    assert!(cloudevents::from_line(both).is_err());
}

#[test]
fn headers_travel_in_lines() {
    let mut event = event(None, None);
    for (name, value) in [
        ("x-a", &b"1"[..]),
        ("x-b", b"\x00&=%\xff"),
        ("x-a", b""),
        ("\u{e9} %", b"3"),
    ] {
        let value = Bytes::copy_from_slice(value);
        event.headers_mut().push(HeaderName::foreign(name), value);
    }
    let line = text(cloudevents::to_line(&event).unwrap());
    let expected = r#""interlineheaders":"x-a=1&x-b=%00%26%3D%25%FF&x-a=&%C3%A9%20%25=3""#;
    assert!(line.contains(expected), "{line}");
    assert_kept(&event);
}

#[test]
fn headers_of_interline_itself_do_not_travel() {
    let mut event = event(None, None);
    let name = HeaderName::from_static("interline-dl-cause");
    event.headers_mut().push(name, Bytes::from_static(b"boom"));
    let line = cloudevents::to_line(&event).unwrap();
    assert!(cloudevents::from_line(line).unwrap().headers().is_empty());

    for headers in [
        "interline-dl-cause=x",
        "",
        "x",
        "x=%",
        "x=%g0",
        "x=%4",
        "%ff=1",
    ] {
        let line = format!(
            r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t","interlineheaders":"{headers}"}}"#
        );
        let error = cloudevents::from_line(line).expect_err(headers);
        assert!(error.message().contains("`interlineheaders`"), "{error}");
    }
}

fn attribute_text(max: usize) -> impl Strategy<Value = String> {
    vec(any::<char>(), 1..max)
        .prop_map(|text| text.into_iter().filter(|c| is_attribute_char(*c)).collect())
        .prop_filter("empty", |text: &String| !text.is_empty())
}

fn content_type() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        Just(None),
        Just(Some("application/json".to_owned())),
        Just(Some("application/vnd.shop+json; charset=utf-8".to_owned())),
        Just(Some("text/plain".to_owned())),
        Just(Some("text/plain; charset=utf-16".to_owned())),
        Just(Some("application/octet-stream".to_owned())),
        attribute_text(24).prop_map(Some),
    ]
}

fn payload() -> impl Strategy<Value = Option<Vec<u8>>> {
    let json = "[ \\n]?(null|-?[1-9][0-9]{0,20}(\\.[0-9]+)?|\\[ ?true,[\\r ]?false\\]|\\{\"a\":\"é\"\\}|\"\\\\u0000\")[ \\n]?";
    prop_oneof![
        Just(None),
        vec(any::<u8>(), 0..64).prop_map(Some),
        any::<String>().prop_map(|text| Some(text.into_bytes())),
        json.prop_map(|text| Some(text.into_bytes())),
    ]
}

fn attribute() -> impl Strategy<Value = (String, AttributeValue)> {
    let value = prop_oneof![
        any::<bool>().prop_map(AttributeValue::from),
        any::<i32>().prop_map(AttributeValue::from),
        attribute_text(16).prop_map(AttributeValue::from),
        Just(AttributeValue::from("")),
    ];
    ("[a-z0-9]{1,64}", value)
}

fn envelopes() -> impl Strategy<Value = Envelope> {
    let kind = (
        attribute_text(16),
        attribute_text(16),
        content_type(),
        option::of(attribute_text(16)),
    );
    let times = -62_167_219_200_000_i64..253_402_300_800_000;
    let place = (
        "\\PC{1,30}",
        option::of(times),
        option::of(prop_oneof![
            vec(any::<u8>(), 0..8),
            any::<String>().prop_map(String::into_bytes)
        ]),
    );
    let rest = (
        option::of(attribute_text(16)),
        vec(attribute(), 0..6),
        vec((any::<String>(), vec(any::<u8>(), 0..12)), 0..6),
    );
    (kind, place, rest, payload()).prop_filter_map("an id of interline", |parts| {
        let ((source, ty, content_type, schema), (id, time, key), rest, payload) = parts;
        let mut kind = Kind::new(source, ty).ok()?;
        if let Some(content_type) = content_type {
            kind = kind.content_type(content_type);
        }
        if let Some(schema) = schema {
            kind = kind.schema(schema);
        }
        let mut envelope = Envelope::from_parts(
            EventId::parse(id).ok()?,
            kind.into(),
            time.map(Timestamp::from_unix_millis),
            key.map(Key::from),
            payload.map(Bytes::from),
        );
        let (subject, attributes, headers) = rest;
        if let Some(subject) = subject {
            envelope.set_subject(subject);
        }
        for (name, value) in attributes {
            // A generated name may be one of the core attributes, which is refused.
            let _ = envelope.set_attribute(name, value);
        }
        for (name, value) in headers {
            let name = HeaderName::foreign(name);
            if !name.is_interline() {
                envelope.headers_mut().push(name, value);
            }
        }
        Some(envelope)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_envelope_survives(envelope in envelopes()) {
        assert_kept(&envelope);
    }

    #[test]
    fn any_bytes_are_an_event_or_an_error(bytes in vec(any::<u8>(), 0..200)) {
        let _ = cloudevents::from_slice(&bytes.into());
    }

    #[test]
    fn a_damaged_document_never_panics(envelope in envelopes(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut line = cloudevents::to_line(&envelope).unwrap();
        let at = at.index(line.len());
        line[at] = byte;
        let _ = cloudevents::from_line(line);
    }
}

#[test]
fn every_known_extension_is_kept() {
    let mut attributes = Attributes::new();
    let mut envelope = event(None, None);
    for name in [
        extension::CORRELATION_ID,
        extension::CAUSATION_ID,
        extension::TENANT_ID,
        extension::USER_ID,
        extension::SESSION_ID,
        extension::INSTANCE_ID,
        extension::ORIGIN,
        extension::TRACEPARENT,
        extension::TRACESTATE,
    ] {
        attributes.set(name, "v").unwrap();
        envelope.set_attribute(name, "v").unwrap();
    }
    assert_kept(&envelope);
    assert_eq!(envelope.attributes(), &attributes);
}

//! The rules and examples of the CloudEvents 1.0 JSON event format, sections 2 and 3.

use bytes::Bytes;
use interline_core::{AttributeValue, Envelope, ErrorKind};
use interline_json::cloudevents::{self, MAX_DOCUMENT, MAX_MEMBERS};

fn read(document: impl Into<String>) -> Envelope {
    let document = document.into();
    cloudevents::from_slice(&document.clone().into())
        .unwrap_or_else(|error| panic!("{document}: {error}"))
}

/// A document with the required attributes and `more` members.
fn with(more: &str) -> String {
    format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t"{more}}}"#)
}

/// The error of a document, after checking its kind and that it quotes nothing secret.
fn refused(document: impl Into<Bytes>) -> String {
    let document = document.into();
    let error = cloudevents::from_slice(&document).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Undecodable, "{error}");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    error.message().to_owned()
}

fn assert_refused(document: impl Into<Bytes>, because: &str) {
    let message = refused(document);
    assert!(message.contains(because), "{message} lacks {because}");
}

#[test]
fn example_with_binary_data() {
    let event = read(
        r#"{
        "specversion" : "1.0",
        "type" : "com.example.someevent",
        "source" : "/mycontext",
        "id" : "A234-1234-1234",
        "time" : "2018-04-05T17:31:00Z",
        "comexampleextension1" : "value",
        "comexampleothervalue" : 5,
        "datacontenttype" : "application/vnd.apache.thrift.binary",
        "data_base64" : "AAH/gA=="
    }"#,
    );
    assert_eq!(event.ty(), "com.example.someevent");
    assert_eq!(event.source(), "/mycontext");
    assert_eq!(event.id().to_string(), "A234-1234-1234");
    assert_eq!(event.time().unwrap().to_string(), "2018-04-05T17:31:00Z");
    assert_eq!(
        event.attribute("comexampleextension1"),
        Some(&"value".into())
    );
    assert_eq!(event.attribute("comexampleothervalue"), Some(&5.into()));
    assert_eq!(
        event.content_type(),
        Some("application/vnd.apache.thrift.binary")
    );
    assert_eq!(event.payload().unwrap(), &b"\x00\x01\xff\x80"[..]);
    assert!(!event.is_foreign());
}

#[test]
fn example_with_text_data() {
    let event = read(with(
        r#","unsetextension":null,"datacontenttype":"application/xml","data":"<much wow=\"xml\"/>""#,
    ));
    assert_eq!(event.payload().unwrap(), r#"<much wow="xml"/>"#);
    assert!(event.attributes().is_empty(), "null is unset");
}

#[test]
fn example_with_json_data() {
    let value = r#"{
            "appinfoA" : "abc",
            "appinfoB" : 123,
            "appinfoC" : true
        }"#;
    let event = read(with(&format!(
        r#","subject":null,"datacontenttype":"application/json","data" : {value} "#
    )));
    assert_eq!(event.payload().unwrap(), value, "as it was written");
    assert_eq!(event.subject(), None);
}

#[test]
fn example_with_a_string_and_no_content_type() {
    let event = read(with(r#","data" : "I'm just a string""#));
    assert_eq!(event.payload().unwrap(), r#""I'm just a string""#);
    assert_eq!(event.content_type(), Some("application/json"));
    let again = cloudevents::to_vec(&event).unwrap();
    assert_eq!(read(String::from_utf8(again).unwrap()), event);
}

#[test]
fn a_string_of_json_is_not_read_again() {
    let event = read(with(
        r#","datacontenttype":"application/json","data":"{\"a\":1}""#,
    ));
    assert_eq!(event.payload().unwrap(), r#""{\"a\":1}""#);
}

#[test]
fn data_may_be_any_json_value() {
    for value in [
        "null",
        "true",
        "0",
        "-1.50e+3",
        r#""""#,
        "[]",
        "{}",
        "[1, {\"a\" :2}]",
        "18446744073709551616",
        r#"{"a":1,"a":2}"#,
        r#""\ud83d\ude00\u0000""#,
    ] {
        let event = read(with(&format!(r#","data":{value}"#)));
        assert_eq!(event.payload().unwrap(), value);
        let vendor = format!(r#","datacontenttype":"text/x+JSON; v=1","data":{value}"#);
        assert_eq!(read(with(&vendor)).payload().unwrap(), value);
    }
    assert_eq!(read(with("")).payload(), None);
    assert_eq!(read(with(r#","data_base64":null"#)).payload(), None);
    assert_eq!(read(with(r#","data_base64":"""#)).payload().unwrap(), "");
}

#[test]
fn json_may_come_in_base64_and_needs_no_content_type() {
    let event = read(with(r#","data_base64":"MQ==""#));
    assert_eq!(event.payload().unwrap(), "1");
    assert_eq!(event.content_type(), None);
    let event = read(with(
        r#","datacontenttype":"application/json","data_base64":"eyA=""#,
    ));
    assert_eq!(event.payload().unwrap(), "{ ");
}

#[test]
fn data_of_another_media_type_is_text() {
    assert_refused(
        with(r#","datacontenttype":"text/plain","data":5"#),
        "`data`",
    );
    assert_refused(
        with(r#","datacontenttype":"application/xml","data":{"a":"hunter2"}"#),
        "`data` is no string",
    );
    let latin = r#","datacontenttype":"text/plain;charset=iso-8859-1","data":"#;
    assert_refused(with(&format!(r#"{latin}"é""#)), "charset");
    assert_eq!(
        read(with(&format!(r#"{latin}"e""#))).payload().unwrap(),
        "e"
    );
}

#[test]
fn data_is_given_once() {
    assert_refused(
        with(r#","data":1,"data_base64":"MQ==""#),
        "`data` and `data_base64` exclude each other",
    );
    assert_refused(
        with(r#","data_base64":"hunter2!""#),
        "`data_base64` is no base64",
    );
    assert_refused(
        with(r#","data_base64":["hunter2"]"#),
        "`data_base64` is no string",
    );
}

#[test]
fn required_attributes_are_required() {
    let all = [
        ("specversion", r#""1.0""#),
        ("id", r#""1""#),
        ("source", r#""/s""#),
        ("type", r#""t""#),
    ];
    for (missing, _) in all {
        for instead in [
            None,
            Some("null"),
            Some(r#""""#),
            Some("7"),
            Some("{}"),
            Some("true"),
        ] {
            let members: Vec<String> = all
                .iter()
                .filter_map(|(name, value)| {
                    let value = if *name == missing { instead? } else { value };
                    Some(format!("\"{name}\":{value}"))
                })
                .collect();
            let message = refused(format!("{{{}}}", members.join(",")));
            assert!(
                message.contains(missing) || message.contains("event id"),
                "{message} lacks {missing}"
            );
        }
    }
    assert_refused(with("").replace("1.0", "0.3"), "`specversion` is not 1.0");
}

#[test]
fn optional_attributes_have_their_types() {
    for name in [
        "subject",
        "time",
        "datacontenttype",
        "dataschema",
        "partitionkey",
    ] {
        for value in ["5", "true", "[]", "{}"] {
            let message = refused(with(&format!(r#","{name}":{value}"#)));
            assert!(
                message.contains(&format!("`{name}` is no string")),
                "{message}"
            );
        }
        read(with(&format!(r#","{name}":null"#)));
    }
    for name in ["subject", "time", "datacontenttype", "dataschema"] {
        assert_refused(with(&format!(r#","{name}":"""#)), name);
    }
    for time in [
        "hunter2",
        "2018-04-05",
        "2018-04-05T17:31:00",
        "2018-13-05T17:31:00Z",
        "5",
    ] {
        assert_refused(
            with(&format!(r#","time":"{time}""#)),
            "`time` is no RFC 3339 time",
        );
    }
}

#[test]
fn times_keep_their_offset_and_fraction() {
    for time in [
        "2018-04-05T17:31:00+02:00",
        "2018-04-05T17:31:00.123456789-11:30",
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999999Z",
    ] {
        let event = read(with(&format!(r#","time":"{time}""#)));
        assert_eq!(event.time().unwrap().to_string(), time);
        let written = String::from_utf8(cloudevents::to_vec(&event).unwrap()).unwrap();
        assert!(
            written.contains(&format!(r#""time":"{time}""#)),
            "{written}"
        );
    }
}

#[test]
fn extensions_keep_their_type() {
    let document =
        with(r#","flag":true,"off":false,"number":-2147483648,"text":"5","n9":2147483647"#);
    let event = read(document.clone());
    assert_eq!(event.attribute("flag"), Some(&true.into()));
    assert_eq!(event.attribute("off"), Some(&false.into()));
    assert_eq!(event.attribute("number"), Some(&i32::MIN.into()));
    assert_eq!(event.attribute("n9"), Some(&i32::MAX.into()));
    assert_eq!(event.attribute("text"), Some(&"5".into()));
    assert!(matches!(
        event.attribute("text"),
        Some(AttributeValue::String(_))
    ));
    assert_eq!(cloudevents::to_vec(&event).unwrap(), document.as_bytes());
}

#[test]
fn extensions_of_other_types_are_refused() {
    for value in [
        "1.5",
        "1.0",
        "1e3",
        "2147483648",
        "-2147483649",
        "[]",
        "{}",
        "[\"hunter2\"]",
    ] {
        assert_refused(with(&format!(r#","weight":{value}"#)), "`weight`");
    }
    for text in [
        r"a\u0000b",
        r"a\n",
        r"\u007f",
        r"\u009f",
        r"\ufdd0",
        r"\uffff",
        r"\ud83f\udffe",
    ] {
        assert_refused(with(&format!(r#","note":"{text}""#)), "`note`");
        assert_refused(with(&format!(r#","subject":"{text}""#)), "`subject`");
    }
    assert_refused(with(r#","note":"\ud800""#), "`note` is no string");
}

#[test]
fn attribute_names_are_lower_case_letters_and_digits() {
    read(with(
        r#","a":1,"9":1,"0a":1,"thisnameislongerthantwentycharacters":1"#,
    ));
    for name in [
        "Note",
        "my_note",
        "my-note",
        "",
        "é",
        "a b",
        r"a\u0000",
        r"n\ud83d\ude00",
    ] {
        refused(with(&format!(r#","{name}":1"#)));
    }
    let message = refused(with(r#","a\n\u001b[31mb":{}"#));
    assert!(!message.contains(['\n', '\u{1b}']), "{message:?}");
}

#[test]
fn no_member_comes_twice() {
    for member in [
        r#""id":"2""#,
        r#""id":null"#,
        r#""i\u0064":"1""#,
        r#""data":1,"data":1"#,
        r#""a":1,"a":1"#,
        r#""a":null,"a":1"#,
    ] {
        assert_refused(with(&format!(",{member}")), "comes twice");
    }
}

#[test]
fn a_document_is_one_object() {
    for document in [
        "",
        " ",
        "null",
        "5",
        "\"hunter2\"",
        "[]",
        "{",
        "{}",
        "hunter2",
        "{\"hunter2",
        "\u{feff}{}",
        "{'id':1}",
    ] {
        refused(document);
    }
    let good = with("");
    refused(format!("{good} {good}"));
    refused(format!("{good}hunter2"));
    refused(format!("[{good}]"));
    refused(good[..good.len() - 1].to_owned());
    refused(&b"{\"specversion\":\"1.0\",\"id\":\"\xff\"}"[..]);
    read(format!(" \r\n\t{good}\n "));
}

#[test]
fn bombs_are_refused_or_cost_no_stack() {
    let deep = |open: &str, close: &str| open.repeat(500_000) + &close.repeat(500_000);
    assert_refused(with(&format!(r#","note":{}"#, deep("[", "]"))), "`note`");
    assert_refused(
        with(&format!(r#","id2":{}"#, deep("{\"a\":", "}"))),
        "no CloudEvent",
    );
    let event = read(with(&format!(r#","data":{}"#, deep("[", "]"))));
    assert_eq!(event.payload().unwrap().len(), 1_000_000);

    assert_refused(vec![b' '; MAX_DOCUMENT + 1], "bytes");
    let many: String = (0..=MAX_MEMBERS).map(|n| format!(",\"n{n}\":1")).collect();
    assert_refused(with(&many), "members");
}

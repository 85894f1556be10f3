//! Envelopes and ids: what is equal, what a copy keeps, what a child takes over.

use std::sync::Arc;

use interline_core::{
    AttributeValue, Bytes, Envelope, EventId, EventKey, HeaderName, Key, Kind, Timestamp,
    extension, is_attribute_char,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

fn text() -> impl Strategy<Value = String> {
    vec(any::<char>(), 1..12)
        .prop_map(|text| text.into_iter().filter(|c| is_attribute_char(*c)).collect())
        .prop_filter("empty", |text: &String| !text.is_empty())
}

fn bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    option::of(vec(any::<u8>(), 0..16))
}

prop_compose! {
    fn envelopes()(
        id in text(),
        kind in (text(), text(), option::of(text()), option::of(text())),
        time in option::of(-62_167_219_200_000_i64..253_402_300_800_000),
        (key, payload) in (bytes(), bytes()),
        subject in option::of(text()),
        attributes in btree_map("x[a-z0-9]{1,8}", text(), 0..4),
        headers in vec(("x-[a-z]{1,3}", vec(any::<u8>(), 0..4)), 0..4),
    ) -> Envelope {
        let (source, ty, content_type, schema) = kind;
        let mut kind = Kind::new(source, ty).expect("legal");
        if let Some(content_type) = content_type {
            kind = kind.content_type(content_type);
        }
        if let Some(schema) = schema {
            kind = kind.schema(schema);
        }
        let mut builder = Envelope::builder(kind).id(EventId::parse(id).expect("legal"));
        if let Some(time) = time {
            builder = builder.time(Timestamp::from_unix_millis(time));
        }
        if let Some(subject) = subject {
            builder = builder.subject(subject);
        }
        for (name, value) in attributes {
            builder = builder.attribute(name, value);
        }
        for (name, value) in headers {
            builder = builder.header(name, value);
        }
        builder
            .build()
            .expect("legal")
            .with_key(key.map(Key::from))
            .with_payload(payload.map(Bytes::from))
    }
}

/// The same envelope with one part changed, in every way there is.
fn variants(envelope: &Envelope) -> Vec<Envelope> {
    let longer = |bytes: Option<&[u8]>| bytes.map(|bytes| [bytes, b"x"].concat());
    let mut header = envelope.clone();
    header.headers_mut().push(HeaderName::from_static("x"), "");
    let mut attribute = envelope.clone();
    attribute.set_attribute("y", 1).expect("legal");
    let mut subject = envelope.clone();
    subject.set_subject(format!("{}x", envelope.subject().unwrap_or_default()));
    let other = |id: EventId, kind: Arc<Kind>| {
        Envelope::from_parts(
            id,
            kind,
            envelope.time(),
            envelope.key().cloned(),
            envelope.payload().cloned(),
        )
    };
    let kind = Kind::clone(envelope.kind()).content_type(format!("{:?}x", envelope.content_type()));
    let empty = |part: Option<&[u8]>| part.is_none().then(Vec::new);
    let key = envelope.key().map(|key| &**key);
    let payload = envelope.payload().map(|payload| &**payload);
    vec![
        envelope.clone().with_key(empty(key).map(Key::from)),
        envelope
            .clone()
            .with_payload(empty(payload).map(Bytes::from)),
        envelope
            .clone()
            .with_key(longer(key).map_or(Some("x".into()), |key| Some(key.into()))),
        envelope
            .clone()
            .with_payload(longer(payload).map_or(Some("x".into()), |bytes| Some(bytes.into()))),
        other(EventId::new(), Arc::clone(envelope.kind())),
        other(envelope.id().clone(), kind.into()),
        header,
        attribute,
        subject,
    ]
}

proptest! {
    #[test]
    fn a_copy_is_equal_and_any_change_is_not(envelope in envelopes()) {
        prop_assert_eq!(&envelope.clone(), &envelope);
        prop_assert_eq!(&envelope.detached(), &envelope);
        prop_assert_eq!(&envelope.clone().into_foreign(), &envelope);
        for changed in variants(&envelope) {
            prop_assert_ne!(&changed, &envelope);
        }
    }

    #[test]
    fn a_detached_copy_shares_no_bytes(envelope in envelopes()) {
        let copy = envelope.detached();
        let key = |envelope: &Envelope| envelope.key().map(|key| key.as_ptr_range());
        let payload = |envelope: &Envelope| envelope.payload().map(|bytes| bytes.as_ptr_range());
        for (old, new) in [(key(&envelope), key(&copy)), (payload(&envelope), payload(&copy))] {
            if let (Some(old), Some(new)) = (old, new)
                && !old.is_empty()
            {
                prop_assert_ne!(old.start, new.start);
            }
        }
    }

    #[test]
    fn attributes_have_no_order_and_headers_have_one(
        envelope in envelopes(),
        values in btree_map("z[a-z0-9]{1,4}", any::<i32>(), 2..6),
    ) {
        let mut forwards = envelope.clone();
        let mut backwards = envelope;
        for (name, value) in &values {
            forwards.set_attribute(name.clone(), *value).expect("legal");
            forwards.headers_mut().push(HeaderName::foreign(name.clone()), vec![]);
        }
        for (name, value) in values.iter().rev() {
            backwards.set_attribute(name.clone(), *value).expect("legal");
        }
        prop_assert_eq!(forwards.attributes(), backwards.attributes());
        for name in values.keys().rev() {
            backwards.headers_mut().push(HeaderName::foreign(name.clone()), vec![]);
        }
        prop_assert_ne!(forwards.headers(), backwards.headers());
    }

    #[test]
    fn a_child_takes_the_cause_and_nothing_else(
        (parent, child) in (envelopes(), envelopes()),
        (correlation, tenants) in (option::of(text()), (option::of(text()), option::of(text()))),
    ) {
        let with = |mut envelope: Envelope, name, value: &Option<String>| {
            if let Some(value) = value {
                envelope.set_attribute(name, value.clone()).expect("legal");
            }
            envelope
        };
        let parent = with(parent, extension::CORRELATION_ID, &correlation);
        let parent = with(parent, extension::TENANT_ID, &tenants.0);
        let child = with(child, extension::TENANT_ID, &tenants.1);
        let caused = child.clone().caused_by(&parent);

        let cause = parent.id().to_text();
        prop_assert_eq!(caused.causation_id(), Some(&*cause));
        prop_assert_eq!(caused.correlation_id(), correlation.as_deref().or(Some(&cause)));
        prop_assert_eq!(caused.tenant_id(), tenants.1.as_deref().or(tenants.0.as_deref()));
        prop_assert_eq!((caused.id(), caused.kind()), (child.id(), child.kind()));
        prop_assert_eq!((caused.key(), caused.payload()), (child.key(), child.payload()));
        prop_assert_eq!(caused.headers(), child.headers());
        for (name, value) in child.attributes().iter() {
            prop_assert_eq!(caused.attribute(name), Some(value));
        }
        prop_assert_eq!(caused.clone().caused_by(&parent), caused);
    }

    #[test]
    fn debug_shows_sizes_and_no_contents(envelope in envelopes()) {
        let secret = "hunter2";
        let mut envelope = envelope
            .with_key(Some(secret.into()))
            .with_payload(Some(secret.into()));
        envelope.headers_mut().push(HeaderName::from_static("x"), secret);
        envelope.set_attribute("userid", secret).expect("legal");
        let shown = format!("{envelope:?} {:?}", envelope.headers());
        prop_assert!(!shown.contains(secret), "{}", shown);
    }

    #[test]
    fn an_id_keeps_its_text(text in prop_oneof![any::<String>(), "[0-9a-fA-F-]{36}", "\\PC{100,140}"]) {
        let legal = (1..=128).contains(&text.len()) && !text.chars().any(char::is_control);
        match EventId::parse(&text) {
            Ok(id) => {
                prop_assert!(legal);
                prop_assert_eq!(&*id.to_text(), &text);
                prop_assert_eq!(id.to_string(), text);
            }
            Err(_) => prop_assert!(!legal),
        }
    }

    #[test]
    fn a_uuid_is_the_id_of_its_text(bytes in any::<[u8; 16]>(), index in any::<u32>()) {
        let id = EventId::from(uuid::Uuid::from_bytes(bytes));
        prop_assert_eq!(EventId::parse(id.to_text()).expect("its own text"), id.clone());
        prop_assert_eq!(id.identity("/a"), id.identity("/b"));
        let derived = id.derived("g", index);
        prop_assert_eq!(EventId::parse(derived.to_text()).expect("its own text"), derived.clone());
        prop_assert_ne!(derived, id);
    }

    #[test]
    fn copies_are_told_by_source_and_id(
        // So few characters that two pairs often make one text when they are joined.
        (a, b) in ("[ab]{1,3}", "[ab]{1,3}"),
        (c, d) in ("[ab]{1,3}", "[ab]{1,3}"),
    ) {
        let id = |text: &str| EventId::parse(text).expect("legal");
        prop_assert_eq!(id(&a).identity(&b) == id(&c).identity(&d), (&a, &b) == (&c, &d));
    }

    #[test]
    fn an_attribute_reads_back_as_its_text(number in any::<i32>(), flag in any::<bool>()) {
        let text = |value: AttributeValue| value.to_text().to_string();
        prop_assert_eq!(text(number.into()).parse::<i32>().expect("a number"), number);
        prop_assert_eq!(text(flag.into()).parse::<bool>().expect("a flag"), flag);
    }

    #[test]
    fn the_key_of_a_value_is_its_text_or_its_bytes(text in any::<String>(), number in any::<i128>()) {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let (boxed, shared) = (Some(Box::new(text.clone())), Arc::<str>::from(&*text));
        let borrowed = std::borrow::Cow::from(&*text);
        for key in [
            text.to_key(),
            text.as_str().to_key(),
            (&&text).to_key(),
            boxed.to_key(),
            shared.to_key(),
            borrowed.to_key(),
            text.as_bytes().to_key(),
            bytes.to_key(),
        ] {
            prop_assert_eq!(key.as_deref(), Some(&*bytes));
        }
        prop_assert_eq!(number.to_key(), Some(number.to_string().into_bytes().into()));
        prop_assert_eq!(None::<&str>.to_key(), None);
    }
}

#[test]
fn fresh_ids_sort_by_the_time_of_their_making() {
    let at = |millis| EventId::at(Timestamp::from_unix_millis(millis));
    let ids: Vec<EventId> = (1_700_000_000_000..1_700_000_001_000).map(at).collect();
    assert!(ids.is_sorted_by(|a, b| a < b));
    assert_ne!(at(0), at(0));
}

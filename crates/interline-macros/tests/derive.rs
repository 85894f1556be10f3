//! What the derive writes, with the crates that users of single crates have.

use std::borrow::Cow;

use interline_core::Event as _;
use interline_macros::Event;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Serialize, Deserialize, Event)]
#[event(type = "shop.order.placed", topic = "shop.orders", key = customer)]
#[event(crate = interline_core, codec = interline_json::Json, version = 2)]
struct Placed {
    order: u64,
    customer: String,
}

#[test]
fn a_struct_names_its_type_topic_schema_and_key() {
    assert_eq!(Placed::TYPE, "shop.order.placed");
    assert_eq!(Placed::TOPIC, "shop.orders");
    assert_eq!(Placed::SCHEMA, Some("urn:event:shop.order.placed:2"));
    let placed = Placed {
        order: 1,
        customer: "ada".into(),
    };
    assert_eq!(placed.order, 1);
    assert_eq!(placed.key().as_deref(), Some(&b"ada"[..]));
}

/// A crate of our own that exports what the derive asks for, instead of naming the codec.
mod bus {
    pub(crate) use interline_core::{Event, EventKey};
    pub(crate) mod json {
        pub(crate) use interline_json::Json;
    }
}

#[derive(Serialize, Deserialize, Event)]
#[event(crate = bus, type = "clock.tick", topic = "clock", schema = "https://x.test/tick")]
struct Tick;

#[test]
fn a_unit_struct_has_no_key_and_the_codec_of_the_crate() {
    fn codec<E: interline_core::Event<Codec = interline_json::Json>>(_: &E) {}
    codec(&Tick);
    assert_eq!(Tick.key(), None);
    assert_eq!(Tick::SCHEMA, Some("https://x.test/tick"));
}

#[derive(Serialize, Deserialize, Event)]
#[event(crate = bus, type = "t", topic = "t", key = 1)]
struct Pair(u8, i64);

#[derive(Serialize, Deserialize, Event)]
#[event(crate = bus, type = "t", topic = "t", key = "self.address.city.as_str()")]
struct Nested {
    address: Address,
}

#[derive(Serialize, Deserialize)]
struct Address {
    city: String,
}

#[derive(Serialize, Deserialize, Event)]
#[event(crate = bus, type = "t", topic = "t", key = id)]
enum Account {
    Opened { id: Uuid, owner: String },
    Closed { id: Uuid },
}

#[derive(Serialize, Deserialize, Event)]
#[event(crate = bus, type = "t", topic = "t", key = 0)]
enum Indexed {
    A(Option<String>, u8),
    B(u32),
}

#[derive(Serialize, Deserialize, Event)]
#[event(crate = bus, type = "t", topic = "t", key = r#type)]
struct Keyword {
    r#type: [u8; 2],
}

#[test]
fn keys_come_from_fields_of_every_shape() {
    let text = |key: Option<Cow<'_, [u8]>>| {
        key.map(|key| String::from_utf8(key.into_owned()).expect("text"))
    };
    assert_eq!(text(Pair(0, -7).key()).as_deref(), Some("-7"));
    let address = Address { city: "ulm".into() };
    assert_eq!(text(Nested { address }.key()).as_deref(), Some("ulm"));
    let id = Uuid::nil();
    let owner = String::new();
    for account in [Account::Opened { id, owner }, Account::Closed { id }] {
        assert_eq!(text(account.key()), Some(id.to_string()));
    }
    assert_eq!(Indexed::A(None, 1).key(), None);
    assert_eq!(
        text(Indexed::A(Some(String::new()), 1).key()).as_deref(),
        Some("")
    );
    assert_eq!(text(Indexed::B(5).key()).as_deref(), Some("5"));
    assert_eq!(
        Keyword { r#type: [0, 255] }.key(),
        Some(b"\x00\xff"[..].into())
    );
}

#[test]
fn mistakes_are_told_at_compile_time() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/pass.rs");
    cases.compile_fail("tests/ui/fail_*.rs");
}

//! Only known settings, each once, each of its kind.

use interline_macros::Event;

#[derive(Event)]
#[event(type = "a.b", topic = "orders", keys = id)]
struct Unknown {
    id: u8,
}

#[derive(Event)]
#[event(type = "a.b", topic = "orders", type = "a.c")]
struct Twice;

#[derive(Event)]
#[event(type = 5, topic = "orders")]
struct Number;

#[derive(Event)]
#[event(type, topic = "orders")]
struct NoValue;

#[derive(Event)]
#[event(type = "a.b", topic = "orders", version = "two")]
struct TextVersion;

#[derive(Event)]
#[event(type = "a.b", topic = "orders", version = 2, schema = "https://x.test/a")]
struct Both;

#[derive(Event)]
#[event(type = "a b", topic = "orders", version = 2)]
struct NoUrn;

fn main() {}

//! Generic types and unions are no events.

use interline_macros::Event;

#[derive(Event)]
#[event(type = "a.b", topic = "orders")]
struct Generic<T>(T);

#[derive(Event)]
#[event(type = "a.b", topic = "orders")]
struct Borrowed<'a>(&'a str);

#[derive(Event)]
#[event(type = "a.b", topic = "orders", key = a)]
union Either {
    a: u8,
    b: i8,
}

#[derive(Event)]
#[event(type = "a.b", topic = "orders")]
union Keyless {
    a: u8,
    b: i8,
}

fn main() {}

//! A key is a field, or an expression in quotes.

use interline_macros::Event;

#[derive(Event)]
#[event(type = "a.b", topic = "orders", key = customr)]
struct Misspelt {
    order: u64,
    customer: String,
}

#[derive(Event)]
#[event(type = "a.b", topic = "orders", key = 2)]
struct Index(u8, u8);

#[derive(Event)]
#[event(type = "a.b", topic = "orders", key = id)]
enum Variants {
    Opened { id: u8 },
    Closed,
}

#[derive(Event)]
#[event(type = "a.b", topic = "orders", key = address.city)]
struct Dotted {
    address: u8,
}

#[derive(Event)]
#[event(type = "a.b", topic = "orders", key = "")]
struct Empty;

fn main() {}

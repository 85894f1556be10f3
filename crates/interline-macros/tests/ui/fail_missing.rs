//! Type and topic are needed.

use interline_macros::Event;

#[derive(Event)]
struct Bare;

#[derive(Event)]
#[event(topic = "orders")]
struct NoType;

#[derive(Event)]
#[event(type = "a.b")]
struct NoTopic;

fn main() {}

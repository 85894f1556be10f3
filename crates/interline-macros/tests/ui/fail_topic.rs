//! A topic follows the rules of `Topic`, a type those of CloudEvents.

use interline_macros::Event;

#[derive(Event)]
#[event(type = "a.b", topic = "no spaces")]
struct Spaces;

#[derive(Event)]
#[event(type = "a.b", topic = "orders..eu")]
struct EmptyToken;

#[derive(Event)]
#[event(type = "a.b", topic = "orders.billing.dlq")]
struct Reserved;

#[derive(Event)]
#[event(type = "", topic = "orders")]
struct EmptyType;

#[derive(Event)]
#[event(type = "a\nb", topic = "orders")]
struct ControlType;

fn main() {}

//! A key is text, bytes, a number or a UUID.

use interline_macros::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(type = "a.b", topic = "orders", key = weight)]
#[event(crate = interline_core, codec = interline_json::Json)]
struct Weight {
    weight: f64,
}

#[derive(Serialize, Deserialize, Event)]
#[event(type = "a.b", topic = "orders", key = "self.weight.round()")]
#[event(crate = interline_core, codec = interline_json::Json)]
struct Rounded {
    weight: f64,
}

fn main() {}

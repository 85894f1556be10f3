//! What holds on a real broker, named by `INTERLINE_KAFKA_URL`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod broken;
mod members;
mod publishing;
mod relay;
mod round_trip;
mod security;
mod support;

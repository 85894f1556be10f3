//! What holds on a real broker, named by `INTERLINE_KAFKA_URL`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod members;
mod publishing;
mod round_trip;
mod security;
mod support;

//! What holds on a real broker, named by `INTERLINE_KAFKA_URL`.

mod members;
mod publishing;
mod round_trip;
mod security;
mod support;

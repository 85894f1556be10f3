//! What this transport promises beyond the contract, on a real server. `INTERLINE_NATS_URL` names
//! it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod batches;
mod fake;
mod groups;
mod proxy;
mod publishing;
mod raw;
mod reading;
mod security;
mod support;

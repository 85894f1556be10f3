//! The transport on a real server that `INTERLINE_REDIS_URL` names.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod foreign;
mod inbox;
mod members;
mod publishing;
mod security;
mod support;
mod topics;
mod trimming;

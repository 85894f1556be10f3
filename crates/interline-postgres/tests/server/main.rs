//! What the conformance suite does not ask, on a real server: `INTERLINE_POSTGRES_URL` names it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod groups;
mod horizon;
mod inbox;
mod keeping;
mod proxy;
mod publishing;
mod security;
mod sql;
mod support;

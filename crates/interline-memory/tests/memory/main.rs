//! The memory transport through its public handles.

#![expect(clippy::unwrap_used, reason = "a helper of tests may fail its test")]

mod basics;
mod common;
mod keeping;
mod ownership;

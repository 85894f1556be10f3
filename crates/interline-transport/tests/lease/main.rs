//! Leases: many members under a simulated clock, and the feed and control of one.

#![expect(clippy::unwrap_used, reason = "a helper of tests may fail its test")]

mod checker;
mod process;
mod simulation;
mod subscription;
mod table;
mod world;
mod yard;

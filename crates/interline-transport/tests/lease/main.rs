//! Leases: many members under a simulated clock, and the runtime's feed and control.

mod checker;
mod process;
mod simulation;
mod table;
mod world;

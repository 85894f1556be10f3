#![doc = include_str!("../README.md")]

mod checker;
mod event;
mod faulty;
mod harness;
mod journal;
mod member;
mod scenarios;
mod scene;
mod suite;
mod test_bus;
#[cfg(test)]
mod tests;
mod verdict;

pub use crate::faulty::{
    CommitFault, Faults, Faulty, FaultyControl, FaultyFeed, FaultyPublisher, Refusal, Stored,
};
pub use crate::harness::{Foreign, Harness};
pub use crate::journal::{Gate, Journal};
pub use crate::scenarios::{SCENARIOS, SMOKE};
pub use crate::suite::{Ending, Need, Outcome, Scenario, Suite};
pub use crate::test_bus::TestBus;
pub use crate::verdict::{Breach, Verdict};

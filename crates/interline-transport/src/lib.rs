#![doc = include_str!("../README.md")]

pub mod balance;
pub mod checkpoint;
pub mod lease;
pub mod partition;
pub mod settings;
pub mod tally;
pub mod window;
pub mod wire;

#![doc = include_str!("../README.md")]

mod bridge;
mod bus;
mod declared;
mod delivery;
mod engine;
mod group;
mod handler;
mod publish;
mod raw;
mod replay;
mod router;
mod workers;

pub use crate::bus::Bus;
pub use crate::delivery::Delivery;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub use crate::engine::parts;
pub use crate::engine::{DrainReport, GroupStats, Unfinished};
pub use crate::group::GroupBuilder;
pub use crate::handler::{
    BatchHandler, BatchOptions, Context, Extract, Handled, Handler, Item, Outcomes, RawHandler,
    Setup, Shared, State, Witness,
};
pub use crate::publish::Publish;
pub use crate::raw::{Deliveries, RawDelivery};
pub use crate::replay::{Record, Records, Replay};
pub use crate::workers::Workers;

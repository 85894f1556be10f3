//! Handlers: plain async functions over events and extractors.

mod batch;
mod extract;
mod function;
mod slot;
mod witness;

pub(crate) use self::batch::batch_route;
pub use self::batch::{BatchHandler, BatchOptions, Item, Outcomes};
pub use self::extract::{Context, Extract, Setup, Shared, State};
pub use self::function::{Handler, RawHandler};
pub(crate) use self::function::{raw_route, typed_route};
pub(crate) use self::slot::{Finished, Route, Slot};
pub use self::witness::Witness;

use interline_reliability::Failure;

/// What a handler returns: `Ok` settles the event, an error is retried or dead-lettered.
pub type Handled = Result<(), Failure>;

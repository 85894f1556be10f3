//! Partitions shared among the members of a group by lease, over any store that can compare and
//! set.
//!
//! A transport implements [`LeaseStore`] (who owns what, with checkpoints), [`Source`] (reading
//! owned partitions) and [`Leased`], which hands both out.

mod source;
mod store;
mod timing;

pub use self::source::Source;
pub use self::store::{Entry, Grant, Lease, LeaseStore, Leased, MemberId, Picture, Seen};
pub use self::timing::Timing;

//! Partitions shared among the members of a group by lease, over any store that can compare and
//! set.
//!
//! A transport implements [`LeaseStore`] (who owns what, with checkpoints), [`Source`] (reading
//! owned partitions) and [`Leased`], which hands both out; [`subscribe`] makes of them the feed
//! and the control of a member. Everything else is here, once: who should own what ([`Leases`]),
//! looking every second, stopping by oneself when the store cannot be reached, reading ahead, and
//! the order of signals.

mod end;
mod leases;
mod source;
mod store;
mod subscription;
mod timing;

pub use self::end::End;
pub use self::leases::{Calls, Leases, Look, Order};
pub use self::source::Source;
pub use self::store::{Entry, Grant, Lease, LeaseStore, Leased, MemberId, Picture, Seen};
pub use self::subscription::{Control, Feed, WeakControl, subscribe};
pub use self::timing::Timing;

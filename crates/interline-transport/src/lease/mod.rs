//! Partitions shared among the members of a group by lease, over any store that can compare and
//! set.
//!
//! A transport implements [`LeaseStore`] (who owns what, with checkpoints), [`Source`] (reading
//! owned partitions) and [`Leased`], which hands both out; [`subscribe`] makes of them the feed
//! and the control of a member. Everything else is here, once: who should own what ([`Leases`]),
//! looking every second, stopping by oneself when the store cannot be reached, reading ahead, and
//! the order of signals.
//!
//! # How it works
//! Each member looks every second ([`Timing`]): it shows that it lives, renews what it owns and
//! gets a picture of the group. All members apply one rule to it ([`balance`](crate::balance)):
//! they claim what is due to them, and give up what others lack. A claim is a compare-and-set, so
//! that of two members with old pictures one is refused.
//!
//! - **Safety** is the fence's: a checkpoint is stored only under member and fence of the last
//!   grant, whatever clocks and networks do. A commit that gets no answer loses its partitions,
//!   since it could still overtake a later one.
//! - **An owner stops by itself** when it has not renewed for ten seconds, by its own clock and
//!   counted from the beginning of the last look that was answered; others take over after
//!   fifteen by the store's. What it owned it gets back only under a new fence.
//! - **A silent member**, whose feed nobody asks, renews no more after five seconds: one that
//!   hangs must not keep its partitions.
//! - **An instance that starts again** has a higher session: it takes what its former session
//!   owned without waiting for the lease, and a former one that still lives ends, replaced.
//! - **Nothing stays free**: a partition of a dead member is owned again a tick after its lease,
//!   two if the member that it is due to dies too; one that was released, within a tick.
//! - **Nothing moves** in a group that has settled; who comes costs as many moves as it gets
//!   partitions, who goes as many as it had.
//!
//! The tests of this crate simulate all of it, with members that are stopped and lose their
//! clocks, and run the conformance suite over it.

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

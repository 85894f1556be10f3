//! The inbox: what a group has handled before.

use std::fmt;
use std::time::Duration;

use uuid::Uuid;

use crate::{BoxFuture, Group, Result};

/// The two-phase memory of what a group has handled: an event is claimed before its handler runs
/// and marked done after it succeeded.
///
/// A failed or abandoned attempt never marks an event done, so no event is lost to its own retry.
/// A claim lapses by itself; two attempts may overlap if a handler outlives its claim.
pub trait Inbox: fmt::Debug + Send + Sync {
    /// Claims the event `id` for `lease`.
    ///
    /// # Errors
    /// When the store cannot be reached; the delivery is tried again.
    fn claim<'a>(
        &'a self,
        group: &'a Group,
        id: Uuid,
        lease: Duration,
    ) -> BoxFuture<'a, Result<Claim>>;

    /// Marks a claimed event as done.
    ///
    /// # Errors
    /// When the store cannot be reached; the delivery is not acked.
    fn done<'a>(&'a self, group: &'a Group, id: Uuid) -> BoxFuture<'a, Result<()>>;

    /// Gives a claim back after a failed attempt.
    ///
    /// # Errors
    /// When the store cannot be reached; the claim then lapses by itself.
    fn release<'a>(&'a self, group: &'a Group, id: Uuid) -> BoxFuture<'a, Result<()>>;
}

/// What an inbox answers to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The event is new, and claimed.
    Fresh,
    /// The group has handled it before.
    Done,
    /// Another attempt holds the claim for at most this long.
    Busy(Duration),
}

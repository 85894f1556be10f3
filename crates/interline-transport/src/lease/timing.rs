//! How long things take.

use std::time::Duration;

/// The times of leases. Every member of a group should have the same.
///
/// An owner stops by its own clock before others may take over by the store's: its clock may be
/// slower by a third ([`lease`](Self::lease) over [`give_up`](Self::give_up)) before the two
/// overlap. Fences hold whatever the clocks do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How often a member looks. A free partition is left to whom it is due for a quarter more.
    pub tick: Duration,
    /// How long a member lives that does not look, by the store's clock.
    pub lease: Duration,
    /// How long an owner goes on that could not renew, by its own clock.
    pub give_up: Duration,
    /// How long an owner may take to release what is revoked.
    pub revoke: Duration,
    /// How long one answer of the store is waited for. Shorter than a third of `give_up`, so that
    /// one lost answer costs no partition.
    pub answer: Duration,
    /// How often the list of topics is read again.
    pub topics: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            tick: Duration::from_secs(1),
            lease: Duration::from_secs(15),
            give_up: Duration::from_secs(10),
            revoke: Duration::from_secs(10),
            answer: Duration::from_secs(3),
            topics: Duration::from_secs(2),
        }
    }
}

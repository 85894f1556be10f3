//! Up to where partitions are known to hold nothing more.
//!
//! Positions of a partition are sequences of its stream, which the other partitions share. When
//! old events expire, a quiet partition's last position falls below what the stream still holds
//! although nothing of it was lost. What a reading has seen to be empty tells the two apart.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use interline_core::Partition;

/// What the reading of a member knows, for its checkpoints, and the other way round.
#[derive(Debug, Default)]
pub(crate) struct Horizons(Mutex<HashMap<Partition, Horizon>>);

/// The partition has no event in `(last, seen]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Horizon {
    last: u64,
    seen: u64,
}

impl Horizons {
    fn lock(&self) -> MutexGuard<'_, HashMap<Partition, Horizon>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that there is no event behind `last` up to `seen`.
    pub(crate) fn note(&self, partition: &Partition, last: u64, seen: u64) {
        self.lock()
            .insert(partition.clone(), Horizon { last, seen });
    }

    /// Up to where there is no event behind `last`; at least `last` itself.
    pub(crate) fn behind(&self, partition: &Partition, last: u64) -> u64 {
        let known = self.lock().get(partition).copied();
        known
            .filter(|horizon| horizon.last == last)
            .map_or(last, |horizon| horizon.seen.max(last))
    }
}

#[cfg(test)]
mod tests {
    use interline_core::Topic;

    use super::*;

    #[test]
    fn an_older_position_knows_nothing() {
        let partition = Partition::new(Topic::new("a").unwrap(), 0);
        let horizons = Horizons::default();
        assert_eq!(horizons.behind(&partition, 7), 7);
        horizons.note(&partition, 7, 90);
        assert_eq!(horizons.behind(&partition, 7), 90);
        assert_eq!(horizons.behind(&partition, 6), 6);
        assert_eq!(horizons.behind(&partition, 8), 8);
    }
}

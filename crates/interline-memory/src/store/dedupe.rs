//! The identities of the last events of a topic.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

/// How many identities one generation holds; two are kept, so at least this many are known.
pub(crate) const GENERATION: usize = 65_536;

/// Where in its partition an event with a known identity is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) index: u64,
}

/// Two generations of identities: when the young one is full, the old one is forgotten.
#[derive(Debug)]
pub(crate) struct Window {
    young: HashMap<u128, Place, Seed>,
    old: HashMap<u128, Place, Seed>,
}

impl Window {
    pub(crate) fn new() -> Self {
        let seed = Seed::random();
        Self {
            young: HashMap::with_hasher(seed),
            old: HashMap::with_hasher(seed),
        }
    }

    pub(crate) fn place(&self, identity: u128) -> Option<Place> {
        let known = self.young.get(&identity);
        known.or_else(|| self.old.get(&identity)).copied()
    }

    pub(crate) fn insert(&mut self, identity: u128, place: Place) {
        if self.young.len() >= GENERATION {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(identity, place);
    }
}

/// Identities are random or hashes already: one multiplication under a secret is enough to
/// spread them, and callers who choose ids cannot aim at one bucket.
#[derive(Clone, Copy, Debug)]
struct Seed(u64, u64);

impl Seed {
    fn random() -> Self {
        let state = RandomState::new();
        Self(state.hash_one(0), state.hash_one(1))
    }
}

impl BuildHasher for Seed {
    type Hasher = Folded;

    fn build_hasher(&self) -> Folded {
        Folded {
            seed: *self,
            hash: 0,
        }
    }
}

struct Folded {
    seed: Seed,
    hash: u64,
}

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u128(u128::from(*byte) ^ u128::from(self.hash));
        }
    }

    fn write_u128(&mut self, number: u128) {
        let (high, low) = ((number >> 64) as u64, number as u64);
        let product = u128::from(high ^ self.seed.0) * u128::from(low ^ self.seed.1);
        self.hash = (product >> 64) as u64 ^ product as u64;
    }

    fn finish(&self) -> u64 {
        self.hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_generation_is_always_known() {
        let mut window = Window::new();
        let place = |n: usize| Place { index: n as u64 };
        for n in 0..3 * GENERATION {
            assert_eq!(window.place(n as u128), None);
            window.insert(n as u128, place(n));
            let oldest = n.saturating_sub(GENERATION - 1);
            assert_eq!(window.place(oldest as u128), Some(place(oldest)));
        }
        assert!(window.young.len() + window.old.len() <= 2 * GENERATION);
    }
}

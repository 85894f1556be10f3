//! The identities of the last events of a topic.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, Hasher, RandomState};

/// How many identities one generation holds; two are kept, so at least this many are known.
pub(crate) const GENERATION: usize = 7_168;

/// Two words, since a `u128` would make an entry a third larger.
type Identity = (u64, u64);

/// Two generations of identities: when the young one is full, the old one is forgotten.
#[derive(Debug)]
pub(crate) struct Window {
    young: HashMap<Identity, u64, Seed>,
    old: HashMap<Identity, u64, Seed>,
}

impl Window {
    pub(crate) fn new() -> Self {
        let seed = Seed::random();
        Self {
            young: HashMap::with_hasher(seed),
            old: HashMap::with_hasher(seed),
        }
    }

    /// Notes where the event with this identity is; where it is already, if it is known.
    pub(crate) fn insert(&mut self, identity: Identity, index: u64) -> Option<u64> {
        let place = match self.young.entry(identity) {
            Entry::Occupied(known) => return Some(*known.get()),
            Entry::Vacant(place) => place,
        };
        if let Some(known) = self.old.get(&identity) {
            return Some(*known);
        }
        place.insert(index);
        if self.young.len() >= GENERATION {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        None
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
        Folded(*self)
    }
}

/// Takes two words: one into each half, then multiplies and folds when it is asked.
struct Folded(Seed);

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let Seed(a, b) = self.0;
        self.0 = Seed(b ^ word, a);
    }

    fn finish(&self) -> u64 {
        let product = u128::from(self.0.0) * u128::from(self.0.1);
        (product >> 64) as u64 ^ product as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_generation_is_always_known() {
        let mut window = Window::new();
        let identity = |n: usize| (n as u64, !(n as u64));
        for n in 0..3 * GENERATION {
            assert_eq!(window.insert(identity(n), n as u64), None);
            let oldest = n.saturating_sub(GENERATION - 1);
            let known = window.insert(identity(oldest), u64::MAX);
            assert_eq!(known, Some(oldest as u64));
        }
        assert!(window.young.len() + window.old.len() <= 2 * GENERATION);
    }
}

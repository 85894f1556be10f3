//! The identities of the last events of a topic.
//!
//! A map of the standard library would be looked up in more memory than the processor's second
//! cache holds, which costs more than everything else that publishing does. Here what is read and
//! written at random is one megabyte; the identities themselves are written in sequence.

use std::hash::{BuildHasher, RandomState};

/// How many identities one generation holds; two are kept, so at least this many are known. A
/// number within a generation fits in 16 bits.
pub(crate) const GENERATION: usize = 1 << 16;

/// Two words that tell an event and its purpose from all others.
type Identity = (u64, u64);

/// Two generations of identities: when the young one is full, the old one is forgotten.
#[derive(Debug)]
pub(crate) struct Window {
    seed: (u64, u64),
    young: Generation,
    old: Generation,
}

#[derive(Debug, Default)]
struct Generation {
    /// Open addressing, at most half full: 0, or a mark, 15 bits of hash and the number of an
    /// entry.
    slots: Vec<u32>,
    entries: Vec<(Identity, u64)>,
}

const MARK: u32 = 1 << 31;

impl Window {
    pub(crate) fn new() -> Self {
        // Under a secret, so that callers who choose ids cannot aim at one slot.
        let random = RandomState::new();
        Self {
            seed: (random.hash_one(0), random.hash_one(1)),
            young: Generation::default(),
            old: Generation::default(),
        }
    }

    /// Identities are random or hashes already: one multiplication spreads them.
    fn hash(&self, identity: Identity) -> u64 {
        hash(self.seed, identity)
    }

    /// The index within its partition of the event with this identity.
    pub(crate) fn index(&self, identity: Identity) -> Option<u64> {
        let hash = self.hash(identity);
        let known = self.young.index(identity, hash);
        known.or_else(|| self.old.index(identity, hash))
    }

    /// Remembers an identity that is not known.
    pub(crate) fn insert(&mut self, identity: Identity, index: u64) {
        if self.young.entries.len() == GENERATION {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.slots.fill(0);
            self.young.entries.clear();
        }
        let (seed, hash) = (self.seed, self.hash(identity));
        self.young.insert(identity, hash, index, seed);
    }
}

impl Generation {
    fn index(&self, identity: Identity, hash: u64) -> Option<u64> {
        let tag = tag(hash);
        let mask = self.slots.len().checked_sub(1)?;
        let mut at = hash as usize & mask;
        // There is always an empty slot.
        while self.slots[at] != 0 {
            if self.slots[at] & !0xffff == tag {
                let (known, index) = self.entries[self.slots[at] as usize & 0xffff];
                if known == identity {
                    return Some(index);
                }
            }
            at = (at + 1) & mask;
        }
        None
    }

    fn insert(&mut self, identity: Identity, hash: u64, index: u64, seed: (u64, u64)) {
        if self.slots.len() < 2 * (self.entries.len() + 1) {
            self.grow(seed);
        }
        let number = self.entries.len() as u32;
        self.entries.push((identity, index));
        self.place(hash, number);
    }

    fn grow(&mut self, seed: (u64, u64)) {
        let size = (2 * self.slots.len()).max(64);
        self.slots.clear();
        self.slots.resize(size, 0);
        for number in 0..self.entries.len() {
            self.place(hash(seed, self.entries[number].0), number as u32);
        }
    }

    fn place(&mut self, hash: u64, number: u32) {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while self.slots[at] != 0 {
            at = (at + 1) & mask;
        }
        self.slots[at] = tag(hash) | number;
    }
}

fn hash(seed: (u64, u64), identity: Identity) -> u64 {
    let product = u128::from(identity.0 ^ seed.0) * u128::from(identity.1 ^ seed.1);
    (product >> 64) as u64 ^ product as u64
}

/// Other bits than those that choose the slot.
fn tag(hash: u64) -> u32 {
    MARK | ((hash >> 33) as u32 & !0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_generation_is_always_known() {
        let mut window = Window::new();
        let identity = |n: usize| (n as u64, !(n as u64));
        for n in 0..3 * GENERATION {
            assert_eq!(window.index(identity(n)), None);
            window.insert(identity(n), n as u64);
            let oldest = n.saturating_sub(GENERATION - 1);
            assert_eq!(window.index(identity(oldest)), Some(oldest as u64));
            assert_eq!(window.index(identity(n)), Some(n as u64));
        }
        assert_eq!(window.young.slots.len(), 2 * GENERATION);
        assert!(window.young.entries.len() + window.old.entries.len() <= 2 * GENERATION);
    }

    #[test]
    fn identities_that_share_a_hash_are_told_apart() {
        let mut generation = Generation::default();
        // As many as fit without growing, which would hash them anew.
        for n in 0..32 {
            assert_eq!(generation.index((n, n), 7), None);
            generation.insert((n, n), 7, n, (0, 0));
        }
        for n in 0..32 {
            assert_eq!(generation.index((n, n), 7), Some(n));
        }
    }
}

//! Which partition an event goes to.

/// The hash that the Java Kafka client applies to keys: murmur2, 32 bits, seed `0x9747b28c`.
///
/// ```
/// assert_eq!(interline_transport::partition::murmur2(b"21"), -973932308_i32 as u32);
/// ```
#[must_use]
pub fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    // The Java client hashes with the length as a 32-bit number; a key is at most 64 KiB.
    let mut hash = SEED ^ (data.len() as u32);
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// The partition of `key` among `partitions`, as the Java client chooses it. An empty key is a
/// key and is hashed; no partitions count as one.
#[must_use]
pub fn for_key(key: &[u8], partitions: u32) -> u32 {
    // Java's `toPositive` clears the sign bit.
    (murmur2(key) & 0x7fff_ffff) % partitions.max(1)
}

/// Spreads events without key: a run of events stays in one partition, the next run goes to the
/// next one, so that a batch is appended to few partitions and all fill evenly.
#[derive(Clone, Debug, Default)]
pub struct Spreader {
    current: u32,
    left: u32,
}

impl Spreader {
    /// How many events in a row go to one partition.
    pub const RUN: u32 = 64;

    /// A spreader that starts anywhere, so that many publishers do not march in step.
    #[must_use]
    pub fn starting_at(partition: u32) -> Self {
        Self {
            current: partition,
            left: Self::RUN,
        }
    }

    /// Begins a new batch: it goes to another partition than the one before.
    pub fn next_batch(&mut self) {
        self.left = 0;
    }

    /// The partition of the next event among `partitions`.
    pub fn next(&mut self, partitions: u32) -> u32 {
        if self.left == 0 {
            self.current = self.current.wrapping_add(1);
            self.left = Self::RUN;
        }
        self.left -= 1;
        self.current % partitions.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_as_the_java_client_does() {
        // From the unit tests of the Java client.
        for (key, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }

    #[test]
    fn every_key_has_a_partition() {
        for partitions in [0, 1, 2, 12, 256] {
            for key in [&b""[..], b"\0", b"a", b"\xff\xff\xff"] {
                assert!(for_key(key, partitions) < partitions.max(1));
            }
        }
    }

    #[test]
    fn spreads_evenly() {
        let mut spreader = Spreader::starting_at(7);
        let mut counts = [0_u32; 12];
        for _ in 0..Spreader::RUN * 24 {
            counts[spreader.next(12) as usize] += 1;
        }
        assert!(counts.iter().all(|count| *count == 2 * Spreader::RUN));
    }

    #[test]
    fn each_batch_goes_elsewhere() {
        let mut spreader = Spreader::default();
        let chosen: Vec<u32> = (0..12)
            .map(|_| {
                spreader.next_batch();
                spreader.next(12)
            })
            .collect();
        let mut sorted = chosen.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..12).collect::<Vec<_>>());
    }
}

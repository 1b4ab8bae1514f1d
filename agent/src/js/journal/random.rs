//! Everything random that a job draws, from one seed.

use ring::digest;

/// SHA-256 in counter mode: the same numbers from the same seed in every version of PocketCI.
pub(super) struct Random {
    seed: [u8; 32],
    counter: u64,
    block: [u8; 32],
    used: usize,
}

impl Random {
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            seed,
            counter: 0,
            block: [0; 32],
            used: 32,
        }
    }

    /// The next bytes.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if self.used == self.block.len() {
                let mut hash = digest::Context::new(&digest::SHA256);
                hash.update(&self.seed);
                hash.update(&self.counter.to_be_bytes());
                self.block.copy_from_slice(hash.finish().as_ref());
                self.counter += 1;
                self.used = 0;
            }
            *byte = self.block[self.used];
            self.used += 1;
        }
    }
}

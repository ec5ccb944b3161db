//! Random numbers from a seed that is printed, so that a failure can be repeated: `SYNCLINE_SEED=... cargo test ...`.

use std::time::{SystemTime, UNIX_EPOCH};

/// Xorshift64*: small, and good enough to choose victims.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Seeded from `SYNCLINE_SEED`, or from the clock; says which.
    pub fn new(what: &str) -> Self {
        let given = std::env::var("SYNCLINE_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(1, |since| since.as_secs() ^ u64::from(since.subsec_nanos()))
        });
        println!("{what}: SYNCLINE_SEED={seed}");
        Self(seed | 1)
    }

    /// Of a seed that is known, neighbours of which have nothing in common.
    pub fn of(seed: u64) -> Self {
        let mut dice = Self(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..4 {
            dice.next();
        }
        dice
    }

    /// Another one, for a thread of its own.
    pub fn split(&mut self) -> Self {
        Self(self.next() | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `bound` (0 when there is none).
    pub fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound.max(1)
    }

    /// A place among so many.
    pub fn place(&mut self, count: usize) -> usize {
        let place = self.below(u64::try_from(count).unwrap_or(u64::MAX));
        usize::try_from(place).unwrap_or(0)
    }

    /// One of them.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        let place = self.place(choices.len());
        choices.get(place)
    }
}

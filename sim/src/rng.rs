//! The tape: a finite string of bytes from which every choice of a run is drawn. It is the only
//! source of chance in the simulator, so seeds, fuzzing, replay and shrinking all drive one entry.
//!
//! Once the tape is over every draw gives 0, which is always the quietest choice: nothing is lost,
//! nothing is late, nobody crashes. A run whose tape is over goes on until everything has arrived.

use std::borrow::Cow;

/// A finite string of bytes from which every choice of a run is drawn; once it is over every draw
/// is 0, the quietest choice.
#[derive(Clone, Debug)]
pub struct Rng {
    source: Source,
    at: u64,
    end: u64,
}

#[derive(Clone, Debug)]
enum Source {
    /// splitmix64 (Steele, Lea, Flood 2014) by position: small, fast, the same everywhere.
    Seed {
        seed: u64,
        word: u64,
        index: u64,
    },
    Bytes(Vec<u8>),
}

/// Length of a tape that is made from a seed, if nothing else is said. Longer than any run of the
/// default size draws.
pub const TAPE_BYTES: u64 = 64 << 20;

impl Rng {
    /// A tape of [`TAPE_BYTES`] bytes; the same seed gives the same bytes.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::seeded(seed, TAPE_BYTES)
    }

    /// A tape of `bytes` bytes. A shorter tape of the same seed is the beginning of a longer one.
    #[must_use]
    pub fn seeded(seed: u64, bytes: u64) -> Self {
        Self { source: Source::Seed { seed, word: 0, index: u64::MAX }, at: 0, end: bytes }
    }

    /// A tape with these bytes on it.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self { at: 0, end: bytes.len() as u64, source: Source::Bytes(bytes.to_vec()) }
    }

    /// How many bytes have been drawn.
    #[must_use]
    pub fn drawn(&self) -> u64 {
        self.at
    }

    /// Whether every further draw gives 0.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.at >= self.end
    }

    /// The bytes of the tape from its start, `n` of them or as many as there are.
    #[must_use]
    pub fn head(&self, n: u64) -> Cow<'_, [u8]> {
        let n = n.min(self.end);
        match &self.source {
            Source::Bytes(b) => Cow::Borrowed(&b[..n as usize]),
            Source::Seed { seed, .. } => Cow::Owned((0..n).map(|i| byte_of(word(*seed, i / 8), i)).collect()),
        }
    }

    fn byte(&mut self) -> u8 {
        if self.is_over() {
            return 0;
        }
        let at = self.at;
        self.at += 1;
        match &mut self.source {
            Source::Bytes(b) => b.get(at as usize).copied().unwrap_or(0),
            Source::Seed { seed, word: cached, index } => {
                if *index != at / 8 {
                    (*cached, *index) = (word(*seed, at / 8), at / 8);
                }
                byte_of(*cached, at)
            }
        }
    }

    fn draw(&mut self, bytes: u32) -> u64 {
        (0..bytes).fold(0, |n, _| n << 8 | u64::from(self.byte()))
    }

    /// The next number of 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.draw(8)
    }

    /// A number below `n`; 0 if `n` is 0. Uses as few bytes as hold it.
    pub fn below(&mut self, n: u64) -> u64 {
        match n {
            0 | 1 => 0,
            2..=256 => self.draw(1) % n,
            257..=65_536 => self.draw(2) % n,
            65_537..=4_294_967_296 => self.draw(4) % n,
            _ => self.draw(8) % n,
        }
    }

    /// A number from `low` to `high`, both possible; `low` once the tape is over.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True once in `n` times; never once the tape is over.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) + 1 == n
    }

    /// 32 bytes.
    pub fn seed(&mut self) -> [u8; 32] {
        std::array::from_fn(|_| self.byte())
    }
}

fn word(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn byte_of(word: u64, at: u64) -> u8 {
    word.to_le_bytes()[(at % 8) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tape_of_bytes_gives_what_the_seed_gave() {
        let mut a = Rng::seeded(7, 1000);
        let mut b = Rng::from_bytes(&a.head(1000));
        for n in [2, 300, 70_000, u64::MAX, 10, 1, 0] {
            assert_eq!(a.below(n), b.below(n));
        }
        assert_eq!((a.seed(), a.drawn()), (b.seed(), b.drawn()));
    }

    #[test]
    fn once_it_is_over_nothing_happens_any_more() {
        let mut t = Rng::seeded(7, 3);
        for _ in 0..3 {
            t.below(9);
        }
        assert!(t.is_over());
        assert_eq!((t.below(9), t.between(4, 9), t.one_in(2), t.drawn()), (0, 4, false, 3));
    }
}

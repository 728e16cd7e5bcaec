//! Luck that is the same in every run.

/// SplitMix64: its whole state is its seed.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `limit - 1`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.next()) * limit as u128) >> 64) as usize
    }

    /// From 0 to `limit - 1`: the one with number n comes with a weight of 1 / (n + 1), as words of a language do.
    pub(crate) fn zipf(&mut self, limit: usize) -> usize {
        let all: f64 = (1..=limit).map(|n| 1.0 / n as f64).sum();
        let mut left = self.next() as f64 / u64::MAX as f64 * all;
        for n in 0..limit {
            left -= 1.0 / (n + 1) as f64;
            if left <= 0.0 {
                return n;
            }
        }
        limit.saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_many_come_often_and_all_may_come() {
        let mut dice = Dice::new(1);
        let mut seen = [0; 50];
        (0..20_000).for_each(|_| seen[dice.zipf(50)] += 1);
        assert!(seen[0] > 3_500 && seen[0] < 5_500 && seen[9] > 300 && seen[9] < 600, "{seen:?}");
        assert!(seen.iter().all(|n| *n > 0) && (0..100).all(|_| dice.below(3) < 3));
    }
}

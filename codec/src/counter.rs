//! Adaptive probabilities: what one context has seen of one decision.

use alloc::vec;
use alloc::vec::Vec;

use crate::math;

/// 65,536 / (n + 1.5): how far the n-th observation moves a counter.
static SHARE: [u16; 1024] = {
    let mut table = [0; 1024];
    let mut n = 0;
    while n < 1024 {
        table[n] = (131_072 / (2 * n + 3)) as u16;
        n += 1;
    }
    table
};

/// A probability (22 bits) and how many observations it rests on (10 bits).
///
/// It begins as an average and ends as an exponentially fading one, when the count meets the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counter(u32);

impl Counter {
    /// From a 16-bit probability, believed like `confidence` observations.
    pub(crate) const fn new(p: i32, confidence: u32) -> Self {
        Self((p as u32) << 16 | confidence)
    }

    /// Its probability, 1 to 65,535.
    #[inline]
    pub(crate) fn p(self) -> i32 {
        (self.0 >> 16).max(1) as i32
    }

    /// Its probability, stretched.
    #[inline]
    pub(crate) fn stretched(self) -> i32 {
        math::stretch(self.p())
    }

    /// One more observation; never moves by less than 1 / (`limit` + 1.5).
    #[inline]
    pub(crate) fn update(&mut self, hit: bool, limit: u32) {
        let n = self.0 & 1023;
        let p = i64::from(self.0 >> 10);
        let target = if hit { (1 << 22) - 1 } else { 0 };
        let moved = p + (((target - p) * i64::from(SHARE[n as usize])) >> 16);
        self.0 = (moved as u32) << 10 | if n < limit { n + 1 } else { limit };
    }
}

/// A table of counters that hashes lead into, without a check: collisions are noise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counters {
    cells: Vec<Counter>,
    mask: usize,
    initial: Counter,
}

impl Counters {
    /// `2^bits` of them.
    pub(crate) fn new(bits: u32, initial: Counter) -> Self {
        Self { cells: vec![initial; 1 << bits], mask: (1 << bits) - 1, initial }
    }

    /// The one of a hash or index.
    #[inline]
    pub(crate) fn at(&mut self, index: u32) -> &mut Counter {
        &mut self.cells[index as usize & self.mask]
    }

    pub(crate) fn reset(&mut self) {
        self.cells.fill(self.initial);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.cells.len() * size_of::<Counter>()
    }
}

/// Steps of an adaptive map over the stretched range.
const STEPS: usize = 33;
const STEP: i32 = 2 * math::STRETCH_MAX / (STEPS as i32 - 1) + 1;

/// Adaptive map (secondary estimation): learns, per context, how right a probability was.
///
/// Between two of its 33 steps it interpolates; the outcome moves both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Map {
    cells: Vec<[u16; STEPS]>,
    mask: usize,
    at: (usize, usize),
    weight: i32,
}

impl Map {
    /// For `2^bits` contexts.
    pub(crate) fn new(bits: u32) -> Self {
        Self { cells: vec![Self::identity(); 1 << bits], mask: (1 << bits) - 1, at: (0, 0), weight: 0 }
    }

    fn identity() -> [u16; STEPS] {
        core::array::from_fn(|i| math::squash(i as i32 * STEP - math::STRETCH_MAX) as u16)
    }

    /// A better probability for a stretched one.
    #[inline]
    pub(crate) fn refine(&mut self, stretched: i32, context: u32) -> i32 {
        let x = stretched.clamp(-math::STRETCH_MAX, math::STRETCH_MAX) + math::STRETCH_MAX;
        let (step, weight) = ((x / STEP) as usize, x % STEP);
        self.at = (context as usize & self.mask, step);
        self.weight = weight;
        let row = &self.cells[self.at.0];
        let (a, b) = (i32::from(row[step]), i32::from(row[step + 1]));
        ((a * (STEP - weight) + b * weight) / STEP).clamp(1, 65_535)
    }

    /// What came of the last one refined.
    #[inline]
    pub(crate) fn update(&mut self, hit: bool, rate: u32) {
        let (row, step) = self.at;
        let target = if hit { 65_535 } else { 0 };
        let nearer = if self.weight > STEP / 2 { step + 1 } else { step };
        let further = if self.weight > STEP / 2 { step } else { step + 1 };
        let row = &mut self.cells[row];
        for (cell, rate) in [(nearer, rate), (further, rate + 1)] {
            let old = i32::from(row[cell]);
            row[cell] = (old + ((target - old) >> rate)) as u16;
        }
    }

    pub(crate) fn reset(&mut self) {
        self.cells.fill(Self::identity());
        (self.at, self.weight) = ((0, 0), 0);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.cells.len() * size_of::<[u16; STEPS]>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_an_average_at_first_and_fades_later() {
        let mut c = Counter::new(32_768, 0);
        c.update(true, 255);
        assert!(c.p() > 50_000);
        (0..2000).for_each(|i| c.update(i % 4 == 0, 255));
        assert!((c.p() - 16_384).abs() < 600, "{}", c.p());
        (0..5000).for_each(|_| c.update(false, 255));
        assert!(c.p() < 300);
    }

    #[test]
    fn a_map_learns_that_a_sure_thing_is_not() {
        let mut map = Map::new(2);
        assert!((map.refine(1000, 1) - math::squash(1000)).abs() < 700);
        for i in 0..4000 {
            map.refine(1000, 1);
            map.update(i % 2 == 0, 6);
        }
        assert!((map.refine(1000, 1) - 32_768).abs() < 1500);
        assert!((map.refine(1000, 2) - math::squash(1000)).abs() < 700);
    }
}

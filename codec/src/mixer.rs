//! Logistic mixing: a weighted sum of stretched probabilities, whose weights learn from each outcome.
//!
//! Of each mixer there are several sets of weights; small contexts choose which are used. The
//! inputs that have been right in this context get more weight, by gradient descent on coding cost.

use alloc::vec;
use alloc::vec::Vec;

use crate::math;

/// One in weights' fixed point: they reach from -4 to 4.
const ONE: i32 = 1 << 13;
/// Smaller errors teach nothing worth the time.
const ERROR_MIN: u16 = 12;

/// Sets of `N` weights.
///
/// Sixteen bits each, in multiples of eight: what compilers make vectors of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Weights<const N: usize> {
    sets: Vec<[i16; N]>,
    mask: usize,
    initial: i16,
}

impl<const N: usize> Weights<N> {
    /// `2^bits` sets, each weight `initial` of 256.
    pub(crate) fn new(bits: u32, initial: i16) -> Self {
        let initial = initial * (ONE / 256) as i16;
        Self { sets: vec![[initial; N]; 1 << bits], mask: (1 << bits) - 1, initial }
    }

    /// The weighted sum of the inputs, stretched.
    #[inline(never)]
    pub(crate) fn dot(&self, set: u32, inputs: &[i16; N]) -> i32 {
        let weights = &self.sets[set as usize & self.mask];
        let sum = weights.iter().zip(inputs).fold(0i32, |sum, (w, x)| sum.wrapping_add(i32::from(*w) * i32::from(*x)));
        (sum >> 13).clamp(-math::STRETCH_MAX, math::STRETCH_MAX)
    }

    /// Moves the weights towards what would have been right: `error` is outcome minus probability
    /// times a rate (see [`error`]).
    #[inline(never)]
    pub(crate) fn learn(&mut self, set: u32, inputs: &[i16; N], error: i16) {
        if error.unsigned_abs() < ERROR_MIN {
            return;
        }
        let weights = &mut self.sets[set as usize & self.mask];
        for (w, x) in weights.iter_mut().zip(inputs) {
            let twice = ((i32::from(*x << 1) * i32::from(error)) >> 16) as i16;
            *w = w.saturating_add((twice + 1) >> 1);
        }
    }

    pub(crate) fn reset(&mut self) {
        self.sets.fill([self.initial; N]);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.sets.len() * size_of::<[i16; N]>()
    }
}

/// The error that [`Weights::learn`] wants: outcome minus 16-bit probability, times `rate` / 128. It has
/// sixteen bits for rates up to 64.
#[inline]
pub(crate) fn error(hit: bool, p: i32, rate: i32) -> i16 {
    ((((if hit { 65_535 } else { 0 }) - p) * rate) >> 7) as i16
}

/// A learning rate that begins high and settles: `floor` + `boost` / (1 + seen / `slowness`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    seen: i32,
    floor: i32,
    boost: i32,
    slowness: i32,
    now: i32,
    /// It is the same up to this one.
    until: i32,
}

impl Rate {
    pub(crate) const fn new(floor: i32, boost: i32, slowness: i32) -> Self {
        Self { seen: 0, floor, boost, slowness, now: 0, until: 0 }
    }

    /// The rate of the next step.
    #[inline]
    pub(crate) fn next(&mut self) -> i32 {
        if self.seen < 1 << 24 {
            self.seen += 1;
        }
        if self.seen > self.until {
            // A division takes as long as a predictor.
            let more = self.boost * self.slowness / (self.slowness + self.seen);
            self.now = self.floor + more;
            self.until = (self.boost * self.slowness).checked_div(more).map_or(i32::MAX, |last| last - self.slowness);
        }
        self.now
    }

    pub(crate) fn reset(&mut self) {
        (self.seen, self.now, self.until) = (0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_falls_from_its_begin_to_its_floor_by_one_formula() {
        let (floor, boost, slowness) = (12, 20, 80);
        let mut rate = Rate::new(floor, boost, slowness);
        for seen in 1..5000 {
            assert_eq!(rate.next(), floor + boost * slowness / (slowness + seen), "{seen}");
        }
    }

    #[test]
    fn the_input_that_is_right_gets_the_weight() {
        let mut w = Weights::<4>::new(1, 64);
        let mut rate = Rate::new(6, 20, 100);
        for i in 0..4000u32 {
            let hit = i % 3 == 0;
            let right = if hit { 800 } else { -800 };
            let inputs = [right, -right, if i % 2 == 0 { 500 } else { -500 }, 0];
            let p = math::squash(w.dot(0, &inputs));
            w.learn(0, &inputs, error(hit, p, rate.next()));
        }
        let [a, b, c, d] = w.sets[0];
        assert!(a > b && a > 4 * c.abs() && d == 2048, "{a} {b} {c} {d}");
    }
}

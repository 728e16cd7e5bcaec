//! The first question: is the next byte the best candidate?
//!
//! Every predictor of whole bytes names a candidate with a confidence, learnt per situation of that
//! predictor. The candidate with the most votes is the best. A mixer over what all of them say for
//! or against it, and three counters of the place, give the probability that it is right.

use crate::counter::{Counter, Counters, Map};
use crate::math;
use crate::mixer::{Rate, Weights, error};

/// Places of predictors.
pub(crate) const CANDIDATES: usize = 12;
const INPUTS: usize = 16;
/// From this probability on a byte is certain.
const CERTAIN_MIN: i32 = 64_700;
const CERTAIN_LIMIT: u32 = 250;
/// Situations per predictor.
const SITUATIONS: u32 = 1 << 10;

/// Odds of a 16-bit probability, times 64.
static ODDS: [u32; 1024] = {
    let mut table = [0; 1024];
    let mut i = 0;
    while i < 1024 {
        table[i] = (64 * (2 * i as u32 + 1)) / (2048 - (2 * i as u32 + 1)) + 1;
        i += 1;
    }
    table
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Candidate {
    byte: u8,
    cell: u32,
    p: i32,
}

/// A byte and the sum of the odds of those who named it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranked {
    pub(crate) byte: u8,
    pub(crate) odds: u32,
}

/// Where a byte stands, for the counters and weights of the question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) path: u32,
    /// Bytes into the segment.
    pub(crate) position: u32,
    pub(crate) order2: u32,
    /// Part of JSON, below 8.
    pub(crate) part: u32,
}

/// The candidates of one byte and the answer's probability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    right: Counters,
    against: Counters,
    by_path: Counters,
    by_byte: Counters,
    by_order2: Counters,
    by_part: Weights<INPUTS>,
    by_voters: Weights<INPUTS>,
    rate: Rate,
    map_path: Map,
    map_byte: Map,

    candidates: [Candidate; CANDIDATES],
    present: u32,
    ranked: [Ranked; 3],
    inputs: [i16; INPUTS],
    direct: [u32; 3],
    sets: (u32, u32),
    mixed: i32,
}

impl Ask {
    pub(crate) fn new(bits: u32, map_bits: u32) -> Self {
        Self {
            right: Counters::new(14, Counter::new(40_000, 2)),
            against: Counters::new(14, Counter::new(32_768, 2)),
            by_path: Counters::new(bits - 2, Counter::new(58_000, 0)),
            by_byte: Counters::new(bits, Counter::new(58_000, 0)),
            by_order2: Counters::new(bits, Counter::new(58_000, 0)),
            by_part: Weights::new(6, 40),
            by_voters: Weights::new(6, 40),
            rate: Rate::new(12, 20, 8000),
            map_path: Map::new(map_bits - 1),
            map_byte: Map::new(map_bits),
            candidates: [Candidate::default(); CANDIDATES],
            present: 0,
            ranked: [Ranked::default(); 3],
            inputs: [0; INPUTS],
            direct: [0; 3],
            sets: (0, 0),
            mixed: 0,
        }
    }

    /// A new byte: no candidates yet.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.present = 0;
    }

    /// A predictor's candidate, in a situation of its own (below 1,024).
    #[inline]
    pub(crate) fn propose(&mut self, which: usize, byte: u8, situation: u32) {
        let cell = which as u32 * SITUATIONS + situation;
        self.candidates[which] = Candidate { byte, cell, p: self.right.at(cell).p() };
        self.present |= 1 << which;
    }

    /// Whether a byte is as good as certain at this place: its probability.
    #[inline]
    pub(crate) fn certain(&mut self, place: &Place, byte: u8) -> Option<i32> {
        let cell = math::mix(place.path ^ place.position.min(63) << 8, u32::from(byte));
        let counter = *self.by_byte.at(cell);
        self.direct[1] = cell;
        (counter.p() >= CERTAIN_MIN).then(|| counter.p())
    }

    /// Whether what was certain came.
    #[inline]
    pub(crate) fn update_certain(&mut self, hit: bool) {
        self.by_byte.at(self.direct[1]).update(hit, CERTAIN_LIMIT);
    }

    /// Puts a byte that was refuted first.
    pub(crate) fn refute(&mut self, byte: u8) {
        let [a, b, c] = self.ranked;
        if a.byte != byte {
            let refuted = Ranked { byte, odds: 1 };
            self.ranked = if b.byte == byte { [refuted, a, c] } else { [refuted, a, b] };
        }
    }

    /// Drops the candidates of some predictors.
    #[cfg(feature = "ablation")]
    pub(crate) fn leave_out(&mut self, off: u32) {
        self.present &= !off;
    }

    /// Bytes with the most votes: best, second, third; odds 0 is none.
    pub(crate) fn ranked(&self) -> &[Ranked; 3] {
        &self.ranked
    }

    /// The best candidate and the probability that it is right, if there are candidates.
    pub(crate) fn best(&mut self, place: &Place) -> Option<(u8, i32)> {
        self.rank();
        if self.present == 0 {
            return None;
        }
        let best = self.ranked[0].byte;
        let mut voters = 0;
        self.inputs = [0; INPUTS];
        let mut left = self.present;
        while left != 0 {
            let which = left.trailing_zeros() as usize % CANDIDATES;
            left &= left - 1;
            let c = self.candidates[which];
            self.inputs[which] = if c.byte == best {
                voters |= 1 << which;
                math::stretch(c.p) as i16
            } else {
                self.against.at(c.cell).stretched() as i16
            };
        }
        let near = place.position.min(63);
        self.direct =
            [place.path, math::mix(place.path ^ near << 8, u32::from(best)), math::mix(place.order2, u32::from(best))];
        self.inputs[CANDIDATES] = self.by_path.at(self.direct[0]).stretched() as i16;
        self.inputs[CANDIDATES + 1] = self.by_byte.at(self.direct[1]).stretched() as i16;
        self.inputs[CANDIDATES + 2] = self.by_order2.at(self.direct[2]).stretched() as i16;
        self.inputs[CANDIDATES + 3] = 256;
        let depth = if near < 3 { near } else { (near.ilog2() + 2).min(7) };
        // Of the voters: path, kind, long match, and the runs.
        let pattern = voters & 3 | voters >> 5 & 4 | voters >> 6 & 0x38;
        self.sets = (place.part << 3 | depth, pattern);
        self.mixed = self.by_part.dot(self.sets.0, &self.inputs) + self.by_voters.dot(self.sets.1, &self.inputs);
        let plain = math::squash(self.mixed);
        let by_path = self.map_path.refine(self.mixed, place.path ^ depth);
        let by_byte = self.map_byte.refine(self.mixed, self.direct[1]);
        Some((best, ((2 * plain + by_path + by_byte) >> 2).clamp(1, 65_535)))
    }

    /// The byte that came.
    pub(crate) fn update(&mut self, byte: u8) {
        if self.present == 0 {
            return;
        }
        let best = self.ranked[0].byte;
        let hit = best == byte;
        let mut left = self.present;
        while left != 0 {
            let c = self.candidates[left.trailing_zeros() as usize % CANDIDATES];
            left &= left - 1;
            self.right.at(c.cell).update(c.byte == byte, 1000);
            if c.byte != best {
                self.against.at(c.cell).update(hit, 1000);
            }
        }
        let err = error(hit, math::squash(self.mixed), self.rate.next());
        self.by_part.learn(self.sets.0, &self.inputs, err);
        self.by_voters.learn(self.sets.1, &self.inputs, err);
        self.by_path.at(self.direct[0]).update(hit, 60);
        self.by_byte.at(self.direct[1]).update(hit, CERTAIN_LIMIT);
        self.by_order2.at(self.direct[2]).update(hit, 60);
        self.map_path.update(hit, 5);
        self.map_byte.update(hit, 5);
    }

    /// Adds the odds up by byte, and keeps the best three.
    fn rank(&mut self) {
        // Mostly all are of one mind.
        let first = self.candidates[self.present.trailing_zeros() as usize % CANDIDATES].byte;
        let (mut odds, mut left, mut others) = (0, self.present, 0);
        while left != 0 {
            let c = self.candidates[left.trailing_zeros() as usize % CANDIDATES];
            left &= left - 1;
            odds += ODDS[(c.p >> 6) as usize & 1023];
            others |= c.byte ^ first;
        }
        if others == 0 {
            self.ranked = [Ranked { byte: first, odds }, Ranked::default(), Ranked::default()];
            if self.present == 0 {
                self.ranked[0] = Ranked::default();
            }
            return;
        }
        let mut all = [Ranked::default(); CANDIDATES];
        let mut count = 0;
        let mut left = self.present;
        while left != 0 {
            let c = self.candidates[left.trailing_zeros() as usize % CANDIDATES];
            left &= left - 1;
            let odds = ODDS[(c.p >> 6) as usize & 1023];
            match all.iter_mut().take(count).find(|r| r.byte == c.byte) {
                Some(r) => r.odds += odds,
                None => {
                    all[count] = Ranked { byte: c.byte, odds };
                    count += 1;
                }
            }
        }
        self.ranked = [Ranked::default(); 3];
        for &r in all.iter().take(count) {
            let [a, b, c] = &mut self.ranked;
            if r.odds > a.odds {
                (*c, *b, *a) = (*b, *a, r);
            } else if r.odds > b.odds {
                (*c, *b) = (*b, r);
            } else if r.odds > c.odds {
                *c = r;
            }
        }
    }

    pub(crate) fn reset(&mut self) {
        for counters in [&mut self.right, &mut self.against, &mut self.by_path, &mut self.by_byte, &mut self.by_order2]
        {
            counters.reset();
        }
        self.by_part.reset();
        self.by_voters.reset();
        self.rate.reset();
        self.map_path.reset();
        self.map_byte.reset();
        self.candidates = [Candidate::default(); CANDIDATES];
        self.present = 0;
        self.ranked = [Ranked::default(); 3];
        (self.inputs, self.direct, self.sets, self.mixed) = ([0; INPUTS], [0; 3], (0, 0), 0);
    }

    pub(crate) fn bytes(&self) -> usize {
        let counters = [&self.right, &self.against, &self.by_path, &self.by_byte, &self.by_order2];
        counters.iter().map(|c| c.bytes()).sum::<usize>()
            + self.by_part.bytes()
            + self.by_voters.bytes()
            + self.map_path.bytes()
            + self.map_byte.bytes()
    }
}

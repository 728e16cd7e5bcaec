//! The way of the tenth byte, of which no candidate is likely: bit by bit.
//!
//! Six contexts each keep bit histories (see `state.rs`) of what followed them; adaptive tables
//! turn histories into probabilities; the candidates, right or refuted, are further inputs; mixers
//! weigh them all; an adaptive map corrects the result. Only bytes that came this way are learnt
//! here: what candidates foretell needs no room in these tables.

use alloc::boxed::Box;
use core::hint::select_unpredictable;

use crate::ask::Ranked;
use crate::coder::Coder;
use crate::counter::{Counter, Counters, Map};
use crate::math::{self, mix};
use crate::mixer::{Rate, Weights, error};
use crate::slots::Slots;
use crate::state::STATES;

/// Contexts with bit histories.
pub(crate) const CONTEXTS: usize = 6;
const RANKED: usize = 3;
const INPUTS: usize = 16;
const BIAS: usize = CONTEXTS + RANKED;
const SETS: usize = 3;

/// What is known before the byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Situation {
    pub(crate) contexts: [u32; CONTEXTS],
    pub(crate) ranked: [Ranked; RANKED],
    /// The best candidate was asked for and was not it.
    pub(crate) is_refuted: bool,
    /// Selects weights, below 64: of the place.
    pub(crate) place: u32,
    pub(crate) path: u32,
    pub(crate) order1: u32,
}

#[cfg(feature = "ablation")]
impl Situation {
    /// Makes constants of some contexts.
    pub(crate) fn leave_out(&mut self, off: u32) {
        for (i, context) in self.contexts.iter_mut().enumerate() {
            if off >> i & 1 == 1 {
                *context = 0;
            }
        }
    }
}

/// Codes and learns bytes bit by bit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bitwise {
    slots: Slots,
    meanings: Box<[[Counter; 256]; CONTEXTS]>,
    candidates: Counters,
    by_node: Weights<INPUTS>,
    by_place: Weights<INPUTS>,
    by_path: Weights<INPUTS>,
    last: Weights<8>,
    rate: Rate,
    map_order1: Map,
    /// What the last byte cost, in 1/64 bit.
    spent: u32,
}

impl Bitwise {
    /// With `2^bits` slots of 8 bytes.
    pub(crate) fn new(bits: u32, map_bits: u32) -> Self {
        Self {
            slots: Slots::new(bits),
            meanings: Box::new([meanings(); CONTEXTS]),
            candidates: Counters::new(11, Counter::new(40_000, 1)),
            by_node: Weights::new(8, 50),
            by_place: Weights::new(7, 50),
            by_path: Weights::new(8, 50),
            last: Weights::new(8, 85),
            rate: Rate::new(20, 16, 8000),
            map_order1: Map::new(map_bits),
            spent: 0,
        }
    }

    /// The table of histories, which is shared.
    pub(crate) fn slots(&mut self) -> &mut Slots {
        &mut self.slots
    }

    /// What the last byte cost, in 1/64 bit.
    pub(crate) fn spent(&self) -> u32 {
        self.spent
    }

    /// Codes one byte.
    pub(crate) fn code<C: Coder>(&mut self, coder: &mut C, byte: u8, s: &Situation) -> u8 {
        let mut node = 1u32;
        let mut at = [0u32; CONTEXTS];
        let mut inputs = [0i16; INPUTS];
        let mut cells = [0u32; RANKED];
        self.spent = 0;
        for bit_index in 0..8u32 {
            if bit_index % 3 == 0 {
                at = self.slots.find(&if bit_index == 0 { s.contexts } else { s.contexts.map(|c| mix(c, node)) });
            }
            let depth = bit_index % 3;
            let leaf = node & ((1 << depth) - 1) | 1 << depth;
            let states = at.map(|at| self.slots.state(at, leaf));
            for ((state, meanings), input) in states.iter().zip(self.meanings.iter()).zip(inputs.iter_mut()) {
                let p = meanings[usize::from(*state)].p();
                // Nothing, if nothing is known: without a branch, which nobody could foretell.
                *input = select_unpredictable(*state != 0, math::stretch_roughly(p), 0);
            }
            let mut agreeing = 0;
            for (i, r) in s.ranked.iter().enumerate() {
                let expected = u32::from(r.byte) | 0x100;
                let input = &mut inputs[CONTEXTS + i];
                *input = 0;
                cells[i] = u32::MAX;
                if r.odds > 0 && expected >> (8 - bit_index) == node {
                    let refuted = u32::from(s.is_refuted && i == 0);
                    let strength = (32 - r.odds.leading_zeros()).min(15);
                    cells[i] = (i as u32 * 2 + refuted) << 8 | strength << 4 | bit_index;
                    let says = self.candidates.at(cells[i]).stretched() as i16;
                    let one = expected >> (7 - bit_index) & 1 == 1;
                    *input = if one { says } else { -says };
                    agreeing |= 1 << i;
                }
            }
            // What was refuted leaves but one way for its last bit.
            if s.is_refuted && bit_index == 7 && agreeing & 1 != 0 {
                let one = s.ranked[0].byte & 1 == 0;
                node = node << 1 | u32::from(one);
                break;
            }
            inputs[BIAS] = 256;
            let refuted = u32::from(s.is_refuted);
            let sets = [node, s.place << 1 | refuted, (s.path & 15) << 4 | agreeing << 1 | refuted];
            let mixed = [
                self.by_node.dot(sets[0], &inputs),
                self.by_place.dot(sets[1], &inputs),
                self.by_path.dot(sets[2], &inputs),
            ];
            let layer = [mixed[0] as i16, mixed[1] as i16, mixed[2] as i16, 256, 0, 0, 0, 0];
            let total = self.last.dot(node, &layer);
            let plain = math::squash(total);
            let by_order1 = self.map_order1.refine(total, mix(s.order1, node));
            let p = ((plain + by_order1) >> 1).clamp(1, 65_535);
            let bit = coder.code(byte >> (7 - bit_index) & 1 == 1, p);

            self.spent += bits_of(if bit { p } else { 65_536 - p });
            let rate = self.rate.next();
            self.last.learn(node, &layer, error(bit, plain, 6));
            self.by_node.learn(sets[0], &inputs, error(bit, math::squash(mixed[0]), rate));
            self.by_place.learn(sets[1], &inputs, error(bit, math::squash(mixed[1]), rate));
            self.by_path.learn(sets[2], &inputs, error(bit, math::squash(mixed[2]), rate));
            self.map_order1.update(bit, 5);
            for ((at, state), meanings) in at.iter().zip(states).zip(self.meanings.iter_mut()) {
                meanings[usize::from(state)].update(bit, 250);
                *self.slots.state_mut(*at, leaf) = STATES[usize::from(state)].next[usize::from(bit)];
            }
            for (i, cell) in cells.iter().enumerate().take(SETS) {
                if *cell != u32::MAX {
                    let one = s.ranked[i].byte >> (7 - bit_index) & 1 == 1;
                    self.candidates.at(*cell).update(one == bit, 250);
                }
            }
            node = node << 1 | u32::from(bit);
        }
        node as u8
    }

    pub(crate) fn reset(&mut self) {
        self.slots.reset();
        self.meanings.fill(meanings());
        self.candidates.reset();
        self.by_node.reset();
        self.by_place.reset();
        self.by_path.reset();
        self.last.reset();
        self.rate.reset();
        self.map_order1.reset();
        self.spent = 0;
    }

    pub(crate) fn bytes(&self) -> usize {
        self.slots.bytes()
            + size_of::<[[Counter; 256]; CONTEXTS]>()
            + self.candidates.bytes()
            + self.by_node.bytes()
            + self.by_place.bytes()
            + self.by_path.bytes()
            + self.last.bytes()
            + self.map_order1.bytes()
    }
}

/// What each history means at first: its ones among all it has seen.
pub(crate) fn meanings() -> [Counter; 256] {
    core::array::from_fn(|s| {
        let [n0, n1] = STATES[s].seen.map(i32::from);
        Counter::new((65_536 * (2 * n1 + 1) / (2 * (n0 + n1) + 2)).min(65_000), 0)
    })
}

/// Cost in 1/64 bit of a 16-bit probability.
#[inline]
pub(crate) fn bits_of(p: i32) -> u32 {
    COSTS[(p >> 8) as usize & 255]
}

/// Cost in 1/64 bit of a probability in steps of 1/256.
static COSTS: [u32; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        // log2 of i + 1/2 in 64ths, by squaring six times.
        let n = 2 * i as u64 + 1;
        let whole = n.ilog2();
        let (mut mantissa, mut log, mut k) = (n << (31 - whole), whole as u64, 0);
        while k < 6 {
            mantissa = (mantissa * mantissa) >> 31;
            log <<= 1;
            if mantissa >= 1 << 32 {
                mantissa >>= 1;
                log |= 1;
            }
            k += 1;
        }
        table[i] = (9 * 64 - log) as u32;
        i += 1;
    }
    table
};

//! The short way, bit by bit: for streams of which much is news (see [`crate::pace`]).
//!
//! Four contexts instead of seven, two candidates, one set of weights by what is known of the byte.
//! The histories are those of `bitwise`, so that what is learnt in one way is known in the other;
//! weights and meanings are its own, for they say how such streams behave.

use alloc::boxed::Box;

use crate::ask::Ranked;
use crate::bitwise::{bits_of, meanings};
use crate::coder::Coder;
use crate::counter::{Counter, Counters};
use crate::matches::Match;
use crate::math::{self, mix};
use crate::mixer::{Rate, Weights, error};
use crate::slots::Slots;
use crate::state::STATES;
use crate::window::Window;

pub(crate) const CONTEXTS: usize = 4;
pub(crate) const EXPECTED: usize = 2;
/// Eight are a vector.
const INPUTS: usize = 8;
const BIAS: usize = CONTEXTS + EXPECTED;
const LIMIT: u32 = 250;

/// A byte that somebody expects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) byte: u8,
    /// Who expects it and how firmly, below 128; 0 is nobody.
    pub(crate) by: u32,
}

impl Expected {
    /// The two best candidates.
    pub(crate) fn of_ranked(ranked: &[Ranked; 3], is_refuted: bool) -> [Self; EXPECTED] {
        let [best, second, _] = ranked;
        let strength = |odds: u32| (32 - odds.leading_zeros()).min(15);
        let second_by = if second.odds > 0 { 32 | strength(second.odds) } else { 0 };
        [
            Self { byte: best.byte, by: strength(best.odds) << 1 | u32::from(is_refuted) },
            Self { byte: second.byte, by: second_by },
        ]
    }

    /// What followed the matches, each with where its text is.
    pub(crate) fn of_matches(matches: [(&Match, &Window); EXPECTED]) -> [Self; EXPECTED] {
        let mut by = 64;
        matches.map(|(found, texts)| {
            let who = by;
            by += 32;
            let expected = |position| Self { byte: texts.at(position), by: who | found.situation() };
            found.position().map_or(Self::default(), expected)
        })
    }
}

/// Codes and learns bytes bit by bit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Short {
    meanings: Box<[[Counter; 256]; CONTEXTS]>,
    expected: Counters,
    weights: Weights<INPUTS>,
    rate: Rate,
}

impl Short {
    pub(crate) fn new() -> Self {
        Self {
            meanings: Box::new([meanings(); CONTEXTS]),
            expected: Counters::new(10, Counter::new(40_000, 1)),
            weights: Weights::new(8, 70),
            rate: Rate::new(12, 20, 4000),
        }
    }

    /// Codes a byte; and what it cost, in 1/64 bit.
    pub(crate) fn code<C: Coder>(
        &mut self,
        coder: &mut C,
        byte: u8,
        contexts: &[u32; CONTEXTS],
        expected: &[Expected; EXPECTED],
        slots: &mut Slots,
    ) -> (u8, u32) {
        let (mut node, mut spent) = (1u32, 0);
        let mut at = [0; CONTEXTS];
        let mut inputs = [0i16; INPUTS];
        inputs[BIAS] = 256;
        for bit_index in 0..8u32 {
            if bit_index % 3 == 0 {
                at = slots.find(&if bit_index == 0 { *contexts } else { contexts.map(|c| mix(c, node)) });
            }
            let leaf = node & ((1 << (bit_index % 3)) - 1) | 1 << (bit_index % 3);
            let states = at.map(|at| slots.state(at, leaf));
            for ((state, meanings), input) in states.iter().zip(self.meanings.iter()).zip(&mut inputs) {
                *input = math::stretch_roughly(meanings[usize::from(*state)].p()) & -i16::from(*state != 0);
            }
            let ones = expected.map(|e| e.byte >> (7 - bit_index) & 1 == 1);
            let cells = expected.map(|e| {
                let agrees = e.by > 0 && (u32::from(e.byte) | 0x100) >> (8 - bit_index) == node;
                if agrees { e.by << 3 | bit_index } else { 0 }
            });
            for ((cell, one), input) in cells.iter().zip(ones).zip(&mut inputs[CONTEXTS..BIAS]) {
                *input = match *cell {
                    0 => 0,
                    cell if one => self.expected.at(cell).stretched() as i16,
                    cell => -self.expected.at(cell).stretched() as i16,
                };
            }
            let p = math::squash(self.weights.dot(node, &inputs));
            let bit = coder.code(byte >> (7 - bit_index) & 1 == 1, p);
            spent += bits_of(if bit { p } else { 65_536 - p });
            self.weights.learn(node, &inputs, error(bit, p, self.rate.next()));
            for ((at, state), meanings) in at.iter().zip(states).zip(self.meanings.iter_mut()) {
                meanings[usize::from(state)].update(bit, LIMIT);
                *slots.state_mut(*at, leaf) = STATES[usize::from(state)].next[usize::from(bit)];
            }
            for (cell, one) in cells.into_iter().zip(ones) {
                if cell != 0 {
                    self.expected.at(cell).update(one == bit, LIMIT);
                }
            }
            node = node << 1 | u32::from(bit);
        }
        (node as u8, spent)
    }

    pub(crate) fn reset(&mut self) {
        *self = Self::new();
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of::<[[Counter; 256]; CONTEXTS]>() + self.expected.bytes() + self.weights.bytes()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::coder::{Emit, Read};

    #[test]
    fn what_somebody_expects_rightly_becomes_cheap_and_is_read_back() {
        let text: Vec<u8> = (0..600u32).map(|i| mix(i / 2, 3) as u8 & 0x7F).collect();
        let situation = |i: usize, text: &[u8]| {
            // Every other byte is the one before; the contexts say nothing.
            let by = if i % 2 == 1 { 5 } else { 0 };
            ([1, 2, 3, 4], [Expected { byte: if i == 0 { 0 } else { text[i - 1] }, by }, Expected::default()])
        };
        let (mut here, mut slots, mut out) = (Short::new(), Slots::new(10), Vec::new());
        let (mut emit, mut spent) = (Emit::new(&mut out), [0; 2]);
        for (i, &byte) in text.iter().enumerate() {
            let (contexts, expected) = situation(i, &text);
            spent[i % 2] += here.code(&mut emit, byte, &contexts, &expected, &mut slots).1;
        }
        emit.finish();
        assert!(spent[1] * 3 < spent[0], "{spent:?}");
        let (mut there, mut slots, mut read, mut got) = (Short::new(), Slots::new(10), Read::new(&out), Vec::new());
        for i in 0..text.len() {
            let (contexts, expected) = situation(i, &got);
            got.push(there.code(&mut read, 0, &contexts, &expected, &mut slots).0);
        }
        assert!(got == text && here == there);
    }
}

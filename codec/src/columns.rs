//! Binary records of one width: each byte is a column's.
//!
//! Neither text nor random, such records have no words and no paths; what foretells a byte is the
//! one above it, in the record before, and those on its left. One decision asks whether the byte is
//! the one above. Else it is coded bit by bit from four contexts, cheaper than text. A column that
//! is random (the low bytes of fractions) is passed by, and looked at again now and then.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use crate::bitwise::{bits_of, meanings};
use crate::coder::Coder;
use crate::counter::{Counter, Counters};
use crate::framing::plain_byte;
use crate::math::{self, mix};
use crate::mixer::{Rate, Weights, error};
use crate::slots::Slots;
use crate::state::STATES;

/// Columns that are told apart: a wider record's come round again.
const WIDTH: usize = 1024;
const CONTEXTS: usize = 4;
/// Eight are a vector.
const INPUTS: usize = 8;
const BIAS: usize = CONTEXTS;
const LIMIT: u32 = 250;
/// From this mean cost on, in 1/64 bit, a column's news are random.
const RANDOM_MIN: u16 = 506;
/// So many records of a random column are passed by before one is looked at.
const PASS: u8 = 15;

/// What is known of a column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Column {
    above: u8,
    /// The byte above the one above.
    before: u8,
    /// The last answers whether it was the one above, newest lowest.
    same: u8,
    /// Records to pass by.
    pass: u8,
    /// Mean cost of news, in 1/64 bit.
    cost: u16,
}

/// The columns, and what weighs their contexts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Columns {
    columns: Vec<Column>,
    /// Whether it is the byte above, by place, last answers and the answer on the left.
    same: Counters,
    meanings: Box<[[Counter; 256]; CONTEXTS]>,
    weights: Weights<INPUTS>,
    rate: Rate,
    /// The last two bytes, and whether the last was the one above.
    left: (u8, u8, bool),
}

impl Columns {
    pub(crate) fn new() -> Self {
        Self {
            columns: vec![Column::default(); WIDTH],
            same: Counters::new(11, Counter::new(32_768, 1)),
            meanings: Box::new([meanings(); CONTEXTS]),
            weights: Weights::new(8, 80),
            rate: Rate::new(16, 20, 2000),
            left: (0, 0, false),
        }
    }

    /// Codes and learns the byte of a column.
    pub(crate) fn code<C: Coder>(&mut self, coder: &mut C, byte: u8, at: u32, slots: &mut Slots) -> u8 {
        if at == 0 {
            self.left = (0, 0, false);
        }
        let (left, further, is_left_same) = self.left;
        let column = self.columns[at as usize % WIDTH];
        let history = u32::from(column.same & 7) << 1 | u32::from(is_left_same);
        let same = self.same.at((at % 128) << 4 | history);
        let is_same = coder.code(byte == column.above, same.p());
        same.update(is_same, LIMIT);
        let (mut pass, mut cost) = (column.pass, column.cost);
        let byte = if is_same {
            column.above
        } else if pass > 0 {
            pass -= 1;
            plain_byte(coder, byte)
        } else {
            let place = mix(at, 0x0C01);
            let step = column.above.wrapping_sub(column.before);
            let contexts = [
                mix(place, u32::from(column.above)),
                mix(place, 0x100 | u32::from(left)),
                mix(place, 0x200 | u32::from(step)),
                mix(0x300 | u32::from(left), u32::from(further)),
            ];
            let (byte, spent) = self.news(coder, byte, &contexts, slots);
            cost = ((7 * u32::from(cost) + spent.min(2000)) / 8) as u16;
            pass = if cost >= RANDOM_MIN { PASS } else { 0 };
            byte
        };
        self.columns[at as usize % WIDTH] =
            Column { above: byte, before: column.above, same: column.same << 1 | u8::from(is_same), pass, cost };
        self.left = (byte, left, is_same);
        byte
    }

    /// Codes a byte bit by bit; and what it cost, in 1/64 bit.
    fn news<C: Coder>(&mut self, coder: &mut C, byte: u8, contexts: &[u32; CONTEXTS], slots: &mut Slots) -> (u8, u32) {
        let (mut node, mut spent) = (1u32, 0);
        let mut at = [0; CONTEXTS];
        let mut inputs = [0i16; INPUTS];
        inputs[BIAS] = 256;
        for bit_index in 0..8u32 {
            if bit_index % 3 == 0 {
                at = slots.find(&contexts.map(|c| mix(c, node)));
            }
            let leaf = node & ((1 << (bit_index % 3)) - 1) | 1 << (bit_index % 3);
            let states = at.map(|at| slots.state(at, leaf));
            for ((state, meanings), input) in states.iter().zip(self.meanings.iter()).zip(&mut inputs) {
                *input = math::stretch_roughly(meanings[usize::from(*state)].p()) & -i16::from(*state != 0);
            }
            let p = math::squash(self.weights.dot(node, &inputs));
            let bit = coder.code(byte >> (7 - bit_index) & 1 == 1, p);
            spent += bits_of(if bit { p } else { 65_536 - p });
            self.weights.learn(node, &inputs, error(bit, p, self.rate.next()));
            for ((at, state), meanings) in at.iter().zip(states).zip(self.meanings.iter_mut()) {
                meanings[usize::from(state)].update(bit, LIMIT);
                *slots.state_mut(*at, leaf) = STATES[usize::from(state)].next[usize::from(bit)];
            }
            node = node << 1 | u32::from(bit);
        }
        (node as u8, spent)
    }

    pub(crate) fn reset(&mut self) {
        *self = Self::new();
    }

    pub(crate) fn bytes(&self) -> usize {
        self.columns.len() * size_of::<Column>()
            + self.same.bytes()
            + size_of::<[[Counter; 256]; CONTEXTS]>()
            + self.weights.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coder::{Emit, Read};

    /// Bytes that records of one width become; they are read back, too.
    fn size(records: &[Vec<u8>]) -> usize {
        let (mut columns, mut slots, mut out) = (Columns::new(), Slots::new(12), Vec::new());
        let mut emit = Emit::new(&mut out);
        for record in records {
            for (at, &byte) in (0..).zip(record) {
                columns.code(&mut emit, byte, at, &mut slots);
            }
        }
        emit.finish();
        let (mut again, mut slots, mut read) = (Columns::new(), Slots::new(12), Read::new(&out));
        for record in records {
            for (at, &byte) in (0..).zip(record) {
                assert_eq!(again.code(&mut read, 0, at, &mut slots), byte);
            }
        }
        assert!(again == columns);
        out.len()
    }

    #[test]
    fn a_byte_like_the_one_above_costs_nothing_and_a_step_little() {
        assert!(size(&vec![vec![7; 40]; 200]) < 160, "{}", size(&vec![vec![7; 40]; 200]));
        let counting: Vec<Vec<u8>> = (0..2000u32).map(|i| (i * 3).to_be_bytes().to_vec()).collect();
        assert!(size(&counting) < 2000, "{}", size(&counting));
    }

    #[test]
    fn a_random_column_is_passed_by_and_a_wide_record_comes_round() {
        let mut hash = 1;
        let mut random = || {
            hash = mix(hash, 5);
            (hash >> 7) as u8
        };
        let noise: Vec<Vec<u8>> = (0..3000).map(|_| vec![1, random()]).collect();
        let cost = size(&noise);
        assert!((2990..3200).contains(&cost), "{cost}");
        let wide: Vec<Vec<u8>> = (0..20u8).map(|i| vec![i / 9; 3 * WIDTH + 5]).collect();
        assert!(size(&wide) < wide.len() * wide[0].len() / 20);
    }
}

//! The arithmetic coder: many unlikely or likely yes/no answers in as few bytes as they are worth.
//!
//! Both directions run the same model code; they differ only in where a decision comes from. A
//! [`Coder`] takes each decision with its probability: [`Emit`] writes it, [`Read`] answers it from
//! the bytes and ignores what it was given, [`Learn`] writes nothing (priming), [`Meter`] adds up
//! what it would cost.
//!
//! An interval of 32 bits is cut at each decision in proportion to the probability; a carry runs
//! back into the bytes that are out already. At the end the fewest bytes that lie within the
//! interval are written: the reader imagines zeros behind them.

use alloc::vec::Vec;

use crate::math;

/// Where decisions go to, or come from.
pub(crate) trait Coder {
    /// Codes one decision whose probability to be `true` is `p` of 65,536 (1 to 65,535).
    fn code(&mut self, bit: bool, p: i32) -> bool;

    /// Says which way the next decisions belong to, for those who measure.
    #[inline]
    fn enter(&mut self, _: Way) {}
}

/// The ways of a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// As good as certain, within a long match.
    Certain,
    /// The best candidate was asked for.
    Asked,
    /// Bit by bit.
    Bitwise,
    /// A digit of a random field.
    Random,
}

/// Writes decisions.
#[derive(Debug)]
pub(crate) struct Emit<'a> {
    low: u32,
    range: u32,
    out: &'a mut Vec<u8>,
    begin: usize,
}

impl<'a> Emit<'a> {
    /// Writes behind what is in `out`.
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        let begin = out.len();
        Self { low: 0, range: u32::MAX, out, begin }
    }

    fn carry(&mut self) {
        for byte in self.out.iter_mut().skip(self.begin).rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                return;
            }
        }
    }

    /// Writes the fewest bytes that say where the interval is.
    pub(crate) fn finish(mut self) {
        let (low, last) = (u64::from(self.low), u64::from(self.low) + u64::from(self.range) - 1);
        for bytes in 0..=4u32 {
            let rest = (1u64 << (32 - 8 * bytes)) - 1;
            let value = (low + rest) & !rest;
            if value <= last {
                if value >> 32 != 0 {
                    self.carry();
                }
                let kept = (value as u32).to_be_bytes();
                self.out.extend(kept.iter().take(bytes as usize));
                return;
            }
        }
    }
}

impl Coder for Emit<'_> {
    #[inline]
    fn code(&mut self, bit: bool, p: i32) -> bool {
        let bound = ((u64::from(self.range) * p as u64) >> 16) as u32;
        if bit {
            self.range = bound;
        } else {
            let (low, carried) = self.low.overflowing_add(bound);
            self.low = low;
            self.range -= bound;
            if carried {
                self.carry();
            }
        }
        while self.range < 1 << 24 {
            self.out.push((self.low >> 24) as u8);
            self.low <<= 8;
            self.range <<= 8;
        }
        bit
    }
}

/// Answers decisions from bytes.
#[derive(Debug)]
pub(crate) struct Read<'a> {
    code: u32,
    range: u32,
    rest: &'a [u8],
    /// Bytes that were imagined behind the end.
    beyond: u32,
}

impl<'a> Read<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let mut read = Self { code: 0, range: u32::MAX, rest: bytes, beyond: 0 };
        for _ in 0..4 {
            read.shift();
        }
        read
    }

    #[inline]
    fn shift(&mut self) {
        let byte = match self.rest.split_first() {
            Some((&byte, rest)) => {
                self.rest = rest;
                byte
            }
            None => {
                self.beyond = self.beyond.saturating_add(1);
                0
            }
        };
        self.code = self.code << 8 | u32::from(byte);
    }

    /// No writer ends so far before what the reader has asked for.
    pub(crate) fn is_overrun(&self) -> bool {
        self.beyond > 4
    }

    /// Bytes that no decision needed.
    pub(crate) fn left_over(&self) -> usize {
        self.rest.len()
    }
}

impl Coder for Read<'_> {
    #[inline]
    fn code(&mut self, _: bool, p: i32) -> bool {
        let bound = ((u64::from(self.range) * p as u64) >> 16) as u32;
        let bit = self.code < bound;
        if bit {
            self.range = bound;
        } else {
            self.code = self.code.wrapping_sub(bound);
            self.range -= bound;
        }
        while self.range < 1 << 24 {
            self.shift();
            self.range <<= 8;
        }
        bit
    }
}

/// Writes nothing: the model only learns.
#[derive(Debug)]
pub(crate) struct Learn;

impl Coder for Learn {
    #[inline]
    fn code(&mut self, bit: bool, _: i32) -> bool {
        bit
    }
}

/// Adds up costs, in 1/1024 bit.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pub(crate) cost: u64,
    pub(crate) ways: [(u64, u64); 4],
    way: usize,
}

impl Coder for Meter {
    fn code(&mut self, bit: bool, p: i32) -> bool {
        let cost = u64::from(math::cost(if bit { p } else { 65_536 - p }));
        self.cost += cost;
        self.ways[self.way].1 += cost;
        bit
    }

    fn enter(&mut self, way: Way) {
        self.way = way as usize;
        self.ways[self.way].0 += 1;
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn what_is_written_is_read_at_any_probability_and_length() {
        let mut seed = 1u32;
        let mut next = || {
            seed = math::mix(seed, 7);
            seed
        };
        for length in 0..300 {
            let decisions: Vec<(bool, i32)> = (0..length)
                .map(|_| {
                    let p = match next() % 4 {
                        0 => 1,
                        1 => 65_535,
                        _ => 1 + (next() % 65_535) as i32,
                    };
                    ((next() % 65_536) < p as u32, p)
                })
                .collect();
            let mut out = vec![0xFF; 3];
            let mut emit = Emit::new(&mut out);
            for &(bit, p) in &decisions {
                emit.code(bit, p);
            }
            emit.finish();
            assert_eq!(out[..3], [0xFF; 3]);
            let mut read = Read::new(&out[3..]);
            for &(bit, p) in &decisions {
                assert_eq!(read.code(!bit, p), bit);
            }
            assert!(!read.is_overrun());
            assert_eq!(read.left_over(), 0);
        }
    }

    #[test]
    fn what_was_expected_costs_nothing() {
        let mut out = Vec::new();
        let mut emit = Emit::new(&mut out);
        (0..100).for_each(|_| {
            emit.code(true, 65_535);
        });
        emit.finish();
        assert!(out.is_empty());
    }
}

//! Fields of random digits: identifiers drawn by a machine, long fractions.
//!
//! Where a path's news have cost about as much as random digits cost, and digits is all there was,
//! the large tables can learn nothing there and would only fill up. The rest of such a value, once
//! a byte was not the candidate, is coded by one small tree of counters per place in the value. What
//! always stands between the digits (the dashes of an identifier) is as good as certain there.

use alloc::vec;
use alloc::vec::Vec;

use crate::coder::Coder;
use crate::counter::Counter;

/// Kinds of digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Digits {
    Decimal,
    Hexadecimal,
}

/// Places in a value that are told apart.
const PLACES: usize = 64;
/// From so much on a digit is random, in 1/64 bit.
const DECIMAL_MIN: u32 = 190;
const HEXADECIMAL_MIN: u32 = 215;
/// How firmly digits are held to be random at first, in observations.
const CONFIDENCE: u32 = 120;

/// All digits alike: the first counter asks whether it is a digit at all, those from 16 on are a tree
/// of its four bits.
const fn tree(digits: Digits) -> [Counter; 32] {
    let mut tree = [Counter::new(32_768, CONFIDENCE); 32];
    tree[0] = Counter::new(65_200, 30);
    if let Digits::Decimal = digits {
        tree[16 + 1] = Counter::new(65_536 / 5, CONFIDENCE);
        tree[16 + 3] = Counter::new(30, 30);
        tree[16 + 6] = Counter::new(30, 30);
    }
    tree
}

fn trees() -> Vec<[Counter; 32]> {
    [vec![tree(Digits::Decimal); PLACES], vec![tree(Digits::Hexadecimal); PLACES]].concat()
}
/// Fewer news in a value say nothing about its path.
const NEWS_MIN: u32 = 4;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Field {
    check: u16,
    /// Mean cost of news, in 1/64 bit.
    cost: u16,
    /// Of the last 8 values: had others than decimal, than hexadecimal digits.
    not_decimal: u8,
    not_hexadecimal: u8,
}

/// What is known of the paths' randomness, and of the value that is going on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Random {
    fields: Vec<Field>,
    trees: Vec<[Counter; 32]>,
    /// A tree of the bytes that come after the digits.
    ends: Vec<Counter>,
    at: usize,
    check: u16,
    news: u32,
    cost: u32,
    others: (u32, u32),
    digits: Option<Digits>,
}

impl Random {
    /// For about `2^bits` paths.
    pub(crate) fn new(bits: u32) -> Self {
        Self {
            fields: vec![Field::default(); 1 << bits],
            trees: trees(),
            ends: vec![Counter::new(32_768, 1); 256],
            at: 0,
            check: 0,
            news: 0,
            cost: 0,
            others: (0, 0),
            digits: None,
        }
    }

    /// A segment begins.
    pub(crate) fn begin(&mut self, path: u32) {
        self.at = (path >> 16) as usize % self.fields.len();
        self.check = path as u16 | 1;
        (self.news, self.cost, self.others, self.digits) = (0, 0, (0, 0), None);
    }

    /// Whether the rest of this value is random.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.digits.is_some()
    }

    /// A byte was coded bit by bit at a cost; `foretold`: it was the best candidate all the same.
    pub(crate) fn note(&mut self, byte: u8, cost: u32, foretold: bool) {
        if foretold {
            return;
        }
        self.news += 1;
        self.cost += cost;
        self.others.0 += u32::from(!byte.is_ascii_digit());
        self.others.1 += u32::from(digit(byte).is_none());
        let field = &self.fields[self.at];
        if field.check != self.check {
            return;
        }
        let cost = u32::from(field.cost);
        self.digits = if cost >= DECIMAL_MIN && field.not_decimal == 0 && byte.is_ascii_digit() {
            Some(Digits::Decimal)
        } else if cost >= HEXADECIMAL_MIN && field.not_hexadecimal == 0 && digit(byte).is_some() {
            Some(Digits::Hexadecimal)
        } else {
            None
        };
    }

    /// The segment has ended.
    pub(crate) fn end(&mut self) {
        if self.news < NEWS_MIN && self.others.1 == 0 {
            return;
        }
        let field = &mut self.fields[self.at];
        let mean = (self.cost / self.news.max(1)).min(2000) as u16;
        if field.check != self.check {
            *field = Field { check: self.check, cost: mean, ..Field::default() };
        } else if self.digits.is_none() {
            field.cost = ((3 * u32::from(field.cost) + u32::from(mean)) / 4) as u16;
        }
        field.not_decimal = field.not_decimal << 1 | u8::from(self.others.0 * 8 > self.news);
        field.not_hexadecimal = field.not_hexadecimal << 1 | u8::from(self.others.1 * 8 > self.news);
    }

    /// Codes a byte of a random value that is not foretold; anything may come.
    pub(crate) fn code<C: Coder>(&mut self, coder: &mut C, byte: u8, place: u32) -> u8 {
        let kind = self.digits.unwrap_or(Digits::Hexadecimal) as usize;
        let tree = &mut self.trees[kind * PLACES + (place as usize).min(PLACES - 1)];
        let value = digit(byte);
        let is_digit = coder.code(value.is_some(), tree[0].p());
        tree[0].update(is_digit, 250);
        if !is_digit {
            self.digits = None;
            self.others.0 += 1;
            self.others.1 += 1;
            let mut node = 1;
            for i in 0..8 {
                let counter = &mut self.ends[node & 255];
                let bit = coder.code(byte >> (7 - i) & 1 == 1, counter.p());
                counter.update(bit, 60);
                node = node << 1 | usize::from(bit);
            }
            return node as u8;
        }
        self.news += 1;
        let value = value.unwrap_or(0);
        let mut node = 1;
        for i in 0..4 {
            let counter = &mut tree[node & 15 | 16];
            let bit = coder.code(value >> (3 - i) & 1 == 1, counter.p());
            counter.update(bit, 1000);
            node = node << 1 | usize::from(bit);
        }
        let value = node as u8 & 15;
        self.others.0 += u32::from(value > 9);
        if value < 10 { b'0' + value } else { b'a' + value - 10 }
    }

    pub(crate) fn reset(&mut self) {
        self.fields.fill(Field::default());
        self.trees = trees();
        self.ends.fill(Counter::new(32_768, 1));
        self.begin(0);
        self.check = 0;
    }

    pub(crate) fn bytes(&self) -> usize {
        self.fields.len() * size_of::<Field>() + (self.trees.len() * 32 + self.ends.len()) * size_of::<Counter>()
    }
}

/// The value of a digit, of lower case if hexadecimal.
fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

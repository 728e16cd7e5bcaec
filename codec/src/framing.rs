//! Where records end, and what kind of bytes they are.
//!
//! A JSON container ends where its bracket closes: nothing is coded for that. Other records say
//! their length, cheaply when it is the same as before. Bytes that look random are passed by,
//! and binary records of one width have a model of their own (see [`crate::columns`]).

use crate::coder::Coder;
use crate::counter::Counter;
use crate::tracker::Tracker;

/// How a record is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A JSON container, which ends itself.
    Container,
    /// Anything else, with its length.
    Sized,
    /// As it is, with its length; the model does not see it.
    Stored,
    /// Binary, as wide as the one before: its columns are coded, not its text.
    Columns,
}

/// Shorter records are not looked at for randomness.
const SAMPLE_MIN: usize = 48;
/// Of longer ones only so many bytes at the begin and at the end are.
const SAMPLE_MAX: usize = 2048;

impl Kind {
    /// How a record should be coded.
    pub(crate) fn of(record: &[u8]) -> Self {
        if looks_random(record) {
            return Self::Stored;
        }
        let mut tracker = Tracker::new();
        for (i, &byte) in record.iter().enumerate() {
            tracker.update(byte);
            if tracker.is_complete() {
                return if i + 1 == record.len() { Self::Container } else { Self::Sized };
            }
            if tracker.is_hopeless() {
                break;
            }
        }
        Self::Sized
    }

    /// How a record should be coded when a record of `width` bytes came before.
    pub(crate) fn after(width: u32, record: &[u8]) -> Self {
        match Self::of(record) {
            Self::Sized if record.len() as u64 == u64::from(width) && is_binary(record) => Self::Columns,
            kind => kind,
        }
    }
}

/// Whether bytes that no text has are one in four.
fn is_binary(record: &[u8]) -> bool {
    let is_control = |b: &&u8| (**b < 0x20 && !b.is_ascii_whitespace()) || **b == 0x7F;
    !record.is_empty() && record.iter().filter(is_control).count() >= record.len() / 4
}

/// Whether equal bytes meet about as seldom as among random ones.
fn looks_random(record: &[u8]) -> bool {
    if record.len() < SAMPLE_MIN {
        return false;
    }
    let mut counts = [0u32; 256];
    let head = record.iter().take(SAMPLE_MAX);
    let tail = record.iter().rev().take(record.len().saturating_sub(SAMPLE_MAX).min(SAMPLE_MAX));
    let mut n = 0u32;
    for &byte in head.chain(tail) {
        counts[usize::from(byte)] += 1;
        n += 1;
    }
    let pairs: u32 = counts.iter().map(|&c| c * c.saturating_sub(1)).sum();
    // Random bytes: n (n - 1) / 256; a third more is tolerated, and chance in small samples.
    pairs <= n * (n - 1) / 192 + n / 4
}

/// What kinds and lengths came before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Framing {
    kinds: [[Counter; 4]; 3],
    last_kind: Kind,
    same: Counter,
    last_len: u32,
    digits: [Counter; 32],
}

const EVEN: i32 = 32_768;

impl Framing {
    pub(crate) fn new() -> Self {
        Self {
            kinds: [[Counter::new(58_000, 2), Counter::new(EVEN, 1), Counter::new(EVEN, 1), Counter::new(EVEN, 1)]; 3],
            last_kind: Kind::Container,
            same: Counter::new(EVEN, 1),
            last_len: 0,
            digits: [Counter::new(EVEN, 1); 32],
        }
    }

    /// The length that was coded last.
    pub(crate) fn last_len(&self) -> u32 {
        self.last_len
    }

    /// Codes the kind of a record.
    pub(crate) fn kind<C: Coder>(&mut self, coder: &mut C, kind: Kind) -> Kind {
        let before = self.last_kind as usize;
        let mut ask = |what: usize, is: bool| {
            let counter = &mut self.kinds[what][before];
            let is = coder.code(is, counter.p());
            counter.update(is, 250);
            is
        };
        self.last_kind = if ask(0, kind == Kind::Container) {
            Kind::Container
        } else if ask(1, kind == Kind::Sized) {
            Kind::Sized
        } else if ask(2, kind == Kind::Stored) {
            Kind::Stored
        } else {
            Kind::Columns
        };
        self.last_kind
    }

    /// Codes a length: the same as before, or its binary digits and their number.
    pub(crate) fn len<C: Coder>(&mut self, coder: &mut C, len: u32) -> u32 {
        let same = coder.code(len == self.last_len, self.same.p());
        self.same.update(same, 60);
        if !same {
            let digits = &mut self.digits;
            self.last_len = number(coder, len, |coder, i, more| {
                let more = coder.code(more, digits[i].p());
                digits[i].update(more, 60);
                more
            });
        }
        self.last_len
    }
}

/// Codes a number without a model.
pub(crate) fn plain_number<C: Coder>(coder: &mut C, n: u32) -> u32 {
    number(coder, n, |coder, _, more| coder.code(more, EVEN))
}

/// Codes a byte without a model.
pub(crate) fn plain_byte<C: Coder>(coder: &mut C, byte: u8) -> u8 {
    (0..8).rev().fold(0, |got, i| got << 1 | u8::from(coder.code(byte >> i & 1 == 1, EVEN)))
}

/// Elias' gamma code of `n + 1`: how many digits follow the first, then these.
fn number<C: Coder>(coder: &mut C, n: u32, mut more: impl FnMut(&mut C, usize, bool) -> bool) -> u32 {
    let n = u64::from(n) + 1;
    let mut digits = 0;
    while digits < 31 && more(coder, digits, (n >> digits) > 1) {
        digits += 1;
    }
    let mut value = 1u64;
    for i in (0..digits).rev() {
        value = value << 1 | u64::from(coder.code(n >> i & 1 == 1, EVEN));
    }
    (value - 1) as u32
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::coder::{Emit, Read};
    use crate::math::mix;

    #[test]
    fn numbers_are_coded_whatever_their_size() {
        let numbers = [0, 1, 2, 3, 77, 77, 65_535, 65_536, 1 << 30, (1 << 31) - 2];
        let mut out = Vec::new();
        let mut emit = Emit::new(&mut out);
        let mut framing = Framing::new();
        for n in numbers {
            framing.len(&mut emit, n);
            plain_number(&mut emit, n);
        }
        emit.finish();
        let mut read = Read::new(&out);
        let mut framing = Framing::new();
        for n in numbers {
            assert_eq!((framing.len(&mut read, 0), plain_number(&mut read, 0)), (n, n));
        }
    }

    #[test]
    fn random_bytes_are_told_from_others() {
        let random: Vec<u8> = (0..5000u32).map(|i| (mix(i, 9) >> 7) as u8).collect();
        for len in [64, 200, 1000, 5000] {
            assert_eq!(Kind::of(&random[..len]), Kind::Stored, "{len}");
        }
        assert_eq!(Kind::of(b"{\"a\":[1,2,{}]}"), Kind::Container);
        assert_eq!(Kind::of(b"{\"a\":[1,2,{}]}\n"), Kind::Sized);
        assert_eq!(Kind::of(b""), Kind::Sized);
        let text: Vec<u8> = b"Words of a language, which repeat their letters. ".repeat(9);
        assert_eq!(Kind::of(&text), Kind::Sized);
        let counting: Vec<u8> = (0..600u32).flat_map(|n| n.to_le_bytes()).collect();
        assert_eq!(Kind::of(&counting), Kind::Sized);
    }
}

//! Match model: where did the last bytes stand before, and what followed?

use alloc::vec;
use alloc::vec::Vec;

use crate::window::Window;

/// Length up to which a match is checked and counted.
const LENGTH_MAX: u32 = 63;

/// Finds the last place that agrees in `minimum` bytes at least, and follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Match {
    heads: Vec<u32>,
    shift: u32,
    minimum: u32,
    hash: u32,
    position: u32,
    /// 0: none.
    length: u32,
}

impl Match {
    /// A table of `2^bits` places, for matches of `minimum` bytes (at most 16).
    pub(crate) fn new(bits: u32, minimum: u32) -> Self {
        Self { heads: vec![0; 1 << bits], shift: 32 - bits, minimum, hash: 0, position: 0, length: 0 }
    }

    /// The byte that followed, if there is a match.
    #[inline]
    pub(crate) fn position(&self) -> Option<u32> {
        (self.length > 0).then_some(self.position)
    }

    #[inline]
    pub(crate) fn length(&self) -> u32 {
        self.length
    }

    /// Its situation, below 16.
    #[inline]
    pub(crate) fn situation(&self) -> u32 {
        match self.length {
            0..=8 => self.length,
            9..=11 => 9,
            12..=15 => 10,
            16..=20 => 11,
            21..=27 => 12,
            28..=39 => 13,
            40..=62 => 14,
            _ => 15,
        }
    }

    /// The next byte, which is in the window already.
    #[inline]
    pub(crate) fn update(&mut self, byte: u8, window: &Window) {
        self.follow(byte, window);
        let at = self.roll(byte);
        if self.length == 0 {
            self.find(self.heads[at], window, window);
        }
        self.heads[at] = window.end();
    }

    /// The next byte of the history `window`, where what may match is in `texts`.
    #[inline]
    pub(crate) fn update_apart(&mut self, byte: u8, window: &Window, texts: &Window) {
        self.follow(byte, texts);
        let at = self.roll(byte);
        if self.length == 0 {
            self.find(self.heads[at], window, texts);
        }
    }

    /// Makes the bytes of `texts` from `begin` on known.
    pub(crate) fn insert(&mut self, begin: u32, texts: &Window) {
        let hash = core::mem::take(&mut self.hash);
        for i in 0..texts.end().wrapping_sub(begin) {
            let position = begin.wrapping_add(i);
            let at = self.roll(texts.at(position));
            if i + 1 >= self.minimum {
                self.heads[at] = position.wrapping_add(1);
            }
        }
        self.hash = hash;
    }

    #[inline]
    fn follow(&mut self, byte: u8, texts: &Window) {
        if self.length > 0 {
            if texts.at(self.position) == byte && texts.holds(self.position.wrapping_add(1)) {
                self.position = self.position.wrapping_add(1);
                self.length = (self.length + 1).min(LENGTH_MAX);
            } else {
                self.length = 0;
            }
        }
    }

    /// Place in the table of the last `minimum` bytes: each round pushes the oldest one's bits out.
    #[inline]
    fn roll(&mut self, byte: u8) -> usize {
        let turn = 32_u32.div_ceil(self.minimum);
        self.hash = (self.hash << turn).wrapping_add((u32::from(byte) + 1).wrapping_mul(0x2F0B_4C47) >> 3);
        (self.hash.wrapping_mul(0x9E37_79B1) >> self.shift) as usize
    }

    fn find(&mut self, candidate: u32, window: &Window, texts: &Window) {
        if !texts.holds(candidate) {
            return;
        }
        let end = window.end();
        let mut length = 0;
        while length < LENGTH_MAX
            && length < candidate
            && texts.at(candidate.wrapping_sub(length + 1)) == window.at(end.wrapping_sub(length + 1))
        {
            length += 1;
        }
        if length >= self.minimum {
            self.position = candidate;
            self.length = length;
        }
    }

    pub(crate) fn reset(&mut self) {
        self.heads.fill(0);
        (self.hash, self.position, self.length) = (0, 0, 0);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.heads.len() * size_of::<u32>()
    }
}

//! The history: the last bytes, which pointers of predictors lead into.

use alloc::vec;
use alloc::vec::Vec;

/// A ring of `2^bits` bytes; positions count all bytes ever pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    ring: Vec<u8>,
    mask: usize,
    end: u32,
}

impl Window {
    pub(crate) fn new(bits: u32) -> Self {
        Self { ring: vec![0; 1 << bits], mask: (1 << bits) - 1, end: 0 }
    }

    #[inline]
    pub(crate) fn push(&mut self, byte: u8) {
        let at = self.end as usize & self.mask;
        self.ring[at] = byte;
        self.end = self.end.wrapping_add(1);
    }

    /// Position of the next byte.
    #[inline]
    pub(crate) fn end(&self) -> u32 {
        self.end
    }

    /// The byte at a position (of what is long gone: another one).
    #[inline]
    pub(crate) fn at(&self, position: u32) -> u8 {
        self.ring[position as usize & self.mask]
    }

    /// Whether a position is still there, and will be for a while.
    #[inline]
    pub(crate) fn holds(&self, position: u32) -> bool {
        let age = self.end.wrapping_sub(position) as usize;
        age > 0 && age < self.ring.len().saturating_sub(4096)
    }

    pub(crate) fn reset(&mut self) {
        self.ring.fill(0);
        self.end = 0;
    }

    pub(crate) fn bytes(&self) -> usize {
        self.ring.len()
    }
}

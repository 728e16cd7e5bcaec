//! Run predictors: what followed this context the last time, and how many times in a row.
//!
//! Cheaper than bit histories, and about whole bytes: they answer at once for the nine bytes in ten
//! that are no news.

use alloc::vec;
use alloc::vec::Vec;

/// Contexts: see `model.rs`, where they are made.
pub(crate) const RUNS: usize = 3;
/// The longest run that is told apart.
const RUN_MAX: u32 = 15;

/// A table of all contexts' last bytes: check (20 bits), run (4 bits), byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Runs {
    cells: Vec<u32>,
    shift: u32,
    at: [(u32, u32); RUNS],
}

impl Runs {
    /// `2^bits` places.
    pub(crate) fn new(bits: u32) -> Self {
        Self { cells: vec![0; 1 << bits], shift: 32 - bits, at: [(0, 0); RUNS] }
    }

    /// Looks the contexts up: of each the byte and how many times in a row (1 to 15; 0: none) it came.
    ///
    /// All are read before the first is looked at: so they come from memory at the same time.
    #[inline]
    pub(crate) fn look_up(&mut self, contexts: &[u32; RUNS]) -> [(u8, u32); RUNS] {
        self.at = contexts.map(|c| (c >> self.shift, c.wrapping_mul(0x9E37_79B1) & 0xFFFF_F000));
        let cells = self.at.map(|(index, _)| self.cells[index as usize]);
        core::array::from_fn(|i| {
            let is_known = cells[i] & 0xFFFF_F000 == self.at[i].1;
            (cells[i] as u8, if is_known { cells[i] >> 8 & RUN_MAX } else { 0 })
        })
    }

    /// The byte that came, for all contexts looked up.
    #[inline]
    pub(crate) fn update(&mut self, byte: u8) {
        for &(index, check) in &self.at {
            let cell = &mut self.cells[index as usize];
            let run = if *cell & 0xFFFF_F000 == check && *cell as u8 == byte {
                ((*cell >> 8 & RUN_MAX) + 1).min(RUN_MAX)
            } else {
                1
            };
            *cell = check | run << 8 | u32::from(byte);
        }
    }

    pub(crate) fn reset(&mut self) {
        self.cells.fill(0);
        self.at = [(0, 0); RUNS];
    }

    pub(crate) fn bytes(&self) -> usize {
        self.cells.len() * size_of::<u32>()
    }
}

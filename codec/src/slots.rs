//! The table of bit histories: small trees of them, found by a hash and a check.
//!
//! A slot holds the histories of the next two or three bits of a byte in one context. Eight slots
//! are one line of a processor's cache. The slots of all contexts are asked for at the same time:
//! waiting for memory is most of what they cost.

use alloc::vec;
use alloc::vec::Vec;

use crate::state::STATES;

/// A check, then the 7 inner nodes of a tree of three bits.
type Slot = [u8; 8];

/// Slots that come together from memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(align(64))]
struct Line([Slot; 8]);

/// The slots of all contexts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slots {
    lines: Vec<Line>,
    mask: u32,
}

impl Slots {
    /// `2^bits` of them, 8 at least.
    pub(crate) fn new(bits: u32) -> Self {
        Self { lines: vec![Line::default(); 1 << (bits - 3)], mask: (1 << bits) - 1 }
    }

    /// The history of a node, 1 to 7, of a slot.
    #[inline]
    pub(crate) fn state(&self, at: u32, node: u32) -> u8 {
        self.slot(at)[node as usize & 7]
    }

    #[inline]
    pub(crate) fn state_mut(&mut self, at: u32, node: u32) -> &mut u8 {
        &mut self.slot_mut(at)[node as usize & 7]
    }

    /// The slots of contexts.
    #[inline]
    pub(crate) fn find<const N: usize>(&mut self, hashes: &[u32; N]) -> [u32; N] {
        let mut at = hashes.map(|hash| (hash.wrapping_mul(0x9E37_79B1) >> 8) & self.mask);
        let there = at.map(|at| self.slot(at)[0]);
        for ((at, there), hash) in at.iter_mut().zip(there).zip(hashes) {
            let check = ((hash >> 24) as u8).max(1);
            // An earlier context may just have claimed it: then the check is another.
            if there != check || self.slot(*at)[0] != check {
                *at = self.claim(*at, check);
            }
        }
        at
    }

    /// The slot of a context, which the least used of three gives up if need be.
    fn claim(&mut self, first: u32, check: u8) -> u32 {
        let mut worst = (first, u32::MAX);
        for at in [first, first ^ 1, first ^ 2] {
            let slot = self.slot(at);
            if slot[0] == check {
                return at;
            }
            let [n0, n1] = STATES[slot[1] as usize].seen;
            let used = if slot[0] == 0 { 0 } else { 1 + u32::from(n0) + u32::from(n1) };
            if used < worst.1 {
                worst = (at, used);
            }
        }
        *self.slot_mut(worst.0) = [check, 0, 0, 0, 0, 0, 0, 0];
        worst.0
    }

    #[inline]
    fn slot(&self, at: u32) -> &Slot {
        &self.lines[(at >> 3) as usize].0[at as usize & 7]
    }

    #[inline]
    fn slot_mut(&mut self, at: u32) -> &mut Slot {
        &mut self.lines[(at >> 3) as usize].0[at as usize & 7]
    }

    pub(crate) fn reset(&mut self) {
        self.lines.fill(Line::default());
    }

    pub(crate) fn bytes(&self) -> usize {
        self.lines.len() * size_of::<Line>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_finds_what_it_left_and_one_with_another_check_does_not() {
        let mut slots = Slots::new(8);
        let [at] = slots.find(&[0x1200_0001]);
        *slots.state_mut(at, 3) = 9;
        assert_eq!(slots.find(&[0x1200_0001]), [at]);
        assert_eq!(slots.state(at, 3), 9);
        let other = slots.claim(at, 0x13);
        assert_ne!(other, at);
        assert_eq!(slots.state(other, 3), 0);
    }

    #[test]
    fn the_least_used_of_three_gives_up_its_slot() {
        let mut slots = Slots::new(3);
        let used = slots.claim(0, 1);
        *slots.state_mut(used, 1) = STATES[STATES[0].next[1] as usize].next[1];
        assert_eq!([slots.claim(0, 2), slots.claim(0, 3)], [1, 2]);
        *slots.state_mut(1, 1) = STATES[0].next[1];
        *slots.state_mut(2, 1) = STATES[STATES[0].next[0] as usize].next[0];
        assert_eq!(slots.claim(0, 4), 1);
        assert_eq!((slots.claim(0, 1), slots.state(1, 1)), (0, 0));
    }
}

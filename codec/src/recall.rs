//! What stood here the last time: pointers from contexts of a segment to where it last stood.
//!
//! Records of one kind repeat their shape, and many of their values. At the begin of each segment
//! (a value, or the gap up to the next) these contexts are looked up: the path; path and kind of
//! record; path and the identifier read last; path and the value before; and the path whose value
//! this one equalled the last time (see [`crate::link`]). Each pointer then predicts byte after
//! byte. How far it is believed depends on how often its place in the table was right before.

use alloc::vec;
use alloc::vec::Vec;

use crate::window::Window;

/// Contexts that are remembered.
pub(crate) const KEPT: usize = 4;
/// Pointers that are followed: one more is only looked up.
pub(crate) const POINTERS: usize = KEPT + 1;
/// Situations of a pointer, for its confidence.
pub(crate) const SITUATIONS: u32 = 1 << 10;

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    position: u32,
    check: u16,
    /// Of the value that stood there.
    value: u8,
    /// The last outcomes, newest lowest, below a leading one.
    outcomes: u8,
}

/// A pointer into the history.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pointer {
    slot: usize,
    check: u16,
    position: u32,
    is_found: bool,
    misses: u8,
    outcomes: u8,
    value: u8,
}

impl Pointer {
    /// Where it points, if anywhere.
    #[inline]
    pub(crate) fn position(&self) -> Option<u32> {
        self.is_found.then_some(self.position)
    }

    /// Wrong predictions in this segment.
    pub(crate) fn misses(&self) -> u32 {
        u32::from(self.misses)
    }

    /// A few bits of the value that it points to.
    pub(crate) fn value(&self) -> u32 {
        u32::from(self.value)
    }

    /// Its situation, below [`SITUATIONS`], at a byte of a segment.
    #[inline]
    pub(crate) fn situation(&self, at: u32) -> u32 {
        let place = if at < 3 { at } else { (at.ilog2() + 2).min(7) };
        u32::from(self.outcomes & 31) << 5 | u32::from(self.misses.min(3)) << 3 | place
    }
}

/// The table and the pointers of this segment.
#[derive(Clone, Debug)]
pub(crate) struct Recall {
    slots: Vec<Slot>,
    shift: u32,
    pointers: [Pointer; POINTERS],
}

impl Recall {
    /// `2^bits` places.
    pub(crate) fn new(bits: u32) -> Self {
        Self { slots: vec![Slot::default(); 1 << bits], shift: 32 - bits, pointers: [Pointer::default(); POINTERS] }
    }

    pub(crate) fn pointers(&self) -> &[Pointer; POINTERS] {
        &self.pointers
    }

    /// Writes down the segment that began at `begin` and has now ended.
    pub(crate) fn store(&mut self, begin: u32, value: u32) {
        for p in self.pointers.iter().take(KEPT) {
            let slot = &mut self.slots[p.slot];
            if slot.check != p.check {
                *slot = Slot { check: p.check, outcomes: 1, ..Slot::default() };
            } else if p.is_found {
                let shifted = slot.outcomes << 1 | u8::from(p.misses == 0);
                slot.outcomes = if shifted >= 32 { 16 | shifted & 15 } else { shifted };
            }
            slot.position = begin;
            slot.value = value as u8;
        }
    }

    /// Looks up the contexts of a segment that begins.
    pub(crate) fn begin(&mut self, contexts: &[u32; POINTERS], window: &Window) {
        for (p, &context) in self.pointers.iter_mut().zip(contexts) {
            let check = context as u16 | 1;
            let first = (context >> self.shift) as usize;
            let second = first ^ 1;
            let found = [first, second].into_iter().find(|&at| self.slots[at].check == check);
            // Of two others, the older one gives way.
            let older = if self.slots[first].position <= self.slots[second].position { first } else { second };
            let at = found.unwrap_or(older);
            let slot = self.slots[at];
            *p = Pointer {
                slot: at,
                check,
                position: slot.position,
                is_found: found.is_some() && window.holds(slot.position),
                misses: 0,
                outcomes: slot.outcomes,
                value: slot.value,
            };
        }
    }

    /// The segment's next byte.
    #[inline]
    pub(crate) fn follow(&mut self, byte: u8, window: &Window) {
        for p in &mut self.pointers {
            if p.is_found {
                if window.at(p.position) != byte {
                    p.misses = (p.misses + 1).min(3);
                }
                p.position = p.position.wrapping_add(1);
            }
        }
    }

    pub(crate) fn reset(&mut self) {
        self.slots.fill(Slot::default());
        self.pointers = [Pointer::default(); POINTERS];
    }

    pub(crate) fn bytes(&self) -> usize {
        self.slots.len() * size_of::<Slot>()
    }
}

//! What stood here the last time: pointers from contexts of a segment to where it last stood.
//!
//! Records of one kind repeat their shape, and many of their values. At the begin of each segment
//! (a value, or the gap up to the next) these contexts are looked up: the path; path and kind of
//! record; path and the record's subject; path and the value before; and the path whose value
//! this one equalled the last time (see [`crate::link`]). Each pointer then predicts byte after
//! byte. How far it is believed depends on how often its place in the table was right before.
//!
//! What path or kind foretold alone is not written down for the other contexts: so the table has
//! room for what is seldom asked for, such as the height that a patient had a year ago.

use alloc::vec;
use alloc::vec::Vec;

use crate::window::Window;

/// Contexts that are remembered.
const KEPT: usize = 4;
/// Contexts that are remembered always; the others only where these did not foretell the segment.
const ALWAYS: usize = 2;
/// Pointers that are followed: one more is only looked up.
pub(crate) const POINTERS: usize = KEPT + 1;
/// Of longer segments the begin is kept.
const SEGMENT_MAX: u32 = 1024;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Slot {
    position: u32,
    check: u16,
    /// Of the value that stood there.
    value: u8,
    /// The last outcomes, newest lowest, below a leading one.
    outcomes: u8,
}

/// A pointer into the history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pointer {
    slot: usize,
    check: u16,
    begin: u32,
    position: u32,
    is_found: bool,
    misses: u8,
    outcomes: u8,
    value: u8,
}

impl Pointer {
    /// It was right in its last `times` segments (at most 4), and is in this one.
    #[inline]
    pub(crate) fn is_proved(&self, times: u32) -> bool {
        self.is_found
            && self.misses == 0
            && self.outcomes >= 1 << times
            && u32::from(self.outcomes).trailing_ones() >= times
    }

    /// Wrong predictions in this segment.
    pub(crate) fn misses(&self) -> u32 {
        u32::from(self.misses)
    }

    /// A few bits of the value that it points to.
    pub(crate) fn value(&self) -> u32 {
        u32::from(self.value)
    }

    /// Its situation, below 1,024, at a byte of a segment.
    #[inline]
    pub(crate) fn situation(&self, at: u32) -> u32 {
        let place = if at < 3 { at } else { (at.ilog2() + 2).min(7) };
        u32::from(self.outcomes & 31) << 5 | u32::from(self.misses.min(3)) << 3 | place
    }
}

/// The table and the pointers of this segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recall {
    /// Segments that were news when they ended.
    texts: Window,
    slots: Vec<Slot>,
    shift: u32,
    pointers: [Pointer; POINTERS],
}

impl Recall {
    /// `2^bits` places, and `2^text_bits` bytes of what stood there.
    pub(crate) fn new(bits: u32, text_bits: u32) -> Self {
        Self {
            texts: Window::new(text_bits),
            slots: vec![Slot::default(); 1 << bits],
            shift: 32 - bits,
            pointers: [Pointer::default(); POINTERS],
        }
    }

    pub(crate) fn pointers(&self) -> &[Pointer; POINTERS] {
        &self.pointers
    }

    /// The byte that a pointer of [`Recall::pointers`] expects.
    #[inline]
    pub(crate) fn byte(&self, pointer: &Pointer) -> Option<u8> {
        pointer.is_found.then(|| self.texts.at(pointer.position))
    }

    /// The segments that were news.
    pub(crate) fn texts(&self) -> &Window {
        &self.texts
    }

    /// Writes down the segment that began at `begin` of the history and has now ended.
    ///
    /// What a pointer foretold to the last byte is kept where it is; only news are copied. So the
    /// memory reaches back some ten times as far as a history of the same size.
    pub(crate) fn store(&mut self, begin: u32, value: u32, window: &Window) -> Option<u32> {
        let half = self.texts.bytes() as u32 / 2;
        let end = self.texts.end();
        let kept =
            self.pointers.iter().copied().find(|p| p.is_found && p.misses == 0 && end.wrapping_sub(p.begin) < half);
        let begin = match kept {
            Some(p) => p.begin,
            None => {
                let len = window.end().wrapping_sub(begin).min(SEGMENT_MAX);
                (0..len).for_each(|i| self.texts.push(window.at(begin.wrapping_add(i))));
                end
            }
        };
        let is_foretold = self.pointers.iter().take(ALWAYS).any(|p| p.is_found && p.misses == 0);
        for (which, p) in self.pointers.iter().enumerate().take(KEPT) {
            let slot = &mut self.slots[p.slot];
            if slot.check != p.check {
                if which >= ALWAYS && is_foretold {
                    continue;
                }
                *slot = Slot { check: p.check, outcomes: 1, ..Slot::default() };
            } else if p.is_found {
                let shifted = slot.outcomes << 1 | u8::from(p.misses == 0);
                slot.outcomes = if shifted >= 32 { 16 | shifted & 15 } else { shifted };
            }
            slot.position = begin;
            slot.value = value as u8;
        }
        kept.is_none().then_some(begin)
    }

    /// Looks up the contexts of a segment that begins.
    pub(crate) fn begin(&mut self, contexts: [u32; POINTERS]) {
        self.pointers = contexts.map(|context| {
            let check = context as u16 | 1;
            let first = (context >> self.shift) as usize;
            let four = [first, first ^ 1, first ^ 2, first ^ 3];
            let found = four.into_iter().find(|&at| self.slots[at].check == check);
            let at = found.unwrap_or_else(|| self.least(four));
            let slot = self.slots[at];
            Pointer {
                slot: at,
                check,
                begin: slot.position,
                position: slot.position,
                is_found: found.is_some() && self.texts.holds(slot.position),
                misses: 0,
                outcomes: slot.outcomes,
                value: slot.value,
            }
        });
    }

    /// Of places that others have: the oldest of those that were not right lately, or else of all.
    fn least(&self, places: [usize; 4]) -> usize {
        let worth = |at: usize| {
            let slot = &self.slots[at];
            (slot.outcomes.count_ones() > 2 && self.texts.holds(slot.position), slot.position)
        };
        places.into_iter().min_by_key(|&at| worth(at)).unwrap_or_default()
    }

    /// The segment's next byte.
    #[inline]
    pub(crate) fn follow(&mut self, byte: u8) {
        for p in &mut self.pointers {
            if p.is_found {
                if self.texts.at(p.position) != byte {
                    p.misses = (p.misses + 1).min(3);
                }
                p.position = p.position.wrapping_add(1);
            }
        }
    }

    pub(crate) fn reset(&mut self) {
        self.texts.reset();
        self.slots.fill(Slot::default());
        self.pointers = [Pointer::default(); POINTERS];
    }

    pub(crate) fn bytes(&self) -> usize {
        self.texts.bytes() + self.slots.len() * size_of::<Slot>()
    }
}

//! Deadlines of sessions: a binary heap in fixed memory, one entry a session, moved in O(log n).

use crate::mem::Lent;
use crate::time::Instant;

const NONE: u32 = u32::MAX;

/// One place in the heap's memory.
#[derive(Clone, Copy, Debug)]
pub struct TimerSlot {
    /// When session `i` (index of this slot) is due.
    due: Instant,
    /// Where session `i` stands in the heap, `NONE` if it has no deadline.
    place: u32,
    /// Which session stands at this place of the heap.
    session: u32,
}

impl TimerSlot {
    /// An unused slot, to fill memory with.
    pub const EMPTY: TimerSlot = TimerSlot { due: Instant::FAR, place: NONE, session: NONE };
}

#[derive(Debug)]
pub(crate) struct Timers<'m> {
    slots: Lent<'m, TimerSlot>,
    len: usize,
}

impl<'m> Timers<'m> {
    pub(crate) fn new(slots: Lent<'m, TimerSlot>) -> Self {
        Self { slots, len: 0 }
    }

    /// The earliest deadline and whose it is.
    pub(crate) fn first(&self) -> Option<(Instant, u32)> {
        if self.len == 0 {
            return None;
        }
        let s = self.slots[0].session;
        Some((self.slots[s as usize].due, s))
    }

    /// Sets the deadline of session `i`; [`Instant::FAR`] removes it.
    pub(crate) fn set(&mut self, i: u32, due: Instant) {
        let place = self.slots[i as usize].place;
        self.slots[i as usize].due = due;
        match (place == NONE, due == Instant::FAR) {
            (true, true) => {}
            (true, false) => {
                let at = self.len;
                self.len += 1;
                self.put(at, i);
                self.up(at);
            }
            (false, false) => {
                self.up(place as usize);
                self.down(self.slots[i as usize].place as usize);
            }
            (false, true) => {
                self.slots[i as usize].place = NONE;
                self.len -= 1;
                let (at, last) = (place as usize, self.slots[self.len].session);
                if at < self.len {
                    self.put(at, last);
                    self.up(at);
                    self.down(self.slots[last as usize].place as usize);
                }
            }
        }
    }

    fn put(&mut self, at: usize, session: u32) {
        self.slots[at].session = session;
        self.slots[session as usize].place = at as u32;
    }

    fn due_at(&self, at: usize) -> Instant {
        self.slots[self.slots[at].session as usize].due
    }

    fn swap(&mut self, a: usize, b: usize) {
        let (x, y) = (self.slots[a].session, self.slots[b].session);
        self.put(a, y);
        self.put(b, x);
    }

    fn up(&mut self, mut at: usize) {
        while at > 0 && self.due_at(at) < self.due_at((at - 1) / 2) {
            self.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
    }

    fn down(&mut self, mut at: usize) {
        loop {
            let least = [2 * at + 1, 2 * at + 2].into_iter().filter(|&c| c < self.len).min_by_key(|&c| self.due_at(c));
            match least {
                Some(c) if self.due_at(c) < self.due_at(at) => {
                    self.swap(at, c);
                    at = c;
                }
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_out_in_order_whatever_order_they_were_set_moved_and_removed_in() {
        let mut slots = [TimerSlot::EMPTY; 50];
        let mut t = Timers::new(Lent::Borrowed(&mut slots));
        let mut model = [Instant::FAR; 50];
        let mut x = 1u64;
        for _ in 0..5000 {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (i, due) = ((x >> 33) as usize % 50, (x >> 40) % 1000);
            let due = if due < 200 { Instant::FAR } else { Instant(due) };
            t.set(i as u32, due);
            model[i] = due;
            let least = *model.iter().min().unwrap();
            assert_eq!(t.first().map_or(Instant::FAR, |f| f.0), least);
        }
    }
}

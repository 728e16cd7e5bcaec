//! Queues threaded through the items themselves, so that "who has something to do" costs no memory
//! of its own and never a scan.

pub(crate) const NONE: u32 = u32::MAX;

/// An item's place in one queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hook {
    next: u32,
    queued: bool,
}

impl Hook {
    pub(crate) const IDLE: Hook = Hook { next: NONE, queued: false };

    pub(crate) fn is_queued(&self) -> bool {
        self.queued
    }
}

/// First in, first out; an item stands in it at most once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fifo {
    head: u32,
    tail: u32,
}

impl Fifo {
    pub(crate) const EMPTY: Fifo = Fifo { head: NONE, tail: NONE };

    pub(crate) fn is_empty(&self) -> bool {
        self.head == NONE
    }

    pub(crate) fn push<T>(&mut self, items: &mut [T], i: u32, hook: fn(&mut T) -> &mut Hook) {
        let h = hook(&mut items[i as usize]);
        if h.queued {
            return;
        }
        *h = Hook { next: NONE, queued: true };
        if self.tail == NONE {
            self.head = i;
        } else {
            hook(&mut items[self.tail as usize]).next = i;
        }
        self.tail = i;
    }

    pub(crate) fn pop<T>(&mut self, items: &mut [T], hook: fn(&mut T) -> &mut Hook) -> Option<u32> {
        if self.head == NONE {
            return None;
        }
        let i = self.head;
        let h = hook(&mut items[i as usize]);
        self.head = h.next;
        *h = Hook::IDLE;
        if self.head == NONE {
            self.tail = NONE;
        }
        Some(i)
    }

    /// Takes an item out wherever it stands; linear in the queue's length.
    pub(crate) fn remove<T>(&mut self, items: &mut [T], i: u32, hook: fn(&mut T) -> &mut Hook) {
        if !hook(&mut items[i as usize]).queued {
            return;
        }
        let (mut at, mut before) = (self.head, NONE);
        while at != NONE {
            let next = hook(&mut items[at as usize]).next;
            if at == i {
                if before == NONE {
                    self.head = next;
                } else {
                    hook(&mut items[before as usize]).next = next;
                }
                if self.tail == i {
                    self.tail = before;
                }
                *hook(&mut items[i as usize]) = Hook::IDLE;
                return;
            }
            (before, at) = (at, next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_out_in_order_once_and_can_be_taken_from_any_place() {
        let mut items = [Hook::IDLE; 5];
        let hook: fn(&mut Hook) -> &mut Hook = |h| h;
        let mut q = Fifo::EMPTY;
        for i in [3, 1, 4, 1, 0] {
            q.push(&mut items, i, hook);
        }
        q.remove(&mut items, 4, hook);
        q.remove(&mut items, 0, hook);
        q.push(&mut items, 2, hook);
        q.remove(&mut items, 3, hook);
        assert_eq!(q.pop(&mut items, hook), Some(1));
        assert_eq!(q.pop(&mut items, hook), Some(2));
        assert_eq!(q.pop(&mut items, hook), None);
        assert!(q.is_empty() && items.iter().all(|h| !h.is_queued()));
    }
}

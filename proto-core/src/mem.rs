//! Memory that the caller lends, or that is allocated once at the start.

#[cfg(feature = "alloc")]
use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};

/// A fixed-size slice: borrowed from the caller (a `static` array on a microcontroller) or, with
/// the feature `alloc`, on the heap, allocated once from [`Limits`](crate::limits::Limits). It never takes more.
#[derive(Debug)]
pub enum Lent<'m, T> {
    /// The caller's memory.
    Borrowed(&'m mut [T]),
    /// Allocated once.
    #[cfg(feature = "alloc")]
    Owned(alloc::boxed::Box<[T]>),
    /// Allocated once, and filled from the front as more of it is needed: of what was not yet, the system has given
    /// no memory. So a table for hundreds of sessions costs a hub with five of them next to nothing.
    #[cfg(feature = "alloc")]
    Reserved {
        /// What was needed so far.
        filled: Vec<T>,
        /// How many there may be.
        room: usize,
    },
}

impl<T> Lent<'_, T> {
    /// How many there may be; no fewer than there are.
    pub(crate) fn room(&self) -> usize {
        match self {
            #[cfg(feature = "alloc")]
            Lent::Reserved { room, .. } => *room,
            _ => self.len(),
        }
    }

    /// Puts one more behind those that are there; its place. `None` if there is room for no more: where the memory is
    /// not [reserved](Lent::Reserved), all of it is there from the start.
    pub(crate) fn put(&mut self, value: T) -> Option<usize> {
        match self {
            #[cfg(feature = "alloc")]
            Lent::Reserved { filled, room } if filled.len() < *room => {
                filled.push(value);
                Some(filled.len() - 1)
            }
            _ => {
                let _ = value;
                None
            }
        }
    }
}

#[cfg(feature = "alloc")]
impl<T> Lent<'static, T> {
    /// Room for `n` values on the heap, with none there yet.
    #[must_use]
    pub fn reserved(n: usize) -> Self {
        Lent::Reserved { filled: Vec::with_capacity(n), room: n }
    }
}

#[cfg(feature = "alloc")]
impl<T: Clone> Lent<'static, T> {
    /// `n` copies of `value` on the heap. Zero bytes come from the allocator untouched, so a
    /// large buffer costs resident memory only where it is used.
    #[must_use]
    pub fn owned(value: T, n: usize) -> Self {
        Lent::Owned(alloc::vec![value; n].into_boxed_slice())
    }
}

impl<T> Deref for Lent<'_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        match self {
            Lent::Borrowed(s) => s,
            #[cfg(feature = "alloc")]
            Lent::Owned(b) => b,
            #[cfg(feature = "alloc")]
            Lent::Reserved { filled, .. } => filled,
        }
    }
}

impl<T> DerefMut for Lent<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Lent::Borrowed(s) => s,
            #[cfg(feature = "alloc")]
            Lent::Owned(b) => b,
            #[cfg(feature = "alloc")]
            Lent::Reserved { filled, .. } => filled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_filled_from_the_front_and_never_moves() {
        let mut lent = Lent::reserved(3);
        assert_eq!((lent.len(), lent.room()), (0, 3));
        assert_eq!((lent.put(7), lent.put(8)), (Some(0), Some(1)));
        let first = lent.as_ptr();
        assert_eq!((lent.put(9), lent.put(10)), (Some(2), None));
        assert_eq!((&*lent, lent.as_ptr(), lent.room()), (&[7, 8, 9][..], first, 3));
    }

    #[test]
    fn what_is_lent_is_all_there_from_the_start() {
        let mut lent = Lent::Borrowed(&mut [1, 2][..]);
        assert_eq!((lent.put(3), lent.len(), lent.room()), (None, 2, 2));
        let mut owned = Lent::owned(5, 2);
        assert_eq!((owned.put(3), &*owned, owned.room()), (None, &[5, 5][..], 2));
    }
}

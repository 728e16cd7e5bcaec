//! Memory that the caller lends, or that is allocated once at the start.

use core::ops::{Deref, DerefMut};

/// A fixed-size slice: borrowed from the caller (a `static` array on a microcontroller) or, with
/// the feature `alloc`, a box made once from [`Limits`](crate::limits::Limits). It never grows.
#[derive(Debug)]
pub enum Lent<'m, T> {
    /// The caller's memory.
    Borrowed(&'m mut [T]),
    /// Allocated once.
    #[cfg(feature = "alloc")]
    Owned(alloc::boxed::Box<[T]>),
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
        }
    }
}

impl<T> DerefMut for Lent<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Lent::Borrowed(s) => s,
            #[cfg(feature = "alloc")]
            Lent::Owned(b) => b,
        }
    }
}

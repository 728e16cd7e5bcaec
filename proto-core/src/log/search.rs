//! What lies behind a bad page, until something valid is found or the segment ends: the same for the
//! scan with the keys and for the one by checksums.

use super::{End, Tail, frame_pages};

/// A scanner is behind a bad page and looks whether anything valid follows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search {
    pub(super) from_page: u64,
    pub(super) tail: Tail,
    used_to: u64,
    /// One of the pages could not be read: nobody knows what stands there.
    unreadable: bool,
}

impl Search {
    /// Begins at a bad page.
    pub(super) fn new(from_page: u64, tail: Tail) -> Self {
        Self { from_page, tail, used_to: from_page, unreadable: false }
    }

    /// `page` is bad too, or the first. `used`: it holds something.
    pub(super) fn pass(&mut self, page: u64, tail: Tail, used: bool) {
        if tail == Tail::CrcGoodTagBad {
            self.tail = tail;
        }
        if used {
            self.used_to = page + 1;
        }
    }

    /// The page that is passed next cannot be read.
    pub(super) fn unreadable(&mut self) {
        self.unreadable = true;
    }

    /// The segment is over and nothing valid was found (docs/LOG.md#recovery-1, recovery-2). `headed`: a
    /// header was read before.
    pub(super) fn end(self, headed: bool, max_body: usize, link: [u8; 16]) -> End {
        let extent = self.used_to - self.from_page;
        // Zeros before something that was written are a lost page or a torn write, no end: over it nothing
        // may be written.
        let tail = match (self.tail, headed) {
            (Tail::Zero, true) if extent > 0 => Tail::BadCrc,
            (Tail::Zero, false) if extent > 0 => Tail::BadHeader,
            (tail, _) => tail,
        };
        let long = self.unreadable || extent > frame_pages(max_body) + 1;
        End { tail, from_page: self.from_page, to_page: self.used_to, long, link }
    }
}

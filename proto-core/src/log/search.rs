//! What lies behind a bad page, until something valid is found or the segment ends: the same for the
//! scan with the keys and for the one by checksums.

use super::{End, Header, PAGE_BYTES, Tail, frame_pages};

/// Whether a page holds something: neither zeros nor erased flash alone. In pieces without a way out within: the
/// rest of a segment is zeros, and a scan looks at each.
pub(super) fn is_used(bytes: &[u8]) -> bool {
    let page = &bytes[..bytes.len().min(PAGE_BYTES)];
    page.chunks(256).any(|c| c.iter().fold(false, |used, b| used | (b.wrapping_add(1) > 1)))
}

/// A header was found in a copy: whether it was in use shows when a frame opens under it. The frame that
/// carries the copy begins behind the header's page and ends with the copy's.
#[derive(Debug)]
pub(super) struct Trial<T> {
    pub(super) header: Header,
    /// What frames are tried with.
    pub(super) with: T,
    copy_page: u64,
    /// Where the next frame may begin.
    pub(super) page: u64,
}

impl<T> Trial<T> {
    /// Nothing opens at this page; false if that was the last.
    pub(super) fn pass(&mut self) -> bool {
        self.page += 1;
        self.page <= self.copy_page
    }
}

/// A scanner is behind a bad page and looks whether anything valid follows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search {
    pub(super) from_page: u64,
    pub(super) tail: Tail,
    used_to: u64,
    /// One of the pages could not be read: nobody knows what stands there.
    unreadable: bool,
    /// The page of a header whose copy was tried, and the page behind those where nothing opened.
    tried: (u64, u64),
}

impl Search {
    /// Begins at a bad page.
    pub(super) fn new(from_page: u64, tail: Tail) -> Self {
        Self { from_page, tail, used_to: from_page, unreadable: false, tried: (0, 0) }
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

    /// A trial of the header that one of the pages behind has lost, if `page` ends with a copy of it
    /// (docs/LOG.md#frame-8). `with`: what frames are tried with.
    pub(super) fn lost_header<T>(
        &mut self,
        bytes: &[u8],
        (segment, page): (u64, u64),
        with: impl FnOnce(&Header) -> Option<T>,
    ) -> Option<Trial<T>> {
        let header = Header::copy_in(bytes)?;
        let at = &header.start;
        if at.segment != segment || !(self.from_page..page).contains(&at.page) {
            return None;
        }
        let from = if self.tried.0 == at.page { self.tried.1.max(at.page + 1) } else { at.page + 1 };
        if from > page {
            return None;
        }
        self.tried = (at.page, page + 1);
        Some(Trial { header, with: with(&header)?, copy_page: page, page: from })
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

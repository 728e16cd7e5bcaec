//! Reading a segment without its key: headers and checksums, nothing of what is inside.
//!
//! It walks a segment as [`SegmentScan`](super::SegmentScan) does, with the checksum in the place of
//! the tag. So it finds rot, but not what was altered on purpose, and it takes a rotten checksum over
//! a good frame for a damaged frame (docs/LOG.md#scan-5).

use super::frame::{Word, frame_crc};
use super::header::{resembles, stands_at};
use super::search::{Search, Trial, is_used};
use super::{
    End, FRAME_HEAD_BYTES, FRAME_TAG_BYTES, Header, MAX_BODY_BYTES, PAGE_BYTES, SEGMENT_MAX_BYTES, Tail, Want,
    frame_pages, link_digest, padded_len,
};
use crate::code::Code;

/// What [`CrcScan`] found in the bytes it was fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// Nothing yet: see [`CrcScan::poll_want`].
    NeedMore,
    /// An epoch begins.
    Epoch {
        /// Page of its header.
        page: u64,
        /// Which data key it is under.
        key_id: u32,
        /// One bit of the header had to be set right.
        repaired: bool,
    },
    /// A frame with a right checksum.
    Frame {
        /// Its page.
        page: u64,
        /// How many pages it takes.
        pages: u64,
    },
    /// These pages are damaged and something valid follows.
    Damaged {
        /// First page.
        from_page: u64,
        /// First page after.
        to_page: u64,
    },
    /// Nothing valid follows. Said again however often the scan is fed.
    End(End),
    /// The segment is of a newer format ([`Code::FormatNewer`]); nothing more is read.
    Fault(Code),
}

/// Scanner of one segment by its checksums. Feed it what [`CrcScan::poll_want`] asks for until
/// [`Sight::End`] or [`Sight::Fault`]. Memory: none that grows.
#[derive(Debug)]
pub struct CrcScan {
    segment: u64,
    pages: u64,
    page: u64,
    want_len: usize,
    epoch: Option<(Header, [u8; FRAME_TAG_BYTES])>,
    search: Option<Search>,
    trial: Option<Trial<()>>,
    /// The header of the page that comes next, which itself has lost it.
    recalled: Option<Header>,
    over: Option<Result<End, Code>>,
}

enum Look {
    More(usize),
    Epoch(Header, bool),
    Frame { pages: u64, tag: [u8; FRAME_TAG_BYTES] },
    Bad(Tail),
    Fault(Code),
}

impl CrcScan {
    /// A scan of segment number `segment`, a file of `len_bytes`.
    ///
    /// # Errors
    /// [`Code::TooLarge`] if the file is larger than the format allows.
    pub fn new(segment: u64, len_bytes: u64) -> Result<Self, Code> {
        if len_bytes > SEGMENT_MAX_BYTES {
            return Err(Code::TooLarge);
        }
        let pages = len_bytes.div_ceil(PAGE_BYTES as u64);
        let mut scan = Self {
            segment,
            pages,
            page: 0,
            want_len: PAGE_BYTES,
            epoch: None,
            search: None,
            trial: None,
            recalled: None,
            over: None,
        };
        if pages == 0 {
            scan.finish();
        }
        Ok(scan)
    }

    /// The bytes to feed next; `None` when the scan is over. Feeding nothing then tells how it ended.
    #[must_use]
    pub fn poll_want(&self) -> Option<Want> {
        let want = Want { offset: self.page * PAGE_BYTES as u64, len: self.want_len };
        self.over.is_none().then_some(want)
    }

    /// Takes the wanted bytes, fewer only if the file ends before, and says what they are.
    pub fn feed(&mut self, bytes: &[u8]) -> Sight {
        if let Some(sight) = self.poll_over().or_else(|| self.use_recalled()) {
            return sight;
        }
        let bytes = &bytes[..bytes.len().min(self.want_len)];
        if let Some(trial) = self.trial.take() {
            return self.try_frame(trial, bytes);
        }
        if self.recall_header(bytes) {
            return Sight::NeedMore;
        }
        match self.look(bytes) {
            Look::More(len) => {
                self.want_len = len;
                Sight::NeedMore
            }
            Look::Fault(code) => {
                self.over = Some(Err(code));
                Sight::Fault(code)
            }
            Look::Bad(tail) => {
                let used = is_used(bytes);
                self.pass_bad(tail, used)
            }
            Look::Epoch(..) | Look::Frame { .. } if self.search.is_some() => self.leave_search(),
            Look::Epoch(header, repaired) => self.begin_epoch(header, repaired),
            Look::Frame { pages, tag } => {
                let page = self.page;
                if let Some(epoch) = &mut self.epoch {
                    epoch.1 = tag;
                }
                self.go_to(page + pages);
                Sight::Frame { page, pages }
            }
        }
    }

    /// To call instead of [`CrcScan::feed`] when the disk cannot read the wanted bytes.
    pub fn unreadable(&mut self) -> Sight {
        if let Some(sight) = self.poll_over().or_else(|| self.use_recalled()) {
            return sight;
        }
        if let Some(trial) = self.trial.take() {
            return self.go_on_trying(trial);
        }
        self.search.get_or_insert(Search::new(self.page, Tail::BadCrc)).unreadable();
        self.pass_bad(Tail::BadCrc, true)
    }

    fn poll_over(&self) -> Option<Sight> {
        self.over.map(|over| over.map_or_else(Sight::Fault, Sight::End))
    }

    fn look(&self, bytes: &[u8]) -> Look {
        if resembles(bytes) {
            return self.look_at_header(bytes);
        }
        let len = match (Word::of(bytes, MAX_BODY_BYTES), &self.epoch) {
            (Word::End, _) => return Look::Bad(Tail::Zero),
            (_, None) => return Look::Bad(Tail::BadHeader),
            (Word::Nonsense, _) => return Look::Bad(Tail::BadCrc),
            (Word::Frame(len), Some(_)) => len,
        };
        if self.page + frame_pages(len) > self.pages {
            return Look::Bad(Tail::BadCrc);
        }
        if padded_len(len) > self.want_len {
            return Look::More(padded_len(len));
        }
        let found = self.epoch.as_ref().and_then(|(header, _)| self.checked(header, bytes, len));
        found.unwrap_or(Look::Bad(Tail::BadCrc))
    }

    /// The frame at the start of `bytes`, if its checksum is right (docs/LOG.md#frame-1).
    fn checked(&self, header: &Header, bytes: &[u8], len: usize) -> Option<Look> {
        let (word, rest) = bytes.split_first_chunk::<4>()?;
        let (sum, rest) = rest.split_first_chunk::<4>()?;
        debug_assert_eq!(FRAME_HEAD_BYTES, word.len() + sum.len());
        let sealed = rest.get(..len + FRAME_TAG_BYTES)?;
        let crc = frame_crc(&header.start.salt[..8], self.page, *word, &[sealed]);
        let tag = *sealed.last_chunk::<FRAME_TAG_BYTES>()?;
        (crc.to_le_bytes() == *sum).then_some(Look::Frame { pages: frame_pages(len), tag })
    }

    fn look_at_header(&self, bytes: &[u8]) -> Look {
        match Header::parse_repairing(bytes) {
            Ok((h, repaired)) if (h.start.segment, h.start.page) == (self.segment, self.page) => {
                Look::Epoch(h, repaired)
            }
            Err(Code::FormatNewer) if stands_at(bytes) == Some((self.segment, self.page)) => {
                Look::Fault(Code::FormatNewer)
            }
            Ok(_) | Err(_) => Look::Bad(Tail::BadHeader),
        }
    }

    fn begin_epoch(&mut self, header: Header, repaired: bool) -> Sight {
        let page = self.page;
        self.epoch = Some((header, [0; FRAME_TAG_BYTES]));
        self.go_to(page + 1);
        Sight::Epoch { page, key_id: header.start.key_id, repaired }
    }

    /// Behind bad pages: if one of them has held the header of which this page has a copy, goes back to
    /// the first frame that may be under it (docs/LOG.md#frame-8).
    fn recall_header(&mut self, bytes: &[u8]) -> bool {
        let Some(search) = self.search.as_mut() else { return false };
        self.trial = search.lost_header(bytes, (self.segment, self.page), |_| Some(()));
        let from = self.trial.as_ref().map(|t| t.page);
        from.inspect(|page| self.go_to(*page)).is_some()
    }

    fn try_frame(&mut self, trial: Trial<()>, bytes: &[u8]) -> Sight {
        let len = match Word::of(bytes, MAX_BODY_BYTES) {
            Word::Frame(len) if self.page + frame_pages(len) <= self.pages => len,
            _ => return self.go_on_trying(trial),
        };
        if padded_len(len) > self.want_len {
            self.want_len = padded_len(len);
            self.trial = Some(trial);
            return Sight::NeedMore;
        }
        let Trial { header, .. } = trial;
        if self.checked(&header, bytes, len).is_none() {
            return self.go_on_trying(trial);
        }
        let to_page = header.start.page;
        let from_page = self.search.take().map_or(to_page, |s| s.from_page);
        self.go_to(to_page);
        self.recalled = Some(header);
        if from_page < to_page { Sight::Damaged { from_page, to_page } } else { Sight::NeedMore }
    }

    fn go_on_trying(&mut self, mut trial: Trial<()>) -> Sight {
        if trial.pass() {
            self.go_to(trial.page);
            self.trial = Some(trial);
        } else {
            // The page with the copy is to be looked at like any other.
            self.go_to(trial.page - 1);
        }
        Sight::NeedMore
    }

    fn use_recalled(&mut self) -> Option<Sight> {
        self.recalled.take().map(|header| self.begin_epoch(header, true))
    }

    fn pass_bad(&mut self, tail: Tail, used: bool) -> Sight {
        let page = self.page;
        self.search.get_or_insert(Search::new(page, tail)).pass(page, tail, used);
        self.go_to(page + 1);
        self.poll_over().unwrap_or(Sight::NeedMore)
    }

    /// Something valid stands here: tells the damage first, then asks for the page again.
    fn leave_search(&mut self) -> Sight {
        let to_page = self.page;
        self.want_len = PAGE_BYTES;
        let from_page = self.search.take().map_or(to_page, |s| s.from_page);
        Sight::Damaged { from_page, to_page }
    }

    fn go_to(&mut self, page: u64) {
        self.page = page;
        self.want_len = PAGE_BYTES;
        if page >= self.pages {
            self.finish();
        }
    }

    fn finish(&mut self) {
        let link = self.epoch.as_ref().map_or([0; 16], |(header, tag)| link_digest(header, tag));
        let search = self.search.unwrap_or(Search::new(self.page, Tail::Zero));
        self.over = Some(Ok(search.end(self.epoch.is_some(), MAX_BODY_BYTES, link)));
    }
}

#[cfg(test)]
mod tests {
    use super::super::header::CRC;
    use super::super::{Cipher, DataKey, EpochStart, FrameType};
    use super::*;
    use crate::hlc::Hlc;
    use alloc::vec;
    use alloc::vec::Vec;

    #[test]
    fn a_header_page_of_zeros_is_no_clean_end_here_either() {
        let mut bytes = segment();
        bytes[..PAGE_BYTES].fill(0);
        let mut scan = CrcScan::new(1, bytes.len() as u64).unwrap();
        while let Some(want) = scan.poll_want() {
            scan.feed(&bytes[want.offset as usize..][..want.len]);
        }
        let Sight::End(end) = scan.feed(&[]) else { panic!() };
        assert_eq!((end.tail, end.from_page, end.to_page), (Tail::BadHeader, 0, 6));
    }

    #[test]
    fn a_lost_header_is_found_in_its_copies() {
        let mut bytes = segment();
        Header::parse(&bytes).unwrap().copy_into(&mut bytes[4 * PAGE_BYTES + 100..5 * PAGE_BYTES]);
        bytes[..PAGE_BYTES].fill(0);
        let mut scan = CrcScan::new(1, bytes.len() as u64).unwrap();
        let (mut frames, mut epochs) = (0, Vec::new());
        while let Some(want) = scan.poll_want() {
            match scan.feed(&bytes[want.offset as usize..][..want.len]) {
                Sight::Frame { .. } => frames += 1,
                Sight::Epoch { page, repaired, .. } => epochs.push((page, repaired)),
                Sight::Damaged { .. } | Sight::Fault(_) => panic!(),
                Sight::NeedMore | Sight::End(_) => {}
            }
        }
        assert_eq!((frames, epochs), (3, vec![(0, true)]));
    }

    /// A segment of 16 pages: a header, frames of 1, 3 and 1 pages, zeros.
    fn segment() -> Vec<u8> {
        let key = DataKey::new([1; 32]);
        let start = EpochStart { segment: 1, page: 0, salt: [4; 32], key_id: 9, base_hlc: Hlc::ZERO, prev: [0; 16] };
        let header = Header::new(&key, start);
        let cipher = Cipher::new(&header, &key).unwrap();
        let mut bytes = vec![0; 16 * PAGE_BYTES];
        bytes[..128].copy_from_slice(&header.emit());
        for (page, len) in [(1, 100), (2, 9000), (5, 7)] {
            cipher.seal(page, FrameType::Group, &mut bytes[page as usize * PAGE_BYTES..], len).unwrap();
        }
        bytes
    }

    fn scan(bytes: &[u8]) -> Vec<Sight> {
        let mut scan = CrcScan::new(1, bytes.len() as u64).unwrap();
        let mut all = Vec::new();
        while let Some(want) = scan.poll_want() {
            let sight = scan.feed(&bytes[want.offset as usize..][..want.len]);
            if sight != Sight::NeedMore {
                all.push(sight);
            }
        }
        all
    }

    #[test]
    fn without_a_key_all_frames_of_a_segment_are_counted() {
        let all = scan(&segment());
        let Some(Sight::End(end)) = all.last() else { panic!("{all:?}") };
        assert_eq!((end.tail, end.from_page, end.to_page, end.long), (Tail::Zero, 6, 6, false));
        let epoch = Sight::Epoch { page: 0, key_id: 9, repaired: false };
        let frame = |page, pages| Sight::Frame { page, pages };
        assert_eq!(all[..4], [epoch, frame(1, 1), frame(2, 3), frame(5, 1)]);
    }

    #[test]
    fn a_flipped_bit_of_a_frame_is_seen_and_what_follows_is_still_counted() {
        let whole = segment();
        // Anywhere in word, checksum, ciphertext and tag of the frame of three pages.
        for at in (0..8 + 9000 + 16).step_by(97) {
            let mut bytes = whole.clone();
            bytes[2 * PAGE_BYTES + at] ^= 0x10;
            let all = scan(&bytes);
            assert!(all.contains(&Sight::Damaged { from_page: 2, to_page: 5 }), "byte {at}: {all:?}");
            assert!(all.contains(&Sight::Frame { page: 5, pages: 1 }), "byte {at}: {all:?}");
        }
    }

    #[test]
    fn the_end_is_the_one_that_the_scan_with_the_key_finds() {
        let mut bytes = segment();
        bytes[5 * PAGE_BYTES + 9] ^= 1;
        let Some(Sight::End(torn)) = scan(&bytes).last().copied() else { panic!() };
        assert_eq!((torn.tail, torn.from_page, torn.to_page), (Tail::BadCrc, 5, 6));
        let keys = [(9, DataKey::new([1; 32]))];
        let mut with_key = super::super::SegmentScan::new(&keys, 1, bytes.len() as u64, MAX_BODY_BYTES).unwrap();
        let end = loop {
            let Some(want) = with_key.poll_want() else { panic!() };
            let mut piece = bytes[want.offset as usize..][..want.len].to_vec();
            if let super::super::Step::End(end) = with_key.feed(&mut piece) {
                break end;
            }
        };
        assert_eq!(end, torn);
    }

    #[test]
    fn an_empty_file_and_a_newer_format_are_told() {
        assert!(matches!(CrcScan::new(1, 0).unwrap().feed(&[]), Sight::End(_)));
        assert_eq!(CrcScan::new(1, SEGMENT_MAX_BYTES + 1).map(|_| ()), Err(Code::TooLarge));
        let mut bytes = segment();
        bytes[8] = 2;
        let crc = CRC.checksum(&bytes[..124]);
        bytes[124..128].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(scan(&bytes), [Sight::Fault(Code::FormatNewer)]);
    }
}

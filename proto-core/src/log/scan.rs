//! Reading a segment from its first page to its last.

use super::frame::{Cipher, FrameFault, FrameType, Word};
use super::header::{resembles, stands_at};
use super::search::{Search, Trial, is_used};
use super::{
    DataKey, Evidence, FRAME_TAG_BYTES, Header, MAX_BODY_BYTES, PAGE_BYTES, Place, SEGMENT_MAX_BYTES, Tail, Verdict,
    decide, frame_pages, link_digest, padded_len,
};
use crate::code::Code;
use crate::planted::{Bug, has, mark};

/// The bytes that the scanner wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// Where in the segment.
    pub offset: u64,
    /// How many; at most `padded_len(max_body)`.
    pub len: usize,
}

/// What the scanner found in the bytes it was fed.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'b> {
    /// Nothing yet: see [`SegmentScan::poll_want`].
    NeedMore,
    /// An epoch begins. `repaired`: one bit of its header is rotten. `linked`: the header links to
    /// what the scanner read before it; false after damage, `None` for page 0, whose link leads
    /// to the segment before.
    Epoch {
        /// The header.
        header: Header,
        /// It is not as it should be: one bit had to be set right, or it is a copy.
        repaired: bool,
        /// Its own page does not show it, a copy does (docs/LOG.md#frame-8).
        recalled: bool,
        /// Whether it continues what was read.
        linked: Option<bool>,
    },
    /// A group; its body stands decrypted in the bytes that were fed.
    Group {
        /// Page of its frame.
        page: u64,
        /// Pages of its frame.
        pages: u64,
        /// Records.
        body: &'b [u8],
        /// Its checksum is rotten, its content is good.
        crc_rotten: bool,
    },
    /// These pages are damaged and something valid follows: durable data was lost.
    Damaged {
        /// First page.
        from_page: u64,
        /// First page after.
        to_page: u64,
        /// `Corrupt` or `Tampered`.
        verdict: Verdict,
    },
    /// Nothing valid follows. The scanner says the same again however often it is fed.
    End(End),
    /// The segment cannot be read with these keys or by this version; nothing more is read.
    /// [`Code::WrongKey`], [`Code::KeyMissing`] or [`Code::FormatNewer`].
    Fault(Code),
}

/// Where and how the valid frames end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// What stands there.
    pub tail: Tail,
    /// The page after the last valid frame.
    pub from_page: u64,
    /// The page after the last one in use; `from_page` if none is.
    pub to_page: u64,
    /// More pages are in use than one interrupted write can have touched, or one of them cannot be
    /// read.
    pub long: bool,
    /// [`EpochStart::prev`](super::EpochStart::prev) of the epoch that follows, and what the next
    /// segment's first header must say; zeros if no header was read.
    pub link: [u8; 16],
}

impl End {
    /// The decision for this end (docs/LOG.md#recovery-3).
    #[must_use]
    pub fn verdict(&self, place: Place, covered: bool) -> Verdict {
        let verdict = decide(&Evidence { tail: self.tail, later_valid: false, long: self.long, covered, place });
        if verdict == Verdict::TornTail {
            mark!("log.torn_tail");
        }
        verdict
    }
}

/// Scanner of one segment. Read [`SegmentScan::poll_want`] from the file afresh, hand it to
/// [`SegmentScan::feed`], repeat until [`Step::End`] or [`Step::Fault`]. It never asks for bytes
/// beyond the segment or for more than the largest frame.
#[derive(Debug)]
pub struct SegmentScan<'k> {
    keys: &'k [(u32, DataKey)],
    segment: u64,
    pages: u64,
    max_body: usize,
    page: u64,
    want_len: usize,
    epoch: Option<Epoch>,
    search: Option<Search>,
    trial: Option<Trial<Cipher>>,
    /// The header of the page that comes next, which itself has lost it; false if it was altered.
    recalled: Option<(Header, Cipher, bool)>,
    over: Option<Result<End, Code>>,
}

#[derive(Debug)]
struct Epoch {
    header: Header,
    cipher: Cipher,
    last_tag: [u8; FRAME_TAG_BYTES],
}

/// Bad pages with something valid behind them.
fn damaged(tail: Tail, from_page: u64, to_page: u64) -> Step<'static> {
    let evidence = Evidence { tail, later_valid: true, long: false, covered: false, place: Place::Last };
    Step::Damaged { from_page, to_page, verdict: decide(&evidence) }
}

/// What a page turned out to be.
enum Look<'b> {
    More(usize),
    Epoch(Header, Cipher, bool),
    Group { body: &'b [u8], pages: u64, crc_rotten: bool, tag: [u8; FRAME_TAG_BYTES] },
    Bad(Tail),
    Fault(Code),
}

impl<'k> SegmentScan<'k> {
    /// A scan of segment number `segment`, a file of `len_bytes`. `keys`: data keys by their id.
    /// `max_body` must be that of the writer or larger: a larger frame counts as damage
    /// (docs/LOG.md#scan-2).
    ///
    /// # Errors
    /// [`Code::TooLarge`] if the file or `max_body` is larger than the format allows.
    pub fn new(keys: &'k [(u32, DataKey)], segment: u64, len_bytes: u64, max_body: usize) -> Result<Self, Code> {
        if len_bytes > SEGMENT_MAX_BYTES || max_body > MAX_BODY_BYTES {
            return Err(Code::TooLarge);
        }
        let pages = len_bytes.div_ceil(PAGE_BYTES as u64);
        let mut scan = Self {
            keys,
            segment,
            pages,
            max_body,
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

    /// The bytes to feed next; `None` when the scan is over. Feeding nothing then tells how it
    /// ended.
    #[must_use]
    pub fn poll_want(&self) -> Option<Want> {
        let want = Want { offset: self.page * PAGE_BYTES as u64, len: self.want_len };
        self.over.is_none().then_some(want)
    }

    /// Takes the wanted bytes, fewer only if the file ends before, and says what they are. Groups
    /// are decrypted in place, so the same bytes must not be fed twice without being read again.
    pub fn feed<'b>(&mut self, bytes: &'b mut [u8]) -> Step<'b> {
        if let Some(step) = self.poll_over().or_else(|| self.use_recalled()) {
            return step;
        }
        let len = bytes.len().min(self.want_len);
        let bytes = &mut bytes[..len];
        if let Some(trial) = self.trial.take() {
            return self.try_frame(trial, bytes);
        }
        if self.recall_header(bytes) {
            return Step::NeedMore;
        }
        // A frame is decrypted by looking at it: whether it is in use must be seen before.
        let used = is_used(&bytes[..len]);
        match self.look(bytes) {
            Look::More(len) => {
                self.want_len = len;
                Step::NeedMore
            }
            Look::Fault(code) => {
                self.over = Some(Err(code));
                Step::Fault(code)
            }
            Look::Bad(tail) => self.pass_bad(tail, used),
            Look::Epoch(..) | Look::Group { .. } if self.search.is_some() => {
                if has(Bug::ScanStopsAtDamage) {
                    return self.pass_bad(Tail::BadCrc, true);
                }
                self.leave_search()
            }
            Look::Epoch(header, cipher, repaired) => self.begin_epoch(header, cipher, (repaired, false)),
            Look::Group { body, pages, crc_rotten, tag } => {
                let page = self.page;
                if let Some(epoch) = &mut self.epoch {
                    epoch.last_tag = tag;
                }
                self.go_to(page + pages);
                Step::Group { page, pages, body, crc_rotten }
            }
        }
    }

    /// To call instead of [`SegmentScan::feed`] when the disk cannot read the wanted bytes: the
    /// page counts as damaged.
    pub fn unreadable(&mut self) -> Step<'static> {
        mark!("log.unreadable_page");
        if let Some(step) = self.poll_over().or_else(|| self.use_recalled()) {
            return step;
        }
        if let Some(trial) = self.trial.take() {
            return self.go_on_trying(trial);
        }
        self.search.get_or_insert(Search::new(self.page, Tail::BadCrc)).unreadable();
        self.pass_bad(Tail::BadCrc, true)
    }

    fn poll_over(&self) -> Option<Step<'static>> {
        self.over.map(|over| over.map_or_else(Step::Fault, Step::End))
    }

    fn look<'b>(&self, bytes: &'b mut [u8]) -> Look<'b> {
        if resembles(bytes) {
            return self.look_at_header(bytes);
        }
        let len = match (Word::of(bytes, self.max_body), &self.epoch) {
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
        let Some(epoch) = &self.epoch else { return Look::Bad(Tail::BadHeader) };
        match epoch.cipher.open(self.page, bytes) {
            Ok(o) if o.frame_type == FrameType::Group => {
                let body = bytes.get(o.body).unwrap_or_default();
                Look::Group { body, pages: o.pages, crc_rotten: o.crc_rotten, tag: o.tag }
            }
            Ok(_) => Look::Fault(Code::FormatNewer),
            Err(FrameFault::End) => Look::Bad(Tail::Zero),
            Err(FrameFault::Tampered) => Look::Bad(Tail::CrcGoodTagBad),
            Err(FrameFault::Damaged | FrameFault::NeedMore(_)) => Look::Bad(Tail::BadCrc),
        }
    }

    fn look_at_header<'b>(&self, bytes: &[u8]) -> Look<'b> {
        let (header, repaired) = match Header::parse_repairing(bytes) {
            Ok(found) => found,
            // Only what stands where it belongs speaks for this segment: pages of an earlier
            // life of the file do not.
            Err(Code::FormatNewer) if stands_at(bytes) == Some((self.segment, self.page)) => {
                return Look::Fault(Code::FormatNewer);
            }
            Err(_) => return Look::Bad(Tail::BadHeader),
        };
        let start = &header.start;
        if (start.segment, start.page) != (self.segment, self.page) {
            return Look::Bad(Tail::BadHeader);
        }
        let Some((_, key)) = self.keys.iter().find(|(id, _)| *id == start.key_id) else {
            return Look::Fault(Code::KeyMissing);
        };
        match Cipher::new(&header, key) {
            Ok(cipher) => Look::Epoch(header, cipher, repaired),
            // The key has proved right in this segment, so it is this header that is wrong.
            Err(_) if self.epoch.as_ref().is_some_and(|e| e.header.start.key_id == start.key_id) => {
                Look::Bad(Tail::CrcGoodTagBad)
            }
            Err(code) => Look::Fault(code),
        }
    }

    fn begin_epoch(&mut self, header: Header, cipher: Cipher, (repaired, recalled): (bool, bool)) -> Step<'static> {
        if repaired {
            mark!("log.header_repaired");
        }
        let linked = (self.page > 0).then(|| header.start.prev == self.link());
        self.epoch = Some(Epoch { header, cipher, last_tag: [0; FRAME_TAG_BYTES] });
        self.go_to(self.page + 1);
        Step::Epoch { header, repaired, recalled, linked }
    }

    /// Behind bad pages: if one of them has held the header of which this page has a copy, goes back to
    /// the first frame that may be under it.
    fn recall_header(&mut self, bytes: &[u8]) -> bool {
        let Some(search) = self.search.as_mut().filter(|_| !has(Bug::ScanStopsAtDamage)) else { return false };
        self.trial = search.lost_header(bytes, (self.segment, self.page), |header| {
            let (_, key) = self.keys.iter().find(|(id, _)| *id == header.start.key_id)?;
            Cipher::new(header, key).ok()
        });
        let from = self.trial.as_ref().map(|t| t.page);
        from.inspect(|page| self.go_to(*page)).is_some()
    }

    fn try_frame(&mut self, trial: Trial<Cipher>, bytes: &mut [u8]) -> Step<'static> {
        let len = match Word::of(bytes, self.max_body) {
            Word::Frame(len) if self.page + frame_pages(len) <= self.pages => len,
            _ => return self.go_on_trying(trial),
        };
        if padded_len(len) > self.want_len {
            self.want_len = padded_len(len);
            self.trial = Some(trial);
            return Step::NeedMore;
        }
        if !trial.with.open(self.page, bytes).is_ok_and(|o| o.frame_type == FrameType::Group) {
            return self.go_on_trying(trial);
        }
        mark!("log.header_recalled");
        let Trial { header, with: cipher, .. } = trial;
        let search = self.search.take().unwrap_or(Search::new(header.start.page, Tail::BadHeader));
        let altered = search.tail == Tail::CrcGoodTagBad;
        let (from_page, to_page) = (search.from_page, header.start.page + u64::from(altered));
        self.go_to(header.start.page);
        self.recalled = Some((header, cipher, !altered));
        if from_page < to_page { damaged(search.tail, from_page, to_page) } else { Step::NeedMore }
    }

    fn go_on_trying(&mut self, mut trial: Trial<Cipher>) -> Step<'static> {
        if trial.pass() {
            self.go_to(trial.page);
            self.trial = Some(trial);
        } else {
            // The page with the copy is to be looked at like any other.
            self.go_to(trial.page - 1);
        }
        Step::NeedMore
    }

    fn use_recalled(&mut self) -> Option<Step<'static>> {
        self.recalled.take().map(|(header, cipher, repaired)| self.begin_epoch(header, cipher, (repaired, true)))
    }

    fn pass_bad(&mut self, tail: Tail, used: bool) -> Step<'static> {
        let page = self.page;
        self.search.get_or_insert(Search::new(page, tail)).pass(page, tail, used);
        self.go_to(page + 1);
        match self.over {
            Some(Ok(end)) => Step::End(end),
            _ => Step::NeedMore,
        }
    }

    /// The page is valid, but its bytes are decrypted by now: report the damage and have it read
    /// again.
    fn leave_search(&mut self) -> Step<'static> {
        mark!("log.damage_inside");
        let to_page = self.page;
        self.want_len = PAGE_BYTES;
        self.search.take().map_or(Step::NeedMore, |s| damaged(s.tail, s.from_page, to_page))
    }

    fn go_to(&mut self, page: u64) {
        self.page = page;
        self.want_len = PAGE_BYTES;
        if page >= self.pages {
            self.finish();
        }
    }

    fn finish(&mut self) {
        let search = self.search.unwrap_or(Search::new(self.page, Tail::Zero));
        self.over = Some(Ok(search.end(self.epoch.is_some(), self.max_body, self.link())));
    }

    /// What an epoch that begins here links to.
    fn link(&self) -> [u8; 16] {
        self.epoch.as_ref().map_or([0; 16], |e| link_digest(&e.header, &e.last_tag))
    }
}

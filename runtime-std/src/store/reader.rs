//! Reading events back, by stream and sequence number.

mod elsewhere;

use std::cell::Cell;

use ropeway_core::code::Code;
use ropeway_core::event::{Chain, Event, flags};
use ropeway_core::id::StreamKey;
use ropeway_core::log::{
    Cipher, DataKey, FRAME_TAG_BYTES, FrameFault, FrameType, HEADER_BYTES, Header, MAX_BODY_BYTES, PAGE_BYTES, Record,
    frame_pages, padded_len, records, sealed,
};
use ropeway_core::policy::ReadGrant;

use elsewhere::Sought;

use super::dense::read_frame;
use super::files::{copy_of_header, read_full};
use super::footers::Footers;
use super::index::{Entry, SPAN_PAGES};
use super::{DirFiles, Files, Index, SideFile, keys};
use crate::dir::DataDir;
use crate::error::{Error, Result};

/// What the callback of [`Reader::read`] wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The next event.
    No,
    /// This event was the last one wanted.
    After,
    /// This event was not wanted.
    Before,
}

/// A frame that was opened last: most reads go on where the last one ended.
#[derive(Debug)]
struct Open {
    segment: u64,
    page: u64,
    epoch: u64,
    pages: u64,
    body: core::ops::Range<usize>,
    tag: [u8; FRAME_TAG_BYTES],
}

/// Stands for an epoch where the "page" is the place of a frame in a sealed segment.
const SEALED: u64 = u64::MAX;

/// Segment and page of a frame, and the page of its epoch's header.
type Spot = (u64, u64, u64);

/// After which event of which stream a read ended.
#[derive(Debug)]
struct Cursor {
    stream: StreamKey,
    seq: u64,
    chain: Chain,
    /// The frame that it is in.
    spot: Spot,
    /// The index entry that led there: its page and first event.
    entry: (u64, u64),
}

/// Reads events. Holds one frame at a time.
#[derive(Debug)]
pub struct Reader<F = DirFiles> {
    files: F,
    keys: Vec<(u32, DataKey)>,
    cipher: Option<(u64, u64, Cipher, Header)>,
    buf: Vec<u8>,
    open: Option<Open>,
    cursor: Option<Cursor>,
    footers: Footers,
    sought: Option<Sought>,
    /// Why the page that was looked at last holds nothing.
    fault: Option<FrameFault>,
}

impl Reader {
    /// A reader of the log of `dir`.
    ///
    /// # Errors
    /// As [`DataDir::keyring`].
    pub fn new(dir: &DataDir) -> Result<Self> {
        Ok(Self::over(DirFiles::new(dir), keys(dir)?))
    }
}

impl<F: Files> Reader<F> {
    /// A reader of any [`Files`]. `keys`: the data keys with their numbers.
    #[must_use]
    pub fn over(files: F, keys: Vec<(u32, DataKey)>) -> Self {
        Self {
            files,
            keys,
            cipher: None,
            buf: Vec::new(),
            open: None,
            cursor: None,
            footers: Footers::default(),
            sought: None,
            fault: None,
        }
    }

    /// Calls `each` with the events `from_seq..=upto_seq` of the granted stream, in order, together
    /// with the chain hash before each, until it says [`Stop`]. Ends early at the end of a
    /// contiguous stretch: compare the last seq with what was asked for.
    ///
    /// # Errors
    /// [`Code::Corrupt`] or [`Code::Tampered`] if event `from_seq` should be there and is not;
    /// [`Code::Expired`] if it was removed.
    pub fn read(
        &mut self,
        index: &Index,
        grant: &ReadGrant,
        stream: u32,
        from_seq: u64,
        upto_seq: u64,
        mut each: impl FnMut(u64, &Chain, &Event<'_>) -> Stop,
    ) -> Result<()> {
        let mut next = from_seq;
        // Up to where places are handed out: they are all that there is.
        let (places_upto, met, stopped) = (Cell::new(0), Cell::new(false), Cell::new(false));
        let mut each = |seq: u64, chain: &Chain, event: &Event<'_>| {
            met.set(event.flags & flags::WITHHELD != 0 && seq > places_upto.get());
            if met.get() {
                return Stop::Before;
            }
            let stop = each(seq, chain, event);
            stopped.set(stop != Stop::No);
            stop
        };
        let floor = index.floor(grant.stream());
        if from_seq <= floor.min(upto_seq) {
            let what = format!("events up to {floor} of {} were removed", grant.stream());
            return Err(Error::new(Code::Expired, what));
        }
        while next <= upto_seq {
            met.set(false);
            let before = next;
            let mut done = false;
            for entry in index.find(stream, next) {
                done = match self.walk(&entry, grant, &mut next, upto_seq, &mut each) {
                    // Another process has sealed it since.
                    Err(_) if next == before && self.is_sealed(entry.segment) => {
                        self.walk_sealed(&[entry.segment], grant, &mut next, upto_seq, &mut each)?
                    }
                    other => other?,
                };
                if done || next > before {
                    break;
                }
            }
            if next == before && !done {
                match self.walk_sealed(index.sealed(), grant, &mut next, upto_seq, &mut each) {
                    Ok(found) => done = found,
                    Err(e) if next == from_seq => return Err(e),
                    _ => return Ok(()),
                }
            }
            if met.get() {
                if next == before {
                    places_upto.set(self.elsewhere(index, grant, (stream, &mut next), upto_seq, &mut each)?);
                }
                if stopped.get() {
                    return Ok(());
                }
                continue;
            }
            if done {
                return Ok(());
            }
            if next == before {
                return if next == from_seq { Err(missing(grant, next)) } else { Ok(()) };
            }
        }
        Ok(())
    }

    /// The next event of stream number `stream`, whose key is `key`, at or after `seq` that stands in
    /// the log.
    #[must_use]
    pub fn next_from(&mut self, index: &Index, stream: u32, key: &StreamKey, seq: u64) -> Option<u64> {
        let hot = index.next_from(stream, seq);
        let sealed = self.footers.next_from(&mut self.files, &self.keys, index.sealed(), key, seq);
        hot.into_iter().chain(sealed).min()
    }

    fn is_sealed(&mut self, segment: u64) -> bool {
        self.files.side_len(SideFile::Sealed(segment)).is_ok_and(|len| len.is_some())
    }

    /// Hands out what the frame of a sealed segment holds that event `next` stands in; true if that was
    /// enough.
    fn walk_sealed(
        &mut self,
        segments: &[u64],
        grant: &ReadGrant,
        next: &mut u64,
        upto_seq: u64,
        each: &mut impl FnMut(u64, &Chain, &Event<'_>) -> Stop,
    ) -> Result<bool> {
        let found = self.footers.locate(&mut self.files, &self.keys, segments, grant.stream(), *next)?;
        let Some((segment, range)) = found else { return Ok(false) };
        let spot = (segment, range.offset, SEALED);
        if self.open.as_ref().is_none_or(|o| (o.segment, o.page, o.epoch) != spot) {
            self.open = None;
            let footer = self.footers.footer(&mut self.files, &self.keys, segment)?;
            let cipher = footer.cipher.clone();
            let at = (SideFile::Sealed(segment), range.offset);
            match read_frame(&mut self.files, &cipher, &mut self.footers.unpacker, at, &mut self.buf) {
                Ok(sealed::DenseType::Group) => {}
                other => {
                    // Perhaps it was repaired, and stands in a later one too.
                    let others: Vec<u64> = segments.iter().copied().filter(|s| *s != segment).collect();
                    let before = *next;
                    let done = self.walk_sealed(&others, grant, next, upto_seq, each)?;
                    let found = done || *next > before;
                    return if found { Ok(done) } else { Err(other.err().unwrap_or_else(|| missing(grant, before))) };
                }
            }
            let (page, epoch, body) = (range.offset, SEALED, 0..self.buf.len());
            self.open = Some(Open { segment, page, epoch, pages: 0, body, tag: [0; FRAME_TAG_BYTES] });
        }
        self.deliver(grant, spot, (range.offset, range.first_seq), next, upto_seq, each)
    }

    /// The segments in which an event should stand, and whether they are sealed.
    pub(super) fn places(&mut self, index: &Index, stream: u32, key: &StreamKey, seq: u64) -> Vec<(u64, bool)> {
        let mut all: Vec<_> = index.find(stream, seq).map(|e| (e.segment, false)).collect();
        let found = self.footers.locate(&mut self.files, &self.keys, index.sealed(), key, seq);
        all.extend(found.ok().flatten().map(|(segment, _)| (segment, true)));
        all
    }

    /// What a sealed segment cannot show any more of these bytes; `None` if its index cannot be read.
    pub(crate) fn sealed_ranges(
        &mut self,
        segment: u64,
        bytes: std::ops::Range<u64>,
    ) -> Option<Vec<(StreamKey, u64, u64)>> {
        self.footers.unread_in(&mut self.files, &self.keys, segment, bytes)
    }

    /// What of an index entry does not stand in the frames that can be read.
    pub(crate) fn unread_in(&mut self, entry: &Entry, key: &StreamKey) -> Vec<(u64, u64)> {
        let (mut page, mut epoch, mut there) = (entry.page, entry.epoch, Vec::new());
        while page < entry.page + SPAN_PAGES {
            let Ok(Hot::Group { body, pages, .. }) = self.hot(entry.segment, page, &mut epoch) else {
                page += 1;
                continue;
            };
            let ranges = super::dense::ranges_of(body).unwrap_or_default();
            there.extend(ranges.into_iter().filter(|r| r.0 == *key).map(|r| (r.1, r.2)));
            page += pages;
        }
        there.sort_unstable();
        let (mut next, mut unread) = (entry.first_seq, Vec::new());
        for (from, to) in there {
            if from > next && next <= entry.last_seq {
                unread.push((next, (from - 1).min(entry.last_seq)));
            }
            next = next.max(to.saturating_add(1));
        }
        if next <= entry.last_seq {
            unread.push((next, entry.last_seq));
        }
        unread
    }

    /// Forgets what is known of the places in a segment: it was sealed, or its numbers are used again.
    pub(crate) fn forget(&mut self, segment: u64) {
        self.files.close(segment);
        self.footers.forget(segment);
        self.sought = None;
        self.open.take_if(|o| o.segment == segment);
        self.cursor.take_if(|c| c.spot.0 == segment);
        self.cipher.take_if(|c| c.0 == segment);
    }

    /// Opens what stands at a page of a hot segment, for the sealer. `epoch` is the page of the header
    /// that holds there, and moves on with the headers.
    pub(super) fn hot(&mut self, segment: u64, page: u64, epoch: &mut u64) -> Result<Hot<'_>> {
        self.fault = None;
        Ok(match self.open(segment, page, epoch)? {
            Found::Header => self.cipher.as_ref().map_or(Hot::Nothing(None), |c| Hot::Header(c.3)),
            Found::Nothing => Hot::Nothing(self.fault),
            Found::Frame(pages) => match &self.open {
                Some(o) => Hot::Group { body: &self.buf[o.body.clone()], pages, tag: o.tag },
                None => Hot::Nothing(None),
            },
        })
    }

    /// What it reads from, and with which keys.
    pub(super) fn parts(&mut self) -> (&mut F, &[(u32, DataKey)], &mut Footers) {
        (&mut self.files, &self.keys, &mut self.footers)
    }

    /// Hands out what the frames of one index entry hold; true if that was enough.
    fn walk(
        &mut self,
        entry: &Entry,
        grant: &ReadGrant,
        next: &mut u64,
        upto_seq: u64,
        each: &mut impl FnMut(u64, &Chain, &Event<'_>) -> Stop,
    ) -> Result<bool> {
        // Within an entry the frames follow one another; a cursor saves the walk to the place. One that
        // another entry led to may stand in a repair, behind the place.
        let id = (entry.page, entry.first_seq);
        let here = |c: &&Cursor| {
            c.stream == *grant.stream() && c.seq + 1 == *next && c.entry == id && c.spot.0 == entry.segment
        };
        let (mut page, mut epoch) = match self.cursor.as_ref().filter(here).map(|c| c.spot) {
            Some((_, page, epoch)) => (page, epoch),
            None => (entry.page, entry.epoch),
        };
        while *next <= entry.last_seq.min(upto_seq) && page < entry.page + SPAN_PAGES {
            match self.open(entry.segment, page, &mut epoch)? {
                // Damage of others' frames lies between ours: look behind it.
                Found::Header | Found::Nothing => page += 1,
                Found::Frame(pages) => {
                    if self.deliver(grant, (entry.segment, page, epoch), id, next, upto_seq, each)? {
                        return Ok(true);
                    }
                    page += pages;
                }
            }
        }
        Ok(false)
    }

    /// Hands out the wanted events of the open frame; true if that was enough.
    fn deliver(
        &mut self,
        grant: &ReadGrant,
        spot: Spot,
        entry: (u64, u64),
        next: &mut u64,
        upto_seq: u64,
        each: &mut impl FnMut(u64, &Chain, &Event<'_>) -> Stop,
    ) -> Result<bool> {
        let Some(open) = &self.open else { return Ok(false) };
        let body = &self.buf[open.body.clone()];
        let mut wanted = None;
        for record in records(body) {
            let run = match record? {
                Record::Stream(decl) => {
                    if decl.key == *grant.stream() {
                        wanted = Some(decl.index);
                    }
                    continue;
                }
                Record::Events(run) if Some(run.index) == wanted => run,
                _ => continue,
            };
            if run.last_seq() < *next || run.base_seq > *next {
                continue;
            }
            let here = |c: &&Cursor| c.stream == *grant.stream() && c.seq + 1 == *next && c.seq >= run.base_seq;
            let (skip, mut chain) = match self.cursor.as_ref().filter(here) {
                Some(c) => (*next - run.base_seq, c.chain),
                None => (0, run.prev_chain),
            };
            for (event, seq) in run.events().zip(run.base_seq..).skip(skip as usize) {
                if seq > upto_seq {
                    return Ok(true);
                }
                if seq == *next {
                    let stop = each(seq, &chain, &event);
                    if stop == Stop::Before {
                        return Ok(true);
                    }
                    *next += 1;
                    let after = chain.then(&event);
                    self.cursor = Some(Cursor { stream: *grant.stream(), seq, chain: after, spot, entry });
                    if stop == Stop::After {
                        return Ok(true);
                    }
                    chain = after;
                } else {
                    chain = chain.then(&event);
                }
            }
        }
        Ok(false)
    }

    fn open(&mut self, segment: u64, page: u64, epoch: &mut u64) -> Result<Found> {
        if let Some(o) = self.open.as_ref().filter(|o| (o.segment, o.page, o.epoch) == (segment, page, *epoch)) {
            return Ok(Found::Frame(o.pages));
        }
        self.open = None;
        if self.cipher.as_ref().is_none_or(|c| (c.0, c.1) != (segment, *epoch)) {
            let loaded = self.load(segment, *epoch, HEADER_BYTES);
            loaded
                .and_then(|got| self.use_header(segment, *epoch, got))
                .or_else(|e| self.recall(segment, *epoch, e))?;
        }
        let mut want = PAGE_BYTES;
        loop {
            let got = match self.load(segment, page, want) {
                Err(e) => {
                    self.recall(segment, page, e)?;
                    *epoch = page;
                    return Ok(Found::Header);
                }
                Ok(got) => got,
            };
            if got == 0 {
                return Ok(Found::Nothing);
            }
            // One that stands elsewhere than it says was written to the wrong place, over our frames.
            if self.buf.starts_with(super::segment::MAGIC) {
                if self.use_header(segment, page, got).or_else(|e| self.recall(segment, page, e)).is_err() {
                    return Ok(Found::Nothing);
                }
                *epoch = page;
                return Ok(Found::Header);
            }
            let Some((_, _, cipher, _)) = &self.cipher else { return Ok(Found::Nothing) };
            match cipher.open(page, &mut self.buf[..got]) {
                Ok(opened) if opened.frame_type == FrameType::Group => {
                    let (pages, body, tag) = (opened.pages, opened.body, opened.tag);
                    self.open = Some(Open { segment, page, epoch: *epoch, pages, body, tag });
                    return Ok(Found::Frame(pages));
                }
                Ok(_) => return Ok(Found::Nothing),
                Err(FrameFault::NeedMore(n)) if n > want && n <= padded_len(MAX_BODY_BYTES) => want = n,
                Err(fault) => {
                    // A header with a rotten bit in its magic is still a header; one that is lost has copies.
                    let used = self.use_header(segment, page, got.min(PAGE_BYTES));
                    if used.or_else(|e| self.recall(segment, page, e)).is_ok() {
                        *epoch = page;
                        return Ok(Found::Header);
                    }
                    self.fault = Some(fault);
                    return Ok(Found::Nothing);
                }
            }
        }
    }

    fn use_header(&mut self, segment: u64, page: u64, got: usize) -> Result<()> {
        let about = |code, what: &str| Error::at(code, &self.files.describe(segment), what);
        let (header, _) = Header::parse_repairing(&self.buf[..got]).map_err(|c| about(c, &format!("page {page}")))?;
        if (header.start.segment, header.start.page) != (segment, page) {
            return Err(about(Code::Corrupt, &format!("page {page} holds the header of another place")));
        }
        self.begin(header)
    }

    /// Uses a copy of the header that this page has lost; `lost` says how, and is the error if there is none.
    fn recall(&mut self, segment: u64, page: u64, lost: Error) -> Result<()> {
        let Some(header) = copy_of_header(&mut self.files, segment, page) else { return Err(lost) };
        self.begin(header)?;
        // Of a torn write the copy may have reached the disk and no frame: then the epoch never began.
        for first in page + 1..=page + frame_pages(MAX_BODY_BYTES) {
            let mut want = PAGE_BYTES;
            while let Ok(got) = self.load(segment, first, want) {
                let Some((_, _, cipher, _)) = &self.cipher else { break };
                match cipher.open(first, &mut self.buf[..got]) {
                    Ok(_) => return Ok(()),
                    Err(FrameFault::NeedMore(n)) if n > want && n <= padded_len(MAX_BODY_BYTES) => want = n,
                    Err(_) => break,
                }
            }
        }
        self.cipher = None;
        Err(lost)
    }

    fn begin(&mut self, header: Header) -> Result<()> {
        let (segment, page) = (header.start.segment, header.start.page);
        let about = |code, what: &str| Error::at(code, &self.files.describe(segment), what);
        let key = self.keys.iter().find(|k| k.0 == header.start.key_id);
        let key = key.ok_or_else(|| about(Code::KeyMissing, "data key"))?;
        self.cipher = Some((segment, page, Cipher::new(&header, &key.1).map_err(|c| about(c, "header"))?, header));
        Ok(())
    }

    /// Reads up to `len` bytes from a page on into the buffer.
    fn load(&mut self, segment: u64, page: u64, len: usize) -> Result<usize> {
        if self.buf.len() < len {
            self.buf.resize(len, 0);
        }
        read_full(&mut self.files, segment, page * PAGE_BYTES as u64, &mut self.buf[..len], len)
    }
}

/// What stands at a page of a hot segment.
#[derive(Debug)]
pub(super) enum Hot<'b> {
    /// The header of an epoch.
    Header(Header),
    /// A group.
    Group { body: &'b [u8], pages: u64, tag: [u8; FRAME_TAG_BYTES] },
    /// Neither, and what speaks against a frame.
    Nothing(Option<FrameFault>),
}

enum Found {
    Frame(u64),
    Header,
    Nothing,
}

fn missing(grant: &ReadGrant, seq: u64) -> Error {
    Error::new(Code::Corrupt, format!("event {seq} of {} cannot be read", grant.stream()))
}

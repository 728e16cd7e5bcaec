//! Reading events back, by stream and sequence number.

use ropeway_core::code::Code;
use ropeway_core::event::{Chain, Event};
use ropeway_core::id::StreamKey;
use ropeway_core::log::{
    Cipher, DataKey, FrameFault, HEADER_BYTES, Header, MAX_BODY_BYTES, PAGE_BYTES, Record, padded_len, records,
};
use ropeway_core::policy::ReadGrant;

use super::files::read_full;
use super::index::{Entry, SPAN_PAGES};
use super::{DirFiles, Files, Index, keys};
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
}

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
    cipher: Option<(u64, u64, Cipher)>,
    buf: Vec<u8>,
    open: Option<Open>,
    cursor: Option<Cursor>,
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
        Self { files, keys, cipher: None, buf: Vec::new(), open: None, cursor: None }
    }

    /// Calls `each` with the events `from_seq..=upto_seq` of the granted stream, in order, together
    /// with the chain hash before each, until it says [`Stop`]. Ends early at the end of a
    /// contiguous stretch: compare the last seq with what was asked for.
    ///
    /// # Errors
    /// [`Code::Corrupt`] or [`Code::Tampered`] if event `from_seq` should be there and is not.
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
        while next <= upto_seq {
            let before = next;
            for entry in index.find(stream, next) {
                if self.walk(&entry, grant, &mut next, upto_seq, &mut each)? {
                    return Ok(());
                }
                if next > before {
                    break;
                }
            }
            if next == before {
                return if next == from_seq { Err(missing(grant, next)) } else { Ok(()) };
            }
        }
        Ok(())
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
            let head = self.load(segment, *epoch, HEADER_BYTES)?;
            self.use_header(segment, *epoch, head)?;
        }
        let mut want = PAGE_BYTES;
        loop {
            let got = self.load(segment, page, want)?;
            if got == 0 {
                return Ok(Found::Nothing);
            }
            // One that stands elsewhere than it says was written to the wrong place, over our frames.
            if self.buf.starts_with(super::segment::MAGIC) {
                if self.use_header(segment, page, got).is_err() {
                    return Ok(Found::Nothing);
                }
                *epoch = page;
                return Ok(Found::Header);
            }
            let Some((_, _, cipher)) = &self.cipher else { return Ok(Found::Nothing) };
            match cipher.open(page, &mut self.buf[..got]) {
                Ok(opened) => {
                    let (pages, body) = (opened.pages, opened.body);
                    self.open = Some(Open { segment, page, epoch: *epoch, pages, body });
                    return Ok(Found::Frame(pages));
                }
                Err(FrameFault::NeedMore(n)) if n > want && n <= padded_len(MAX_BODY_BYTES) => want = n,
                // A header with a rotten bit in its magic is still a header.
                Err(_) if self.use_header(segment, page, got.min(PAGE_BYTES)).is_ok() => {
                    *epoch = page;
                    return Ok(Found::Header);
                }
                Err(_) => return Ok(Found::Nothing),
            }
        }
    }

    fn use_header(&mut self, segment: u64, page: u64, got: usize) -> Result<()> {
        let about = |code, what: &str| Error::at(code, &self.files.describe(segment), what);
        let (header, _) = Header::parse_repairing(&self.buf[..got]).map_err(|c| about(c, &format!("page {page}")))?;
        if (header.start.segment, header.start.page) != (segment, page) {
            return Err(about(Code::Corrupt, &format!("page {page} holds the header of another place")));
        }
        let key = self.keys.iter().find(|k| k.0 == header.start.key_id);
        let key = key.ok_or_else(|| about(Code::KeyMissing, "data key"))?;
        self.cipher = Some((segment, page, Cipher::new(&header, &key.1).map_err(|c| about(c, "header"))?));
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

enum Found {
    Frame(u64),
    Header,
    Nothing,
}

fn missing(grant: &ReadGrant, seq: u64) -> Error {
    Error::new(Code::Corrupt, format!("event {seq} of {} cannot be read", grant.stream()))
}

//! A log on NOR flash without a file system: the same segments as in files (docs/LOG.md#flash-1).

use embedded_storage::nor_flash::NorFlash;

use super::Medium;
use super::collect::Collect;
use crate::code::Code;
use crate::event::Chain;
use crate::id::{NodeName, StreamKey};
use crate::log::{DataKey, Header, PAGE_BYTES, Place, SegmentScan, Step, Verdict, padded_len};
use crate::mem::Lent;
use crate::node::{LogPosition, ReadFault, ReadRequest, WriteFault};
use crate::recovery::{LogTail, Recovered, RunAt, StreamMemory};

/// What erased flash reads as.
const ERASED: u8 = 0xff;

/// A log on any [`NorFlash`]: segment n takes the n-th stretch of `segment_bytes`. A word is written
/// once after it was erased, never twice, and each block is erased once in the life of a log.
///
/// It keeps no index but the segment where the last read ended: a read scans one segment as a rule,
/// and all of them at worst. Erase blocks wear out, so nothing is erased twice: when the last segment
/// is full, events are refused as on a full disk ([`Code::DiskFull`]), and what is there is still
/// sent.
#[derive(Debug)]
pub struct FlashMedium<'m, S> {
    flash: S,
    keys: [(u32, DataKey); 1],
    segment_bytes: usize,
    max_body: usize,
    buf: Lent<'m, u8>,
    /// Where the next events of a stream are likely to stand.
    hint: Option<(StreamKey, u64, u64)>,
}

/// What opening a log on flash has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlashReport {
    /// Segments with something in them.
    pub segments: u64,
    /// Groups that were read.
    pub groups: u64,
    /// Places where durable data is damaged: the next sync brings back what the peer has.
    pub damaged: u64,
    /// The last write was interrupted: nothing that was acknowledged is missing.
    pub torn_tail: bool,
}

impl<'m, S: NorFlash> FlashMedium<'m, S> {
    /// A log on `flash`, which belongs to it whole. `segment_bytes` and `group_bytes` are those of
    /// the node's [`Limits`](crate::limits::Limits); `buf` takes `padded_len(group_bytes)` bytes.
    ///
    /// # Errors
    /// [`Code::Config`] if the sizes do not fit the flash: segments must be whole erase blocks, pages
    /// of 4,096 bytes whole words, and two segments must fit.
    pub fn new(
        flash: S,
        key: (u32, DataKey),
        segment_bytes: usize,
        group_bytes: usize,
        buf: Lent<'m, u8>,
    ) -> Result<Self, Code> {
        let fits = segment_bytes.is_multiple_of(S::ERASE_SIZE)
            && segment_bytes.is_multiple_of(PAGE_BYTES)
            && PAGE_BYTES.is_multiple_of(S::WRITE_SIZE)
            && PAGE_BYTES.is_multiple_of(S::READ_SIZE)
            && segment_bytes > 0
            && flash.capacity() / segment_bytes >= 2
            && u32::try_from(flash.capacity()).is_ok()
            && buf.len() >= padded_len(group_bytes);
        if !fits {
            return Err(Code::Config);
        }
        Ok(Self { flash, keys: [key], segment_bytes, max_body: group_bytes, buf, hint: None })
    }

    /// Erases everything, log and all: once, before the first use.
    ///
    /// # Errors
    /// [`Code::Io`].
    pub fn format(&mut self) -> Result<(), Code> {
        let end = self.slots() * self.segment_bytes as u64;
        self.hint = None;
        self.flash.erase(0, end as u32).map_err(|_| Code::Io)
    }

    /// Gives the flash back.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.flash
    }

    /// Reads the whole log: what [`Node::new`](crate::node::Node::new) wants.
    ///
    /// # Errors
    /// [`Code::WrongKey`], [`Code::FormatNewer`], [`Code::Limit`] if there are more streams than
    /// memory, [`Code::Io`]. Nothing is written.
    pub fn recover(&mut self, name: NodeName, memory: StreamMemory<'m>) -> Result<(Recovered<'m>, FlashReport), Code> {
        let mut out = Recovered::new(name, memory);
        let (mut report, mut tail) = (FlashReport::default(), LogTail::default());
        let mut last = 0;
        for n in 1..=self.slots() {
            if !self.is_erased(n, 0, PAGE_BYTES)? {
                last = n;
            }
        }
        for n in 1..=last {
            if self.is_erased(n, 0, PAGE_BYTES)? {
                // One that follows was written to, so this one was too.
                out.damaged();
                report.damaged += 1;
                continue;
            }
            report.segments += 1;
            let end = self.scan(n, &mut |step| match step {
                Step::Group { body, .. } => {
                    report.groups += 1;
                    match out.group(body, |_| ()) {
                        Err(code @ (Code::Limit | Code::FormatNewer)) => return Some(Err(code)),
                        Err(_) => report.damaged += 1,
                        Ok(()) => {}
                    }
                    None
                }
                Step::Damaged { .. } => {
                    out.damaged();
                    report.damaged += 1;
                    None
                }
                Step::End(end) => Some(Ok(*end)),
                Step::Fault(code) => Some(Err(*code)),
                Step::NeedMore | Step::Epoch { .. } => None,
            })?;
            let place = match (n < last).then(|| self.first_link(n + 1)).flatten() {
                None => Place::Last,
                Some(prev) if prev == end.link => Place::Continued,
                Some(_) => Place::Broken,
            };
            let verdict = end.verdict(place, place == Place::Last && out.receipt_beyond_log());
            match verdict {
                Verdict::CleanEnd => {}
                Verdict::TornTail => report.torn_tail = true,
                Verdict::Corrupt | Verdict::Suspect | Verdict::Tampered => {
                    out.damaged();
                    report.damaged += 1;
                }
            }
            // No word is written twice, not even one of which an interrupted write has left nothing to be
            // recognised.
            let from = end.from_page as usize * PAGE_BYTES;
            let clean = verdict == Verdict::CleanEnd && self.is_erased(n, from, self.segment_bytes - from)?;
            tail = LogTail { segment: n, next_page: end.from_page, clean, link: end.link };
        }
        Ok((out.ending_at(tail), report))
    }

    /// Segments that fit.
    fn slots(&self) -> u64 {
        (self.flash.capacity() / self.segment_bytes) as u64
    }

    fn address(&self, segment: u64, offset: usize) -> Result<u32, Code> {
        let slot = segment.checked_sub(1).filter(|slot| *slot < self.slots()).ok_or(Code::Io)?;
        let at = slot * self.segment_bytes as u64 + offset as u64;
        u32::try_from(at).map_err(|_| Code::Io)
    }

    /// Whether nothing was written there since it was erased.
    fn is_erased(&mut self, segment: u64, offset: usize, len: usize) -> Result<bool, Code> {
        let mut at = offset;
        while at < offset + len {
            let address = self.address(segment, at)?;
            let page = &mut self.buf[..PAGE_BYTES];
            self.flash.read(address, page).map_err(|_| Code::Io)?;
            if page.iter().any(|b| *b != ERASED) {
                return Ok(false);
            }
            at += PAGE_BYTES;
        }
        Ok(true)
    }

    /// What the first header of a segment links to.
    fn first_link(&mut self, segment: u64) -> Option<[u8; 16]> {
        let address = self.address(segment, 0).ok()?;
        self.flash.read(address, &mut self.buf[..PAGE_BYTES]).ok()?;
        Header::parse_repairing(&self.buf[..PAGE_BYTES]).ok().map(|(h, _)| h.start.prev)
    }

    /// Scans a segment until `each` gives something; the scan ends with [`Step::End`] or
    /// [`Step::Fault`], for which it must.
    fn scan<T>(
        &mut self,
        segment: u64,
        each: &mut impl FnMut(&Step<'_>) -> Option<Result<T, Code>>,
    ) -> Result<T, Code> {
        let base = self.address(segment, 0)?;
        let Self { flash, keys, buf, .. } = self;
        let mut scan = SegmentScan::new(keys, segment, self.segment_bytes as u64, self.max_body)?;
        loop {
            let step = match scan.poll_want() {
                None => scan.feed(&mut []),
                Some(want) => {
                    let wanted = want.len.min(buf.len());
                    let len = wanted.next_multiple_of(S::READ_SIZE).min(buf.len());
                    match flash.read(base + want.offset as u32, &mut buf[..len]) {
                        Ok(()) => scan.feed(&mut buf[..wanted]),
                        Err(_) => scan.unreadable(),
                    }
                }
            };
            let over = matches!(step, Step::End(_) | Step::Fault(_));
            match each(&step) {
                Some(done) => return done,
                None if over => return Err(Code::Corrupt),
                None => {}
            }
        }
    }
}

impl<S: NorFlash> Medium for FlashMedium<'_, S> {
    fn provision(&mut self, segment: u64) -> Result<(), WriteFault> {
        let failed = |_| WriteFault::Failed;
        if segment > self.slots() {
            return Err(WriteFault::Full);
        }
        // A power cut may have come between this and the first write, or in the middle of it.
        if self.is_erased(segment, 0, self.segment_bytes).map_err(failed)? {
            return Ok(());
        }
        let from = self.address(segment, 0).map_err(failed)?;
        self.flash.erase(from, from + self.segment_bytes as u32).map_err(|_| WriteFault::Failed)
    }

    fn append(&mut self, at: LogPosition, bytes: &[u8]) -> Result<(), WriteFault> {
        let offset = at.offset as usize;
        if offset + bytes.len() > self.segment_bytes {
            return Err(WriteFault::Failed);
        }
        let address = self.address(at.segment, offset).map_err(|_| WriteFault::Failed)?;
        self.flash.write(address, bytes).map_err(|_| WriteFault::Failed)
    }

    /// Flash has no cache: what [`NorFlash::write`] has written is there.
    fn sync(&mut self, _: &mut dyn Iterator<Item = RunAt>) -> Result<(), WriteFault> {
        Ok(())
    }

    fn read(&mut self, request: &ReadRequest, records: &mut [u8]) -> Result<(Chain, usize), ReadFault> {
        let key = *request.grant.stream();
        let hint = self.hint.filter(|(stream, seq, _)| *stream == key && *seq <= request.from_seq);
        let mut found = Collect::new(request, records);
        // What was repaired stands later than its place: if nothing is found from the hint on, all is read.
        for first in [hint.map_or(1, |h| h.2), 1] {
            for n in first..=self.slots() {
                if self.is_erased(n, 0, PAGE_BYTES).map_err(ReadFault)? {
                    continue;
                }
                let enough = self.scan(n, &mut |step| match step {
                    Step::Group { body, .. } if !found.group(body) => Some(Ok(true)),
                    Step::End(_) => Some(Ok(false)),
                    Step::Fault(code) => Some(Err(*code)),
                    _ => None,
                });
                if found.next_seq() > request.from_seq {
                    self.hint = Some((key, found.next_seq(), n));
                }
                if enough.map_err(ReadFault)? {
                    return found.finish();
                }
            }
            if found.next_seq() > request.from_seq || first == 1 {
                break;
            }
        }
        found.finish()
    }
}

#[cfg(test)]
mod tests;

//! The bytes of a simulated disk, cached and durable, and what goes wrong with them.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::ErrorKind;
use std::ops::Range;

use ropeway_core::log::PAGE_BYTES;
use ropeway_std::store::SideFile;

use crate::rng::Rng;

/// What an I/O error is called that has no better name.
const EIO: ErrorKind = ErrorKind::Other;

#[derive(Clone, Debug)]
pub(super) struct Platter {
    pub(super) segments: BTreeMap<u64, Segment>,
    /// Sealed segments and checkpoints. What has a name is durable, and no fault but a crash and a
    /// read-only disk touches them.
    pub(super) sides: BTreeMap<SideFile, Segment>,
    pub(super) segments_max: usize,
    pub(super) faults: Faults,
    pub(super) sector_bytes: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Segment {
    /// What programs see.
    pub(super) cached: Vec<u8>,
    /// What outlasts a crash.
    durable: Vec<u8>,
    /// Sectors that were written and not synced.
    dirty: BTreeSet<usize>,
    /// Sectors that count as clean although they are not: a failed sync has given them up.
    dropped: BTreeSet<usize>,
    /// A sync has lied since the last honest one.
    lied: bool,
    /// Pages that an honest sync has made durable.
    settled: BTreeSet<usize>,
    /// Pages that were changed behind everybody's back.
    meddled: BTreeSet<usize>,
    /// What a crash has left of a group whose first page it took: the log may go on over it.
    remnants: BTreeSet<usize>,
    /// Nothing was written since the last crash.
    untouched: bool,
}

/// What becomes of one unsynced sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Lost,
    Kept,
    Garbage,
}

/// What is to go wrong. Everything is off at first.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    pub(super) garbage: bool,
    pub(super) lying: bool,
    pub(super) read_only: bool,
    pub(super) forgets_sector: bool,
    pub(super) failing_writes: u32,
    /// Which sectors are dropped: those whose number, modulo 256, is the number of a bit that is set.
    pub(super) failing_sync: Option<[u8; 32]>,
    pub(super) misdirected: Option<(u64, u64)>,
    bad_reads: Vec<BadRead>,
}

#[derive(Clone, Debug)]
struct BadRead {
    segment: u64,
    bytes: Range<usize>,
    /// How often still; `None` is for good.
    times: Option<u32>,
}

fn overlap(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

/// The bytes of a page.
pub(super) fn page_range(page: u64) -> Range<usize> {
    let at = page as usize * PAGE_BYTES;
    at..at + PAGE_BYTES
}

impl Platter {
    pub(super) fn new(sector_bytes: usize) -> Self {
        Self {
            segments: BTreeMap::new(),
            sides: BTreeMap::new(),
            segments_max: usize::MAX,
            faults: Faults::default(),
            sector_bytes,
        }
    }

    pub(super) fn durable_copy(&self) -> Self {
        let sound = |s: &Segment| Segment {
            settled: s.settled.clone(),
            meddled: s.meddled.clone(),
            ..Segment::clean(s.durable.clone())
        };
        let segments = self.segments.iter().map(|(n, s)| (*n, sound(s))).collect();
        let sides = self.sides.iter().map(|(n, s)| (*n, sound(s))).collect();
        Self { segments, sides, ..Self::new(self.sector_bytes) }
    }

    pub(super) fn provision(&mut self, segment: u64, bytes: usize) -> Result<(), ErrorKind> {
        if self.faults.read_only {
            return Err(ErrorKind::ReadOnlyFilesystem);
        }
        if self.segments.len() >= self.segments_max {
            return Err(ErrorKind::StorageFull);
        }
        self.segments.insert(segment, Segment::clean(vec![0; bytes]));
        Ok(())
    }

    pub(super) fn write_at(&mut self, segment: u64, offset: usize, bytes: &[u8]) -> Result<(), ErrorKind> {
        if self.faults.read_only {
            return Err(ErrorKind::ReadOnlyFilesystem);
        }
        if self.faults.failing_writes > 0 {
            self.faults.failing_writes -= 1;
            return Err(EIO);
        }
        let s = self.segments.get_mut(&segment).ok_or(ErrorKind::NotFound)?;
        let place = s.cached.get_mut(offset..offset + bytes.len()).ok_or(ErrorKind::InvalidInput)?;
        if let Some((segment, page)) = self.faults.misdirected.take() {
            // Where the bytes should be they are not: that is done behind the program's back too.
            s.meddled.extend(offset / PAGE_BYTES..(offset + bytes.len()).div_ceil(PAGE_BYTES));
            let range = page_range(page).start..page_range(page).start + bytes.len();
            self.alter(segment, range, |there| there.copy_from_slice(&bytes[..there.len()]));
            return Ok(());
        }
        let goes_on = place.starts_with(&[0; 4]);
        place.copy_from_slice(bytes);
        if s.untouched && goes_on {
            s.untouched = false;
            let used = |page: &usize| s.cached[page_range(*page as u64)].iter().any(|b| *b != 0);
            let behind = (offset + bytes.len()).div_ceil(PAGE_BYTES)..s.cached.len() / PAGE_BYTES;
            s.remnants = behind.filter(|page| used(page) && !s.settled.contains(page)).collect();
        }
        for i in offset / self.sector_bytes..(offset + bytes.len()).div_ceil(self.sector_bytes) {
            s.dirty.insert(i);
            s.dropped.remove(&i);
        }
        Ok(())
    }

    /// Writes the side file without a name, which grows as need be.
    pub(super) fn write_unfinished(&mut self, offset: usize, bytes: &[u8]) -> Result<(), ErrorKind> {
        if self.faults.read_only {
            return Err(ErrorKind::ReadOnlyFilesystem);
        }
        if offset == 0 {
            self.sides.insert(SideFile::Unfinished, Segment::clean(Vec::new()));
        }
        let s = self.sides.get_mut(&SideFile::Unfinished).ok_or(ErrorKind::NotFound)?;
        let end = offset + bytes.len();
        if s.cached.len() < end {
            s.cached.resize(end, 0);
            s.durable.resize(end, 0);
        }
        s.cached[offset..end].copy_from_slice(bytes);
        s.dirty.extend(offset / self.sector_bytes..end.div_ceil(self.sector_bytes));
        Ok(())
    }

    pub(super) fn sync_unfinished(&mut self) -> Result<(), ErrorKind> {
        let s = self.sides.get_mut(&SideFile::Unfinished).ok_or(ErrorKind::NotFound)?;
        s.dirty.clear();
        s.durable.clone_from(&s.cached);
        Ok(())
    }

    pub(super) fn sync(&mut self, segment: u64) -> Result<(), ErrorKind> {
        let s = self.segments.get_mut(&segment).ok_or(ErrorKind::NotFound)?;
        if let Some(drop) = self.faults.failing_sync.take() {
            for i in std::mem::take(&mut s.dirty) {
                if drop[i / 8 % drop.len()] >> (i % 8) & 1 == 1 {
                    s.dropped.insert(i);
                } else {
                    s.keep(i * self.sector_bytes, self.sector_bytes);
                }
            }
            return Err(EIO);
        }
        if self.faults.lying {
            s.lied |= !s.dirty.is_empty();
            return Ok(());
        }
        if std::mem::take(&mut self.faults.forgets_sector)
            && let Some(i) = s.dirty.pop_first()
        {
            s.dropped.insert(i);
        }
        s.lied = false;
        for i in std::mem::take(&mut s.dirty) {
            s.keep(i * self.sector_bytes, self.sector_bytes);
            s.settled.insert(i * self.sector_bytes / PAGE_BYTES);
        }
        Ok(())
    }

    /// The sectors that a crash may lose or keep: unsynced, and another than before.
    pub(super) fn dirty_sectors(&self) -> Vec<(u64, usize)> {
        let sector = self.sector_bytes;
        let of = |(n, s): (&u64, &Segment)| {
            let differs =
                |i: &&usize| s.range(**i * sector, sector).is_some_and(|r| s.cached[r.clone()] != s.durable[r]);
            s.dirty.iter().filter(differs).map(|i| (*n, *i)).collect::<Vec<_>>()
        };
        self.segments.iter().flat_map(of).collect()
    }

    /// What is there after a crash that did this to these sectors, and took all others.
    pub(super) fn image_with(&self, fates: &[((u64, usize), Fate)]) -> Self {
        let (mut image, sector) = (self.durable_copy(), self.sector_bytes);
        for ((segment, i), fate) in fates {
            let (Some(from), Some(to)) = (self.segments.get(segment), image.segments.get_mut(segment)) else {
                continue;
            };
            let Some(range) = from.range(i * sector, sector) else { continue };
            match fate {
                Fate::Lost => continue,
                Fate::Kept => to.durable[range.clone()].copy_from_slice(&from.cached[range.clone()]),
                Fate::Garbage => fill_randomly(&mut to.durable[range.clone()], [*i as u8 ^ 0x5a; 32]),
            }
            to.forget(range.start, range.len());
        }
        image
    }

    /// Recognises what is durable, and what is not and where.
    pub(super) fn digest(&self) -> u64 {
        let mut h = DefaultHasher::new();
        for (n, s) in &self.segments {
            (n, &s.durable).hash(&mut h);
        }
        for (n, i) in self.dirty_sectors() {
            let Some(s) = self.segments.get(&n) else { continue };
            let bytes = s.range(i * self.sector_bytes, self.sector_bytes).map(|r| &s.cached[r]);
            (n, i, bytes).hash(&mut h);
        }
        h.finish()
    }

    /// The page of a write that must not be written any more: it was durable, or it is the first and
    /// something stands there. What follows a page of zeros was never durable, and may be written;
    /// behind a page that was changed behind the program's back nothing is asked.
    pub(super) fn used_before(&self, segment: u64, offset: usize, len: usize) -> Option<usize> {
        let s = self.segments.get(&segment)?;
        let first = offset / PAGE_BYTES;
        if s.meddled.first().is_some_and(|page| *page <= first) {
            return None;
        }
        let taken = s.cached.get(offset..offset + 4).is_some_and(|w| w != [0; 4] && w != [0xff; 4]);
        let settled = s.settled.range(first..(offset + len).div_ceil(PAGE_BYTES)).next();
        if taken && !s.remnants.contains(&first) { Some(first) } else { settled.copied() }
    }

    pub(super) fn crash(&mut self, rng: &mut Rng) {
        let (sector, outcomes) = (self.sector_bytes, if self.faults.garbage { 4 } else { 3 });
        for s in self.segments.values_mut().chain(self.sides.values_mut()) {
            let lied = std::mem::take(&mut s.lied);
            s.untouched = true;
            for i in std::mem::take(&mut s.dirty) {
                let at = i * sector;
                match if lied { 0 } else { rng.below(outcomes) } {
                    0 => {}
                    1 => s.keep(at, sector),
                    2 => s.keep(at, rng.below(sector as u64) as usize),
                    _ => fill_randomly(s.durable_mut(at, sector), rng.seed()),
                }
                s.forget(at, sector);
            }
            for i in std::mem::take(&mut s.dropped) {
                s.forget(i * sector, sector);
            }
        }
    }

    /// As a program reads: up to what cannot be read.
    pub(super) fn read_at(&mut self, segment: u64, offset: usize, buf: &mut [u8]) -> Result<usize, ErrorKind> {
        let s = self.segments.get(&segment).ok_or(ErrorKind::NotFound)?;
        let at = offset.min(s.cached.len());
        let mut end = (at + buf.len()).min(s.cached.len());
        for bad in self.faults.bad_reads.iter_mut().filter(|b| b.segment == segment && b.times != Some(0)) {
            if bad.bytes.contains(&at) && at < end {
                bad.times = bad.times.map(|n| n - 1);
                return Err(EIO);
            }
            if bad.bytes.start >= at {
                end = end.min(bad.bytes.start);
            }
        }
        buf[..end - at].copy_from_slice(&s.cached[at..end]);
        Ok(end - at)
    }

    /// Past the cache.
    pub(super) fn read_durable(&self, segment: u64, offset: usize, buf: &mut [u8]) -> Result<(), ErrorKind> {
        let s = self.segments.get(&segment).ok_or(ErrorKind::NotFound)?;
        let range = offset..offset + buf.len();
        let bad = |b: &BadRead| b.segment == segment && b.times != Some(0) && overlap(&b.bytes, &range);
        if self.faults.bad_reads.iter().any(bad) {
            return Err(EIO);
        }
        buf.copy_from_slice(s.durable.get(range).ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    pub(super) fn fail_reads(&mut self, segment: u64, sectors: Range<u64>, times: Option<u32>) {
        let at = |sector: u64| sector as usize * self.sector_bytes;
        let bytes = at(sectors.start)..at(sectors.end);
        self.faults.bad_reads.push(BadRead { segment, bytes, times });
    }

    /// Pages that hold something durable.
    pub(super) fn used_pages(&self) -> Vec<(u64, u64)> {
        let pages = |(n, s): (&u64, &Segment)| {
            let used = s.durable.chunks(PAGE_BYTES).enumerate().filter(|(_, page)| page.iter().any(|b| *b != 0));
            used.map(|(i, _)| (*n, i as u64)).collect::<Vec<_>>()
        };
        self.segments.iter().flat_map(pages).collect()
    }

    /// Ends what goes wrong with calls; what is on the disk stays as it is.
    pub(super) fn heal(&mut self) {
        self.faults = Faults { garbage: self.faults.garbage, failing_sync: None, ..Faults::default() };
    }

    /// The same with a side file.
    pub(super) fn alter_side(&mut self, file: SideFile, bytes: Range<usize>, change: impl Fn(&mut [u8])) {
        let Some(s) = self.sides.get_mut(&file) else { return };
        let end = bytes.end.min(s.cached.len());
        if bytes.start < end {
            change(&mut s.cached[bytes.start..end]);
            if let Some(durable) = s.durable.get_mut(bytes.start..end) {
                change(durable);
            }
        }
    }

    /// Changes bytes behind everybody's back, cached and durable, as far as the segment goes.
    pub(super) fn alter(&mut self, segment: u64, bytes: Range<usize>, change: impl Fn(&mut [u8])) {
        let Some(s) = self.segments.get_mut(&segment) else { return };
        let end = bytes.end.min(s.cached.len());
        if bytes.start < end {
            change(&mut s.cached[bytes.start..end]);
            change(&mut s.durable[bytes.start..end]);
            for page in bytes.start / PAGE_BYTES..end.div_ceil(PAGE_BYTES) {
                s.settled.remove(&page);
                s.meddled.insert(page);
            }
        }
    }
}

impl Segment {
    fn clean(bytes: Vec<u8>) -> Self {
        let none = BTreeSet::new;
        let (dirty, dropped, settled, meddled, remnants) = (none(), none(), none(), none(), none());
        Self {
            cached: bytes.clone(),
            durable: bytes,
            dirty,
            dropped,
            lied: false,
            settled,
            meddled,
            remnants,
            untouched: true,
        }
    }

    /// The bytes of a sector, which the segment's end may cut short.
    fn range(&self, at: usize, len: usize) -> Option<Range<usize>> {
        (at < self.cached.len()).then(|| at..(at + len).min(self.cached.len()))
    }

    /// The last sector may be cut short by the segment's end.
    fn durable_mut(&mut self, at: usize, len: usize) -> &mut [u8] {
        let end = (at + len).min(self.durable.len());
        &mut self.durable[at..end]
    }

    /// Makes cached bytes durable.
    fn keep(&mut self, at: usize, len: usize) {
        let end = (at + len).min(self.cached.len());
        self.durable[at..end].copy_from_slice(&self.cached[at..end]);
    }

    /// Drops cached bytes.
    fn forget(&mut self, at: usize, len: usize) {
        let end = (at + len).min(self.cached.len());
        self.cached[at..end].copy_from_slice(&self.durable[at..end]);
    }
}

/// Fills a sector from one draw (splitmix64), since chance may be scarce.
fn fill_randomly(bytes: &mut [u8], seed: [u8; 32]) {
    let mut state = seed.chunks(8).fold(0u64, |s, c| c.iter().fold(s, |s, b| s.rotate_left(8) ^ u64::from(*b)));
    for part in bytes.chunks_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        part.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes()[..part.len()]);
    }
}

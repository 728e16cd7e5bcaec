//! A disk that forgets, lies and breaks. It is the operating system to the real store
//! ([`ropeway_std::store`]): what is written is cached until it is synced, and a crash decides for
//! each unsynced sector by itself.

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::rc::Rc;

use ropeway_core::code::Code;
use ropeway_core::log::SegmentName;
use ropeway_std::store::{Files, SideFile};
use ropeway_std::{Error, Result};

use crate::rng::Rng;

mod platter;
#[cfg(test)]
mod tests;

pub(crate) use platter::Fate;
use platter::Platter;

/// Segment files on a simulated disk. A clone is a copy of the disk with all that is on it and in its
/// cache; what was mounted still belongs to the first.
#[derive(Debug)]
pub struct Disk {
    /// How many segments fit; more fail as a full disk does.
    pub segments_max: usize,
    platter: Rc<RefCell<Platter>>,
}

impl Clone for Disk {
    fn clone(&self) -> Self {
        Self::holding(self.platter.borrow().clone(), self.segments_max)
    }
}

impl Disk {
    /// An empty disk with sectors of this size (512 or 4,096 bytes).
    #[must_use]
    pub fn new(sector_bytes: usize) -> Self {
        Self::holding(Platter::new(sector_bytes), usize::MAX)
    }

    fn holding(platter: Platter, segments_max: usize) -> Self {
        Self { segments_max, platter: Rc::new(RefCell::new(platter)) }
    }

    /// A sound disk with what is durable on this one: a backup made with the power off.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        Self::holding(self.platter.borrow().durable_copy(), usize::MAX)
    }

    /// What a store works on. All mounts of a disk see the same bytes.
    #[must_use]
    pub fn mount(&self) -> Mount {
        Mount(Rc::clone(&self.platter))
    }

    /// Number and size in bytes of each segment.
    #[must_use]
    pub fn segments(&self) -> Vec<(u64, u64)> {
        self.platter.borrow().segments.iter().map(|(n, s)| (*n, s.cached.len() as u64)).collect()
    }

    /// The numbers of the sealed segments.
    #[must_use]
    pub fn sealed(&self) -> Vec<u64> {
        self.mount().list_sealed().unwrap_or_default()
    }

    /// Whether these bytes lie within a segment.
    #[must_use]
    pub fn holds(&self, segment: u64, offset: u64, len: usize) -> bool {
        let platter = self.platter.borrow();
        platter.segments.get(&segment).is_some_and(|s| offset + len as u64 <= s.cached.len() as u64)
    }

    /// Lets [`Disk::segments_max`] count from here on.
    pub(crate) fn measure_room(&mut self) {
        self.platter.borrow_mut().segments_max = self.segments_max;
    }

    /// Power is lost: each unsynced sector survives, is lost, is torn, or, if
    /// [`Disk::leave_garbage`] was called, holds anything.
    pub fn crash(&mut self, rng: &mut Rng) {
        self.platter.borrow_mut().crash(rng);
    }

    /// The sectors of which a crash now would decide: (segment, sector).
    pub(crate) fn dirty_sectors(&self) -> Vec<(u64, usize)> {
        self.platter.borrow().dirty_sectors()
    }

    /// The disk after a crash that did this to these sectors, and took what else was unsynced.
    pub(crate) fn image_with(&self, fates: &[((u64, usize), Fate)]) -> Self {
        Self::holding(self.platter.borrow().image_with(fates), self.segments_max)
    }

    /// Recognises all that is on the disk and in its cache.
    pub(crate) fn digest(&self) -> u64 {
        self.platter.borrow().digest()
    }

    /// A page of this write that must not be written again.
    pub(crate) fn used_before(&self, segment: u64, offset: u64, len: usize) -> Option<usize> {
        self.platter.borrow().used_before(segment, offset as usize, len)
    }

    /// From now on a crash may leave random bytes in unsynced sectors.
    pub fn leave_garbage(&mut self, on: bool) {
        self.platter.borrow_mut().faults.garbage = on;
    }

    /// The next sync returns an error, and of the dirty sectors chance drops some as Linux does: they
    /// stay readable, count as clean, and are gone after the next crash. The sync after that
    /// succeeds.
    pub fn fail_sync(&mut self, rng: &mut Rng) {
        self.platter.borrow_mut().faults.failing_sync = Some(rng.seed());
    }

    /// While on, a sync says ok and makes nothing durable; a crash then takes all since the last
    /// honest one.
    pub fn lie(&mut self, on: bool) {
        self.platter.borrow_mut().faults.lying = on;
    }

    /// The next sync leaves the first dirty sector out, and says ok.
    pub fn forget_sector(&mut self) {
        self.platter.borrow_mut().faults.forgets_sector = true;
    }

    /// Reads that touch one of these sectors of a segment fail: `times` times, or for good.
    pub fn fail_reads(&mut self, segment: u64, sectors: Range<u64>, times: Option<u32>) {
        self.platter.borrow_mut().fail_reads(segment, sectors, times);
    }

    /// The sectors of a page, for [`Disk::fail_reads`].
    #[must_use]
    pub fn sectors_of_page(&self, page: u64) -> Range<u64> {
        let per_page = 4096 / self.sector_bytes() as u64;
        page * per_page..(page + 1) * per_page
    }

    /// The next so many writes fail and change nothing.
    pub fn fail_writes(&mut self, times: u32) {
        self.platter.borrow_mut().faults.failing_writes = times;
    }

    /// While on, nothing can be written and no segment be made: the end of many a card.
    pub fn make_read_only(&mut self, on: bool) {
        self.platter.borrow_mut().faults.read_only = on;
    }

    /// The next write lands at this page instead, durably, as far as the segment goes; where it
    /// should be, the old bytes stay. Into a segment that is not there it is lost.
    pub fn misdirect(&mut self, segment: u64, page: u64) {
        self.platter.borrow_mut().faults.misdirected = Some((segment, page));
    }

    /// Turns one bit over, as a rotten card does.
    pub fn rot(&mut self, segment: u64, offset: u64) {
        self.platter.borrow_mut().alter(segment, offset as usize..offset as usize + 1, |b| b[0] ^= 0x10);
    }

    /// Turns a bit over, or loses a page, where something is written, but before `end` (segment and page);
    /// false if nothing is.
    pub(crate) fn rot_somewhere(&mut self, rng: &mut Rng, end: Option<(u64, u64)>) -> bool {
        let sealed = self.sealed();
        if !sealed.is_empty() && rng.one_in(2) {
            let file = SideFile::Sealed(sealed[rng.below(sealed.len() as u64) as usize]);
            let len = self.platter.borrow().sides.get(&file).map_or(0, |s| s.cached.len());
            let at = rng.below(len.max(1) as u64) as usize;
            let many = if rng.one_in(4) { 4096 } else { 1 };
            self.platter.borrow_mut().alter_side(file, at..at + many, |b| b.iter_mut().for_each(|b| *b ^= 0x10));
            return true;
        }
        let Some((segment, page)) = self.used_page(rng) else { return false };
        if end.is_some_and(|end| (segment, page) >= end) {
            return false;
        }
        if rng.one_in(4) {
            self.zero_page(segment, page);
        } else {
            self.rot(segment, page * 4096 + rng.below(4096));
        }
        true
    }

    /// Some sectors that are in use cannot be read for a while.
    pub(crate) fn refuse_reads(&mut self, rng: &mut Rng) -> bool {
        let Some((segment, page)) = self.used_page(rng) else { return false };
        let times = if rng.one_in(2) { None } else { Some(rng.between(1, 5) as u32) };
        self.fail_reads(segment, self.sectors_of_page(page), times);
        true
    }

    /// The next write goes to a page that is in use.
    pub(crate) fn misdirect_next(&mut self, rng: &mut Rng) -> bool {
        let Some((segment, page)) = self.used_page(rng) else { return false };
        self.misdirect(segment, page);
        true
    }

    /// A page with something on it that is durable.
    fn used_page(&self, rng: &mut Rng) -> Option<(u64, u64)> {
        let used = self.platter.borrow().used_pages();
        used.get(rng.below(used.len() as u64) as usize).copied()
    }

    /// Ends what was begun and is not on the disk itself: what rotted stays rotten.
    pub fn heal(&mut self) {
        self.platter.borrow_mut().heal();
    }

    /// Whether another segment fits.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.segments().len() < self.segments_max
    }

    pub(crate) fn sector_bytes(&self) -> usize {
        self.platter.borrow().sector_bytes
    }

    /// Whether these bytes stand anywhere on the disk.
    #[must_use]
    pub fn contains(&self, bytes: &[u8]) -> bool {
        self.platter.borrow().segments.values().any(|s| {
            let used = s.cached.len() - s.cached.iter().rev().take_while(|b| **b == 0).count();
            s.cached[..used].windows(bytes.len()).any(|w| w == bytes)
        })
    }

    /// A page reads as zeros from now on.
    pub fn zero_page(&mut self, segment: u64, page: u64) {
        self.platter.borrow_mut().alter(segment, platter::page_range(page), |b| b.fill(0));
    }
}

/// A [`Disk`] as a store sees it.
#[derive(Debug)]
pub struct Mount(Rc<RefCell<Platter>>);

impl Files for Mount {
    fn list(&mut self) -> Result<Vec<u64>> {
        Ok(self.0.borrow().segments.keys().copied().collect())
    }

    fn len(&mut self, segment: u64) -> Result<u64> {
        let platter = self.0.borrow();
        let found = platter.segments.get(&segment).ok_or(io::ErrorKind::NotFound);
        found.map(|s| s.cached.len() as u64).map_err(|e| self.error("opening", segment, e))
    }

    fn read_at(&mut self, segment: u64, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let read = self.0.borrow_mut().read_at(segment, offset as usize, buf);
        read.map_err(|e| self.error("reading", segment, e))
    }

    fn read_stable(&mut self, segment: u64, offset: u64, buf: &mut [u8]) -> Result<()> {
        let read = self.0.borrow().read_durable(segment, offset as usize, buf);
        read.map_err(|e| self.error("reading", segment, e))
    }

    fn provision(&mut self, segment: u64, bytes: u64) -> Result<()> {
        if self.0.borrow().segments.contains_key(&segment) {
            return Err(Error::at(Code::Storage, &self.describe(segment), "the segment exists already"));
        }
        let made = self.0.borrow_mut().provision(segment, bytes as usize);
        made.map_err(|e| self.error("making", segment, e))
    }

    fn write_at(&mut self, segment: u64, offset: u64, bytes: &[u8]) -> Result<()> {
        let written = self.0.borrow_mut().write_at(segment, offset as usize, bytes);
        written.map_err(|e| self.error("writing", segment, e))
    }

    fn sync(&mut self, segment: u64) -> Result<()> {
        let synced = self.0.borrow_mut().sync(segment);
        synced.map_err(|e| self.error("syncing", segment, e))
    }

    fn sync_list(&mut self) -> Result<()> {
        Ok(())
    }

    fn describe(&self, segment: u64) -> PathBuf {
        PathBuf::from(SegmentName(segment).to_string())
    }

    fn list_sealed(&mut self) -> Result<Vec<u64>> {
        let sealed = |file: &SideFile| if let SideFile::Sealed(n) = file { Some(*n) } else { None };
        Ok(self.0.borrow().sides.keys().filter_map(sealed).collect())
    }

    fn remove(&mut self, segment: u64) -> Result<()> {
        let mut platter = self.0.borrow_mut();
        if platter.faults.read_only {
            drop(platter);
            return Err(self.error("removing", segment, io::ErrorKind::ReadOnlyFilesystem));
        }
        platter.segments.remove(&segment);
        Ok(())
    }

    fn side_len(&mut self, file: SideFile) -> Result<Option<u64>> {
        Ok(self.0.borrow().sides.get(&file).map(|s| s.cached.len() as u64))
    }

    fn read_side(&mut self, file: SideFile, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let platter = self.0.borrow();
        let found = platter.sides.get(&file).ok_or(io::ErrorKind::NotFound);
        let bytes = &found.map_err(|e| Error::io(format!("opening {file:?}"), e.into()))?.cached;
        let at = (offset as usize).min(bytes.len());
        let n = buf.len().min(bytes.len() - at);
        buf[..n].copy_from_slice(&bytes[at..at + n]);
        Ok(n)
    }

    fn write_unfinished(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let written = self.0.borrow_mut().write_unfinished(offset as usize, bytes);
        written.map_err(|e| Error::io("writing a side file", e.into()))
    }

    fn sync_unfinished(&mut self) -> Result<()> {
        let synced = self.0.borrow_mut().sync_unfinished();
        synced.map_err(|e| Error::io("syncing a side file", e.into()))
    }

    fn name_unfinished(&mut self, file: SideFile) -> Result<()> {
        let mut platter = self.0.borrow_mut();
        let unfinished = platter.sides.remove(&SideFile::Unfinished).ok_or(io::ErrorKind::NotFound);
        platter.sides.insert(file, unfinished.map_err(|e| Error::io("naming a side file", e.into()))?);
        Ok(())
    }

    fn remove_side(&mut self, file: SideFile) -> Result<()> {
        self.0.borrow_mut().sides.remove(&file);
        Ok(())
    }
}

impl Mount {
    fn error(&self, doing: &str, segment: u64, kind: io::ErrorKind) -> Error {
        Error::io(format!("{doing} {}", self.describe(segment).display()), kind.into())
    }
}

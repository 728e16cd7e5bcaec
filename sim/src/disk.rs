//! A disk that forgets: what was written is cached until it is synced, and a crash decides for each
//! unsynced sector by itself.

use std::collections::{BTreeMap, BTreeSet};

use crate::rng::Rng;

/// Segment files on a simulated disk.
#[derive(Clone, Debug)]
pub struct Disk {
    segments: BTreeMap<u64, Segment>,
    sector_bytes: usize,
    /// How many segments fit; more fail as a full disk does.
    pub segments_max: usize,
}

#[derive(Clone, Debug)]
struct Segment {
    cached: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

impl Disk {
    /// An empty disk with sectors of this size (512 or 4,096).
    #[must_use]
    pub fn new(sector_bytes: usize) -> Self {
        Self { segments: BTreeMap::new(), sector_bytes, segments_max: usize::MAX }
    }

    /// Whether another segment fits.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.segments.len() < self.segments_max
    }

    /// Makes a segment of zeros, durably.
    pub fn provision(&mut self, segment: u64, bytes: usize) {
        let zeros = vec![0; bytes];
        self.segments.insert(segment, Segment { cached: zeros.clone(), durable: zeros, dirty: BTreeSet::new() });
    }

    /// Writes to the cache. False if the bytes do not lie within a segment: the node is wrong then.
    pub fn write(&mut self, segment: u64, offset: u64, bytes: &[u8]) -> bool {
        let (sector, at) = (self.sector_bytes, offset as usize);
        let Some(s) = self.segments.get_mut(&segment) else { return false };
        let Some(place) = s.cached.get_mut(at..at + bytes.len()) else { return false };
        place.copy_from_slice(bytes);
        s.dirty.extend(at / sector..(at + bytes.len()).div_ceil(sector));
        true
    }

    /// Makes everything durable. With `skip`, one sector is forgotten: a disk that lies.
    pub fn sync(&mut self, skip: bool) {
        for s in self.segments.values_mut() {
            if skip {
                s.dirty.pop_first();
            }
            for i in std::mem::take(&mut s.dirty) {
                let range = i * self.sector_bytes..(i + 1) * self.sector_bytes;
                s.durable[range.clone()].copy_from_slice(&s.cached[range]);
            }
        }
    }

    /// Power is lost: each unsynced sector survives, is lost, or is torn.
    pub fn crash(&mut self, rng: &mut Rng) {
        let sector = self.sector_bytes;
        for s in self.segments.values_mut() {
            for i in std::mem::take(&mut s.dirty) {
                let kept = match rng.below(3) {
                    0 => 0,
                    1 => sector,
                    _ => rng.below(sector as u64) as usize,
                };
                let range = i * sector..i * sector + kept;
                s.durable[range.clone()].copy_from_slice(&s.cached[range]);
            }
            s.cached.clone_from(&s.durable);
        }
    }

    /// Turns one bit over, as a rotten card does.
    pub fn rot(&mut self, segment: u64, offset: u64) {
        if let Some(s) = self.segments.get_mut(&segment) {
            s.cached[offset as usize] ^= 0x10;
            s.durable[offset as usize] ^= 0x10;
        }
    }

    /// Turns a bit over where something is written; false if nothing is.
    pub(crate) fn rot_somewhere(&mut self, rng: &mut Rng) -> bool {
        let sector = self.sector_bytes;
        let used: Vec<(u64, usize)> = self
            .segments
            .iter()
            .flat_map(|(n, s)| {
                let parts = s.durable.chunks(sector).enumerate();
                parts.filter(|(_, c)| c.iter().any(|b| *b != 0)).map(|(i, _)| (*n, i * sector))
            })
            .collect();
        let Some(&(segment, at)) = used.get(rng.below(used.len() as u64) as usize) else { return false };
        self.rot(segment, at as u64 + rng.below(sector as u64));
        true
    }

    pub(crate) fn refuse_reads(&mut self, _rng: &mut Rng) -> bool {
        false
    }

    pub(crate) fn misdirect_next(&mut self, _rng: &mut Rng) -> bool {
        false
    }

    pub(crate) fn lie(&mut self) -> bool {
        false
    }

    pub(crate) fn heal(&mut self) {}

    pub(crate) fn sector_bytes(&self) -> usize {
        self.sector_bytes
    }

    /// What would be there after a power cut that takes all that is not synced.
    pub(crate) fn durable_image(&self) -> Self {
        let mut image = self.clone();
        for s in image.segments.values_mut() {
            s.cached.clone_from(&s.durable);
            s.dirty.clear();
        }
        image
    }

    /// Whether these bytes stand anywhere on the disk.
    #[must_use]
    pub fn contains(&self, bytes: &[u8]) -> bool {
        self.segments.values().any(|s| {
            let used = s.cached.len() - s.cached.iter().rev().take_while(|b| **b == 0).count();
            s.cached[..used].windows(bytes.len()).any(|w| w == bytes)
        })
    }

    /// Number and size of each segment.
    pub fn segments(&self) -> impl Iterator<Item = (u64, u64)> {
        self.segments.iter().map(|(n, s)| (*n, s.cached.len() as u64))
    }

    /// Bytes as a program reads them; fewer at the end of the segment.
    #[must_use]
    pub fn read(&self, segment: u64, offset: u64, len: usize) -> Vec<u8> {
        let Some(s) = self.segments.get(&segment) else { return Vec::new() };
        let at = (offset as usize).min(s.cached.len());
        s.cached[at..(at + len).min(s.cached.len())].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_takes_only_what_was_not_synced() {
        let mut d = Disk::new(512);
        d.provision(1, 8192);
        assert!(d.write(1, 0, &[1; 4096]));
        d.sync(false);
        assert!(d.write(1, 4096, &[2; 4096]) && !d.write(1, 8192, &[1]) && !d.write(2, 0, &[1]));
        assert_eq!(d.read(1, 4096, 4096), [2; 4096]);
        d.crash(&mut Rng::new(1));
        assert_eq!(d.read(1, 0, 4096), [1; 4096]);
        let after = d.read(1, 4096, 4096);
        assert!(after.contains(&0) && after.contains(&2));
    }
}

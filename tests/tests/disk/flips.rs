//! Every bit of a small log is flipped, one at a time: headers, frames, padding, pages that were
//! never used. Read through the real store, it costs at most the frame that it is in, says so, and
//! never gives an event that is not what was written.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ropeway_core::code::Code;
use ropeway_core::id::StreamKey;
use ropeway_core::log::{HEADER_BYTES, MAX_BODY_BYTES, PAGE_BYTES, SegmentName};
use ropeway_core::policy::{Policy, Principal, authorize};
use ropeway_std::keyring::Keyring;
use ropeway_std::store::{Files, Opened, Reader, Stop, recover_files};
use ropeway_std::{DataDir, Result, keygen};
use ropeway_tests::mounts::scratch;
use ropeway_tests::name;
use ropeway_tests::numbered::{open, write};

/// Segments in memory, of which one bit may be flipped.
#[derive(Clone)]
struct Rotten {
    segments: Arc<Vec<Vec<u8>>>,
    flip: Option<Flip>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flip {
    segment: u64,
    byte: u64,
    bit: u8,
}

impl Files for Rotten {
    fn list(&mut self) -> Result<Vec<u64>> {
        Ok((1..=self.segments.len() as u64).collect())
    }

    fn len(&mut self, segment: u64) -> Result<u64> {
        Ok(self.segments[segment as usize - 1].len() as u64)
    }

    fn read_at(&mut self, segment: u64, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let all = &self.segments[segment as usize - 1];
        let from = (offset as usize).min(all.len());
        let n = buf.len().min(all.len() - from);
        buf[..n].copy_from_slice(&all[from..from + n]);
        if let Some(f) = self.flip.filter(|f| f.segment == segment && (offset..offset + n as u64).contains(&f.byte)) {
            buf[(f.byte - offset) as usize] ^= 1 << f.bit;
        }
        Ok(n)
    }

    fn read_stable(&mut self, segment: u64, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.read_at(segment, offset, buf).map(|_| ())
    }

    fn provision(&mut self, _: u64, _: u64) -> Result<()> {
        Err(Code::ReadOnly.into())
    }

    fn write_at(&mut self, _: u64, _: u64, _: &[u8]) -> Result<()> {
        Err(Code::ReadOnly.into())
    }

    fn sync(&mut self, _: u64) -> Result<()> {
        Err(Code::ReadOnly.into())
    }

    fn sync_list(&mut self) -> Result<()> {
        Err(Code::ReadOnly.into())
    }

    fn describe(&self, segment: u64) -> PathBuf {
        SegmentName(segment).to_string().into()
    }
}

/// A stream and a place in it.
type Place = (StreamKey, u64);
/// Payload, kind and stamp.
type Content = (Vec<u8>, u16, u64);
type Events = BTreeMap<Place, Content>;

/// What a byte of the log is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Header,
    Checksum,
    /// Word, ciphertext or tag of this group.
    Frame(usize),
    /// Zeros behind a header or a frame.
    Padding,
    /// A page that was never written to.
    Unused,
}

struct Log {
    files: Rotten,
    ring: Keyring,
    opened: Opened,
    whole: Events,
    /// For each segment: from this byte on it is this.
    parts: Vec<BTreeMap<u64, Part>>,
    /// The events of each group, in the order of the log.
    groups: Vec<Vec<Place>>,
}

impl Log {
    /// Three lanes; groups of one page and of two; two epochs in the first segment; a second segment.
    fn new() -> Self {
        let home = scratch();
        let dir = DataDir::new(home.path().join("node"));
        keygen::init_node(&dir, name("clinic_a")).unwrap();
        let mut node = open(&dir).unwrap();
        write(&mut node, 1, 3, 60).unwrap();
        drop(node);
        let mut node = open(&dir).unwrap();
        write(&mut node, 4, 6, 690).unwrap();
        write(&mut node, 10, 2, 100).unwrap();
        write(&mut node, 12, 4, 40).unwrap();
        drop(node);
        let read = |n| std::fs::read(dir.log().join(SegmentName(n).to_string()));
        let segments: Vec<Vec<u8>> = (1..).map_while(|n| read(n).ok()).collect();
        let files = Rotten { segments: Arc::new(segments), flip: None };
        let ring = dir.keyring().unwrap();
        let opened = recover(&files, &ring).unwrap();
        assert_eq!(opened.damages, []);
        let whole = events(&files, &ring, &opened);
        assert_eq!(whole.len(), 15);
        let mut log = Self { files, ring, opened, whole, parts: Vec::new(), groups: Vec::new() };
        log.find_parts();
        log
    }

    /// Where headers and frames are, by what stands at the beginning of each page.
    fn find_parts(&mut self) {
        let segments = self.files.segments.clone();
        for (segment, bytes) in (1..).zip(segments.iter()) {
            let (mut parts, mut at) = (BTreeMap::new(), 0);
            while at < bytes.len() {
                let word = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
                let start = at as u64;
                let end = if bytes[at..].starts_with(b"\x89RPW") {
                    parts.insert(start, Part::Header);
                    at + HEADER_BYTES
                } else if word != 0 {
                    // Which events it holds shows when it is damaged.
                    let files = self.files.flipped(Flip { segment, byte: start + 20, bit: 0 });
                    let left = events(&files, &self.ring, &recover(&files, &self.ring).unwrap());
                    let gone = self.whole.keys().filter(|&p| !left.contains_key(p)).copied().collect();
                    self.groups.push(gone);
                    let frame = Part::Frame(self.groups.len() - 1);
                    parts.extend([(start, frame), (start + 4, Part::Checksum), (start + 8, frame)]);
                    at + 8 + (word & 0xff_ffff) as usize + 16
                } else {
                    parts.insert(start, Part::Unused);
                    at + PAGE_BYTES
                };
                at = end.next_multiple_of(PAGE_BYTES);
                if end < at {
                    parts.insert(end as u64, Part::Padding);
                }
            }
            self.parts.push(parts);
        }
        // Each event is in one group and no other.
        let mut all: Vec<Place> = self.groups.concat();
        all.sort_unstable();
        assert!(all.iter().eq(self.whole.keys()), "{:?}", self.groups);
        assert!(self.groups.len() == 4 && segments.len() == 2, "{} {}", self.groups.len(), segments.len());
        let headers = self.parts.iter().flat_map(BTreeMap::values).filter(|p| **p == Part::Header).count();
        assert_eq!(headers, 3);
    }

    fn part(&self, flip: Flip) -> Part {
        let parts = &self.parts[flip.segment as usize - 1];
        *parts.range(..=flip.byte).next_back().unwrap().1
    }

    /// The log is opened with the flipped bit, and read.
    fn opened_with(&self, flip: Flip) {
        let (part, page) = (self.part(flip), flip.byte / PAGE_BYTES as u64);
        let files = self.files.flipped(flip);
        let opened = recover(&files, &self.ring).unwrap_or_else(|e| panic!("{flip:?} in {part:?}: {e}"));
        let damages = &opened.damages;
        let told = damages.iter().any(|d| d.segment == flip.segment && (d.from_page..d.to_page).contains(&page));
        let found = events(&files, &self.ring, &opened);
        match part {
            Part::Header | Part::Checksum => {
                assert!(told && damages.iter().all(|d| d.code == Code::Rotten), "{flip:?} in {part:?}: {damages:?}");
                assert!(found == self.whole, "{flip:?} in {part:?}");
            }
            Part::Frame(n) => {
                // At the very end of the log it is what an interrupted write leaves.
                let last = n + 1 == self.groups.len();
                let codes = if last { [Code::TornTail, Code::TornTail] } else { [Code::Corrupt, Code::Corrupt] };
                assert!(told && damages.iter().all(|d| codes.contains(&d.code)), "{flip:?} in {part:?}: {damages:?}");
                self.assert_only_lost(n, &found, flip);
                assert_eq!(found.len() + self.groups[n].len(), self.whole.len(), "{flip:?} in {part:?}");
            }
            Part::Padding => assert!(damages.is_empty() && found == self.whole, "{flip:?} in {part:?}: {damages:?}"),
            Part::Unused => {
                let harmless = damages.iter().all(|d| !d.is_loss());
                assert!(harmless && found == self.whole, "{flip:?} in {part:?}: {damages:?}");
            }
        }
    }

    /// The bit flips while the log is open: the index is from before.
    fn read_with(&self, flip: Flip) {
        let found = events(&self.files.flipped(flip), &self.ring, &self.opened);
        match self.part(flip) {
            Part::Frame(n) => self.assert_only_lost(n, &found, flip),
            part => assert!(found == self.whole, "{flip:?} in {part:?}"),
        }
    }

    fn assert_only_lost(&self, group: usize, found: &Events, flip: Flip) {
        for (place, content) in &self.whole {
            let lost = self.groups[group].contains(place);
            match found.get(place) {
                Some(f) => assert!(f == content, "{flip:?}: {place:?} was altered"),
                None => assert!(lost, "{flip:?} in group {group}: {place:?} is lost"),
            }
        }
        assert!(found.keys().all(|p| self.whole.contains_key(p)), "{flip:?}: an event more");
    }
}

impl Rotten {
    fn flipped(&self, flip: Flip) -> Self {
        Self { segments: self.segments.clone(), flip: Some(flip) }
    }
}

fn recover(files: &Rotten, ring: &Keyring) -> Result<Opened> {
    recover_files(&mut files.clone(), &ring.data_keys(), name("clinic_a"), 16, MAX_BODY_BYTES)
}

/// Everything that can be read, on by way of the index behind what cannot.
fn events(files: &Rotten, ring: &Keyring, opened: &Opened) -> Events {
    let mut reader = Reader::over(files.clone(), ring.data_keys());
    let mut all = Events::new();
    for (n, entry) in opened.recovered.streams() {
        let grant = authorize(Policy::Own, Principal::Owner, &entry.key).read.unwrap();
        let mut next = 1;
        while next <= entry.top {
            let read = reader.read(&opened.index, &grant, n, next, entry.top, |seq, _, e| {
                let content = (e.payload.to_vec(), e.kind, e.hlc.as_u64());
                assert!(seq >= next && all.insert((entry.key, seq), content).is_none(), "{} {seq} twice", entry.key);
                next = seq + 1;
                Stop::No
            });
            match read {
                Ok(()) => {}
                Err(e) => assert!(matches!(e.code, Code::Corrupt | Code::Tampered), "{e}"),
            }
            if next <= entry.top {
                next = reader.next_from(&opened.index, n, &entry.key, next + 1).unwrap_or(entry.top + 1);
            }
        }
    }
    all
}

/// Every bit of headers, of the first and last bytes of frames and of what stands beside them; one in
/// four of the other bytes of a ciphertext, one in 128 of what is zero. Every bit of all with
/// `ROPEWAY_LONG=1`.
fn flips(log: &Log) -> Vec<Flip> {
    let mut all = Vec::new();
    for (segment, bytes) in (1..).zip(log.files.segments.iter()) {
        for byte in 0..bytes.len() as u64 {
            let part = |byte| log.part(Flip { segment, byte, bit: 0 });
            let near = [byte.saturating_sub(64), byte + 64].map(part);
            let every = match part(byte) {
                _ if ropeway_tests::long() => 1,
                Part::Padding | Part::Unused => 128,
                Part::Frame(n) if near == [Part::Frame(n); 2] => 4,
                _ => 1,
            };
            // Another bit in each byte.
            let drawn = |bit: &u64| (byte * 8 + bit + byte % 31).is_multiple_of(every);
            all.extend((0..8).filter(drawn).map(|bit| Flip { segment, byte, bit: bit as u8 }));
        }
    }
    all
}

#[test]
fn every_flipped_bit_of_a_log_is_found_or_harmless_and_costs_no_other_frame() {
    let log = Log::new();
    let (all, next) = (flips(&log), AtomicUsize::new(0));
    let start = std::time::Instant::now();
    std::thread::scope(|s| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            s.spawn(|| {
                while let Some(&flip) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    log.opened_with(flip);
                    log.read_with(flip);
                }
            });
        }
    });
    println!("{} flips in {:.1} s", all.len(), start.elapsed().as_secs_f64());
}

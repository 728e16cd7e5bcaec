//! Logs with everything in them: several streams, runs, receipts, epochs, holes and repairs.

use std::collections::BTreeMap;

use ropeway_core::event::{Chain, Event, flags};
use ropeway_core::hlc::Hlc;
use ropeway_core::id::{Incarnation, Lane, NodeName, StreamKey};
use ropeway_core::log::{
    Cipher, EpochStart, Expired, FRAME_HEAD_BYTES, FRAME_TAG_BYTES, FrameType, GroupBuilder, Header, PAGE_BYTES,
    Parent, Receipt, StreamDecl, frame_pages, link_digest, padded_len,
};

use super::super::Files;
use super::disk::{Disk, Mount};
use super::{Rng, keys};

pub(super) const SEGMENT_BYTES: u64 = 256 << 10;
const BODY_BYTES: usize = 60 << 10;

/// One event that was made.
#[derive(Clone)]
struct Made {
    hlc: Hlc,
    kind: u16,
    flags: u8,
    payload: Vec<u8>,
    before: Chain,
}

struct Stream {
    key: StreamKey,
    own: Option<u64>,
    events: Vec<Made>,
    /// The next to be written.
    next: u64,
    /// Numbers that were left out and are written later.
    holes: Vec<u64>,
    after: Chain,
    declared: bool,
}

/// Writes a log as a node would.
pub(super) struct Writer {
    files: Mount,
    rng: Rng,
    streams: Vec<Stream>,
    segment: u64,
    page: u64,
    cipher: Option<(Header, Cipher)>,
    link: [u8; 16],
    ms: u64,
}

pub(super) fn key(node: &str, incarnation: u64, lane: Lane) -> StreamKey {
    StreamKey { node: NodeName::new(node).unwrap(), incarnation: Incarnation::new(incarnation), lane }
}

impl Writer {
    pub(super) fn new(disk: &Disk, seed: u64, streams: usize) -> Self {
        let mut all = vec![(key("clinic_a", 5, Lane::Normal), Some(9)), (key("clinic_a", 5, Lane::Urgent), Some(9))];
        for i in 2..streams.max(2) {
            all.push((key(&format!("node_{}", i * 7 % streams), 3 + i as u64, Lane::Bulk), None));
        }
        let stream = |(key, own)| Stream {
            key,
            own,
            events: Vec::new(),
            next: 1,
            holes: Vec::new(),
            after: Chain::start(&key),
            declared: false,
        };
        let (files, rng) = (disk.mount(), Rng(seed * 2 + 1));
        let streams = all.into_iter().map(stream).collect();
        Self { files, rng, streams, segment: 0, page: u64::MAX, cipher: None, link: [0; 16], ms: 1_770_000_000_000 }
    }

    /// Goes on in another incarnation, as after a move to another machine.
    pub(super) fn move_to(&mut self, incarnation: u64, machine: u64) {
        let key = key("clinic_a", incarnation, Lane::Normal);
        self.streams.iter_mut().for_each(|s| s.own = None);
        let after = Chain::start(&key);
        let (events, holes) = (Vec::new(), Vec::new());
        self.streams.push(Stream { key, own: Some(machine), events, next: 1, holes, after, declared: false });
    }

    /// Begins another epoch with the next group, as a start of the process does.
    pub(super) fn restart(&mut self) {
        self.cipher = None;
    }

    pub(super) fn groups(&mut self, n: usize) {
        for _ in 0..n {
            self.group();
        }
    }

    /// The segment that is being written.
    pub(super) fn segment(&self) -> u64 {
        self.segment
    }

    /// Writes groups until so many segments were begun.
    pub(super) fn until_segment(&mut self, segment: u64) {
        while self.segment < segment {
            self.group();
        }
    }

    fn make(&mut self, i: usize) -> u64 {
        self.ms += self.rng.below(3);
        let len = match self.rng.below(20) {
            0 => 5000 + self.rng.below(40_000),
            _ => self.rng.below(300),
        };
        // Some of it can be compressed.
        let word = self.rng.next().to_le_bytes();
        let payload: Vec<u8> = (0..len as usize).map(|i| word[i % 8] ^ (i / 64) as u8).collect();
        let (kind, flags) = (self.rng.below(9) as u16, self.rng.below(4) as u8);
        let s = &mut self.streams[i];
        let counter = s.events.last().filter(|e| e.hlc.ms() == self.ms).map_or(0, |e| e.hlc.counter() + 1);
        let made = Made { hlc: Hlc::new(self.ms, counter), kind, flags, payload, before: s.after };
        s.after = s.after.then(&event(&made));
        s.events.push(made);
        s.events.len() as u64
    }

    /// A stream leaves a hole: as if the group that held these events were lost.
    pub(super) fn skip(&mut self, stream: usize, events: usize) {
        for _ in 0..events {
            let seq = self.make(stream);
            self.streams[stream].holes.push(seq);
            self.streams[stream].next = seq + 1;
        }
    }

    /// Writes the places of these events, in one group.
    pub(super) fn places(&mut self, stream: usize, seqs: impl IntoIterator<Item = u64>) {
        let mut buf = vec![0; padded_len(BODY_BYTES)];
        let body = &mut buf[FRAME_HEAD_BYTES..][..BODY_BYTES];
        let mut g = GroupBuilder::new();
        let Stream { key, own, events, .. } = &self.streams[stream];
        g.stream(body, &StreamDecl { index: 0, key: *key, own_machine: *own, parent: None }).unwrap();
        for seq in seqs {
            let made = &events[seq as usize - 1];
            let mut place = vec![1];
            place.extend_from_slice(&event(made).hash());
            place.extend_from_slice(&[0, 0xb7, 2]);
            let place = Event { flags: made.flags | flags::WITHHELD, payload: &place, ..event(made) };
            g.push_event(body, 0, seq, &made.before, &place).unwrap();
        }
        self.put(buf, g.len());
    }

    /// A stream goes on with the places of some events, which may come later.
    pub(super) fn withhold(&mut self, stream: usize, events: usize) {
        let from = self.streams[stream].next;
        self.skip(stream, events);
        self.places(stream, from..from + events as u64);
    }

    /// The payloads of all events of a stream that were made, and its key.
    pub(super) fn payloads(&self, stream: usize) -> (StreamKey, Vec<Vec<u8>>) {
        let s = &self.streams[stream];
        (s.key, s.events.iter().map(|made| made.payload.clone()).collect())
    }

    /// Writes what was left out.
    pub(super) fn repair(&mut self, stream: usize) {
        let holes = std::mem::take(&mut self.streams[stream].holes);
        for chunk in holes.chunks(3) {
            self.write(&[(stream, chunk.to_vec())], &[]);
        }
    }

    /// The stamp of the newest events.
    pub(super) fn ms(&self) -> u64 {
        self.ms
    }

    /// A stream gets an event of a clock that is fifty years ahead.
    pub(super) fn far_ahead(&mut self, stream: usize) {
        let ms = self.ms;
        self.ms += 50 * 365 * 86_400_000;
        let seq = self.make(stream);
        self.streams[stream].next = seq + 1;
        self.write(&[(stream, vec![seq])], &[]);
        self.ms = ms;
    }

    /// Notes that the hub holds a stream up to `seq`.
    pub(super) fn acknowledge(&mut self, key: StreamKey, seq: u64) {
        let mut buf = vec![0; padded_len(BODY_BYTES)];
        let body = &mut buf[FRAME_HEAD_BYTES..][..BODY_BYTES];
        let mut g = GroupBuilder::new();
        g.stream(body, &StreamDecl { index: 0, key, own_machine: None, parent: None }).unwrap();
        let peer = NodeName::new("hub").unwrap();
        g.receipt(body, &Receipt { peer, index: 0, seq, tag: [0; 8] }).unwrap();
        self.put(buf, g.len());
    }

    /// Events that were left out are gone at their source, and never come.
    pub(super) fn pass_over(&mut self, stream: usize) {
        let s = &mut self.streams[stream];
        let Some(seq) = std::mem::take(&mut s.holes).last().copied() else { return };
        let (key, own_machine) = (s.key, s.own);
        let made = &s.events[seq as usize - 1];
        let chain = made.before.then(&event(made));
        let mut buf = vec![0; padded_len(BODY_BYTES)];
        let body = &mut buf[FRAME_HEAD_BYTES..][..BODY_BYTES];
        let mut g = GroupBuilder::new();
        g.stream(body, &StreamDecl { index: 0, key, own_machine, parent: None }).unwrap();
        g.expired(body, &Expired { index: 0, seq, chain }).unwrap();
        self.put(buf, g.len());
    }

    /// Writes some events once more, as a repair of a larger range does.
    pub(super) fn again(&mut self, stream: usize, seqs: std::ops::RangeInclusive<u64>) {
        self.write(&[(stream, seqs.collect())], &[]);
    }

    pub(super) fn group(&mut self) {
        let mut parts: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
        let mut bytes = 0;
        for _ in 0..1 + self.rng.below(12) {
            let i = self.rng.below(self.streams.len() as u64) as usize;
            if self.streams[i].own.is_none() && self.streams[i].key.node == super::name() {
                continue;
            }
            let seq = self.make(i);
            bytes += self.streams[i].events[seq as usize - 1].payload.len() + 200;
            parts.entry(i).or_default().push(seq);
            self.streams[i].next = seq + 1;
            if bytes > 12 << 10 {
                break;
            }
        }
        let mut receipts = Vec::new();
        if self.rng.below(3) == 0 {
            let i = self.rng.below(self.streams.len() as u64) as usize;
            let peer = if self.rng.below(4) == 0 { "hub_2" } else { "hub" };
            receipts.push((i, peer, self.rng.below(self.streams[i].next)));
        }
        self.write(&parts.into_iter().collect::<Vec<_>>(), &receipts);
    }

    fn write(&mut self, parts: &[(usize, Vec<u64>)], receipts: &[(usize, &str, u64)]) {
        let mut buf = vec![0; padded_len(BODY_BYTES)];
        let body = &mut buf[FRAME_HEAD_BYTES..][..BODY_BYTES];
        let mut g = GroupBuilder::new();
        let mut indices: BTreeMap<usize, u32> = BTreeMap::new();
        for i in parts.iter().map(|p| p.0).chain(receipts.iter().map(|r| r.0)) {
            if indices.contains_key(&i) {
                continue;
            }
            let (index, s) = (indices.len() as u32, &mut self.streams[i]);
            let parent = Parent { incarnation: Incarnation::new(1), seq: 4, reason: 2 };
            let parent = (!s.declared && s.own.is_some()).then_some(parent);
            s.declared = true;
            g.stream(body, &StreamDecl { index, key: s.key, own_machine: s.own, parent }).unwrap();
            indices.insert(i, index);
        }
        for (i, seqs) in parts {
            for seq in seqs {
                let made = &self.streams[*i].events[*seq as usize - 1];
                g.push_event(body, indices[i], *seq, &made.before, &event(made)).unwrap();
            }
        }
        for (i, peer, seq) in receipts {
            let receipt = Receipt { peer: NodeName::new(peer).unwrap(), index: indices[i], seq: *seq, tag: [0; 8] };
            g.receipt(body, &receipt).unwrap();
        }
        self.put(buf, g.len());
    }

    fn put(&mut self, mut buf: Vec<u8>, len: usize) {
        let pages = SEGMENT_BYTES / PAGE_BYTES as u64;
        if self.page.saturating_add(frame_pages(len) + 1) > pages {
            self.segment += 1;
            self.page = 0;
            self.cipher = None;
            self.files.provision(self.segment, SEGMENT_BYTES).unwrap();
        }
        if self.cipher.is_none() {
            let start = EpochStart {
                segment: self.segment,
                page: self.page,
                salt: self.rng.seed().unwrap(),
                key_id: 1,
                base_hlc: Hlc::new(self.ms - 1000, 0),
                prev: self.link,
            };
            let header = Header::new(&keys()[0].1, start);
            self.at(self.page, &header.emit());
            self.page += 1;
            self.cipher = Some((header, Cipher::new(&header, &keys()[0].1).unwrap()));
        }
        let (header, cipher) = self.cipher.as_ref().unwrap();
        let (n, tag) = cipher.seal(self.page, FrameType::Group, &mut buf, len).unwrap();
        header.copy_into(&mut buf[FRAME_HEAD_BYTES + len + FRAME_TAG_BYTES..n]);
        self.link = link_digest(header, &tag);
        self.at(self.page, &buf[..n]);
        self.files.sync(self.segment).unwrap();
        self.page += (n / PAGE_BYTES) as u64;
    }

    fn at(&mut self, page: u64, bytes: &[u8]) {
        self.files.write_at(self.segment, page * PAGE_BYTES as u64, bytes).unwrap();
    }

    /// Leaves a torn write at the end of the segment, and goes on in another one, as after a crash.
    pub(super) fn tear(&mut self) {
        let page = self.page;
        self.at(page, &[0x01, 0x20, 0, 1, 9, 9, 9]);
        self.page = SEGMENT_BYTES / PAGE_BYTES as u64;
    }
}

fn event(made: &Made) -> Event<'_> {
    Event { hlc: made.hlc, kind: made.kind, flags: made.flags, payload: &made.payload }
}

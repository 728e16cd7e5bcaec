//! A segment built in memory, and a reader that collects what the scanner says.

use ropeway_core::code::Code;
use ropeway_core::event::{Chain, Event};
use ropeway_core::hlc::Hlc;
use ropeway_core::id::{Incarnation, Lane, NodeName, StreamKey};
use ropeway_core::log::*;

pub(crate) const MAX_BODY: usize = 3 * PAGE_BYTES;

pub(crate) fn key() -> DataKey {
    DataKey::new([0x11; 32])
}

pub(crate) fn stream() -> StreamKey {
    StreamKey { node: NodeName::new("clinic_a").unwrap(), incarnation: Incarnation::new(7), lane: Lane::Normal }
}

/// The body of a group, printed short.
#[derive(Clone, PartialEq)]
pub(crate) struct Body(pub(crate) Vec<u8>);

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// A segment under construction, as a writer would fill it.
pub(crate) struct Segment {
    pub(crate) bytes: Vec<u8>,
    pub(crate) number: u64,
    pub(crate) page: u64,
    cipher: Option<Cipher>,
    header: Option<Header>,
    pub(crate) link: [u8; 16],
    pub(crate) seq: u64,
    pub(crate) chain: Chain,
}

impl Segment {
    pub(crate) fn new(number: u64, pages: usize) -> Self {
        let bytes = vec![0; pages * PAGE_BYTES];
        let chain = Chain::start(&stream());
        Self { bytes, number, page: 0, cipher: None, header: None, link: [0; 16], seq: 1, chain }
    }

    pub(crate) fn epoch(&mut self, salt: u8) {
        let start = EpochStart {
            segment: self.number,
            page: self.page,
            salt: [salt; 32],
            key_id: 1,
            base_hlc: Hlc::new(1_770_000_000_000, 0),
            prev: self.link,
        };
        let header = Header::new(&key(), start);
        let at = self.page as usize * PAGE_BYTES;
        self.bytes[at..at + PAGE_BYTES].fill(0);
        self.bytes[at..at + HEADER_BYTES].copy_from_slice(&header.emit());
        self.cipher = Some(Cipher::new(&header, &key()).unwrap());
        self.link = link_digest(&header, &[0; 16]);
        self.header = Some(header);
        self.page += 1;
    }

    /// Appends a frame that holds zeros.
    pub(crate) fn frame(&mut self, frame_type: FrameType, body_len: usize) {
        let at = self.page as usize * PAGE_BYTES;
        let cipher = self.cipher.as_ref().unwrap();
        cipher.seal(self.page, frame_type, &mut self.bytes[at..], body_len).unwrap();
        self.page += frame_pages(body_len);
    }

    /// Appends a group of one event and returns its page and body.
    pub(crate) fn group(&mut self, payload_len: usize) -> (u64, Body) {
        let payload = vec![self.seq as u8; payload_len];
        let event = Event { hlc: Hlc::new(1_770_000_000_000 + self.seq, 0), kind: 1, flags: 0, payload: &payload };
        let mut buf = vec![0; padded_len(MAX_BODY)];
        let body = &mut buf[FRAME_HEAD_BYTES..][..MAX_BODY];
        let mut g = GroupBuilder::new();
        if self.seq == 1 {
            g.stream(body, &StreamDecl { index: 0, key: stream(), own_machine: Some(9), parent: None }).unwrap();
        }
        g.push_event(body, 0, self.seq, &self.chain, &event).unwrap();
        self.chain = self.chain.then(&event);
        self.seq += 1;
        let body = Body(body[..g.len()].to_vec());
        let (len, tag) = self.cipher.as_ref().unwrap().seal(self.page, FrameType::Group, &mut buf, g.len()).unwrap();
        let header = self.header.as_ref().unwrap();
        header.copy_into(&mut buf[FRAME_HEAD_BYTES + g.len() + FRAME_TAG_BYTES..len]);
        let at = self.page as usize * PAGE_BYTES;
        self.bytes[at..at + len].copy_from_slice(&buf[..len]);
        self.link = link_digest(header, &tag);
        let page = self.page;
        self.page += (len / PAGE_BYTES) as u64;
        (page, body)
    }
}

/// What a whole scan said.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Found {
    pub(crate) epochs: Vec<(u64, bool, Option<bool>)>,
    pub(crate) groups: Vec<(u64, Body)>,
    pub(crate) rotten: Vec<u64>,
    pub(crate) damaged: Vec<(u64, u64, Option<Code>)>,
    pub(crate) end: Option<Result<End, Code>>,
}

impl Found {
    pub(crate) fn end(&self) -> End {
        self.end.unwrap().unwrap()
    }

    /// The verdict for a last segment without receipts.
    pub(crate) fn verdict(&self) -> Verdict {
        self.end().verdict(Place::Last, false)
    }
}

pub(crate) fn scan(bytes: &[u8], number: u64) -> Found {
    scan_with(bytes, number, &[(1, key())])
}

pub(crate) fn scan_with(bytes: &[u8], number: u64, keys: &[(u32, DataKey)]) -> Found {
    let mut scan = SegmentScan::new(keys, number, bytes.len() as u64, MAX_BODY).unwrap();
    let mut found = Found::default();
    let mut buf = vec![0; padded_len(MAX_BODY)];
    for _ in 0..10_000 {
        let got = match scan.poll_want() {
            None => &mut [][..],
            Some(want) => {
                assert!(want.len <= buf.len(), "never more than the largest frame");
                let from = usize::try_from(want.offset).unwrap();
                assert!(from + want.len <= bytes.len().next_multiple_of(PAGE_BYTES), "never beyond the segment");
                let got = &bytes[from..(from + want.len).min(bytes.len())];
                buf[..got.len()].copy_from_slice(got);
                &mut buf[..got.len()]
            }
        };
        match scan.feed(got) {
            Step::NeedMore => {}
            Step::Epoch { header, repaired, linked, .. } => found.epochs.push((header.start.page, repaired, linked)),
            Step::Group { page, body, crc_rotten, .. } => {
                found.groups.push((page, Body(body.to_vec())));
                if crc_rotten {
                    found.rotten.push(page);
                }
            }
            Step::Damaged { from_page, to_page, verdict } => {
                found.damaged.push((from_page, to_page, verdict.code()));
            }
            Step::End(end) => {
                found.end = Some(Ok(end));
                return found;
            }
            Step::Fault(code) => {
                found.end = Some(Err(code));
                return found;
            }
        }
    }
    panic!("the scan does not end");
}

//! The log scanner and recovery over bytes that a disk, or somebody who had it, made up.

use alloc::vec;
use alloc::vec::Vec;

use super::Tape;
use crate::event::{Chain, Event};
use crate::hlc::Hlc;
use crate::id::{Incarnation, Lane, NodeName, StreamKey};
use crate::log::{
    Cipher, DataKey, EpochStart, FRAME_HEAD_BYTES, FrameType, GroupBuilder, HEADER_BYTES, Header, PAGE_BYTES, Place,
    REPAIR_MAX_BYTES, Record, Repair, SegmentScan, Step, StreamDecl, link_digest, padded_len, records,
};
use crate::recovery::{Recovered, StreamMemory};

const MAX_BODY: usize = 2 * PAGE_BYTES;
const GROUPS: usize = 6;

/// The first byte chooses: the rest is a segment; the rest is a group's body (what the key's holder
/// could write); or the rest says what is done to a valid segment. A group that the scanner hands
/// out must be one that was written, and none is handed out twice.
pub fn segment(data: &[u8]) {
    let mut tape = Tape(data);
    match tape.byte() % 4 {
        0 => drop(scan(tape.0.to_vec())),
        1 => check_body(tape.0),
        _ => {
            let (mut bytes, written) = valid();
            damage(&mut bytes, &mut tape);
            let found = scan(bytes);
            let mut after = 0;
            for (page, body) in found {
                assert!(written.contains(&(page, body)), "page {page}: a group that nobody wrote");
                assert!(page >= after);
                after = page + 1;
            }
        }
    }
}

fn stream(node: &str) -> StreamKey {
    let node = NodeName::new(node).expect("a name");
    StreamKey { node, incarnation: Incarnation::new(7), lane: Lane::Normal }
}

fn key() -> DataKey {
    DataKey::new([0x11; 32])
}

/// A segment of two epochs, and the groups in it.
fn valid() -> (Vec<u8>, Vec<(u64, Vec<u8>)>) {
    let (mut bytes, mut written) = (Vec::new(), Vec::new());
    let (mut chain, mut link) = (Chain::start(&stream("clinic_a")), [0; 16]);
    let mut sealer = None;
    for n in 0..GROUPS {
        if n % 3 == 0 {
            let start = EpochStart {
                segment: 1,
                page: (bytes.len() / PAGE_BYTES) as u64,
                salt: [n as u8 + 1; 32],
                key_id: 1,
                base_hlc: Hlc::new(1000, 0),
                prev: link,
            };
            let header = Header::new(&key(), start);
            bytes.extend_from_slice(&header.emit());
            bytes.resize(bytes.len() + PAGE_BYTES - HEADER_BYTES, 0);
            sealer = Some((Cipher::new(&header, &key()).expect("its key"), header));
        }
        let (cipher, header) = sealer.as_ref().expect("an epoch");
        let payload = vec![n as u8; [5, 4000, 0, 90, 4200, 1][n]];
        let event = Event { hlc: Hlc::new(1000 + n as u64, 0), kind: 1, flags: 0, payload: &payload };
        let mut buf = vec![0; padded_len(MAX_BODY)];
        let body = &mut buf[FRAME_HEAD_BYTES..][..MAX_BODY];
        let mut g = GroupBuilder::new();
        let decl = StreamDecl { index: 0, key: stream("clinic_a"), own_machine: Some(9), parent: None };
        g.stream(body, &decl).expect("room");
        g.push_event(body, 0, n as u64 + 1, &chain, &event).expect("room");
        chain = chain.then(&event);
        let page = (bytes.len() / PAGE_BYTES) as u64;
        written.push((page, body[..g.len()].to_vec()));
        let (len, tag) = cipher.seal(page, FrameType::Group, &mut buf, g.len()).expect("room");
        link = link_digest(header, &tag);
        bytes.extend_from_slice(&buf[..len]);
    }
    bytes.resize(bytes.len() + 4 * PAGE_BYTES, 0);
    (bytes, written)
}

fn damage(bytes: &mut Vec<u8>, tape: &mut Tape<'_>) {
    for _ in 0..16 {
        if tape.is_over() || bytes.is_empty() {
            return;
        }
        let pages = bytes.len().div_ceil(PAGE_BYTES);
        let (op, page) = (tape.byte(), usize::from(tape.byte()) % pages * PAGE_BYTES);
        let at = (page + usize::from(tape.u16()) % PAGE_BYTES).min(bytes.len() - 1);
        let end = (page + PAGE_BYTES).min(bytes.len());
        match op % 6 {
            0 => bytes[at] ^= tape.byte(),
            1 => bytes[at..end].fill([0, 0xff, 0xa5][usize::from(tape.byte()) % 3]),
            2 => bytes.truncate(at),
            3 => {
                // A page of elsewhere, as a misdirected write leaves it.
                let from = usize::from(tape.byte()) % pages * PAGE_BYTES;
                let copy = bytes[from..(from + PAGE_BYTES).min(bytes.len())].to_vec();
                let n = copy.len().min(end - page);
                bytes[page..page + n].copy_from_slice(&copy[..n]);
            }
            4 => {
                let n = usize::from(tape.byte());
                let new = tape.take(n);
                let n = new.len().min(bytes.len() - at);
                bytes[at..at + n].copy_from_slice(&new[..n]);
            }
            _ => bytes.resize((bytes.len() + PAGE_BYTES).min(64 * PAGE_BYTES), tape.byte()),
        }
    }
}

/// Scans and recovers; the groups that were found.
fn scan(bytes: Vec<u8>) -> Vec<(u64, Vec<u8>)> {
    let keys = [(1, key())];
    let name = NodeName::new("clinic_a").expect("a name");
    let mut recovered = Recovered::new(name, StreamMemory::owned(8));
    let mut scan = SegmentScan::new(&keys, 1, bytes.len() as u64, MAX_BODY).expect("a size that is allowed");
    let mut buf = vec![0; padded_len(MAX_BODY)];
    let (mut found, mut past) = (Vec::new(), 0);
    let pages = bytes.len().div_ceil(PAGE_BYTES) as u64;
    for _ in 0..=pages * 4 + 4 {
        let got = match scan.poll_want() {
            None => &mut [][..],
            Some(want) => {
                assert!(want.len <= buf.len(), "never more than the largest frame");
                let from = want.offset as usize;
                assert!(from + want.len <= bytes.len().next_multiple_of(PAGE_BYTES), "never beyond the segment");
                let got = &bytes[from..(from + want.len).min(bytes.len())];
                buf[..got.len()].copy_from_slice(got);
                &mut buf[..got.len()]
            }
        };
        match scan.feed(got) {
            Step::NeedMore => {}
            Step::Epoch { header, .. } => {
                assert!(header.is_under(&keys[0].1), "an epoch under a strange key");
                past = header.start.page + 1;
            }
            Step::Group { page, pages, body, .. } => {
                assert!(page >= past && pages >= 1);
                past = page + pages;
                found.push((page, body.to_vec()));
                let _ = recovered.group(body, |run| assert!(run.first_seq <= run.last_seq));
            }
            Step::Damaged { from_page, to_page, .. } => {
                assert!(past <= from_page && from_page < to_page && to_page <= pages);
                past = to_page;
            }
            Step::End(end) => {
                assert!(past <= end.from_page && end.from_page <= end.to_page && end.to_page <= pages);
                for place in [Place::Last, Place::Continued, Place::Broken] {
                    let _ = (end.verdict(place, false), end.verdict(place, true));
                }
                assert_eq!(scan.feed(&mut []), Step::End(end), "an end stays the end");
                return found;
            }
            Step::Fault(code) => {
                assert_eq!(scan.feed(&mut []), Step::Fault(code));
                return found;
            }
        }
    }
    panic!("the scan does not end");
}

/// What was read is the same after it is written.
fn check_repair(repair: &Repair<'_>) {
    assert!(repair.lost().all(|l| l.from <= l.to) && repair.head.from_page <= repair.head.to_page);
    let (mut body, mut g) = (vec![0; REPAIR_MAX_BYTES], GroupBuilder::new());
    g.repair(&mut body, repair).expect("room");
    assert_eq!(records(&body[..g.len()]).next(), Some(Ok(Record::Repair(*repair))));
}

/// Records that carry the right tag and may say anything.
fn check_body(body: &[u8]) {
    for record in records(body) {
        if let Ok(Record::Events(run)) = record {
            assert!(run.base_seq <= run.last_seq());
            assert_eq!(run.events().count(), usize::from(run.count), "iteration cannot fail after parsing");
            assert!(run.events().all(|e| run.base_hlc <= e.hlc && e.hlc <= run.last_hlc));
            let _ = run.end_chain();
        }
        if let Ok(Record::Repair(repair)) = record {
            check_repair(&repair);
        }
    }
    let name = NodeName::new("clinic_a").expect("a name");
    let mut recovered = Recovered::new(name, StreamMemory::owned(4));
    for _ in 0..2 {
        let _ = recovered.group(body, |run| assert!(run.first_seq <= run.last_seq));
    }
    for entry in recovered.frontier() {
        assert!(entry.have <= entry.top);
    }
}

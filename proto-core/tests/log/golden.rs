//! Bytes that must never change: a log written by version 1 is read by every later version.
//!
//! `UPDATE_EXPECT=1 cargo test -p ropeway-core --test log` writes them anew; a difference in review
//! is a new format.

use std::fs;
use std::path::PathBuf;

use crate::support::*;
use ropeway_core::event::{Chain, Event, flags};
use ropeway_core::hlc::Hlc;
use ropeway_core::id::{Incarnation, NodeName};
use ropeway_core::log::*;
use ropeway_core::varint::Writer;
use ropeway_core::withheld::{Known, WITHHELD_MAX_BYTES, Withheld};

fn hex(bytes: &[u8]) -> String {
    let lines: Vec<String> =
        bytes.chunks(32).map(|line| line.iter().map(|b| format!("{b:02x}")).collect::<String>()).collect();
    lines.join("\n") + "\n"
}

pub(crate) fn check(name: &str, bytes: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/log").join(name);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, hex(bytes)).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), hex(bytes), "{name}");
}

/// docs/LOG.md#golden-1 describes these inputs.
fn header() -> Header {
    let mut salt = [0; 32];
    salt.iter_mut().zip(0xa0..).for_each(|(b, n)| *b = n);
    let base_hlc = Hlc::new(1_770_000_000_000, 2);
    Header::new(&key(), EpochStart { segment: 1, page: 0, salt, key_id: 1, base_hlc, prev: [0; 16] })
}

pub(crate) fn body() -> Vec<u8> {
    let mut body = vec![0; MAX_BODY];
    let mut g = GroupBuilder::new();
    let parent = Parent { incarnation: Incarnation::new(6), seq: 41, reason: 1 };
    let decl = StreamDecl { index: 0, key: stream(), own_machine: Some(0x0102_0304_0506_0708), parent: Some(parent) };
    g.stream(&mut body, &decl).unwrap();
    let stamps = [(0, 2), (0, 3), (0, 7), (300, 0), (301, 9)];
    let mut chain = ropeway_core::event::Chain::start(&stream());
    for ((ms, counter), seq) in stamps.into_iter().zip(1u64..) {
        let marks = [0, flags::UNSYNCED, flags::FUTURE, 3, 0];
        let payload = vec![b'a' + seq as u8; seq as usize * 3];
        let hlc = Hlc::new(1_770_000_000_000 + ms, counter);
        let event = Event { hlc, kind: 40 * seq as u16, flags: marks[seq as usize - 1], payload: &payload };
        g.push_event(&mut body, 0, seq, &chain, &event).unwrap();
        chain = chain.then(&event);
    }
    let peer = NodeName::new("hub").unwrap();
    g.receipt(&mut body, &Receipt { peer, index: 0, seq: 5, tag: chain.tag() }).unwrap();
    body.truncate(g.len());
    body
}

#[test]
fn a_header_has_the_bytes_it_always_had() {
    check("header.hex", &header().emit());
}

#[test]
fn a_group_has_the_bytes_it_always_had() {
    let body = body();
    check("group.hex", &body);
    let last = records(&body).map(Result::unwrap).filter_map(|r| match r {
        Record::Events(run) => Some(run.end_chain()),
        _ => None,
    });
    check("chain.hex", &last.last().unwrap().0);
}

#[test]
fn a_frame_and_the_link_to_it_have_the_bytes_they_always_had() {
    let (header, body) = (header(), body());
    let cipher = Cipher::new(&header, &key()).unwrap();
    let mut buf = vec![0; PAGE_BYTES];
    buf[FRAME_HEAD_BYTES..][..body.len()].copy_from_slice(&body);
    let (_, tag) = cipher.seal(1, FrameType::Group, &mut buf, body.len()).unwrap();
    check("frame.hex", &buf[..FRAME_HEAD_BYTES + body.len() + FRAME_TAG_BYTES]);
    check("link.hex", &link_digest(&header, &tag));
}

#[test]
fn places_and_what_a_hub_lacks_have_the_bytes_they_always_had() {
    let (mut body, mut g) = (vec![0; MAX_BODY], GroupBuilder::new());
    g.stream(&mut body, &StreamDecl { index: 0, key: stream(), own_machine: None, parent: None }).unwrap();
    let mut chain = ropeway_core::event::Chain::start(&stream());
    let hash = Event { hlc: Hlc::new(1_770_000_000_000, 2), kind: 40, flags: 0, payload: b"bbb" }.hash();
    let places = [
        Withheld { known: Known::Hash(hash), bytes: 3, code: 311 },
        Withheld { known: Known::Nothing, bytes: 0, code: 302 },
        Withheld { known: Known::Chain(Chain([0xc4; 32])), bytes: 0, code: 302 },
    ];
    for ((place, seq), counter) in places.iter().zip(1u64..).zip([2, 3, 7]) {
        let mut payload = [0; WITHHELD_MAX_BYTES];
        let mut w = Writer::new(&mut payload);
        place.emit(&mut w).unwrap();
        let n = w.len();
        let flags = flags::WITHHELD | if seq == 2 { flags::UNSYNCED } else { 0 };
        let hlc = Hlc::new(1_770_000_000_000, counter);
        let event = Event { hlc, kind: 40 * seq as u16, flags, payload: &payload[..n] };
        g.push_event(&mut body, 0, seq, &chain, &event).unwrap();
        chain = chain.then(&event);
    }
    assert_eq!(chain.0, [0xc4; 32]);
    for range in [Some((4, 5)), None] {
        g.lack(&mut body, &Lack { index: 0, range }).unwrap();
    }
    check("withheld.hex", &body[..g.len()]);
    let all: Vec<_> = records(&body[..g.len()]).map(Result::unwrap).collect();
    let [_, Record::Events(run), Record::Lack(_), Record::Lack(_)] = all[..] else { panic!("{all:?}") };
    assert!(run.withheld && run.events().map(|e| e.withheld()).eq(places.map(Some)));
    // A place of another form is no record.
    let mut other = body[..g.len()].to_vec();
    let at = other.windows(32).position(|w| w == hash).unwrap();
    other[at - 1] = 3;
    assert_eq!(records(&other).nth(1), Some(Err(ropeway_core::code::Code::Corrupt)));
}

#[test]
fn a_repair_has_the_bytes_it_always_had() {
    let head = RepairHead {
        repaired: false,
        sealed: false,
        cost_known: true,
        code: ropeway_core::code::Code::Corrupt,
        segment: 3,
        from_page: 5,
        to_page: 8,
        at_ms: 1_770_000_000_000,
        digest: [0xd1; 32],
    };
    let lost = [LostRange { key: stream(), from: 6, to: 9 }];
    let (mut body, mut g) = (vec![0; MAX_BODY], GroupBuilder::new());
    for repaired in [false, true] {
        let mut scratch = [0; REPAIR_MAX_BYTES];
        let repair = Repair::new(&RepairHead { repaired, ..head }, &lost, &mut scratch);
        g.repair(&mut body, &repair).unwrap();
    }
    check("repair.hex", &body[..g.len()]);
}

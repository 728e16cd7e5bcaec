//! A clinic with a good certificate that wants what is not its own: to read it, to learn that it is
//! there, or to write it. After each attack another clinic must sync as before.

use ropeway_core::policy::Policy;
use ropeway_tests::hostile::Hostile;
use ropeway_tests::spec::{Batch, Event, NORMAL, Whose, chain_start, entry, frame, kind, number, varint, vector};

use crate::scene::{MARKER, assert_holds_nothing_of, now_ms, scene, start};

#[test]
fn a_second_implementation_made_from_the_text_is_understood() {
    let s = scene(Policy::Own);
    let mut peer = s.clinic_b();
    let mut chain = start();
    let stamp = now_ms() << 16;
    let events: Vec<_> = (0..40).map(|i| Event { stamp: stamp + i * i, kind: 3, payload: vec![b'x'; 50] }).collect();
    let (first, rest) = events.split_at(10);
    peer.say(&Batch::new(0, 1, &mut chain, first).frame());
    let mut packed = Batch::new(0, 11, &mut chain, rest);
    packed.data = zstd::bulk::compress(&packed.data, 3).unwrap();
    packed.codec = 1;
    peer.say(&packed.frame());
    peer.acknowledged(0, 40);
    peer.goodbye();
    assert_eq!(s.stored().len(), 40);
}

#[test]
fn no_message_brings_another_clinics_events_name_or_count() {
    let s = scene(Policy::Own);
    let (incarnation, seq, tag) = s.target();
    let theirs = |seq, tag| entry(Whose::Of("clinic_a"), NORMAL, incarnation, seq, tag);
    let secrets = |p: &Hostile| {
        assert_holds_nothing_of(p, &[b"clinic_a", MARKER.as_bytes(), &incarnation.to_le_bytes(), &tag]);
    };
    // As if it held nothing, a part, all or more of it; on every lane; as its own incarnation.
    let mut peer = Hostile::greeted(&s.d, "clinic_b", s.hub.address);
    let mut entries = vec![theirs(0, [0; 8]), theirs(1, [1; 8]), theirs(seq, tag), theirs(seq + 9, tag)];
    entries.extend([0, 2].map(|lane| entry(Whose::Of("clinic_a"), lane, incarnation, 0, [0; 8])));
    entries.push(entry(Whose::Yours, NORMAL, incarnation, 0, [0; 8]));
    peer.say(&vector(&entries));
    peer.say(&number(kind::CREDIT, 1 << 30));
    peer.say(&number(kind::BLOCKED, 4096));
    peer.say(&frame(kind::ACK, &[]));
    peer.settle();
    // What comes into the hub while it listens is not told either.
    s.others_still_sync();
    peer.settle();
    assert!(peer.frames().iter().all(|f| f.kind() != kind::BATCH && f.kind() != kind::ACK));
    secrets(&peer);
    peer.goodbye();
    // Handles that were never given.
    for handle in [0, 1, 2, 1 << 31, u64::from(u32::MAX)] {
        let mut peer = Hostile::greeted(&s.d, "clinic_b", s.hub.address);
        peer.say(&vector(&[theirs(0, [0; 8])]));
        peer.say(&frame(kind::ACK, &[varint(handle), varint(1)].concat()));
        assert_eq!(peer.refusal(), 404, "{handle}");
        secrets(&peer);
    }
    let mut peer = Hostile::greeted(&s.d, "clinic_b", s.hub.address);
    peer.say(&vector(&[entry(Whose::Mine, NORMAL, incarnation, 0, [0; 8])]));
    peer.settle();
    assert!(peer.frames().iter().all(|f| f.kind() != kind::BATCH));
    assert_holds_nothing_of(&peer, &[b"clinic_a", MARKER.as_bytes(), &tag]);
    peer.goodbye();
    s.others_still_sync();
}

#[test]
fn the_answer_for_a_stream_that_exists_and_one_that_does_not_is_the_same() {
    let s = scene(Policy::Own);
    let (incarnation, seq, tag) = s.target();
    let real = (incarnation, seq, tag);
    let cases = [("clinic_a", real), ("clinic_a", (incarnation ^ 1, seq, tag)), ("clinic_x", real)];
    let hear = |node: &str, (incarnation, seq, tag): (u64, u64, [u8; 8])| {
        let mut peer = Hostile::greeted(&s.d, "clinic_b", s.hub.address);
        peer.say(&vector(&[entry(Whose::Of(node), NORMAL, incarnation, seq, tag)]));
        peer.settle();
        let mut chain = chain_start(node, incarnation, NORMAL);
        peer.say(&Batch::new(0, seq + 1, &mut chain, &[Event::at(now_ms(), "x")]).frame());
        assert_eq!(peer.refusal(), 602);
        let mut frames = peer.frames();
        let hello = frames.iter_mut().find(|f| f.kind() == kind::HELLO).unwrap();
        // The wall clock stands before the last field, and is six bytes long until the year 2527.
        hello.body.truncate(hello.body.len() - 2 - 6);
        frames
    };
    let first = hear(cases[0].0, cases[0].1);
    for (node, stream) in &cases[1..] {
        assert_eq!(hear(node, *stream), first, "{node}");
    }
    s.others_still_sync();
}

#[test]
fn nobody_injects_events_as_another_clinic() {
    let s = scene(Policy::Own);
    for incarnation in [s.target().0, 99] {
        let before = s.d.payloads("hub", "clinic_a");
        let (_, seq, tag) = s.target();
        let mut peer = Hostile::greeted(&s.d, "clinic_b", s.hub.address);
        peer.say(&vector(&[entry(Whose::Of("clinic_a"), NORMAL, incarnation, seq, tag)]));
        let mut chain = chain_start("clinic_a", incarnation, NORMAL);
        peer.say(&Batch::new(0, 1, &mut chain, &[Event::at(now_ms(), "forged")]).frame());
        assert_eq!(peer.refusal(), 602);
        assert_eq!(s.d.payloads("hub", "clinic_a"), before);
        s.others_still_sync();
    }
    assert!(s.stored().is_empty());
}

#[test]
fn policy_all_lets_read_and_still_not_write() {
    let s = scene(Policy::All);
    let (incarnation, seq, tag) = s.target();
    let mut peer = Hostile::greeted(&s.d, "clinic_b", s.hub.address);
    peer.say(&vector(&[entry(Whose::Of("clinic_a"), NORMAL, incarnation, seq, tag)]));
    let mut chain = [7; 32];
    peer.say(&Batch::new(0, seq + 1, &mut chain, &[Event::at(now_ms(), "forged")]).frame());
    assert_eq!(peer.refusal(), 602);
    s.others_still_sync();
}

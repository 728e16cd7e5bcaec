//! Large batches in parts: what a node takes and what it keeps, and what it sends.

use super::support::*;
use ropeway_core::code::Code;
use ropeway_core::event::{Chain, Event as LogEvent, Records, put_record};
use ropeway_core::hlc::Hlc;
use ropeway_core::limits::Limits;
use ropeway_core::node::{Event, Flow, ReadRequest, SessionId, Transmit};
use ropeway_core::policy::{PeerIdentity, Role};
use ropeway_core::varint::Writer;

const PART: u8 = 15;
const HAVE: u8 = 16 | 0x20;
const FLAG: u8 = 0x40;
/// The feature of HELLO.
const PARTS: u64 = 2;

fn tag(parcel: &[u8]) -> [u8; 8] {
    blake3::hash(parcel).as_bytes()[..8].try_into().unwrap()
}

/// What follows the handle in a batch with one event.
fn parcel(first: u64, chain: Chain, payload: &[u8]) -> (Vec<u8>, Chain) {
    let (frame, chain) = batch(0, first, chain, &[payload]);
    let head = 1 + frame[1..].iter().position(|b| b & 0x80 == 0).unwrap() + 1;
    (frame[head + 1..].to_vec(), chain)
}

/// A PART with handle 0.
fn part(flag: u8, seq: u64, parcel: &[u8], range: std::ops::Range<usize>) -> Vec<u8> {
    part_of(flag, seq, (parcel.len(), tag(parcel)), range.start, &parcel[range])
}

fn part_of(flag: u8, seq: u64, (total, tag): (usize, [u8; 8]), offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut body = vec![0];
    varint(&mut body, seq);
    varint(&mut body, total as u64);
    body.extend(tag);
    varint(&mut body, offset as u64);
    body.extend(bytes);
    frame(PART | flag, &body)
}

/// A HAVE for a stream; `whose` names it as in a vector.
fn have(whose: u8, seq: u64, tag: [u8; 8], bytes: u64) -> Vec<u8> {
    let key = stream("clinic_a");
    let mut body = vec![whose | (key.lane as u8) << 2];
    body.extend_from_slice(&key.incarnation.as_u64().to_le_bytes());
    varint(&mut body, seq);
    body.extend(tag);
    varint(&mut body, bytes);
    frame(HAVE, &body)
}

const OF_THE_RECEIVER: u8 = 2;
const OF_THE_SENDER: u8 = 1;

/// A hub to which clinic_a sends 10,000 bytes in one event.
fn hub_and_parcel() -> (Solo, SessionId, Vec<u8>) {
    let mut hub = Solo::hub(Limits::hub(4));
    let key = stream("clinic_a");
    let id = hub.greeted("clinic_a", &[key]);
    let (parcel, _) = parcel(1, Chain::start(&key), &[7; 10_000]);
    (hub, id, parcel)
}

fn stored(hub: &mut Solo) -> u64 {
    hub.disk();
    hub.node.frontier().map(|e| e.have).max().unwrap_or(0)
}

#[test]
fn parts_become_the_batch_that_they_are_cut_from() {
    let (mut hub, id, parcel) = hub_and_parcel();
    hub.feed(id, &part(0, 1, &parcel, 0..3000));
    assert_eq!(hub.serve(id), [], "it waits for company");
    hub.feed(id, &part(FLAG, 1, &parcel, 3000..6000));
    assert_eq!(hub.serve(id), have(OF_THE_RECEIVER, 1, tag(&parcel), 6000), "its sender waits");
    // In any portions.
    for byte in part(FLAG, 1, &parcel, 6000..parcel.len()) {
        hub.feed(id, &[byte]);
    }
    assert_eq!(stored(&mut hub), 1);
    assert_eq!(hub.serve(id), [4, 2, 0, 1]);
}

#[test]
fn what_has_come_is_told_in_the_next_session_before_the_vector_is_complete() {
    let (mut hub, id, parcel) = hub_and_parcel();
    hub.feed(id, &part(0, 1, &parcel, 0..4000));
    hub.node.close(hub.now(), id);
    hub.serve(id);
    let clinic = PeerIdentity { name: name("clinic_a"), role: Role::Clinic };
    let id = hub.node.open(hub.now(), clinic).unwrap();
    let said = hub.serve(id);
    let told = have(OF_THE_RECEIVER, 1, tag(&parcel), 4000);
    let vector = frame(2 | FLAG, &[]);
    assert!(said.ends_with(&[told, vector].concat()), "{said:?}");
    hub.feed(id, &frame(1, &hello(PARTS)));
    let mut entry = vec![OF_THE_SENDER | 1 << 2];
    entry.extend_from_slice(&stream("clinic_a").incarnation.as_u64().to_le_bytes());
    entry.push(0);
    hub.feed(id, &frame(2 | FLAG, &entry));
    hub.feed(id, &part(0, 1, &parcel, 4000..parcel.len()));
    assert_eq!(stored(&mut hub), 1);
}

#[test]
fn a_parcel_may_begin_anew_and_end_another() {
    let (mut hub, id, parcel) = hub_and_parcel();
    let (other, _) = self::parcel(1, Chain::start(&stream("clinic_a")), &[8; 9000]);
    hub.feed(id, &part(0, 1, &other, 0..4000));
    hub.feed(id, &part(0, 1, &parcel, 0..4000));
    hub.feed(id, &part(0, 1, &parcel, 0..5000));
    hub.feed(id, &part(0, 1, &parcel, 5000..parcel.len()));
    assert_eq!((stored(&mut hub), hub.closed.len()), (1, 0));
}

#[test]
fn urgent_batches_come_between_parts() {
    let mut hub = Solo::hub(Limits::hub(4));
    let bulk = stream("clinic_a");
    let urgent = ropeway_core::id::StreamKey { lane: ropeway_core::id::Lane::Urgent, ..bulk };
    let id = hub.greeted("clinic_a", &[bulk, urgent]);
    let (parcel, _) = parcel(1, Chain::start(&bulk), &[7; 10_000]);
    hub.feed(id, &part(0, 1, &parcel, 0..4000));
    hub.feed(id, &batch(1, 1, Chain::start(&urgent), &[b"urgent"]).0);
    assert_eq!(stored(&mut hub), 1);
    hub.feed(id, &part(0, 1, &parcel, 4000..parcel.len()));
    hub.disk();
    assert_eq!(hub.node.frontier().map(|e| e.have).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn parts_that_do_not_follow_one_another_close_the_session() {
    let (_, _, parcel) = hub_and_parcel();
    let (whole, all) = ((parcel.len(), tag(&parcel)), parcel.len());
    let first = part(0, 1, &parcel, 0..4000);
    let wrong: [(Vec<u8>, Code); 9] = [
        (part(0, 1, &parcel, 3999..all), Code::State),
        (part(0, 1, &parcel, 4001..all), Code::State),
        (part_of(0, 1, (all, [9; 8]), 4000, &parcel[4000..]), Code::State),
        (part_of(0, 1, (all + 1, whole.1), 4000, &parcel[4000..]), Code::State),
        (part_of(0, 1, (all - 1, whole.1), 4000, &parcel[4000..]), Code::Malformed),
        (part_of(0, 2, whole, 0, b"x"), Code::Gap),
        (part_of(0, 1, whole, 4000, b""), Code::Malformed),
        (part_of(0, 1, (1 << 20, whole.1), 0, b"x"), Code::FrameTooLarge),
        (part_of(0, 1, whole, 4000, &[&parcel[4000..all - 1], b"!"].concat()), Code::BadBatch),
    ];
    for (n, (frame, code)) in wrong.into_iter().enumerate() {
        let (mut hub, id, _) = hub_and_parcel();
        hub.feed(id, &first);
        assert_eq!(hub.feed(id, &frame), Flow::Closed, "{n}");
        assert_eq!((hub.refused_with(id), stored(&mut hub)), (Some(code), 0), "{n}");
    }
    let (mut hub, id, _) = hub_and_parcel();
    hub.feed(id, &part(0, 1, &parcel, 1..all));
    assert_eq!(hub.refused_with(id), Some(Code::State), "nothing has begun");
    let mut leaf = Solo::hub(Limits { parcels: 0, ..Limits::hub(4) });
    let id = leaf.greeted("clinic_a", &[stream("clinic_a")]);
    leaf.feed(id, &first);
    assert_eq!(leaf.refused_with(id), Some(Code::State), "it did not offer to take any");
}

#[test]
fn what_is_inside_of_a_parcel_is_judged_like_a_batch() {
    let (mut hub, id, good) = hub_and_parcel();
    let (other_seq, _) = parcel(2, Chain::start(&stream("clinic_a")), &[7; 5000]);
    hub.feed(id, &part(0, 1, &other_seq, 0..other_seq.len()));
    assert_eq!(hub.refused_with(id), Some(Code::Malformed));
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    let (mut hub, id, _) = hub_and_parcel();
    hub.feed(id, &part(0, 1, &bad, 0..bad.len()));
    assert_eq!(hub.refused_with(id), Some(Code::BadBatch));
    let (mut hub, _, _) = hub_and_parcel();
    let id = hub.greeted("clinic_b", &[stream("clinic_a")]);
    hub.feed(id, &part(0, 1, &good, 0..good.len()));
    assert_eq!(hub.refused_with(id), Some(Code::Origin));
}

#[test]
fn parts_of_an_event_that_is_here_are_acknowledged_as_duplicates() {
    let (mut hub, id, parcel) = hub_and_parcel();
    hub.feed(id, &part(0, 1, &parcel, 0..4000));
    hub.feed(id, &batch(0, 1, Chain::start(&stream("clinic_a")), &[&[7; 10_000]]).0);
    assert_eq!(stored(&mut hub), 1);
    hub.ms += 1000;
    hub.serve(id);
    hub.feed(id, &part(FLAG, 1, &parcel, 4000..8000));
    assert!(hub.serve(id).starts_with(&[4, 2, 0, 1]));
    assert_eq!(hub.node.stats(id).map(|s| s.received), Some(1));
}

/// A hub with room for two parcels of 10,000 bytes, and a clinic that has begun one.
fn narrow_hub() -> (Solo, SessionId) {
    let limits = Limits {
        event_bytes: 9 << 10,
        frame_bytes: 12 << 10,
        batch_bytes: 12 << 10,
        parcel_bytes: 20 << 10,
        ..Limits::hub(4)
    };
    let mut hub = Solo::hub(limits);
    let id = hub.greeted("clinic_a", &[stream("clinic_a")]);
    (hub, id)
}

/// The beginning and the rest of what a clinic sends.
fn two_parts(clinic: &str) -> (Vec<u8>, Vec<u8>) {
    let (parcel, _) = parcel(1, Chain::start(&stream(clinic)), &[7; 9500]);
    (part(0, 1, &parcel, 0..4000), part(0, 1, &parcel, 4000..parcel.len()))
}

#[test]
fn a_clinic_that_finds_no_room_waits_until_another_is_whole() {
    let (mut hub, a) = narrow_hub();
    let [b, c] = ["clinic_b", "clinic_c"].map(|clinic| hub.greeted(clinic, &[stream(clinic)]));
    let rest_a = two_parts("clinic_a");
    let rest_b = two_parts("clinic_b");
    assert_eq!(hub.feed(a, &rest_a.0), Flow::Open);
    assert_eq!(hub.feed(b, &rest_b.0), Flow::Open);
    assert_eq!(hub.feed(c, &two_parts("clinic_c").0), Flow::Paused);
    assert_eq!(hub.node.poll_resumed(), None);
    hub.feed(a, &rest_a.1);
    assert_eq!(hub.node.poll_resumed(), Some(c));
    hub.feed(c, &two_parts("clinic_c").1);
    hub.feed(b, &rest_b.1);
    hub.disk();
    assert_eq!(hub.node.frontier().map(|e| e.have).collect::<Vec<_>>(), [1, 1, 1]);
}

#[test]
fn what_is_less_urgent_makes_room_for_what_is_urgent_and_begins_again() {
    use ropeway_core::id::{Lane, StreamKey};
    let (mut hub, id) = narrow_hub();
    let key = stream("clinic_a");
    let urgent = StreamKey { lane: Lane::Urgent, ..key };
    let (normal, _) = parcel(1, Chain::start(&key), &[7; 11_000]);
    hub.node.close(hub.now(), id);
    hub.serve(id);
    let id = hub.greeted("clinic_a", &[key, urgent]);
    hub.feed(id, &part(0, 1, &normal, 0..4000));
    let (parcel, _) = parcel(1, Chain::start(&urgent), &[8; 11_000]);
    let as_second = |mut frame: Vec<u8>| {
        let at = 1 + frame[1..].iter().position(|b| b & 0x80 == 0).unwrap() + 1;
        frame[at] = 1;
        frame
    };
    assert_eq!(hub.feed(id, &as_second(part(0, 1, &parcel, 0..4000))), Flow::Open);
    let told = hub.serve(id);
    assert!(told.starts_with(&have(OF_THE_RECEIVER, 1, tag(&normal), 0)), "{told:?}");
    // This was under way.
    hub.feed(id, &part(0, 1, &normal, 4000..5000));
    hub.feed(id, &as_second(part(0, 1, &parcel, 4000..parcel.len())));
    hub.feed(id, &part(0, 1, &normal, 0..4000));
    hub.feed(id, &part(0, 1, &normal, 4000..normal.len()));
    hub.disk();
    assert_eq!(hub.node.frontier().map(|e| e.have).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn what_was_left_by_a_cut_makes_room() {
    let (mut hub, a) = narrow_hub();
    let [b, c] = ["clinic_b", "clinic_c"].map(|clinic| hub.greeted(clinic, &[stream(clinic)]));
    hub.feed(a, &two_parts("clinic_a").0);
    hub.feed(b, &two_parts("clinic_b").0);
    assert_eq!(hub.feed(c, &two_parts("clinic_c").0), Flow::Paused);
    hub.node.close(hub.now(), a);
    assert_eq!(hub.node.poll_resumed(), Some(c));
    hub.feed(c, &two_parts("clinic_c").1);
    assert_eq!(stored(&mut hub), 1);
    // The one that was robbed begins again.
    hub.serve(a);
    let a = hub.greeted("clinic_a", &[stream("clinic_a")]);
    assert_eq!(hub.feed(a, &two_parts("clinic_a").1), Flow::Closed, "it was told that nothing is there");
}

#[test]
fn a_peer_that_begins_and_does_not_go_on_is_closed_when_others_want_the_room() {
    let (mut hub, a) = narrow_hub();
    let [b, c] = ["clinic_b", "clinic_c"].map(|clinic| hub.greeted(clinic, &[stream(clinic)]));
    hub.feed(a, &two_parts("clinic_a").0);
    for _ in 0..3 {
        hub.ms += 19_000;
        for id in [a, b, c] {
            hub.feed(id, &frame(7, &[1]));
        }
        hub.node.timeout(hub.now());
    }
    hub.feed(b, &two_parts("clinic_b").0);
    assert_eq!((hub.serve(a).is_empty(), hub.closed.len()), (false, 0), "nobody wants its room");
    assert_eq!(hub.feed(c, &two_parts("clinic_c").0), Flow::Paused);
    hub.ms += 4000;
    hub.node.timeout(hub.now());
    assert!(hub.node.poll_event().is_some_and(
        |e| matches!(e, Event::Closed { session, ending, .. } if session == a && ending.code == Some(Code::Timeout))
    ));
    assert_eq!(hub.node.poll_resumed(), Some(c));
}

/// A clinic of whose five events a hub holds two; the third has `bytes`. Its session with that hub.
fn clinic_that_sends(features: u64) -> (Solo, SessionId) {
    let key = stream("clinic_a");
    let mut clinic = holder("clinic_a", Role::Clinic, &key, 3, 0);
    let id = meet(&mut clinic, ("hub", Role::Hub), &key, 2, &chain_at(&key, 2), features);
    (clinic, id)
}

fn large() -> Vec<u8> {
    (0..20_000u32).flat_map(|n| [n as u8, (n >> 8) as u8]).collect()
}

/// Answers the read of the third event.
fn give(solo: &mut Solo, request: &ReadRequest, out: &mut [u8]) -> Transmit {
    assert_eq!(request.from_seq, 3);
    let payload = large();
    let mut bytes = vec![0; 60_000];
    let mut w = Writer::new(&mut bytes);
    put_record(&mut w, &LogEvent { hlc: Hlc::new(WALL + 3, 0), kind: 1, flags: 0, payload: &payload }).unwrap();
    let n = w.len();
    let prev_chain = chain_at(request.grant.stream(), 2);
    let records = Records { first_seq: 3, prev_chain, bytes: &bytes[..n] };
    let now = solo.now();
    solo.node.complete_read(now, request, Ok(records), out)
}

/// All frames that the node sends now, and how often it read.
fn sends(solo: &mut Solo, id: SessionId) -> (Vec<(u8, Vec<u8>)>, usize) {
    let (mut frames, mut reads, mut out) = (vec![], 0, vec![0; 1 << 16]);
    loop {
        let mut next = solo.node.poll_transmit(solo.now(), id, &mut out).unwrap();
        if let Transmit::Read(request) = next {
            reads += 1;
            next = give(solo, &request, &mut out);
            if next == Transmit::Idle {
                continue;
            }
        }
        let Transmit::Bytes(n) = next else { return (frames, reads) };
        let mut rest = &out[..n];
        while let Some((&first, after)) = rest.split_first() {
            let end = after.iter().position(|b| b & 0x80 == 0).unwrap();
            let len = after[..=end].iter().rev().fold(0, |v, b| v << 7 | usize::from(b & 0x7f));
            let (body, tail) = after[end + 1..].split_at(len);
            frames.push((first, body.to_vec()));
            rest = tail;
        }
    }
}

/// The parts among some frames: offset, total, tag, bytes; all of the third event.
fn parts(frames: &[(u8, Vec<u8>)]) -> Vec<(usize, usize, [u8; 8], Vec<u8>)> {
    let number = |bytes: &mut &[u8]| {
        let n = bytes.iter().position(|b| b & 0x80 == 0).unwrap();
        let v = bytes[..=n].iter().rev().fold(0, |v, b| v << 7 | usize::from(b & 0x7f));
        *bytes = &bytes[n + 1..];
        v
    };
    let read = |body: &Vec<u8>| {
        let mut b = &body[..];
        assert_eq!((number(&mut b), number(&mut b)), (0, 3));
        let total = number(&mut b);
        let tag = b[..8].try_into().unwrap();
        b = &b[8..];
        (number(&mut b), total, tag, b.to_vec())
    };
    frames.iter().filter(|f| f.0 & !FLAG == PART).map(|f| read(&f.1)).collect()
}

/// Everything that is sent from `at` on if each part is answered.
fn all_of_it(clinic: &mut Solo, id: SessionId, mut at: usize) -> (Vec<u8>, usize) {
    let (mut whole, mut read) = (vec![], 0);
    loop {
        let (frames, reads) = sends(clinic, id);
        read += reads;
        let got = parts(&frames);
        let Some((_, total, tag, _)) = got.last().cloned() else { return (whole, read) };
        for (offset, _, _, bytes) in got {
            assert_eq!(offset, at);
            at += bytes.len();
            whole.extend(bytes);
        }
        assert_eq!(frames.last().map(|f| f.0), Some(PART | FLAG), "the last one for now asks for an answer");
        if at < total {
            clinic.ms += 1000;
            clinic.feed(id, &have(OF_THE_RECEIVER, 3, tag, at as u64));
        }
    }
}

#[test]
fn a_large_event_goes_in_parts_that_are_read_once_and_no_more_at_once_than_the_window() {
    let (mut clinic, id) = clinic_that_sends(PARTS);
    let (frames, reads) = sends(&mut clinic, id);
    let got = parts(&frames);
    let sum: usize = got.iter().map(|p| p.3.len()).sum();
    assert!((6 << 10..=8 << 10).contains(&sum) && got.len() > 3 && reads == 1, "{sum} {reads}");
    let (total, tag) = (got[0].1, got[0].2);
    clinic.ms += 1000;
    clinic.feed(id, &have(OF_THE_RECEIVER, 3, tag, sum as u64));
    let (rest, reads) = all_of_it(&mut clinic, id, sum);
    let whole: Vec<u8> = got.into_iter().flat_map(|p| p.3).chain(rest).collect();
    assert_eq!((whole.len(), self::tag(&whole), reads), (total, tag, 0));
    // What the parts make is the batch; it is acknowledged as a whole.
    let mut hub = Solo::hub(Limits::hub(4));
    let key = stream("clinic_a");
    let hub_id = hub.greeted("clinic_a", &[key]);
    let mut chain = Chain::start(&key);
    for seq in 1..=2 {
        let (bytes, next) = batch(0, seq, chain, &[b"payload"]);
        hub.feed(hub_id, &bytes);
        chain = next;
    }
    hub.feed(hub_id, &part(0, 3, &whole, 0..20_000));
    hub.serve(hub_id);
    hub.feed(hub_id, &part(FLAG, 3, &whole, 20_000..whole.len()));
    assert_eq!((stored(&mut hub), hub.closed.len()), (3, 0));
    clinic.feed(id, &frame(4, &[0, 3]));
    assert_eq!(clinic.node.stats(id).map(|s| (s.sent, s.acknowledged)), Some((1, 1)));
}

#[test]
fn an_older_peer_gets_it_whole_and_a_peer_with_little_credit_is_not_asked_for_a_loan() {
    let (mut clinic, id) = clinic_that_sends(0);
    let (frames, _) = sends(&mut clinic, id);
    assert!(frames.iter().any(|f| f.0 & !FLAG == 3 && f.1.len() > 40_000));
    let (mut clinic, id) = clinic_that_sends(PARTS);
    let (frames, _) = sends(&mut clinic, id);
    assert!(frames.iter().all(|f| f.0 != 6), "no BLOCKED");
    assert!(!parts(&frames).is_empty());
}

#[test]
fn after_a_cut_the_parts_go_on_where_the_peer_says_if_it_has_the_same_batch() {
    let key = stream("clinic_a");
    let (mut clinic, id) = clinic_that_sends(PARTS);
    let (_, total, tag, _) = parts(&sends(&mut clinic, id).0)[0].clone();
    let hub = PeerIdentity { name: name("hub"), role: Role::Hub };
    for (told, at) in [(tag, 5000), ([9; 8], 0), (tag, total)] {
        clinic.node.close(clinic.now(), id);
        clinic.serve(id);
        let id = clinic.node.open(clinic.now(), hub).unwrap();
        clinic.feed(id, &frame(1, &hello(PARTS)));
        clinic.feed(id, &have(OF_THE_RECEIVER, 3, told, if at == 0 { 5000 } else { at as u64 }));
        let mut body = vec![OF_THE_RECEIVER | 1 << 2];
        body.extend_from_slice(&key.incarnation.as_u64().to_le_bytes());
        varint(&mut body, 2);
        body.extend_from_slice(&chain_at(&key, 2).tag());
        clinic.feed(id, &frame(2 | FLAG, &body));
        let got = parts(&sends(&mut clinic, id).0);
        assert_eq!((got[0].0, got[0].2), (if at < total { at } else { 0 }, tag));
        clinic.node.close(clinic.now(), id);
        clinic.serve(id);
    }
}

#[test]
fn a_sender_whose_parts_had_to_make_room_begins_again() {
    let (mut clinic, id) = clinic_that_sends(PARTS);
    let first = parts(&sends(&mut clinic, id).0);
    clinic.ms += 1000;
    clinic.feed(id, &have(OF_THE_RECEIVER, 3, first[0].2, 1280));
    assert_eq!(parts(&sends(&mut clinic, id).0).first().map(|p| p.0), Some(first.iter().map(|p| p.3.len()).sum()));
    clinic.feed(id, &have(OF_THE_RECEIVER, 3, first[0].2, 0));
    assert_eq!(parts(&sends(&mut clinic, id).0)[..first.len()], first);
    // Also when all of it is under way.
    let sum: usize = first.iter().map(|p| p.3.len()).sum();
    clinic.ms += 1000;
    clinic.feed(id, &have(OF_THE_RECEIVER, 3, first[0].2, sum as u64));
    assert_eq!(all_of_it(&mut clinic, id, sum).0.len() + sum, first[0].1);
    clinic.feed(id, &have(OF_THE_RECEIVER, 3, first[0].2, 0));
    assert_eq!(parts(&sends(&mut clinic, id).0).first().map(|p| p.0), Some(0));
}

#[test]
fn a_have_of_more_than_was_sent_closes_the_session_and_one_of_something_else_does_not() {
    let (mut clinic, id) = clinic_that_sends(PARTS);
    let (_, total, tag, _) = parts(&sends(&mut clinic, id).0)[0].clone();
    clinic.feed(id, &have(OF_THE_RECEIVER, 3, [1; 8], total as u64));
    clinic.feed(id, &have(OF_THE_RECEIVER, 4, tag, total as u64));
    clinic.feed(id, &have(OF_THE_SENDER, 3, tag, total as u64));
    assert_eq!(clinic.closed.len(), 0);
    clinic.feed(id, &have(OF_THE_RECEIVER, 3, tag, total as u64));
    assert_eq!(clinic.refused_with(id), Some(Code::State));
}

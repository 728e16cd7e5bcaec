//! Events that do not come, and what stands in their places.

use super::support::*;
use ropeway_core::code::Code;
use ropeway_core::event::{Chain, Event as LogEvent, Records, put_record};
use ropeway_core::hlc::Hlc;
use ropeway_core::id::StreamKey;
use ropeway_core::limits::Limits;
use ropeway_core::node::*;
use ropeway_core::policy::Role;
use ropeway_core::varint::Writer;

const HUB: (&str, Role) = ("hub", Role::Hub);
const CLINIC: (&str, Role) = ("clinic_b", Role::Clinic);
/// FLOOR and WITHHELD.
const KNOWS: u64 = 5;

/// An event larger than what [`hello`] takes.
fn large(payload: &[u8]) -> LogEvent<'_> {
    LogEvent { payload, ..event(2) }
}

/// A WITHHELD for one event of which the hash is known.
pub(crate) fn withheld(seq: u64, event: &LogEvent<'_>) -> Vec<u8> {
    let mut body = vec![0];
    varint(&mut body, seq);
    body.push(1);
    body.extend_from_slice(&event.hlc.as_u64().to_le_bytes());
    body.extend_from_slice(&[event.kind as u8, event.flags, 1]);
    body.extend_from_slice(&event.hash());
    varint(&mut body, event.payload.len() as u64);
    varint(&mut body, 311);
    frame(0x20 | 19, &body)
}

/// A WITHHELD for `count` events of which the chain behind them is known.
fn damaged(first: u64, count: u64, chain: &Chain) -> Vec<u8> {
    let mut body = vec![0];
    varint(&mut body, first);
    varint(&mut body, count);
    body.extend_from_slice(&[0; 8]);
    body.extend_from_slice(&[0, 0, 2]);
    body.extend_from_slice(&chain.0);
    body.push(0);
    varint(&mut body, 302);
    frame(0x20 | 19, &body)
}

fn contains(said: &[u8], what: &[u8]) -> bool {
    said.windows(what.len()).any(|w| w == what)
}

/// Without the bit that only says that nothing waits.
fn unflagged(mut said: Vec<u8>) -> Vec<u8> {
    said[0] &= !0x40;
    said
}

/// Answers a read with one event.
fn answer(solo: &mut Solo, request: &ReadRequest, prev_chain: Chain, event: &LogEvent<'_>) -> Transmit {
    let (mut bytes, mut out) = (vec![0; 1 << 18], vec![0; 1 << 17]);
    let mut w = Writer::new(&mut bytes);
    put_record(&mut w, event).unwrap();
    let n = w.len();
    let records = Records { first_seq: request.from_seq, prev_chain, bytes: &bytes[..n] };
    let now = solo.now();
    let said = solo.node.complete_read(now, request, Ok(records), &mut out);
    if let Transmit::Bytes(n) = said {
        out.truncate(n);
        assert_eq!(unflagged(out), withheld(request.from_seq, event));
    }
    said
}

#[test]
fn an_event_over_the_peers_limits_is_withheld_and_the_next_one_follows() {
    let key = stream("clinic_a");
    let payload = vec![7; 100_000];
    for features in [KNOWS, 1] {
        let mut clinic = holder("clinic_a", Role::Clinic, &key, 3, 0);
        let id = meet(&mut clinic, HUB, &key, 1, &chain_at(&key, 1), features);
        let request = says(&mut clinic, id).1.unwrap();
        assert_eq!(request.from_seq, 2);
        let said = answer(&mut clinic, &request, chain_at(&key, 1), &large(&payload));
        let next = says(&mut clinic, id).1;
        if features != KNOWS {
            assert_eq!((said, next), (Transmit::Idle, None), "as before");
            assert_eq!(clinic.node.stats(id).unwrap().blocked, 1);
            continue;
        }
        assert_eq!(next.map(|r| r.from_seq), Some(3));
        clinic.serve(id);
        let [told] = clinic.withheld[..] else { panic!() };
        assert_eq!((told.from, told.to, told.count, told.bytes), (2, 2, 1, 100_000));
        assert_eq!((told.code, told.missing, told.stream), (Code::TooLarge, false, key));
        // What a hub lacks is kept, whatever it acknowledges.
        clinic.feed(id, &frame(4, &[0, 3]));
        assert_eq!((entry(&clinic).acked, entry(&clinic).lacks), (3, Some((2, 2))));
    }
}

#[test]
fn a_place_is_acknowledged_when_it_is_durable_and_what_follows_is_chained_to_it() {
    let key = stream("clinic_b");
    let payload = vec![7; 100_000];
    let mut hub = Solo::hub(Limits::hub(4));
    let id = hub.greeted("clinic_b", &[key]);
    let (first, chain) = batch(0, 1, Chain::start(&key), &[b"one"]);
    let gone = LogEvent { hlc: Hlc::new(WALL + 2, 0), ..large(&payload) };
    let (third, _) = batch(0, 3, chain.then(&gone), &[b"three"]);
    hub.feed(id, &first);
    hub.disk();
    hub.feed(id, &withheld(2, &gone));
    assert_eq!(entry(&hub).have, 1, "not before it is durable");
    hub.feed(id, &third);
    hub.disk();
    hub.ms += 1000;
    let said = hub.serve(id);
    assert_eq!((entry(&hub).have, entry(&hub).top, entry(&hub).withheld), (3, 3, Some((2, 2))));
    assert!(contains(&said, &[4, 2, 0, 3]), "{said:02x?}");
    let [told] = hub.withheld[..] else { panic!() };
    assert_eq!((told.from, told.bytes, told.code, told.missing), (2, 100_000, Code::TooLarge, true));
    // Once more: it is here, and acknowledged again.
    hub.feed(id, &withheld(2, &gone));
    hub.ms += 1000;
    assert!(contains(&hub.serve(id), &[4, 2, 0, 3]));
    assert_eq!((hub.withheld.len(), hub.closed.len()), (1, 0));
}

#[test]
fn a_place_must_come_in_order_with_a_later_stamp_and_from_who_may_write() {
    let key = stream("clinic_b");
    let refused = |name: &str, frames: &[Vec<u8>]| {
        let mut hub = Solo::hub(Limits::hub(4));
        let id = hub.greeted(name, &[key]);
        frames.iter().for_each(|f| _ = hub.feed(id, f));
        hub.refused_with(id)
    };
    let one = batch(0, 1, Chain::start(&key), &[b"one"]).0;
    let early = LogEvent { hlc: Hlc::new(WALL, 0), ..event(2) };
    assert_eq!(refused("clinic_b", &[withheld(2, &event(2))]), Some(Code::Gap));
    assert_eq!(refused("clinic_b", &[one.clone(), withheld(2, &early)]), Some(Code::HlcRange));
    assert_eq!(refused("clinic_a", &[withheld(1, &event(1))]), Some(Code::Origin));
    assert_eq!(refused("clinic_b", &[one.clone(), withheld(2, &event(2))]), None);
    // A wrong hash shows with the next batch.
    let other = LogEvent { kind: 9, ..event(2) };
    let next = batch(0, 3, chain_at(&key, 2), &[b"three"]).0;
    let first = LogEvent { payload: b"one", ..event(1) };
    let chain = Chain::start(&key).then(&first).then(&event(2));
    let right = batch(0, 3, chain, &[b"three"]).0;
    assert_eq!(refused("clinic_b", &[one.clone(), withheld(2, &other), right.clone()]), Some(Code::BadBatch));
    assert_eq!(refused("clinic_b", &[one.clone(), withheld(2, &event(2)), next]), Some(Code::BadBatch));
    assert_eq!(refused("clinic_b", &[one, withheld(2, &event(2)), right]), None);
}

/// A hub that holds 1, 2, 6 and 7 of the stream.
fn hub_with_gap(key: &StreamKey) -> (Solo, SessionId) {
    let mut hub = Solo::with("hub", Role::Hub, Limits::hub(4), |r| {
        fill(r, key, false, 2);
        put(r, key, false, 6..=7);
    });
    let id = meet(&mut hub, CLINIC, key, 7, &chain_at(key, 7), KNOWS);
    hub.disk();
    (hub, id)
}

#[test]
fn places_fill_a_gap_if_they_meet_the_chain_behind_it() {
    let key = stream("clinic_b");
    let (mut hub, id) = hub_with_gap(&key);
    hub.feed(id, &damaged(3, 3, &chain_at(&key, 5)));
    hub.disk();
    let e = entry(&hub);
    assert_eq!((e.have, e.top, e.gap, e.withheld), (7, 7, None, Some((3, 5))));
    assert_eq!(e.tag, chain_at(&key, 7).tag());
    // One that reaches over what is here behind the gap takes nothing from it.
    let (mut hub, id) = hub_with_gap(&key);
    hub.feed(id, &damaged(2, 5, &chain_at(&key, 6)));
    hub.disk();
    assert_eq!((entry(&hub).have, entry(&hub).withheld), (7, Some((3, 5))));
    let (mut hub, id) = hub_with_gap(&key);
    hub.feed(id, &damaged(3, 3, &chain_at(&key, 4)));
    assert_eq!(hub.refused_with(id), Some(Code::Fork));
}

#[test]
fn what_damage_has_taken_from_an_own_stream_is_withheld_and_what_lies_behind_it_follows() {
    let key = stream("clinic_a");
    let mut clinic = Solo::with("clinic_a", Role::Clinic, Limits::clinic(), |r| {
        fill(r, &key, true, 2);
        put(r, &key, true, 6..=7);
    });
    let id = meet(&mut clinic, HUB, &key, 2, &chain_at(&key, 2), KNOWS);
    let (said, request) = says(&mut clinic, id);
    assert!(contains(&said, &damaged(3, 3, &chain_at(&key, 5))), "{said:02x?}");
    assert_eq!(request.map(|r| (r.from_seq, r.upto_seq)), Some((6, 7)));
    // A hub that does not know what that means gets nothing, and one that holds them is not told.
    for (seq, features) in [(2, 1), (5, KNOWS)] {
        let mut clinic = Solo::with("clinic_a", Role::Clinic, Limits::clinic(), |r| {
            fill(r, &key, true, 2);
            put(r, &key, true, 6..=7);
        });
        let id = meet(&mut clinic, HUB, &key, seq, &chain_at(&key, seq), features);
        let (said, request) = says(&mut clinic, id);
        assert!(!contains(&said, &damaged(3, 3, &chain_at(&key, 5))));
        assert_eq!(request.map(|r| r.from_seq), (seq == 5).then_some(6));
    }
}

#[test]
fn an_event_that_a_hub_does_not_accept_is_refused_alone_and_its_writer_hears_of_it() {
    let key = stream("clinic_b");
    let mut hub = Solo::accepting("hub", Role::Hub, Limits::hub(4), Box::new(Tagged), |_| (), 256);
    let id = meet(&mut hub, CLINIC, &key, 0, &Chain([0; 32]), KNOWS);
    hub.serve(id);
    let (long, most) = ([b'x'; 300], [b'y'; 256]);
    let (bytes, chain) = batch(0, 1, Chain::start(&key), &[b"one", &long, &most, &long, &long]);
    hub.feed(id, &bytes);
    hub.disk();
    hub.ms += 1000;
    let said = hub.serve(id);
    let e = entry(&hub);
    assert_eq!((e.have, e.tag, e.withheld), (5, chain.tag(), Some((2, 5))));
    let lacks = |from: u8, more: u8, count: u8| {
        let mut body = vec![2 | 1 << 2, 7, 0, 0, 0, 0, 0, 0, 0, from];
        body.extend_from_slice(&[0; 8]);
        body.extend_from_slice(&[more, count, 0xb7, 2]);
        frame(0x20 | 20, &body)
    };
    let told: Vec<_> = [lacks(2, 0, 1), lacks(4, 1, 2)].concat();
    let at = said.windows(told.len()).position(|w| w == told).expect("told");
    let acked = said.windows(4).position(|w| w == [4, 2, 0, 5]).expect("acknowledged");
    assert!(at < acked, "before the acknowledgement that reaches over them");
    let told: Vec<_> = hub.withheld.iter().map(|w| (w.from, w.bytes, w.code, w.missing)).collect();
    assert_eq!(told, [2, 4, 5].map(|seq| (seq, 300, Code::TooLarge, true)));
    // The next session begins with it.
    let id = meet(&mut hub, CLINIC, &key, 5, &chain, KNOWS);
    let said = hub.serve(id);
    let mut summary = lacks(2, 3, 0);
    let n = summary.len();
    summary[n - 2..].copy_from_slice(&[0xbe, 2]);
    let at = said.windows(summary.len()).position(|w| w == summary).expect("summed up");
    let vector = said.iter().position(|b| *b == 0x42).expect("a vector");
    assert!(at < vector, "before the vector");
}

#[test]
fn a_writer_keeps_what_a_hub_lacks_until_it_has_come_after_all() {
    let key = stream("clinic_a");
    let lacks = |from: u64, more: u64, count: u64| {
        let mut body = vec![2 | 1 << 2];
        body.extend_from_slice(&7u64.to_le_bytes());
        varint(&mut body, from);
        body.extend_from_slice(&[0; 8]);
        varint(&mut body, more);
        varint(&mut body, count);
        varint(&mut body, 311);
        frame(0x20 | 20, &body)
    };
    let mut clinic = holder("clinic_a", Role::Clinic, &key, 9, 0);
    let id = meet(&mut clinic, HUB, &key, 9, &chain_at(&key, 9), KNOWS);
    clinic.feed(id, &lacks(4, 0, 1));
    clinic.feed(id, &lacks(6, 90, 2));
    clinic.feed(id, &lacks(40, 0, 1));
    // Whatever a peer says of its number.
    clinic.feed(id, &lacks(9, u64::MAX - 10, u64::MAX - 9));
    clinic.feed(id, &lacks(9, u64::MAX - 10, u64::MAX - 9));
    clinic.serve(id);
    assert_eq!((entry(&clinic).acked, entry(&clinic).lacks), (9, Some((4, 9))));
    let told: Vec<_> = clinic.withheld.iter().map(|w| (w.from, w.to, w.count, w.missing)).collect();
    assert_eq!(told[..2], [(4, 4, 1, false), (6, 9, 2, false)]);
    assert_eq!((told.len(), clinic.node.stats(id).unwrap().withheld), (4, u64::MAX));
    // It asks for them again.
    let id = meet(&mut clinic, HUB, &key, 3, &chain_at(&key, 3), KNOWS);
    let request = says(&mut clinic, id).1.unwrap();
    assert_eq!((request.from_seq, request.upto_seq), (4, 9));
    assert_eq!(give(&mut clinic, &request)[0] & 0x1f, 3);
    clinic.feed(id, &frame(4, &[0, 9]));
    // Perhaps it still has places of some of them, and acknowledges these.
    assert_eq!((entry(&clinic).acked, entry(&clinic).lacks), (9, Some((4, 9))));
    let now = clinic.now();
    clinic.node.close(now, id);
    clinic.serve(id);
    let mut opens = |seq: u64, before: &[u8]| {
        let id = meet_after(&mut clinic, HUB, (&key, seq, &chain_at(&key, seq)), KNOWS, before);
        if let Some(request) = says(&mut clinic, id).1 {
            give(&mut clinic, &request);
        }
        let now = clinic.now();
        clinic.node.close(now, id);
        clinic.serve(id);
        entry(&clinic).lacks
    };
    // A vector tells, by what is said before it; but not one that ends among them.
    assert_eq!(opens(8, &[]), Some((4, 9)));
    assert_eq!(opens(9, &lacks(4, 4, 0)), Some((4, 8)));
    assert_eq!(opens(9, &lacks(6, 0, 0)), Some((6, 6)));
    assert_eq!(opens(9, &lacks(6, 0, 0)), Some((6, 6)));
    assert_eq!(opens(9, &[]), None);
}

#[test]
fn a_hub_with_another_history_has_nothing_that_was_lacking() {
    let key = stream("clinic_a");
    for seq in [3, 2] {
        let mut clinic = holder("clinic_a", Role::Clinic, &key, 3, 0);
        let id = meet(&mut clinic, HUB, &key, 1, &chain_at(&key, 1), KNOWS);
        let request = says(&mut clinic, id).1.unwrap();
        answer(&mut clinic, &request, chain_at(&key, 1), &large(&vec![7; 100_000]));
        assert_eq!(entry(&clinic).lacks, Some((2, 2)));
        let id = meet(&mut clinic, HUB, &key, seq, &Chain([9; 32]), KNOWS);
        if let Some(request) = says(&mut clinic, id).1 {
            give(&mut clinic, &request);
        }
        assert_eq!(entry(&clinic).lacks, Some((2, 2)), "{seq}");
    }
}

#[test]
fn no_batch_refers_to_an_event_that_is_not_at_both_ends() {
    let key = stream("clinic_b");
    let payload = vec![7; 100_000];
    // Nor is it taken where it is read from the log.
    let mut hub = Solo::hub(Limits::hub(4));
    let id = hub.greeted("clinic_b", &[key]);
    let (first, chain) = batch(0, 1, Chain::start(&key), &[b"one"]);
    hub.feed(id, &first);
    let gone = LogEvent { hlc: Hlc::new(WALL + 2, 0), ..large(&payload) };
    hub.feed(id, &withheld(2, &gone));
    hub.disk();
    let chain = chain.then(&gone);
    let (bad, _) = batch_after(0, 3, chain, &[b"three"], Some(&[b"one", b"two"]));
    hub.feed(id, &bad);
    hub.disk();
    while let Some(request) = hub.wanted.pop() {
        let now = hub.now();
        hub.node.complete_read(now, &request, Err(ReadFault(Code::Withheld)), &mut []);
        hub.disk();
    }
    let said = hub.serve(id);
    assert!(contains(&said, &[14, 1, 0]), "{said:02x?}");
    let (good, _) = batch(0, 3, chain, &[b"three"]);
    hub.feed(id, &good);
    hub.disk();
    assert_eq!((entry(&hub).have, hub.closed.len()), (3, 0));
}

//! Events that a rule of the receiver does not take, tiny ones too: their places may fit no commit group.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::support::*;
use ropeway_core::accept::{AcceptanceRef, Verdict};
use ropeway_core::code::Code;
use ropeway_core::event::{Chain, Event as LogEvent};
use ropeway_core::id::StreamKey;
use ropeway_core::limits::Limits;
use ropeway_core::node::*;
use ropeway_core::policy::Role;

const CLINIC: (&str, Role) = ("clinic_b", Role::Clinic);
/// FLOOR, WITHHELD, and batches in parts.
const KNOWS: u64 = 7;

/// Groups of 8 KiB.
fn small() -> Limits {
    let Limits { event_bytes, frame_bytes, batch_bytes, group_bytes, segment_bytes, .. } = Limits::leaf();
    Limits { event_bytes, frame_bytes, batch_bytes, group_bytes, segment_bytes, ..Limits::hub(4) }
}

/// A hub that refuses what begins with an `x`, and how often its rule was asked.
fn choosy(
    limits: Limits,
    fill: impl FnOnce(&mut ropeway_core::recovery::Recovered<'static>),
) -> (Solo, Arc<AtomicUsize>) {
    let (mut hub, asked) = (Solo::with("hub", Role::Hub, limits, fill), Arc::<AtomicUsize>::default());
    let count = asked.clone();
    let rule = move |_: &StreamKey, e: &LogEvent<'_>| {
        count.fetch_add(1, Ordering::Relaxed);
        if e.payload.starts_with(b"x") { Verdict::Refuse } else { Verdict::Take }
    };
    hub.node.accept_by(AcceptanceRef::Owned(Box::new(rule)));
    (hub, asked)
}

/// A session with the writer of a stream of which nothing is here.
fn begun(hub: &mut Solo, key: &StreamKey) -> SessionId {
    let id = meet(hub, CLINIC, key, 0, &Chain([0; 32]), KNOWS);
    hub.serve(id);
    id
}

/// Does one thing that the node wants of a disk: writes a group, or makes room for the next. False if there is nothing.
fn disk_once(hub: &mut Solo) -> bool {
    let now = hub.now();
    let done = match hub.node.poll_effect(now) {
        None => return false,
        Some(Effect::Provision { segment }) => Completion::Provisioned { segment },
        Some(Effect::Sync { upto }) => Completion::Durable { upto },
        Some(Effect::Append { .. } | Effect::Read(_)) => return true,
    };
    hub.node.complete(now, done);
    true
}

/// How far it holds the stream durably.
fn have(hub: &Solo) -> u64 {
    hub.node.frontier().next().map_or(0, |e| e.have)
}

/// What LACKS frames say: first, last, how many, and the code.
fn lacks(mut said: &[u8]) -> Vec<(u64, u64, u64, u64)> {
    let number = |bytes: &mut &[u8]| {
        let (mut n, mut shift) = (0, 0);
        loop {
            let (first, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            n |= u64::from(first & 0x7f) << shift;
            shift += 7;
            if first & 0x80 == 0 {
                return n;
            }
        }
    };
    let mut found = Vec::new();
    while let Some((kind, rest)) = said.split_first() {
        let mut rest = rest;
        let len = number(&mut rest) as usize;
        let (mut body, after) = rest.split_at(len);
        if kind & 0x1f == 20 {
            // An entry with the stream of the receiver.
            body = &body[9..];
            let from = number(&mut body);
            body = &body[8..];
            let (more, count, code) = (number(&mut body), number(&mut body), number(&mut body));
            found.push((from, from + more, count, code));
        }
        said = after;
    }
    found
}

/// The highest number of an ACK of the first stream.
fn acked(said: &[u8]) -> Option<u64> {
    said.windows(4).rfind(|w| w[..3] == [4, 3, 0] || w[..3] == [4, 2, 0]).map(|w| u64::from(w[3]))
}

#[test]
fn a_batch_of_tiny_events_whose_places_fit_no_group_is_taken_by_parts() {
    let key = stream("clinic_b");
    let (mut hub, asked) = choosy(small(), |_| ());
    let id = begun(&mut hub, &key);
    // Places of more than 40 KiB, where a group has 8.
    let payloads: Vec<&[u8]> = (0..1000).map(|n| if n % 100 == 99 { &b"y"[..] } else { b"x" }).collect();
    let (bytes, chain) = batch(0, 1, Chain::start(&key), &payloads);
    let (next, end) = batch(0, 1001, chain, &[b"behind it", b"x"]);
    hub.disk();
    assert_eq!(hub.feed(id, &bytes), Flow::Paused);
    assert_eq!(have(&hub), 0, "nothing is durable yet");
    let (mut steps, mut said, mut before) = (0, Vec::new(), 0);
    while disk_once(&mut hub) {
        let have = have(&hub);
        assert!(have >= before);
        steps += usize::from(have > before);
        before = have;
        hub.ms += 1000;
        said.extend(says(&mut hub, id).0);
    }
    assert!((5..=10).contains(&steps), "{steps} groups");
    assert_eq!(hub.node.poll_resumed(), Some(id));
    hub.feed(id, &next);
    hub.disk();
    hub.ms += 1000;
    said.extend(hub.serve(id));
    let e = entry(&hub);
    assert_eq!((e.have, e.top, e.tag, e.withheld), (1002, 1002, end.tag(), Some((1, 1002))));
    // Told once, at both ends.
    let told: Vec<_> = hub.withheld.iter().map(|w| (w.code, w.missing)).collect();
    assert!(told.iter().all(|w| *w == (Code::Refused, true)));
    assert_eq!(hub.withheld.iter().map(|w| w.count).sum::<u64>(), 991);
    let lacks = lacks(&said);
    assert_eq!(lacks.iter().map(|x| x.2).sum::<u64>(), 991);
    assert!(lacks.iter().all(|x| x.3 == 604) && lacks.first().map(|x| x.0) == Some(1), "{lacks:?}");
    assert_eq!(lacks.iter().map(|x| x.1).max(), Some(1002));
    let stats = hub.node.stats(id).unwrap();
    assert_eq!((stats.received, stats.placed, stats.duplicates), (1002, 991, 0));
    assert!(asked.load(Ordering::Relaxed) >= 1002);
    assert!(hub.closed.is_empty());
}

#[test]
fn what_is_taken_of_a_batch_is_acknowledged_when_it_is_durable_and_its_lacks_are_told_before() {
    let key = stream("clinic_b");
    let (mut hub, _) = choosy(small(), |_| ());
    let id = begun(&mut hub, &key);
    let (bytes, chain) = batch(0, 1, Chain::start(&key), &[b"x"; 300].map(|p| &p[..]));
    hub.feed(id, &bytes);
    let mut told = 0;
    while disk_once(&mut hub) {
        hub.ms += 1000;
        let said = says(&mut hub, id).0;
        told += lacks(&said).iter().map(|x| x.2).sum::<u64>();
        if let Some(acked) = acked(&said) {
            assert!(acked <= have(&hub) && acked <= told, "{acked} of {told}");
        }
    }
    assert_eq!((told, entry(&hub).have, entry(&hub).tag), (300, 300, chain.tag()));
}

#[test]
fn a_session_that_is_cut_between_the_parts_goes_on_in_the_next_and_asks_of_no_event_again() {
    let key = stream("clinic_b");
    let (mut hub, asked) = choosy(small(), |_| ());
    let id = begun(&mut hub, &key);
    let (bytes, chain) = batch(0, 1, Chain::start(&key), &[b"x"; 400].map(|p| &p[..]));
    hub.feed(id, &bytes);
    while have(&hub) == 0 {
        assert!(disk_once(&mut hub));
    }
    let now = hub.now();
    hub.node.close(now, id);
    hub.disk();
    let have = have(&hub);
    assert!(have > 0 && have < 400, "{have}");
    asked.store(0, Ordering::Relaxed);
    let id = meet(&mut hub, CLINIC, &key, 400, &chain, KNOWS);
    hub.serve(id);
    hub.feed(id, &bytes);
    hub.disk();
    hub.serve(id);
    let stats = hub.node.stats(id).unwrap();
    assert_eq!((entry(&hub).have, entry(&hub).tag), (400, chain.tag()));
    assert_eq!((stats.received, stats.duplicates), (400 - have, have));
    // Of the rest it may be asked once for each group.
    assert!(asked.load(Ordering::Relaxed) as u64 <= 2 * (400 - have) && have > 100);
    assert_eq!(hub.withheld.iter().map(|w| w.count).sum::<u64>(), 400);
}

#[test]
fn a_batch_that_refers_to_earlier_events_is_taken_by_parts_too() {
    let key = stream("clinic_b");
    let (mut hub, _) = choosy(small(), |_| ());
    let id = begun(&mut hub, &key);
    let (first, chain) = batch(0, 1, Chain::start(&key), &[b"one", b"x2"]);
    let tiny = [b"x"; 400].map(|p| &p[..]);
    let (second, chain) = batch_after(0, 3, chain, &tiny, Some(&[b"one", b"x2"]));
    // The newest that one byte of the tag can tell of.
    let (third, end) = batch_after(0, 403, chain, &[b"behind it"], Some(&tiny[..60]));
    for frame in [first, second, third] {
        hub.feed(id, &frame);
        hub.disk();
    }
    hub.serve(id);
    assert_eq!((entry(&hub).have, entry(&hub).tag, hub.closed.as_slice()), (403, end.tag(), [].as_slice()));
    assert!(hub.wanted.is_empty(), "what was refused is at hand as long as it is in memory");
}

#[test]
fn a_batch_that_came_in_parts_is_taken_by_parts_too() {
    let key = stream("clinic_b");
    let (mut hub, _) = choosy(small(), |_| ());
    let id = begun(&mut hub, &key);
    let (bytes, chain) = batch(0, 1, Chain::start(&key), &[b"x"; 500].map(|p| &p[..]));
    let head = 1 + bytes[1..].iter().position(|b| b & 0x80 == 0).unwrap() + 1;
    let parcel = &bytes[head + 1..];
    for range in [0..900, 900..parcel.len()] {
        let mut body = vec![0, 1];
        varint(&mut body, parcel.len() as u64);
        body.extend_from_slice(&blake3::hash(parcel).as_bytes()[..8]);
        varint(&mut body, range.start as u64);
        body.extend_from_slice(&parcel[range]);
        hub.feed(id, &frame(15, &body));
    }
    hub.disk();
    let (next, end) = batch(0, 501, chain, &[b"behind it"]);
    hub.feed(id, &next);
    hub.disk();
    hub.serve(id);
    assert_eq!((entry(&hub).have, entry(&hub).tag, hub.closed.as_slice()), (501, end.tag(), [].as_slice()));
}

#[test]
fn places_that_fit_no_group_fill_a_gap() {
    let key = stream("clinic_b");
    let xs = [b"x"; 300].map(|p| &p[..]);
    // As [`batch`] has them.
    let all: Vec<LogEvent<'_>> = (1..=310u64).map(|seq| LogEvent { payload: b"x", ..event(seq) }).collect();
    let chain = |upto: usize| all[..upto].iter().fold(Chain::start(&key), |chain, e| chain.then(e));
    let (mut hub, _) = choosy(small(), |r| {
        let (mut body, mut group) = (vec![0; 1 << 16], ropeway_core::log::GroupBuilder::new());
        let decl = ropeway_core::log::StreamDecl { index: 0, key, own_machine: None, parent: None };
        group.stream(&mut body, &decl).unwrap();
        for seq in (1..=4).chain(305..=306u64) {
            let at = seq as usize - 1;
            group.push_event(&mut body, 0, seq, &chain(at), &all[at]).unwrap();
        }
        r.group(&body[..group.len()], |_| ()).unwrap();
    });
    let id = meet(&mut hub, CLINIC, &key, 310, &chain(310), KNOWS);
    hub.serve(id);
    hub.feed(id, &batch(0, 5, chain(4), &xs).0);
    hub.disk();
    hub.feed(id, &batch(0, 305, chain(304), &xs[..6]).0);
    hub.disk();
    hub.serve(id);
    let e = entry(&hub);
    assert_eq!((e.have, e.top, e.gap, e.tag), (310, 310, None, chain(310).tag()));
    assert_eq!((e.withheld, hub.closed.len()), (Some((5, 310)), 0));
    let stats = hub.node.stats(id).unwrap();
    assert_eq!((stats.received, stats.placed, stats.duplicates), (304, 304, 2));
}

#[test]
fn a_node_takes_its_own_events_back_whatever_its_rule_says() {
    let key = stream("clinic_a");
    let rule = |_: &StreamKey, _: &LogEvent<'_>| -> Verdict { panic!("asked of its own event") };
    let mut clinic = Solo::with("clinic_a", Role::Clinic, Limits::clinic(), |_| ());
    clinic.node.accept_by(AcceptanceRef::Owned(Box::new(rule)));
    let id = meet(&mut clinic, ("hub", Role::Hub), &key, 2, &chain_at(&key, 2), KNOWS);
    clinic.serve(id);
    clinic.feed(id, &batch(0, 1, Chain::start(&key), &[b"x", b"x"]).0);
    clinic.disk();
    assert_eq!((entry(&clinic).have, entry(&clinic).withheld), (2, None));
}

#[test]
fn a_bound_of_one_byte_is_one() {
    let key = stream("clinic_b");
    let mut hub = Solo::accepting("hub", Role::Hub, small(), Box::new(Tagged), |_| (), 1);
    let id = begun(&mut hub, &key);
    let (bytes, chain) = batch(0, 1, Chain::start(&key), &[&b"ab"[..], b"a", b"abc", b""]);
    hub.feed(id, &bytes);
    hub.disk();
    let said = hub.serve(id);
    assert_eq!((entry(&hub).have, entry(&hub).tag, entry(&hub).withheld), (4, chain.tag(), Some((1, 3))));
    assert_eq!(lacks(&said), [(1, 1, 1, 311), (3, 3, 1, 311)]);
}

#[test]
fn more_refusals_than_words_for_them_are_summed_up_and_none_is_left_out() {
    let key = stream("clinic_b");
    let (long, ten) = ([b'y'; 300], 10);
    let mut hub = Solo::accepting("hub", Role::Hub, Limits::hub(4), Box::new(Tagged), |_| (), 256);
    let rule = |_: &StreamKey, e: &LogEvent<'_>| if e.payload == b"x" { Verdict::Refuse } else { Verdict::Take };
    hub.node.accept_by(AcceptanceRef::Owned(Box::new(rule)));
    let id = begun(&mut hub, &key);
    let payloads: Vec<&[u8]> = (0..ten).flat_map(|_| [&b"x"[..], b"good", &long]).collect();
    hub.feed(id, &batch(0, 1, Chain::start(&key), &payloads).0);
    hub.disk();
    let said = hub.serve(id);
    let lacks = lacks(&said);
    assert_eq!((lacks.len(), lacks.iter().map(|x| x.2).sum::<u64>()), (8, 20));
    assert_eq!(lacks[..3], [(1, 1, 1, 604), (3, 3, 1, 311), (4, 4, 1, 604)]);
    assert_eq!(lacks.last().map(|x| (x.1, x.3)), Some((30, 318)));
}

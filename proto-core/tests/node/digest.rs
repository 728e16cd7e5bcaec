//! Streams of many nodes, told by a digest (docs/PROTOCOL.md#digest-1).

use super::support::*;
use ropeway_core::code::Code;
use ropeway_core::event::Chain;
use ropeway_core::id::StreamKey;
use ropeway_core::limits::Limits;
use ropeway_core::log::LostRange;
use ropeway_core::node::{EndedBy, Ending, Event, Loss, SessionId};
use ropeway_core::policy::{PeerIdentity, Role};

const MANY: u64 = 100;
const VECTOR: u8 = 2;
const DIGEST: u8 = 17;
const BUCKETS: u8 = 18;
const HAVE: u8 = 16;
const FLAG: u8 = 0x40;
const OPTIONAL: u8 = 0x20;
/// Of the features.
const PARTS: u64 = 2;

fn third(n: u64) -> StreamKey {
    stream(&format!("clinic_{n:03}"))
}

/// A node that holds the first `upto(n)` events of the streams of many others.
fn keeper(node: &str, role: Role, upto: impl Fn(u64) -> u64) -> Solo {
    Solo::with(node, role, Limits::hub(64), |r| {
        (0..MANY).filter(|n| upto(*n) > 0).for_each(|n| put(r, &third(n), false, 1..=upto(n)));
    })
}

/// Two hubs, and a session between them.
struct Pair {
    ends: [(Solo, SessionId); 2],
    /// What each has said.
    said: [Vec<u8>; 2],
    caught_up: [bool; 2],
}

fn meet_each_other(a: Solo, b: Solo, names: [&str; 2]) -> Pair {
    let open = |mut solo: Solo, peer| {
        let id = solo.node.open(solo.now(), PeerIdentity { name: name(peer), role: Role::Hub }).unwrap();
        (solo, id)
    };
    Pair { ends: [open(a, names[1]), open(b, names[0])], said: [vec![], vec![]], caught_up: [false; 2] }
}

impl Pair {
    /// Both do all that they can.
    fn run(&mut self) {
        for _ in 0..100 {
            for i in 0..2 {
                let (solo, id) = &mut self.ends[i];
                solo.ms += 300;
                let now = solo.now();
                solo.node.timeout(now);
                solo.disk();
                let (mut said, mut request) = says(solo, *id);
                while let Some(wanted) = request {
                    said.extend(give(solo, &wanted));
                    let (more, next) = says(solo, *id);
                    said.extend(more);
                    request = next;
                }
                while let Some(event) = solo.node.poll_event() {
                    self.caught_up[i] |= matches!(event, Event::CaughtUp { .. });
                }
                let (other, id) = &mut self.ends[1 - i];
                other.feed(*id, &said);
                self.said[i].extend(said);
            }
        }
    }

    fn held(&self, i: usize) -> Vec<(StreamKey, u64)> {
        let mut all: Vec<_> = self.ends[i].0.node.frontier().map(|e| (e.key, e.have)).collect();
        all.sort_unstable();
        all
    }

    fn count(&self, i: usize, kind: u8) -> usize {
        frames(&self.said[i]).iter().filter(|(first, _)| first & 0x1f == kind).count()
    }
}

fn frames(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut all = vec![];
    while let [first, rest @ ..] = bytes {
        let (mut len, mut n) = (0, 0);
        while let Some(b) = rest.get(n) {
            len |= usize::from(b & 0x7f) << (7 * n);
            n += 1;
            if b & 0x80 == 0 {
                break;
            }
        }
        all.push((*first, &rest[n..n + len]));
        bytes = &rest[n + len..];
    }
    all
}

/// The body of a DIGEST of streams held so far.
fn digest(chains: &[Chain]) -> Vec<u8> {
    let first = |c: &Chain| u128::from_le_bytes(c.0[..16].try_into().unwrap());
    let sum = chains.iter().fold(0u128, |sum, c| sum.wrapping_add(first(c)));
    let mut body = vec![];
    varint(&mut body, chains.len() as u64);
    body.extend(sum.to_le_bytes());
    body
}

#[test]
fn streams_that_both_hold_alike_cost_one_digest() {
    let upto = |n| n % 7 + 1;
    let mut pair =
        meet_each_other(keeper("hub_a", Role::Hub, upto), keeper("hub_b", Role::Hub, upto), ["hub_a", "hub_b"]);
    pair.run();
    assert_eq!(pair.caught_up, [true, true]);
    for i in 0..2 {
        assert_eq!((pair.count(i, DIGEST), pair.count(i, BUCKETS), pair.count(i, VECTOR)), (1, 0, 1));
        assert!(pair.said[i].len() < 60, "{} bytes", pair.said[i].len());
    }
}

#[test]
fn where_few_streams_differ_few_are_told_and_all_arrive() {
    // Each has something that the other lacks, and one stream is nowhere but there.
    let ahead = |here: u64, there: u64| move |n: u64| if n == here { 9 } else { u64::from(n != there) * 5 };
    let mut pair = meet_each_other(
        keeper("hub_a", Role::Hub, ahead(11, 30)),
        keeper("hub_b", Role::Hub, ahead(77, 31)),
        ["hub_a", "hub_b"],
    );
    pair.run();
    assert_eq!(pair.caught_up, [true, true]);
    assert_eq!(pair.held(0), pair.held(1));
    assert_eq!(pair.held(0).len() as u64, MANY);
    for i in 0..2 {
        assert_eq!((pair.count(i, DIGEST), pair.count(i, BUCKETS)), (1, 1));
        // 64 buckets of 5 bytes, and of 100 streams those in the four buckets that differ.
        let vectors: usize =
            frames(&pair.said[i]).iter().filter(|(first, _)| first & 0x1f == VECTOR).map(|(_, body)| body.len()).sum();
        assert!(vectors < 20 * 32, "{vectors} bytes of entries");
    }
}

#[test]
fn a_peer_without_a_digest_hears_of_every_stream() {
    let mut pair =
        meet_each_other(keeper("hub_a", Role::Hub, |_| 3), keeper("hub_b", Role::Hub, |_| 0), ["hub_a", "hub_b"]);
    pair.run();
    assert_eq!(pair.caught_up, [true, true]);
    assert_eq!((pair.count(0, DIGEST), pair.count(1, DIGEST)), (1, 0));
    assert_eq!(pair.held(0), pair.held(1));
}

#[test]
fn a_stream_that_grows_behind_the_digest_is_told_and_arrives() {
    let key = third(5);
    let upto = |_| 4;
    let mut pair =
        meet_each_other(keeper("hub_a", Role::Hub, upto), keeper("hub_b", Role::Hub, upto), ["hub_a", "hub_b"]);
    pair.run();
    let (hub, _) = &mut pair.ends[0];
    let clinic = PeerIdentity { name: key.node, role: Role::Clinic };
    let id = hub.node.open(hub.now(), clinic).unwrap();
    let mut body = vec![1 | (key.lane as u8) << 2];
    body.extend(key.incarnation.as_u64().to_le_bytes());
    varint(&mut body, 5);
    body.extend(chain_at(&key, 5).tag());
    hub.feed(id, &frame(1, &hello(0)));
    hub.feed(id, &frame(VECTOR | FLAG, &body));
    hub.serve(id);
    hub.feed(id, &batch(0, 5, chain_at(&key, 4), &[b"payload"]).0);
    pair.run();
    assert!(pair.held(0).contains(&(key, 5)));
    assert_eq!(pair.held(0), pair.held(1));
}

#[test]
fn a_damage_found_behind_the_digest_ends_the_session_so_that_the_next_one_mends_it() {
    let key = third(5);
    let upto = |_| 4;
    let names = ["hub_a", "hub_b"];
    let mut pair = meet_each_other(keeper(names[0], Role::Hub, upto), keeper(names[1], Role::Hub, upto), names);
    pair.run();
    let [(mut hub, id), (other, _)] = pair.ends;
    let range = LostRange { key, from: 1, to: 4 };
    let now = hub.now();
    assert!(hub.node.lose(now, &Loss { range, before: Some(Chain::start(&key)), last: Some(chain_at(&key, 4)) }));
    hub.serve(id);
    assert_eq!(hub.closed[..], [Ending { code: Some(Code::Stopping), by: EndedBy::Us }]);
    let mut pair = meet_each_other(hub, other, names);
    pair.run();
    assert!(pair.held(0).contains(&(key, 4)));
    assert_eq!(pair.held(0), pair.held(1));
}

#[test]
fn a_stream_of_which_the_peer_has_a_part_is_told_at_once_so_that_the_part_is_of_use() {
    let told = |has_part: bool| {
        let mut hub = keeper("hub", Role::Hub, |_| 5);
        let id = hub.node.open(hub.now(), PeerIdentity { name: name("hub_b"), role: Role::Hub }).unwrap();
        hub.feed(id, &frame(1, &hello(PARTS)));
        let key = third(5);
        let mut body = vec![(key.lane as u8) << 2, 10];
        body.extend(b"clinic_005");
        body.extend(key.incarnation.as_u64().to_le_bytes());
        body.extend([3, 1, 1, 1, 1, 1, 1, 1, 1, 100]);
        if has_part {
            hub.feed(id, &frame(HAVE | OPTIONAL, &body));
        }
        let said = says(&mut hub, id).0;
        assert!(frames(&said).iter().any(|(first, _)| first & 0x1f == DIGEST));
        frames(&said).iter().filter(|(first, body)| first & 0x1f == VECTOR && !body.is_empty()).count()
    };
    assert_eq!((told(false), told(true)), (0, 1));
}

#[test]
fn a_digest_is_a_receipt_for_what_the_hub_holds() {
    let upto = |_| 4;
    let mut pair =
        meet_each_other(keeper("clinic_z", Role::Clinic, upto), keeper("hub", Role::Hub, upto), ["clinic_z", "hub"]);
    pair.run();
    assert_eq!((pair.count(0, DIGEST), pair.count(1, DIGEST)), (1, 1));
    assert!(pair.ends[0].0.node.frontier().all(|e| e.acked == 4));
}

#[test]
fn what_does_not_belong_where_it_comes_is_refused() {
    let chains: Vec<Chain> = (0..MANY).map(|n| chain_at(&third(n), 2)).collect();
    let (same, other) = (frame(DIGEST, &digest(&chains)), frame(DIGEST, &digest(&chains[1..])));
    let (vector, last) = (frame(VECTOR | FLAG, &[]), frame(VECTOR | FLAG, &[]));
    let buckets = frame(BUCKETS, &[0; 64 * 5]);
    let code = |said: &[&[u8]]| {
        let mut hub = keeper("hub", Role::Hub, |_| 2);
        let id = hub.node.open(hub.now(), PeerIdentity { name: name("hub_b"), role: Role::Hub }).unwrap();
        hub.feed(id, &frame(1, &hello(0)));
        said.iter().for_each(|bytes| {
            let _ = hub.node.receive(hub.now(), id, bytes);
        });
        hub.refused_with(id)
    };
    for (what, said, want) in [
        ("the same", vec![&same, &vector], None),
        ("another", vec![&other, &vector, &buckets, &last], None),
        ("two of them", vec![&same, &same], Some(Code::State)),
        ("one too late", vec![&vector, &same], Some(Code::State)),
        ("buckets without", vec![&vector, &buckets], Some(Code::State)),
        ("buckets for the same", vec![&same, &vector, &buckets], Some(Code::State)),
        ("buckets twice", vec![&other, &vector, &buckets, &buckets], Some(Code::State)),
        ("the last of none", vec![&vector, &last], Some(Code::State)),
        ("the last of the same", vec![&same, &vector, &last], Some(Code::State)),
        ("the last twice", vec![&other, &vector, &last, &last], Some(Code::State)),
        ("too few buckets", vec![&other, &vector, &frame(BUCKETS, &[0; 32 * 5])], Some(Code::Malformed)),
        ("half a digest", vec![&frame(DIGEST, &[1; 9])], Some(Code::Malformed)),
    ] {
        let said: Vec<&[u8]> = said.into_iter().map(Vec::as_slice).collect();
        assert_eq!(code(&said), want, "{what}");
    }
}

//! A clinic with a good certificate that wants to break the hub. After each attack another clinic
//! must sync as before.

use ropeway_core::event::flags;
use ropeway_core::id::Lane;
use ropeway_core::limits::Timing;
use ropeway_core::policy::Policy;
use ropeway_std::LogView;
use ropeway_std::store::Stop;
use ropeway_std::view::Filter;
use ropeway_tests::hostile::Hostile;
use ropeway_tests::name;
use ropeway_tests::spec::{
    Batch, Event, FLAG, Hello, NORMAL, OPTIONAL, Whose, entry, frame, kind, number, varint, vector,
};

use crate::scene::{MINE, Scene, batches, now_ms, scene, scene_with, start};

#[test]
fn arrival_0_2_1_is_a_gap_and_loses_nothing() {
    let s = scene(Policy::Own);
    let b = batches(3);
    let mut peer = s.clinic_b();
    peer.say(&b[0].frame());
    peer.acknowledged(0, 1);
    peer.say(&b[2].frame());
    assert_eq!(peer.refusal(), 405);
    assert_eq!(s.stored(), [b"b1"]);
    let mut peer = Hostile::greeted(&s.d, "clinic_b", s.hub.address);
    peer.say(&vector(&[entry(Whose::Mine, NORMAL, MINE, 3, b[2].tag)]));
    b[1..].iter().for_each(|b| peer.say(&b.frame()));
    peer.acknowledged(0, 3);
    peer.goodbye();
    assert_eq!(s.stored(), [b"b1", b"b2", b"b3"]);
    s.others_still_sync();
}

#[test]
fn a_huge_seq_of_an_event_is_refused() {
    let s = scene(Policy::Own);
    let b = &batches(1)[0];
    let at = |first_seq| Batch { first_seq, ..b.clone() }.frame();
    assert_eq!(s.refused(&at(2)), 405);
    assert_eq!(s.refused(&at(1 << 63)), 405);
    assert_eq!(s.refused(&at(u64::MAX - 1)), 405);
    assert_eq!(s.refused(&at(u64::MAX)), 401);
    assert_eq!(s.refused(&at(0)), 401);
    assert!(s.stored().is_empty());
    // And the stream is not blocked by it.
    let mut peer = s.clinic_b();
    peer.say(&b.frame());
    peer.acknowledged(0, 1);
}

fn claim(seq: u64) {
    let s = scene(Policy::Own);
    let mut peer = Hostile::greeted(&s.d, "clinic_b", s.hub.address);
    peer.say(&vector(&[entry(Whose::Mine, NORMAL, MINE, seq, [9; 8])]));
    peer.settle();
    drop(peer);
    s.others_still_sync();
    let mut peer = s.clinic_b();
    peer.say(&batches(1)[0].frame());
    peer.acknowledged(0, 1);
}

#[test]
fn a_huge_seq_in_a_vector_breaks_nothing() {
    claim(1 << 63);
    claim(u64::MAX - 1);
}

#[test]
fn the_largest_seq_in_a_vector_is_refused() {
    let s = scene(Policy::Own);
    let mut peer = Hostile::greeted(&s.d, "clinic_b", s.hub.address);
    peer.say(&vector(&[entry(Whose::Mine, NORMAL, MINE, u64::MAX, [9; 8])]));
    assert_eq!(peer.refusal(), 401);
    s.others_still_sync();
}

#[test]
fn huge_seqs_of_the_hubs_own_streams_break_nothing() {
    let s = scene(Policy::All);
    let Scene { d, hub, .. } = s;
    drop(hub);
    let mut own = d.open("hub");
    for lane in [Lane::Urgent, Lane::Normal] {
        own.append(lane, 0, b"of the hub").unwrap();
    }
    own.commit().unwrap();
    let keys: Vec<_> = own.frontier().filter(|f| f.own).map(|f| f.key).collect();
    drop(own);
    let hub = d.serve(Policy::All);
    let mut peer = Hostile::greeted(&d, "clinic_b", hub.address);
    let huge = |k: &ropeway_core::id::StreamKey| {
        entry(Whose::Yours, k.lane as u8, k.incarnation.as_u64(), u64::MAX - 1, [9; 8])
    };
    peer.say(&vector(&keys.iter().map(huge).collect::<Vec<_>>()));
    peer.settle();
}

#[test]
fn a_far_future_stamp_is_stored_marked_and_poisons_no_clock() {
    let s = scene(Policy::Own);
    let far = (1 << 48) - 2;
    let mut peer = s.clinic_b();
    peer.say(&Batch::new(0, 1, &mut start(), &[Event::at(far, "from the year 10889")]).frame());
    peer.acknowledged(0, 1);
    peer.goodbye();
    s.others_still_sync();
    let Scene { d, hub, .. } = s;
    drop(hub);
    d.push("hub", ["own"]);
    let mut seen = 0;
    LogView::open(&d.hub())
        .unwrap()
        .read(&Filter::default(), 1, |key, _, e| {
            seen += 1;
            let future = e.flags & flags::FUTURE != 0;
            assert_eq!(future, key.node == name("clinic_b"), "{key}");
            assert_eq!(e.hlc.ms() == far, future);
            assert!(future || e.hlc.ms() < now_ms() + 60_000, "{key} {:?}", e.hlc);
            Stop::No
        })
        .unwrap();
    assert_eq!(seen, 6 + 1 + 1);
}

#[test]
fn stamps_that_no_clock_shows_or_that_go_back_are_refused() {
    let s = scene(Policy::Own);
    let b = &batches(1)[0];
    for stamp in [u64::MAX, ((1 << 48) - 1) << 16] {
        assert_eq!(s.refused(&Batch { stamp, ..b.clone() }.frame()), 409);
    }
    let mut chain = start();
    let two = [1, 2].map(|i| Batch::new(0, i, &mut chain, &[Event::at(5_000_000 - i, "x")]).frame());
    assert_eq!(s.refused(&two.concat()), 409);
    // The first of the two was good.
    assert_eq!(s.stored().len(), 1);
}

#[test]
fn a_batch_that_is_not_what_it_says_is_refused_whole() {
    let s = scene(Policy::Own);
    let honest = Batch::new(0, 1, &mut start(), &[Event::at(now_ms(), "one"), Event::at(now_ms() + 5, "two")]);
    let lies = [
        Batch { tag: [0; 8], ..honest.clone() },
        Batch { count: 3, ..honest.clone() },
        Batch { count: 1, ..honest.clone() },
        Batch { raw_bytes: honest.raw_bytes + 1, ..honest.clone() },
        Batch { raw_bytes: honest.raw_bytes - 1, ..honest.clone() },
        Batch { raw_bytes: 0, data: Vec::new(), ..honest.clone() },
        Batch { codec: 1, ..honest.clone() },
        Batch { stamp: honest.stamp + 1, ..honest.clone() },
    ];
    for lie in lies {
        assert_eq!(s.refused(&lie.frame()), 410, "{lie:?}");
    }
    // These codecs say to how many events before the first one they refer: there are none.
    let refers = |codec| Batch { codec, ..honest.clone() };
    for lie in [Batch { count: 0, ..honest.clone() }, Batch { count: 4097, ..honest.clone() }, refers(2), refers(255)] {
        assert_eq!(s.refused(&lie.frame()), 401, "{lie:?}");
    }
    assert!(s.stored().is_empty());
}

/// Peak of this process's memory in MiB.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
fn a_decompression_bomb_costs_no_memory() {
    let s = scene(Policy::Own);
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..512 {
        std::io::Write::write_all(&mut encoder, &zeros).unwrap();
    }
    let data = encoder.finish().unwrap();
    assert!(data.len() < 32_000, "{} bytes do not fit the credit", data.len());
    let b = Batch { codec: 1, data, ..batches(1).remove(0) };
    let before = peak_mib();
    for raw_bytes in [1, 1000, 263_168] {
        assert_eq!(s.refused(&Batch { raw_bytes, ..b.clone() }.frame()), 410);
    }
    for raw_bytes in [512 << 20, u64::MAX] {
        assert_eq!(s.refused(&Batch { raw_bytes, ..b.clone() }.frame()), 401);
    }
    assert!(peak_mib() - before < 200, "from {before} to {} MiB", peak_mib());
    assert!(s.stored().is_empty());
}

#[test]
fn frames_that_cannot_be_are_refused_before_they_are_received() {
    let s = scene(Policy::Own);
    // Only the head is sent: no body may be waited for.
    let head = |first: u8, len: u64| [&[first], varint(len).as_slice()].concat();
    assert_eq!(s.refused(&head(kind::PING, 4097)), 402);
    assert_eq!(s.refused(&head(kind::VECTOR, 1 << 20)), 402);
    assert_eq!(s.refused(&head(kind::BATCH, 263_169)), 402);
    assert_eq!(s.refused(&head(OPTIONAL | 13, (1 << 28) - 1)), 402);
    // A length of five bytes.
    assert_eq!(s.refused(&[kind::PING, 0x80, 0x80, 0x80, 0x80, 1]), 401);
    assert_eq!(s.refused(&[0x80 | kind::PING, 1, 0]), 401);
    assert_eq!(s.refused(&[kind::PING, 0x81, 0, 0]), 401);
}

#[test]
fn unknown_frames_are_skipped_if_they_may_be() {
    let s = scene(Policy::Own);
    for first in [0, 9, 10, 27, 31] {
        assert_eq!(s.refused(&frame(first, b"whatever")), 403, "{first}");
    }
    let mut peer = s.clinic_b();
    for first in [9, 10, 27, 31] {
        peer.say(&frame(OPTIONAL | first, &[0xff; 4096]));
    }
    peer.settle();
    peer.goodbye();
}

#[test]
fn messages_out_of_turn_are_refused() {
    let s = scene(Policy::Own);
    let hello = |p: &Hostile| Hello::new(p.deployment).frame();
    let first = |bytes: &[u8]| {
        let mut peer = s.connect();
        peer.say(bytes);
        peer.refusal()
    };
    assert_eq!(first(&vector(&[])), 404);
    assert_eq!(first(&batches(1)[0].frame()), 404);
    assert_eq!(first(&number(kind::PING, 1)), 404);
    assert_eq!(first(&frame(kind::GOODBYE, &[])), 404);
    let mut peer = s.clinic_b();
    let again = hello(&peer);
    peer.say(&again);
    assert_eq!(peer.refusal(), 404);
    let mut peer = Hostile::greeted(&s.d, "clinic_b", s.hub.address);
    peer.say(&frame(kind::VECTOR, &entry(Whose::Mine, NORMAL, MINE, 0, [0; 8])));
    peer.say(&batches(1)[0].frame());
    assert_eq!(peer.refusal(), 404);
    let mine = entry(Whose::Mine, NORMAL, MINE, 0, [0; 8]);
    assert_eq!(s.refused(&vector(&[])), 404);
    assert_eq!(s.refused(&frame(kind::VECTOR, &mine)), 404);
    assert_eq!(s.refused(&Batch { handle: 1, ..batches(1).remove(0) }.frame()), 404);
    let after = [frame(kind::GOODBYE, &[]), batches(1)[0].frame()].concat();
    let mut peer = s.clinic_b();
    peer.say(&after);
    peer.end();
    assert!(s.stored().is_empty());
}

#[test]
fn a_hello_of_another_version_or_deployment_is_refused() {
    let s = scene(Policy::Own);
    let answer = |change: fn(&mut Hello)| {
        let mut peer = s.connect();
        let mut hello = Hello::new(peer.deployment);
        change(&mut hello);
        peer.say(&hello.frame());
        peer.refusal()
    };
    assert_eq!(answer(|h| h.versions = [2, 3]), 403);
    assert_eq!(answer(|h| h.versions = [0, 0]), 403);
    assert_eq!(answer(|h| h.versions = [3, 2]), 401);
    assert_eq!(answer(|h| h.deployment ^= 1), 411);
    let mut peer = s.connect();
    let newer = Hello { versions: [1, 9], ..Hello::new(peer.deployment) };
    peer.say(&frame(kind::HELLO | FLAG, &[newer.body(), vec![0xee; 40]].concat()));
    peer.settle();
    s.others_still_sync();
}

#[test]
fn floods_meet_a_limit() {
    let s = scene(Policy::Own);
    let streams =
        |n: u64, base| -> Vec<_> { (0..n).map(|i| entry(Whose::Mine, NORMAL, base + i, 0, [0; 8])).collect() };
    assert_eq!(s.refused(&frame(kind::VECTOR, &streams(64, 100).concat())), 603);
    let foreign: Vec<_> = (1..=200).map(|i| entry(Whose::Of("clinic_a"), NORMAL, i, 0, [0; 8])).collect();
    assert_eq!(s.refused(&frame(kind::VECTOR, &foreign.concat()).repeat(30)), 408);
    let over = [&[kind::BATCH], varint(33_000).as_slice()].concat();
    assert_eq!(s.refused(&over), 407);
    assert_eq!(s.refused(&number(kind::BLOCKED, 1 << 20)), 311);
    assert_eq!(s.refused(&number(kind::CREDIT, u64::MAX).repeat(2)), 401);
    assert_eq!(s.refused(&frame(kind::CREDIT, &[1, 1])), 401);
    assert_eq!(s.refused(&frame(kind::ACK, &[0, 1].repeat(2000))), 404);
    let mut peer = s.clinic_b();
    peer.say(&number(kind::PING, 1).repeat(100_000));
    peer.settle();
    // Not one answer for each.
    assert!(peer.frames().iter().filter(|f| f.kind() == kind::PONG).count() < 50_000);
    s.others_still_sync();
}

#[test]
fn the_same_clinic_twice_closes_the_older_session() {
    let s = scene(Policy::Own);
    let mut older = s.clinic_b();
    older.settle();
    let mut newer = s.clinic_b();
    newer.settle();
    assert_eq!(older.refusal(), 412);
    newer.say(&batches(1)[0].frame());
    newer.acknowledged(0, 1);
    newer.goodbye();
    s.others_still_sync();
}

#[test]
fn a_clinic_that_borrows_credit_and_sits_on_it_does_not_stop_others() {
    let s = scene_with(Policy::Own, Timing { silence_timeout_ms: 8000, ping_after_ms: 5000, ..Timing::default() });
    let mut peer = s.clinic_b();
    peer.say(&number(kind::BLOCKED, 200_000));
    peer.wait(kind::CREDIT);
    let mut x = 1_u64;
    let noise = (0..100_000).map(|_| {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (x >> 56) as u8
    });
    let mut a = s.d.open("clinic_a");
    a.append(Lane::Normal, 0, &noise.collect::<Vec<_>>()).unwrap();
    a.commit().unwrap();
    let hub = s.hub.address.to_string();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || drop(tell.send(a.sync(&hub, &Default::default(), |_| ()).map(|r| r.acknowledged))));
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while std::time::Instant::now() < end {
        // The hub may have ended its session by now: then nobody waits for it any more.
        peer.say(&number(kind::PING, 77));
        if let Ok(done) = told.recv_timeout(std::time::Duration::from_secs(1)) {
            assert_eq!(done.unwrap(), 1);
            return;
        }
    }
    panic!("clinic_a has waited 60 s for credit that clinic_b holds");
}

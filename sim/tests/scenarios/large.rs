//! Events that take longer than a link lives.

use ropeway_core::id::Lane;
use ropeway_core::limits::Limits;
use ropeway_core::planted::Bug;
use ropeway_core::policy::Role;
use ropeway_sim::{Mutant, Profile, Said, World};

use super::{CLINIC, HUB, an_urgent_event_arrives_soon, assert_holds, own_key};

/// A hub and a clinic of usual sizes on a 2G link that dies every 12 seconds.
fn on_a_dying_link(seed: u64, mutant: Mutant) -> World {
    let mut w = World::new(seed).with_mutant(mutant);
    w.listen();
    let small = |limits| Limits { segment_bytes: 1 << 20, ..limits };
    w.add("hub", Role::Hub, small(Limits::hub(4)));
    w.add("clinic_a", Role::Clinic, small(Limits::clinic()));
    w.profile = Profile { cut_every_ms: 0, ..Profile::BHUTAN_2G };
    w
}

/// Bytes that no codec makes smaller.
fn noise(bytes: usize, mut x: u64) -> Vec<u8> {
    let mut next = || {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (x >> 33) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

/// Dials again and again; each connection lives 12 seconds. The number of them until `done`.
fn live_and_die(w: &mut World, most: usize, mut done: impl FnMut(&World) -> bool) -> usize {
    for n in 1..=most {
        w.connect(CLINIC, HUB);
        if w.run_until(12_000, &mut done) {
            return n;
        }
        w.cut(CLINIC, true);
        w.cut(HUB, true);
        w.run_for(500);
    }
    usize::MAX
}

#[test]
fn an_event_larger_than_what_a_link_carries_in_its_life_arrives_in_the_end() {
    for seed in 0..3 {
        let mut w = on_a_dying_link(700 + seed, Mutant::None);
        w.write(CLINIC, Lane::Bulk, &noise(200_000, seed));
        w.run_for(1000);
        let bulk = own_key(&w, CLINIC, Lane::Bulk);
        // 70 seconds of the link's time.
        let lives = live_and_die(&mut w, 14, |w| w.hosts[HUB].synced_seq(&bulk) == 1);
        assert!((6..=14).contains(&lives), "{lives} lives");
        assert!(w.said.iter().all(|s| !matches!(s.2, Said::Batch { first, .. } if first > 1)));
        assert_eq!(w.verify(HUB), 1);
        assert_holds(&w);
    }
}

#[test]
fn the_parts_go_on_although_the_clinic_was_restarted() {
    let mut w = on_a_dying_link(710, Mutant::None);
    w.write(CLINIC, Lane::Bulk, &noise(90_000, 1));
    w.run_for(1000);
    let bulk = own_key(&w, CLINIC, Lane::Bulk);
    for _ in 0..2 {
        assert_eq!(live_and_die(&mut w, 1, |w| w.hosts[HUB].synced_seq(&bulk) == 1), usize::MAX);
        w.stop(CLINIC);
        w.start(CLINIC, false);
    }
    assert!(live_and_die(&mut w, 3, |w| w.hosts[HUB].synced_seq(&bulk) == 1) <= 3);
    let begun = w.said.iter().filter(|s| matches!(s.2, Said::Part { at: (0, _), .. })).count();
    assert_eq!(begun, 1, "it began once");
    assert_holds(&w);
}

#[test]
fn a_hub_that_was_restarted_gets_it_from_the_beginning() {
    let mut w = on_a_dying_link(720, Mutant::None);
    w.write(CLINIC, Lane::Bulk, &noise(40_000, 2));
    w.run_for(1000);
    let bulk = own_key(&w, CLINIC, Lane::Bulk);
    live_and_die(&mut w, 1, |_| false);
    w.crash(HUB);
    w.start(HUB, true);
    assert!(live_and_die(&mut w, 3, |w| w.hosts[HUB].synced_seq(&bulk) == 1) <= 3);
    let begun = w.said.iter().filter(|s| matches!(s.2, Said::Part { at: (0, _), .. })).count();
    assert_eq!(begun, 2);
    assert_holds(&w);
}

#[test]
fn an_urgent_event_overtakes_a_large_one() {
    let mut w = on_a_dying_link(730, Mutant::None);
    w.write(CLINIC, Lane::Bulk, &noise(200_000, 3));
    w.connect(CLINIC, HUB);
    w.run_for(15_000);
    an_urgent_event_arrives_soon(&mut w);
    w.run_until(300_000, |w| w.sessions(CLINIC) == 0);
    assert_eq!(w.verify(HUB), 2);
    assert_holds(&w);
}

#[test]
fn a_clinic_that_begins_again_each_time_never_ends() {
    let mut w = on_a_dying_link(740, Mutant::Core(Bug::PartsBeginAgain));
    w.write(CLINIC, Lane::Bulk, &noise(60_000, 4));
    w.run_for(1000);
    let bulk = own_key(&w, CLINIC, Lane::Bulk);
    ropeway_core::planted::plant(Some(Bug::PartsBeginAgain));
    let lives = live_and_die(&mut w, 8, |w| w.hosts[HUB].synced_seq(&bulk) == 1);
    ropeway_core::planted::plant(None);
    assert_eq!(lives, usize::MAX);
}

#[test]
fn room_that_is_not_given_back_is_missed() {
    for (bug, arrive) in [(None, true), (Some(Bug::ParcelLeaks), false)] {
        let mut w = on_a_dying_link(750, Mutant::None);
        w.profile = Profile::LAN;
        w.finish = false;
        for n in 0..12 {
            w.write(CLINIC, Lane::Bulk, &noise(200_000, n));
        }
        w.run_for(2000);
        let bulk = own_key(&w, CLINIC, Lane::Bulk);
        ropeway_core::planted::plant(bug);
        for _ in 0..12 {
            w.profile = Profile { cut_every_ms: 0, ..Profile::BHUTAN_2G };
            w.connect(CLINIC, HUB);
            w.run_for(8_000);
            w.cut(CLINIC, true);
            w.cut(HUB, true);
            w.profile = Profile::LAN;
            w.connect(CLINIC, HUB);
            w.run_for(3_000);
            w.cut(CLINIC, true);
            w.cut(HUB, true);
            w.write(CLINIC, Lane::Bulk, &noise(200_000, 99));
        }
        let all = w.run_until(1, |w| w.hosts[HUB].synced_seq(&bulk) >= 12);
        ropeway_core::planted::plant(None);
        assert_eq!(all, arrive, "{bug:?}");
    }
}

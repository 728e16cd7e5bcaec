//! Named stories, each one told in full. A bug that the seeds found becomes one of these.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod disk;
mod large;
mod refuse;

use ropeway_core::code::Code;
use ropeway_core::event::flags;
use ropeway_core::id::{Lane, StreamKey};
use ropeway_core::limits::Limits;
use ropeway_core::node::{AppendError, EndedBy, Ending, Event};
use ropeway_core::policy::Role;
use ropeway_core::wire::frame::FrameType;
use ropeway_sim::{EPOCH_MS, Profile, Said, World, small_limits};

const HUB: usize = 0;
const CLINIC: usize = 1;
const CLEAN: Option<Code> = None;

/// A hub and a clinic, both running, nothing written yet.
fn pair(seed: u64) -> World {
    let mut w = World::new(seed);
    w.listen();
    w.add("hub", Role::Hub, small_limits());
    w.add("clinic_a", Role::Clinic, small_limits());
    w
}

fn write(w: &mut World, h: usize, count: usize, bytes: usize) {
    for n in 0..count {
        let mut payload = format!("{n:05}").into_bytes();
        payload.resize(bytes, b'.');
        w.write(h, Lane::Normal, &payload);
    }
    w.run_for(1000);
}

/// One clean sync of the clinic.
fn sync(w: &mut World) {
    w.finish = true;
    let before = w.hosts[CLINIC].endings.len();
    assert!(w.connect(CLINIC, HUB).is_some());
    w.run_until(600_000, |w| w.hosts[CLINIC].endings.len() > before && w.sessions(HUB) == 0);
    assert_holds(w);
}

fn ending(w: &World, h: usize) -> Ending {
    *w.hosts[h].endings.last().expect("a session has ended")
}

fn assert_holds(w: &World) {
    let tail: Vec<&str> = w.tail().iter().map(String::as_str).collect();
    assert_eq!(w.failed(), None, "{}", tail.join("\n"));
}

fn own_key(w: &World, h: usize, lane: Lane) -> StreamKey {
    let incarnation = w.hosts[h].node().expect("it runs").incarnation();
    StreamKey { node: w.hosts[h].config.name, incarnation, lane }
}

fn batches(w: &World, from: usize) -> Vec<(u64, u64)> {
    let of = |s: &(usize, usize, Said)| match s {
        (f, _, Said::Batch { first, events, .. }) if *f == from => Some((*first, events.len() as u64)),
        _ => None,
    };
    w.said.iter().filter_map(of).collect()
}

/// The clinic's first urgent event is at the hub before what is under way.
fn an_urgent_event_arrives_soon(w: &mut World) {
    let from = w.now_ms();
    w.write(CLINIC, Lane::Urgent, b"a child with a fever");
    let urgent = own_key(w, CLINIC, Lane::Urgent);
    assert!(w.run_until(60_000, |w| w.hosts[HUB].synced_seq(&urgent) == 1));
    let took = w.now_ms() - from;
    assert!(took < 9_000, "{took} ms");
}

#[test]
fn a_clinic_syncs_and_both_sides_say_goodbye() {
    let mut w = pair(1);
    write(&mut w, CLINIC, 20, 100);
    sync(&mut w);
    assert_eq!(ending(&w, CLINIC), Ending { code: CLEAN, by: EndedBy::Us });
    assert_eq!(ending(&w, HUB), Ending { code: CLEAN, by: EndedBy::Peer });
    assert_eq!((w.verify(HUB), w.counts.sent), (20, 20));
    // And nothing goes over the wire when there is nothing new.
    w.said.clear();
    sync(&mut w);
    assert_eq!((ending(&w, CLINIC).code, batches(&w, CLINIC)), (CLEAN, vec![]));
    assert_holds(&w);
}

#[test]
fn goodbyes_that_cross_end_both_sides_cleanly() {
    let mut w = pair(2);
    w.profile = Profile::EDGE;
    w.finish = false;
    write(&mut w, CLINIC, 3, 100);
    w.connect(CLINIC, HUB);
    w.run_for(20_000);
    w.finish(HUB);
    w.finish(CLINIC);
    w.run_for(5_000);
    assert_eq!((ending(&w, CLINIC).code, ending(&w, HUB).code), (CLEAN, CLEAN));
    assert_holds(&w);
}

#[test]
fn a_goodbye_waits_until_the_other_side_has_sent_everything() {
    let mut w = pair(3);
    w.profile = Profile::EDGE;
    w.finish = false;
    w.connect(CLINIC, HUB);
    w.run_for(5_000);
    // The hub has nothing to do and says so; the clinic's events are on their way to the disk.
    w.append(CLINIC, Lane::Normal, 0, b"late").unwrap();
    w.finish(HUB);
    w.run_for(20_000);
    assert_eq!((ending(&w, CLINIC).code, ending(&w, HUB).code), (CLEAN, CLEAN));
    assert_eq!(w.verify(HUB), 1);
    assert_holds(&w);
}

#[test]
fn after_a_cut_in_mid_batch_nothing_acknowledged_is_sent_again() {
    let mut w = pair(4);
    w.profile = Profile::EDGE;
    write(&mut w, CLINIC, 200, 300);
    w.connect(CLINIC, HUB);
    w.run_until(60_000, |w| w.durable_events(HUB, CLINIC) >= 50);
    w.cut(CLINIC, true);
    w.run_for(2_000);
    let held = w.durable_events(HUB, CLINIC);
    assert!((50..200).contains(&held));
    w.said.clear();
    sync(&mut w);
    assert_eq!(batches(&w, CLINIC).first().map(|b| b.0), Some(held + 1));
    assert_eq!(batches(&w, CLINIC).iter().map(|b| b.1).sum::<u64>(), 200 - held);
    assert_eq!(w.verify(HUB), 200);
    assert_holds(&w);
}

#[test]
fn a_hub_that_loses_power_between_write_and_sync_has_acknowledged_nothing_of_it() {
    for seed in 0..20 {
        let mut w = pair(seed);
        write(&mut w, CLINIC, 40, 200);
        w.sync_ms = 400;
        w.connect(CLINIC, HUB);
        w.run_for(20 + seed * 20);
        w.crash(HUB);
        w.run_for(100);
        w.start(HUB, true);
        w.cut(CLINIC, true);
        w.run_for(100);
        sync(&mut w);
        assert_eq!((ending(&w, CLINIC).code, w.verify(HUB)), (CLEAN, 40));
        assert_holds(&w);
    }
}

#[test]
fn a_clinic_that_loses_power_keeps_what_was_durable_and_goes_on() {
    for seed in 0..20 {
        let mut w = pair(100 + seed);
        write(&mut w, CLINIC, 30, 200);
        w.sync_ms = 200;
        for n in 0..10u8 {
            let _ = w.append(CLINIC, Lane::Normal, 0, &[n; 50]);
            w.run_for(seed);
        }
        let incarnation = own_key(&w, CLINIC, Lane::Normal);
        w.crash(CLINIC);
        w.start(CLINIC, true);
        assert_eq!(own_key(&w, CLINIC, Lane::Normal), incarnation);
        write(&mut w, CLINIC, 5, 60);
        sync(&mut w);
        assert!(w.verify(HUB) >= 35);
        assert_holds(&w);
    }
}

#[test]
fn the_newest_session_wins() {
    let mut w = pair(5);
    w.finish = false;
    w.connect(CLINIC, HUB);
    w.run_for(100);
    w.cut(CLINIC, false);
    w.connect(CLINIC, HUB);
    w.run_for(10_000);
    let superseded = Ending { code: Some(Code::Superseded), by: EndedBy::Us };
    assert!(w.hosts[HUB].endings.iter().all(|e| *e == superseded || e.code == Some(Code::Cut)));
    assert_eq!((w.hosts[HUB].endings.len(), w.sessions(HUB)), (1, 1));
    assert_holds(&w);
}

#[test]
fn a_stamp_from_the_far_future_is_marked_and_does_not_move_the_clock() {
    let mut w = pair(9);
    w.hosts[CLINIC].wall_ahead_ms = 80 * 365 * 86_400_000;
    write(&mut w, CLINIC, 3, 50);
    sync(&mut w);
    write(&mut w, HUB, 1, 50);
    let theirs = w.stored(HUB, &own_key(&w, CLINIC, Lane::Normal));
    let ours = w.stored(HUB, &own_key(&w, HUB, Lane::Normal));
    assert!(theirs.len() == 3 && theirs.iter().all(|e| e.flags == flags::FUTURE));
    assert!(ours[0].hlc.ms() < EPOCH_MS + 3_600_000, "{:?}", ours[0].hlc);
    w.crash(HUB);
    w.start(HUB, true);
    write(&mut w, HUB, 1, 50);
    let ours = w.stored(HUB, &own_key(&w, HUB, Lane::Normal));
    assert!(ours[1].hlc.ms() < EPOCH_MS + 3_600_000, "{:?}", ours[1].hlc);
    assert_holds(&w);
}

#[test]
fn an_event_larger_than_the_credit_left_asks_for_more() {
    for seed in 0..10 {
        let mut w = pair(200 + seed);
        // To a peer that takes no parts.
        w.hosts[HUB].limits.parcels = 0;
        w.stop(HUB);
        w.start(HUB, false);
        for n in 0..12 {
            write(&mut w, CLINIC, 1, if n % 3 == 2 { 8192 } else { 700 + 100 * seed as usize });
        }
        sync(&mut w);
        let said = |kind| w.said.iter().any(|s| s.2 == Said::Control(kind));
        assert!(said(FrameType::Blocked) && said(FrameType::Credit));
        assert_eq!((ending(&w, CLINIC).code, w.verify(HUB)), (CLEAN, 12));
        assert_holds(&w);
    }
}

#[test]
fn an_urgent_event_overtakes_what_waits_in_bulk() {
    let mut w = pair(10);
    for h in &mut w.hosts {
        h.limits = Limits::clinic();
    }
    for h in [HUB, CLINIC] {
        w.stop(h);
        w.start(h, false);
    }
    w.profile = Profile { cut_every_ms: 0, ..Profile::BHUTAN_2G };
    for _ in 0..100 {
        w.write(CLINIC, Lane::Bulk, &[b'b'; 2000]);
    }
    w.connect(CLINIC, HUB);
    w.run_for(20_000);
    an_urgent_event_arrives_soon(&mut w);
    assert!(w.durable_events(HUB, CLINIC) < 60, "the bulk is still on its way");
    w.run_until(300_000, |w| w.sessions(CLINIC) == 0);
    assert_eq!(w.verify(HUB), 101);
    assert_holds(&w);
}

#[test]
fn a_log_that_is_sealed_while_it_is_written_survives_power_cuts_and_syncs_whole() {
    for seed in 0..10 {
        let mut w = pair(700 + seed);
        w.hosts[HUB].seals = true;
        w.hosts[CLINIC].seals = true;
        for round in 0..6 {
            for _ in 0..20 {
                write(&mut w, CLINIC, 3, 900);
            }
            if round % 2 == 1 {
                w.crash(CLINIC);
                w.start(CLINIC, true);
            }
            sync(&mut w);
            if round == 3 {
                w.crash(HUB);
                w.start(HUB, true);
            }
        }
        for h in [HUB, CLINIC] {
            let sealed = w.hosts[h].disk.sealed().len();
            assert!(sealed > 1 || h == HUB, "{seed}: {sealed} segments of host {h} are sealed");
        }
        assert_eq!(w.verify(HUB), w.verify(CLINIC), "{seed}");
        assert_holds(&w);
    }
}

#[test]
fn a_session_that_ends_does_not_take_those_behind_it_out_of_the_queue() {
    for seed in 0..20 {
        let mut w = World::new(400 + seed);
        w.listen();
        w.profile = Profile::EDGE;
        w.add("hub", Role::Hub, small_limits());
        for c in 1..4 {
            w.add(&format!("clinic_{c}"), Role::Clinic, small_limits());
            write(&mut w, c, 2, 100);
        }
        w.connect(1, HUB);
        w.run_for(50);
        w.cut(1, true);
        w.connect(2, HUB);
        w.connect(3, HUB);
        w.run_for(20_000);
        assert_eq!((w.durable_events(HUB, 2), w.durable_events(HUB, 3)), (2, 2), "{seed}");
        assert_holds(&w);
    }
}

#[test]
fn a_stream_that_begins_after_the_goodbye_does_not_keep_the_session_open() {
    let mut w = pair(20);
    w.profile = Profile::EDGE;
    write(&mut w, CLINIC, 3, 100);
    w.finish = true;
    w.connect(CLINIC, HUB);
    let said_goodbye = |w: &World| w.said.iter().any(|s| s.0 == CLINIC && s.2 == Said::Control(FrameType::Goodbye));
    assert!(w.run_until(60_000, said_goodbye));
    w.append(CLINIC, Lane::Urgent, 0, b"later").unwrap();
    w.run_for(60_000);
    assert_eq!((w.sessions(CLINIC), w.sessions(HUB)), (0, 0));
    sync(&mut w);
    assert_eq!(w.verify(HUB), 4);
    assert_holds(&w);
}

#[test]
fn a_restored_backup_fetches_what_it_lost_and_goes_on_in_a_new_incarnation() {
    let mut w = pair(12);
    write(&mut w, CLINIC, 10, 100);
    let backup = w.hosts[CLINIC].disk.clone();
    write(&mut w, CLINIC, 10, 100);
    sync(&mut w);
    let old = own_key(&w, CLINIC, Lane::Normal);
    w.replace_disk(CLINIC, backup);
    w.start(CLINIC, false);
    assert_eq!(own_key(&w, CLINIC, Lane::Normal), old);
    sync(&mut w);
    assert_eq!(w.hosts[CLINIC].told, [Event::TailLost { stream: old }]);
    let new = own_key(&w, CLINIC, Lane::Normal);
    assert_ne!(new, old);
    assert_eq!(w.verify(CLINIC), 20);
    // The change outlasts a restart, though nothing was written since.
    w.crash(CLINIC);
    w.start(CLINIC, true);
    assert_eq!(own_key(&w, CLINIC, Lane::Normal), new);
    write(&mut w, CLINIC, 5, 100);
    sync(&mut w);
    w.crash(CLINIC);
    w.start(CLINIC, true);
    assert_eq!(own_key(&w, CLINIC, Lane::Normal), new);
    assert_eq!((ending(&w, CLINIC).code, w.verify(HUB)), (CLEAN, 25));
    assert_holds(&w);
}

#[test]
fn a_restored_backup_that_wrote_before_it_synced_keeps_its_branch_and_can_still_be_heard() {
    // Fewer or more events than were lost.
    for wrote in [3, 10, 15] {
        let mut w = pair(13);
        write(&mut w, CLINIC, 10, 100);
        let backup = w.hosts[CLINIC].disk.clone();
        write(&mut w, CLINIC, 10, 100);
        sync(&mut w);
        let old = own_key(&w, CLINIC, Lane::Normal);
        w.replace_disk(CLINIC, backup);
        w.start(CLINIC, false);
        w.forget_truth_after(&old, 10);
        write(&mut w, CLINIC, wrote, 90);
        sync(&mut w);
        assert_eq!(ending(&w, CLINIC).code, Some(Code::Fork));
        let new = own_key(&w, CLINIC, Lane::Normal);
        assert_ne!(new, old, "{wrote}");
        write(&mut w, CLINIC, 5, 100);
        sync(&mut w);
        assert_eq!(w.hosts[HUB].synced_seq(&new), 5, "{wrote}");
        assert_eq!(w.stored(HUB, &old).len(), 20);
        assert_eq!(w.stored(CLINIC, &old).len(), 10 + wrote);
        assert_holds(&w);
    }
}

#[test]
fn a_copied_card_in_another_machine_starts_a_new_incarnation() {
    let mut w = pair(14);
    write(&mut w, CLINIC, 10, 100);
    sync(&mut w);
    let old = own_key(&w, CLINIC, Lane::Normal);
    w.stop(CLINIC);
    w.hosts[CLINIC].config.fingerprint = 2;
    w.start(CLINIC, false);
    let new = own_key(&w, CLINIC, Lane::Normal);
    assert_ne!(new, old);
    write(&mut w, CLINIC, 5, 100);
    sync(&mut w);
    w.crash(CLINIC);
    w.start(CLINIC, true);
    assert_eq!(own_key(&w, CLINIC, Lane::Normal), new);
    assert_eq!((ending(&w, CLINIC).code, w.verify(HUB)), (CLEAN, 15));
    assert_holds(&w);
}

#[test]
fn a_stream_that_is_born_while_the_session_is_open_is_sent_at_once() {
    let mut w = pair(15);
    w.finish = false;
    w.connect(CLINIC, HUB);
    w.run_for(5_000);
    for lane in Lane::ALL {
        w.append(CLINIC, lane, 0, b"x").unwrap();
        w.run_for(2_000);
    }
    assert_eq!((w.verify(HUB), w.sessions(HUB)), (3, 1));
    assert_holds(&w);
}

#[test]
fn an_idle_session_stays_open_with_a_ping_now_and_then() {
    let mut w = pair(16);
    w.finish = false;
    write(&mut w, CLINIC, 5, 100);
    w.connect(CLINIC, HUB);
    w.run_for(10_000);
    let (bytes, steps) = (w.counts.bytes_up + w.counts.bytes_down, w.counts.steps);
    w.run_for(3_600_000);
    assert_eq!((w.sessions(HUB), w.sessions(CLINIC)), (1, 1));
    assert!(w.counts.bytes_up + w.counts.bytes_down - bytes < 3_600 / 20 * 14);
    assert!(w.counts.steps - steps < 10_000);
    assert_holds(&w);
}

#[test]
fn events_pass_through_a_hub_to_another_hub_and_are_acknowledged_by_those_who_got_them() {
    let mut w = pair(17);
    let second = w.add("hub_2", Role::Hub, small_limits());
    w.finish = false;
    w.connect(CLINIC, HUB);
    w.connect(second, HUB);
    w.run_for(5_000);
    write(&mut w, CLINIC, 25, 300);
    w.run_for(10_000);
    write(&mut w, HUB, 5, 100);
    w.run_for(10_000);
    assert_eq!((w.verify(HUB), w.verify(second), w.verify(CLINIC)), (30, 30, 25));
    assert_eq!((w.sessions(HUB), w.sessions(second), w.sessions(CLINIC)), (2, 1, 1));
    // The clinic's own events come to the hub twice over: from itself and from the other hub.
    w.connect(CLINIC, second);
    write(&mut w, CLINIC, 25, 300);
    w.run_for(10_000);
    assert_eq!((w.verify(HUB), w.verify(second), w.sessions(HUB)), (55, 55, 2));
    assert_holds(&w);
}

#[test]
fn many_tiny_events_fit_into_one_batch_and_one_group() {
    let mut w = World::new(18);
    w.listen();
    w.add("hub", Role::Hub, Limits::hub(2));
    w.add("clinic_a", Role::Clinic, Limits::clinic());
    for n in 0..9000u32 {
        w.write(CLINIC, Lane::Normal, &n.to_le_bytes());
    }
    sync(&mut w);
    assert_eq!((ending(&w, CLINIC).code, w.verify(HUB)), (CLEAN, 9000));
    assert!(batches(&w, CLINIC).iter().any(|b| b.1 > 1000), "{:?}", batches(&w, CLINIC));
}

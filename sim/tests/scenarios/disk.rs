//! What happens to nodes whose disks break, fill up or forget.

use super::*;

#[test]
fn a_full_disk_refuses_events_but_still_sends_what_it_has() {
    let mut w = pair(6);
    w.hosts[CLINIC].disk.segments_max = 1;
    let refused = (0..200).find_map(|_| {
        w.run_for(50);
        w.append(CLINIC, Lane::Normal, 0, &[7; 2000]).err().filter(|e| *e != AppendError::Busy)
    });
    assert_eq!(refused, Some(AppendError::DiskFull));
    let held = w.durable_events(CLINIC, CLINIC);
    assert!(held > 10);
    sync(&mut w);
    assert_eq!((ending(&w, CLINIC).code, w.verify(HUB)), (CLEAN, held));
    w.hosts[CLINIC].disk.segments_max = 9;
    write(&mut w, CLINIC, 10, 2000);
    sync(&mut w);
    assert_eq!(w.verify(HUB), held + 10);
    assert_holds(&w);
}

#[test]
fn a_hub_with_a_full_disk_says_so_and_takes_the_rest_later() {
    let mut w = pair(7);
    w.hosts[HUB].disk.segments_max = 1;
    write(&mut w, CLINIC, 60, 2000);
    sync(&mut w);
    assert_eq!(ending(&w, CLINIC), Ending { code: Some(Code::DiskFull), by: EndedBy::Peer });
    w.hosts[HUB].disk.segments_max = 9;
    sync(&mut w);
    sync(&mut w);
    assert_eq!((ending(&w, CLINIC).code, w.verify(HUB)), (CLEAN, 60));
    assert_holds(&w);
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_until_the_log_is_opened_again() {
    let mut w = pair(8);
    write(&mut w, CLINIC, 10, 100);
    w.hosts[HUB].fail_sync = true;
    sync(&mut w);
    assert_ne!(ending(&w, CLINIC).code, CLEAN);
    sync(&mut w);
    assert_eq!(ending(&w, CLINIC), Ending { code: Some(Code::Storage), by: EndedBy::Peer });
    assert!(w.hosts[HUB].told.contains(&Event::StorageFailed { code: Code::Storage }));
    assert!(!w.said.iter().any(|s| s.0 == HUB && matches!(s.2, Said::Ack(..))));
    w.crash(HUB);
    w.start(HUB, true);
    sync(&mut w);
    assert_eq!((ending(&w, CLINIC).code, w.verify(HUB)), (CLEAN, 10));
    assert_holds(&w);
}

#[test]
fn a_damaged_frame_leaves_a_gap_that_a_sync_repairs() {
    for victim in [CLINIC, HUB] {
        let mut w = pair(11);
        for _ in 0..6 {
            write(&mut w, CLINIC, 5, 300);
            sync(&mut w);
        }
        w.stop(victim);
        // Past the header and the first frames.
        w.hosts[victim].disk.rot(1, 3 * 4096 + 100);
        w.hosts[victim].damaged = true;
        w.start(victim, true);
        let gap = w.hosts[victim].node().unwrap().frontier().find_map(|e| e.gap);
        assert!(gap.is_some() && !w.hosts[victim].findings.is_empty());
        // Both sides go on writing over the gap.
        write(&mut w, CLINIC, 5, 200);
        sync(&mut w);
        assert!(w.hosts[victim].node().unwrap().frontier().all(|e| e.gap.is_none()));
        assert_eq!(w.hosts[CLINIC].told, [], "a gap is no lost tail");
        sync(&mut w);
        assert_eq!((ending(&w, CLINIC).code, w.verify(HUB), w.verify(CLINIC)), (CLEAN, 35, 35));
        w.crash(victim);
        w.start(victim, true);
        assert!(w.hosts[victim].node().unwrap().frontier().all(|e| e.gap.is_none() && e.have == 35));
        assert_holds(&w);
    }
}

#[test]
fn a_gap_of_many_events_is_filled_in_one_sync_although_new_ones_come_from_behind_it() {
    let mut w = pair(12);
    // What does not compress, and more of it than may be under way at once.
    let mut noise = 1u32;
    for _ in 0..20 {
        for _ in 0..3 {
            let payload: Vec<u8> = (0..600)
                .map(|_| {
                    noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (noise >> 24) as u8
                })
                .collect();
            w.write(CLINIC, Lane::Normal, &payload);
        }
        w.run_for(1000);
        sync(&mut w);
    }
    w.stop(CLINIC);
    // Damage near both ends of what it has: all between them counts as lost.
    for segment in [1, 3] {
        w.hosts[CLINIC].disk.rot(segment, 3 * 4096 + 100);
    }
    w.hosts[CLINIC].damaged = true;
    w.start(CLINIC, true);
    let gap = w.hosts[CLINIC].node().unwrap().frontier().find_map(|e| e.gap).unwrap();
    assert!(gap.1 - gap.0 > 30, "{gap:?}");
    write(&mut w, CLINIC, 5, 200);
    sync(&mut w);
    assert_eq!((ending(&w, CLINIC).code, w.verify(HUB), w.verify(CLINIC)), (CLEAN, 65, 65));
    assert!(w.hosts[CLINIC].node().unwrap().frontier().all(|e| e.gap.is_none()));
    assert!(w.said.iter().any(|s| matches!(&s.2, Said::Batch { first, .. } if s.0 == CLINIC && *first > gap.1)));
    assert_holds(&w);
}

#[test]
fn pages_that_could_not_be_read_for_a_while_leave_two_copies_that_read_as_one() {
    let mut w = pair(19);
    for _ in 0..3 {
        write(&mut w, CLINIC, 4, 300);
        sync(&mut w);
    }
    // The hub opens its log while the first group cannot be read, and fetches it again.
    w.stop(HUB);
    w.hosts[HUB].damaged = true;
    let sectors = w.hosts[HUB].disk.sectors_of_page(1);
    w.hosts[HUB].disk.fail_reads(1, sectors, None);
    w.start(HUB, true);
    assert!(w.hosts[HUB].node().unwrap().frontier().any(|e| e.gap.is_some()));
    write(&mut w, CLINIC, 4, 300);
    sync(&mut w);
    // Now both copies are there, the second behind what follows the first.
    w.hosts[HUB].disk.heal();
    w.crash(HUB);
    w.start(HUB, true);
    assert_eq!((w.verify(HUB), w.stored(HUB, &own_key(&w, CLINIC, Lane::Normal)).len()), (16, 16));
    assert_holds(&w);
}

#[test]
fn a_newest_group_that_cannot_be_read_for_a_while_is_no_torn_write() {
    let mut w = pair(25);
    write(&mut w, CLINIC, 1, 100);
    write(&mut w, CLINIC, 4, 100);
    w.stop(CLINIC);
    w.hosts[CLINIC].damaged = true;
    let sectors = w.hosts[CLINIC].disk.sectors_of_page(2);
    w.hosts[CLINIC].disk.fail_reads(1, sectors, None);
    w.start(CLINIC, true);
    assert!(w.hosts[CLINIC].findings.iter().any(|d| d.code == Code::TailSuspect));
    // What it writes now must not be in the way of what comes back.
    write(&mut w, CLINIC, 2, 100);
    w.hosts[CLINIC].disk.heal();
    w.crash(CLINIC);
    w.start(CLINIC, true);
    sync(&mut w);
    assert_eq!((w.verify(CLINIC), w.verify(HUB)), (7, 7));
    assert_holds(&w);
}

#[test]
fn a_header_that_was_written_to_the_wrong_place_hides_no_frame_behind_it() {
    let mut w = pair(22);
    for lane in [Lane::Normal, Lane::Normal, Lane::Urgent, Lane::Urgent, Lane::Normal, Lane::Normal] {
        w.write(CLINIC, lane, &[7; 100]);
        sync(&mut w);
    }
    // The hub's next group begins an epoch, and lands over the urgent ones, between the normal ones.
    w.stop(HUB);
    w.hosts[HUB].damaged = true;
    w.start(HUB, true);
    w.hosts[HUB].disk.misdirect(1, 3);
    write(&mut w, CLINIC, 2, 100);
    sync(&mut w);
    w.crash(HUB);
    w.start(HUB, true);
    sync(&mut w);
    w.crash(HUB);
    w.start(HUB, true);
    assert_eq!((w.verify(HUB), w.stored(HUB, &own_key(&w, CLINIC, Lane::Normal)).len()), (8, 6));
    assert_holds(&w);
}

#[test]
fn a_card_that_is_read_only_at_the_start_still_sends_what_it_really_holds() {
    let mut w = pair(23);
    write(&mut w, CLINIC, 5, 100);
    w.crash(CLINIC);
    w.hosts[CLINIC].disk.make_read_only(true);
    w.start(CLINIC, true);
    sync(&mut w);
    assert_eq!(w.verify(HUB), 5);
    assert_holds(&w);
}

#[test]
fn a_read_only_card_tells_nobody_of_what_only_its_page_cache_holds() {
    for seed in 0..20 {
        let mut w = pair(500 + seed);
        write(&mut w, CLINIC, 5, 100);
        w.hosts[CLINIC].fail_sync = true;
        w.append(CLINIC, Lane::Normal, 0, &[7; 3000]).unwrap();
        w.run_for(2000);
        w.stop(CLINIC);
        w.hosts[CLINIC].disk.make_read_only(true);
        w.start(CLINIC, true);
        // Mounted for writing again under a running node: it must not write where that group may be.
        w.hosts[CLINIC].disk.make_read_only(false);
        let _ = w.append(CLINIC, Lane::Normal, 0, b"later");
        sync(&mut w);
        w.crash(CLINIC);
        w.start(CLINIC, true);
        sync(&mut w);
        assert_eq!(w.verify(HUB), w.verify(CLINIC), "{seed}");
        assert_holds(&w);
    }
}

#[test]
fn a_process_that_is_killed_promises_nothing_that_only_the_page_cache_holds() {
    for seed in 0..20 {
        let mut w = pair(300 + seed);
        w.sync_ms = 400;
        for n in 0..6u8 {
            let _ = w.append(CLINIC, Lane::Normal, 0, &[n; 50]);
            w.run_for(1 + seed);
        }
        w.stop(CLINIC);
        w.start(CLINIC, true);
        w.run_for(2000);
        w.crash(CLINIC);
        w.start(CLINIC, true);
        assert_holds(&w);
    }
}

#[test]
fn a_card_that_turns_read_only_is_told_as_read_only() {
    let mut w = pair(21);
    w.hosts[CLINIC].disk.make_read_only(true);
    let refused = (0..400).find_map(|_| {
        w.run_for(50);
        w.append(CLINIC, Lane::Normal, 0, &[7; 2000]).err().filter(|e| *e != AppendError::Busy)
    });
    assert_eq!(refused, Some(AppendError::Storage(Code::ReadOnly)));
    assert_holds(&w);
}

#[test]
fn a_stream_whose_first_events_were_damaged_is_told_of_once_they_are_back() {
    let mut w = pair(24);
    let second = w.add("hub_2", Role::Hub, small_limits());
    for _ in 0..3 {
        write(&mut w, CLINIC, 2, 100);
        sync(&mut w);
    }
    w.stop(HUB);
    w.hosts[HUB].damaged = true;
    w.hosts[HUB].disk.rot(1, 4096 + 100);
    w.start(HUB, true);
    w.finish = false;
    w.connect(second, HUB);
    w.run_for(5_000);
    w.connect(CLINIC, HUB);
    w.run_for(60_000);
    assert_eq!((w.verify(HUB), w.verify(second), w.sessions(second)), (6, 6, 1));
    assert_holds(&w);
}

#[test]
fn what_damage_takes_before_anybody_has_it_is_missing_and_what_lies_behind_it_arrives() {
    let mut w = pair(13);
    for _ in 0..6 {
        write(&mut w, CLINIC, 5, 300);
    }
    w.stop(CLINIC);
    w.hosts[CLINIC].disk.rot(1, 3 * 4096 + 100);
    w.hosts[CLINIC].damaged = true;
    w.start(CLINIC, true);
    let gap = w.hosts[CLINIC].node().unwrap().frontier().find_map(|e| e.gap).unwrap();
    write(&mut w, CLINIC, 5, 200);
    sync(&mut w);
    sync(&mut w);
    assert_eq!((ending(&w, CLINIC).code, w.verify(HUB), w.verify(CLINIC)), (CLEAN, 35, 35));
    for h in [HUB, CLINIC] {
        let e = w.hosts[h].node().unwrap().frontier().next().unwrap();
        assert_eq!((e.have, e.gap, e.withheld), (35, None, Some(gap)), "{h}");
        w.crash(h);
        w.start(h, true);
        let again = w.hosts[h].node().unwrap().frontier().next().unwrap();
        assert_eq!((again.have, again.gap, again.withheld), (35, None, Some(gap)), "{h}");
        let told = |e: &Event| matches!(e, Event::Withheld(x) if x.code == Code::Corrupt && (x.from, x.to) == gap);
        assert!(w.hosts[h].told.iter().any(told), "{h}");
    }
    assert_holds(&w);
}

#[test]
fn an_event_over_the_limits_of_the_hub_stops_nothing_whatever_crashes() {
    let less = Limits { event_bytes: 2048, frame_bytes: 4096, batch_bytes: 4096, ..small_limits() };
    let mut w = World::new(14);
    w.listen();
    w.add("hub", Role::Hub, less);
    w.add("clinic_a", Role::Clinic, small_limits());
    for victim in [HUB, CLINIC, HUB] {
        write(&mut w, CLINIC, 3, 100);
        write(&mut w, CLINIC, 1, 6000);
        write(&mut w, CLINIC, 3, 100);
        assert!(w.connect(CLINIC, HUB).is_some());
        w.run_for(20);
        w.crash(victim);
        w.start(victim, true);
        sync(&mut w);
    }
    // A session that a crash has left ends when the next one begins, which is no end of that.
    w.run_for(10_000);
    sync(&mut w);
    assert_eq!((ending(&w, CLINIC).code, w.verify(HUB), w.verify(CLINIC)), (CLEAN, 21, 21));
    let [hub, clinic] = [HUB, CLINIC].map(|h| w.hosts[h].node().unwrap().frontier().next().unwrap());
    assert_eq!((hub.withheld, hub.lacks, hub.have), (Some((4, 18)), None, 21));
    assert_eq!((clinic.withheld, clinic.lacks, clinic.acked), (None, Some((4, 18)), 21));
    assert!(!w.said.iter().any(|s| matches!(&s.2, Said::Batch { events, .. } if events.is_empty())));
    assert_holds(&w);
}

//! Withheld events that are asked for once more.

use super::support::*;
use super::withhold::withheld;
use ropeway_core::code::Code;
use ropeway_core::event::Chain;
use ropeway_core::id::StreamKey;
use ropeway_core::limits::Limits;
use ropeway_core::log::LostRange;
use ropeway_core::node::*;
use ropeway_core::policy::Role;

const HUB_2: (&str, Role) = ("hub_2", Role::Hub);
const CLINIC: (&str, Role) = ("clinic_b", Role::Clinic);
/// FLOOR and WITHHELD.
const KNOWS: u64 = 5;

/// A hub that holds 1 to 7 of the stream, of 3 and 6 only the places.
fn hub(key: &StreamKey) -> (Solo, SessionId) {
    let mut hub = Solo::hub(Limits::hub(4));
    let id = hub.greeted("clinic_b", &[*key]);
    for seq in 1..=7u64 {
        let event = event(seq);
        if seq % 3 == 0 {
            hub.feed(id, &withheld(seq, &event));
        } else {
            hub.feed(id, &batch(0, seq, chain_at(key, seq - 1), &[event.payload]).0);
        }
        hub.disk();
    }
    assert_eq!((entry(&hub).have, entry(&hub).withheld), (7, Some((3, 6))));
    (hub, id)
}

fn loss(key: &StreamKey, from: u64, to: u64) -> Loss {
    let chain = |seq| Some(chain_at(key, seq));
    Loss { range: LostRange { key: *key, from, to }, before: chain(from - 1), last: chain(to) }
}

fn events(key: &StreamKey, from: u64, to: u64) -> Vec<u8> {
    batch(0, from, chain_at(key, from - 1), &vec![event(from).payload; (to + 1 - from) as usize]).0
}

#[test]
fn places_that_are_asked_for_once_more_are_filled_and_the_writers_session_begins_before_them() {
    let key = stream("clinic_b");
    let (mut hub, id) = hub(&key);
    let now = hub.now();
    assert!(hub.node.ask(now, &loss(&key, 3, 6)));
    assert_eq!(hub.refused_with(id), Some(Code::Stopping), "so that the next one asks");
    let e = entry(&hub);
    assert_eq!((e.have, e.top, e.gap, e.tag), (2, 7, Some((3, 6)), chain_at(&key, 2).tag()));
    let id = meet(&mut hub, CLINIC, &key, 9, &chain_at(&key, 9), KNOWS);
    // Cut in the middle, and gone on with; what is new comes behind it.
    hub.feed(id, &events(&key, 3, 4));
    hub.disk();
    assert_eq!((entry(&hub).gap, entry(&hub).withheld), (Some((5, 6)), Some((5, 6))));
    hub.node.close(hub.now(), id);
    hub.serve(id);
    let id = meet(&mut hub, CLINIC, &key, 9, &chain_at(&key, 9), KNOWS);
    hub.feed(id, &events(&key, 5, 9));
    hub.disk();
    let e = entry(&hub);
    assert_eq!((e.have, e.top, e.gap, e.withheld), (9, 9, None, None));
    assert_eq!(e.tag, chain_at(&key, 9).tag());
    hub.ms += 1000;
    assert!(hub.serve(id).windows(4).any(|w| w == [4, 2, 0, 9]), "acknowledged");
}

#[test]
fn what_is_asked_for_and_withheld_again_is_a_place_as_before() {
    let key = stream("clinic_b");
    let (mut hub, id) = hub(&key);
    let now = hub.now();
    assert!(hub.node.ask(now, &loss(&key, 3, 3)));
    hub.serve(id);
    let id = meet(&mut hub, CLINIC, &key, 7, &chain_at(&key, 7), KNOWS);
    hub.feed(id, &withheld(3, &event(3)));
    hub.disk();
    let e = entry(&hub);
    assert_eq!((e.have, e.gap, e.withheld), (7, None, Some((3, 6))));
}

#[test]
fn who_reads_here_is_sent_what_is_here_while_it_is_asked_for() {
    let key = stream("clinic_b");
    for (at, expected) in [(0, (1, 2)), (2, (3, 7)), (4, (5, 7))] {
        let (mut hub, _) = hub(&key);
        let now = hub.now();
        assert!(hub.node.ask(now, &loss(&key, 3, 6)));
        let chain = if at > 0 { chain_at(&key, at) } else { Chain([0; 32]) };
        let id = meet(&mut hub, HUB_2, &key, at, &chain, KNOWS);
        let request = says(&mut hub, id).1.expect("not held back");
        assert_eq!((request.from_seq, request.upto_seq), expected, "{at}");
    }
    // What lies beside damage is held back.
    let (mut hub, _) = hub(&key);
    let now = hub.now();
    assert!(hub.node.ask(now, &loss(&key, 3, 6)) && hub.node.lose(now, &loss(&key, 4, 4)));
    let id = meet(&mut hub, HUB_2, &key, 2, &chain_at(&key, 2), KNOWS);
    assert_eq!(says(&mut hub, id).1, None);
}

#[test]
fn what_is_asked_for_can_be_taken_back_and_is_given_up_where_it_is_gone_at_its_source() {
    let key = stream("clinic_b");
    let floor = |seq: u64| {
        let mut body = vec![0, seq as u8];
        body.extend_from_slice(&chain_at(&key, seq).0);
        frame(0x20 | 13, &body)
    };
    // Nobody has come.
    let (mut hub_1, _) = hub(&key);
    let now = hub_1.now();
    assert!(hub_1.node.ask(now, &loss(&key, 3, 6)));
    hub_1.node.unask(now, &key);
    let e = entry(&hub_1);
    assert_eq!((e.have, e.gap, e.withheld, e.tag), (7, None, Some((3, 6)), chain_at(&key, 7).tag()));
    // The writer has removed all of it, or the first of it: nothing that is here goes with it.
    for (gone, left) in [(6, None), (4, Some((5, 6)))] {
        let (mut hub, _) = hub(&key);
        let now = hub.now();
        assert!(hub.node.ask(now, &loss(&key, 3, 6)));
        let id = meet(&mut hub, CLINIC, &key, 7, &chain_at(&key, 7), KNOWS);
        hub.feed(id, &floor(gone));
        hub.disk();
        let e = entry(&hub);
        assert_eq!((e.gap, e.floor, e.withheld), (left, 0, Some((3, 6))));
        hub.feed(id, &events(&key, 5, 8));
        hub.disk();
        assert_eq!((entry(&hub).have, entry(&hub).gap), (8, None), "{gone}");
    }
}

#[test]
fn nothing_is_asked_for_that_is_not_here_or_where_something_else_is_missing() {
    let key = stream("clinic_b");
    let (mut hub, _) = hub(&key);
    let now = hub.now();
    for (from, to) in [(3, 8), (6, 3)] {
        assert!(!hub.node.ask(now, &loss(&key, from, to)));
    }
    assert!(!hub.node.ask(now, &Loss { before: None, ..loss(&key, 3, 6) }));
    hub.node.expired(&key, 3, chain_at(&key, 3));
    assert!(!hub.node.ask(now, &loss(&key, 3, 6)));
    assert!(hub.node.lose(now, &loss(&key, 5, 5)));
    assert!(!hub.node.ask(now, &loss(&key, 6, 6)));
}

#[test]
fn what_came_twice_behind_a_gap_does_not_spoil_the_end_of_the_session() {
    let key = stream("clinic_b");
    let mut reader = holder("clinic_a", Role::Clinic, &key, 9, 0);
    let now = reader.now();
    assert!(reader.node.ask(now, &loss(&key, 3, 6)));
    let id = meet(&mut reader, HUB_2, &key, 9, &chain_at(&key, 9), KNOWS);
    reader.node.finish(reader.now(), id);
    assert_eq!(reader.serve(id).last(), Some(&0), "its GOODBYE");
    reader.feed(id, &events(&key, 3, 6));
    reader.ms += 1000;
    reader.serve(id);
    // Sent before the acknowledgement has come, which covers it; the last word after that.
    reader.feed(id, &[events(&key, 7, 9), frame(12, &[])].concat());
    reader.serve(id);
    assert_eq!(reader.closed.iter().map(|ending| ending.code).collect::<Vec<_>>(), [None]);
}

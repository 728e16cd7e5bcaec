//! Sessions that begin before the handshake has ended: what came may be a recording.

use super::support::*;
use ropeway_core::code::Code;
use ropeway_core::event::Chain;
use ropeway_core::limits::Limits;
use ropeway_core::node::{EndedBy, Ending, SessionId};
use ropeway_core::policy::{PeerIdentity, Role};

fn peer(who: &str, role: Role) -> PeerIdentity {
    PeerIdentity { name: name(who), role }
}

fn open_early(solo: &mut Solo, who: &str, role: Role) -> Option<SessionId> {
    solo.node.open_early(solo.now(), peer(who, role))
}

/// HELLO and a vector with the clinic's own stream up to `seq`, and then its first event.
fn flight(who: &str) -> Vec<u8> {
    let (key, mut entry) = (stream(who), vec![1 | 1 << 2]);
    entry.extend_from_slice(&key.incarnation.as_u64().to_le_bytes());
    let (mut events, chain) = batch(0, 1, Chain::start(&key), &[b"one"]);
    events[0] |= 0x20 | 0x40;
    varint(&mut entry, 1);
    entry.extend_from_slice(&chain.tag());
    [frame(1, &hello(0)), frame(2 | 0x40, &entry), events].concat()
}

/// The types of the frames in these bytes; bodies are shorter than 128 bytes.
fn types(mut said: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while let [first, len, rest @ ..] = said {
        all.push(first & 0x1f);
        said = &rest[usize::from(*len)..];
    }
    all
}

#[test]
fn what_came_early_is_stored_and_acknowledged_before_the_handshake_ends() {
    let mut hub = Solo::hub(Limits::hub(4));
    let id = open_early(&mut hub, "clinic_a", Role::Clinic).unwrap();
    hub.feed(id, &flight("clinic_a"));
    // HELLO, VECTOR, ACK.
    assert_eq!(types(&hub.serve(id)), [1, 2, 4]);
    assert_eq!(entry(&hub).have, 1);
}

#[test]
fn a_recording_that_is_sent_once_more_stores_nothing_twice() {
    let mut hub = Solo::hub(Limits::hub(4));
    for _ in 0..3 {
        let id = open_early(&mut hub, "clinic_a", Role::Clinic).unwrap();
        hub.feed(id, &flight("clinic_a"));
        hub.serve(id);
        hub.node.close(hub.now(), id);
        hub.serve(id);
    }
    assert_eq!((entry(&hub).have, entry(&hub).top), (1, 1));
}

#[test]
fn early_data_does_not_supersede_a_live_session_and_a_proven_one_supersedes_what_came_early() {
    let mut hub = Solo::hub(Limits::hub(4));
    let live = hub.greeted("clinic_a", &[]);
    assert_eq!(open_early(&mut hub, "clinic_a", Role::Clinic), None);
    hub.serve(live);
    assert_eq!(hub.closed, [], "the live session lives on");
    hub.node.close(hub.now(), live);
    hub.serve(live);
    hub.closed.clear();

    let early = open_early(&mut hub, "clinic_a", Role::Clinic).unwrap();
    assert_eq!(open_early(&mut hub, "clinic_a", Role::Clinic), None, "nor one that began early itself");
    let proven = hub.node.open(hub.now(), peer("clinic_a", Role::Clinic)).unwrap();
    hub.serve(early);
    assert_eq!(hub.closed, [Ending { code: Some(Code::Superseded), by: EndedBy::Us }]);
    assert!(!hub.serve(proven).is_empty());
}

#[test]
fn a_hub_is_not_believed_before_its_handshake_has_ended_nor_is_there_room_where_there_is_none() {
    let mut hub = Solo::hub(Limits::hub(1));
    assert_eq!(open_early(&mut hub, "hub_b", Role::Hub), None);
    assert_eq!(open_early(&mut hub, "hub", Role::Clinic), None);
    assert!(open_early(&mut hub, "clinic_a", Role::Clinic).is_some());
    assert_eq!(open_early(&mut hub, "clinic_b", Role::Clinic), None);
}

#[test]
fn no_events_leave_before_the_handshake_has_ended() {
    let key = stream("clinic_a");
    let mut hub = holder("hub", Role::Hub, &key, 3, 0);
    let id = open_early(&mut hub, "clinic_a", Role::Clinic).unwrap();
    // The clinic has lost everything.
    let told = [frame(1, &hello(0)), frame(2 | 0x40, &[])].concat();
    hub.feed(id, &told);
    let (said, wanted) = says(&mut hub, id);
    assert_eq!((types(&said), wanted.is_none()), (vec![1, 2], true));
    hub.node.prove(hub.now(), id);
    assert_eq!(hub.node.poll_ready(), Some(id));
    assert!(says(&mut hub, id).1.is_some(), "they do when it has");
}

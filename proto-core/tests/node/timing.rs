//! Deadlines, and calls that come late, early or for nothing.

use super::support::*;
use ropeway_core::code::Code;
use ropeway_core::event::{Chain, Event as LogEvent, Records, put_record};
use ropeway_core::hlc::Hlc;
use ropeway_core::id::Lane;
use ropeway_core::limits::{Limits, Timing};
use ropeway_core::node::{Reason, SessionId, Transmit};
use ropeway_core::policy::{PeerIdentity, Role};
use ropeway_core::time::Instant;
use ropeway_core::varint::Writer;

#[test]
fn an_acknowledgement_that_waited_for_company_goes_without_a_ping() {
    let mut hub = Solo::hub(Limits::hub(4));
    let key = stream("clinic_a");
    let id = hub.greeted("clinic_a", &[key]);
    hub.feed(id, &batch(0, 1, Chain::start(&key), &[b"one"]).0);
    assert_eq!(hub.serve(id), []);
    let due = Instant(Timing::default().ack_delay_ms);
    assert_eq!(hub.node.poll_timeout(), Some((due, Reason::Ack)));
    hub.ms = due.0;
    hub.node.timeout(hub.now());
    assert_eq!(hub.serve(id), [4, 2, 0, 1]);
    assert!(hub.node.poll_timeout().is_some_and(|(at, why)| at > due && why == Reason::Ping));
}

#[test]
fn a_node_that_slept_asks_before_it_gives_its_peer_up() {
    let mut hub = Solo::hub(Limits::hub(4));
    let id = hub.greeted("clinic_a", &[]);
    hub.ms = 3_600_000;
    hub.node.timeout(hub.now());
    assert_eq!(hub.serve(id), [7, 1, 0], "a PING, not the end");
    hub.ms += 39_000;
    hub.node.timeout(hub.now());
    assert_eq!(hub.serve(id), []);
    hub.feed(id, &frame(8, &[0]));
    hub.ms += 19_000;
    hub.node.timeout(hub.now());
    assert_eq!(hub.serve(id), []);
    hub.ms += 1_000;
    hub.node.timeout(hub.now());
    assert_eq!(hub.serve(id), [7, 1, 0]);
    hub.ms += 40_000;
    hub.node.timeout(hub.now());
    assert_eq!(hub.refused_with(id), Some(Code::Timeout));
}

#[test]
fn a_peer_that_never_greets_is_given_up() {
    let mut hub = Solo::hub(Limits::hub(4));
    let peer = ropeway_core::policy::PeerIdentity { name: name("clinic_a"), role: ropeway_core::policy::Role::Clinic };
    let id = hub.node.open(hub.now(), peer).unwrap();
    hub.ms = 59_999;
    hub.node.timeout(hub.now());
    assert!(hub.closed.is_empty());
    hub.ms += 1;
    hub.node.timeout(hub.now());
    assert_eq!(hub.refused_with(id), Some(Code::Timeout));
    assert_eq!(hub.node.poll_timeout(), None);
}

#[test]
fn time_that_goes_back_is_no_time() {
    let mut hub = Solo::hub(Limits::hub(4));
    let id = hub.greeted("clinic_a", &[]);
    hub.ms = 10_000;
    hub.feed(id, &frame(8, &[0]));
    hub.ms = 0;
    hub.node.timeout(hub.now());
    assert_eq!(hub.serve(id), []);
    assert_eq!(hub.node.poll_timeout(), Some((Instant(30_000), Reason::Ping)));
}

/// A node with `bytes` under way to a hub that has acknowledged nothing yet.
fn with_a_batch_under_way(bytes: usize) -> (Solo, SessionId) {
    let mut clinic = Solo::with("clinic_a", Role::Clinic, Limits::hub(4), |_| ());
    let id = clinic.node.open(clinic.now(), PeerIdentity { name: name("hub"), role: Role::Hub }).unwrap();
    clinic.feed(id, &frame(1, &hello(0)));
    clinic.feed(id, &frame(2 | 0x40, &[]));
    let now = clinic.now();
    let payload = vec![7; bytes];
    clinic.disk();
    clinic.node.append(now, Lane::Normal, 0, &payload).unwrap();
    clinic.disk();
    let (_, request) = says(&mut clinic, id);
    let request = request.unwrap();
    let event = LogEvent { hlc: Hlc::new(WALL, 0), kind: 0, flags: 0, payload: &payload };
    let mut records = vec![0; bytes + 64];
    let mut w = Writer::new(&mut records);
    put_record(&mut w, &event).unwrap();
    let len = w.len();
    let prev_chain = Chain::start(&clinic.node.frontier().next().unwrap().key);
    let records = Records { first_seq: 1, prev_chain, bytes: &records[..len] };
    let mut out = vec![0; bytes + 1024];
    let sent = clinic.node.complete_read(now, &request, Ok(records), &mut out);
    assert!(matches!(sent, Transmit::Bytes(n) if n > bytes), "{sent:?}");
    (clinic, id)
}

fn after(solo: &mut Solo, ms: u64) {
    solo.ms += ms;
    let now = solo.now();
    solo.node.timeout(now);
}

#[test]
fn while_a_large_batch_is_under_way_silence_is_given_the_time_that_it_takes() {
    let (mut clinic, id) = with_a_batch_under_way(50_000);
    after(&mut clinic, 20_000);
    assert_eq!(says(&mut clinic, id).0, [7, 1, 0]);
    // At 256 bytes a second it would be there after 195 seconds.
    after(&mut clinic, 195_000);
    assert_eq!(clinic.serve(id), []);
    assert!(clinic.closed.is_empty());
    after(&mut clinic, 1_000);
    assert_eq!(clinic.refused_with(id), Some(Code::Timeout));
}

#[test]
fn a_link_that_gives_a_few_bytes_now_and_then_but_no_acknowledgement_is_given_up() {
    let (mut clinic, id) = with_a_batch_under_way(1400);
    for _ in 0..6 {
        after(&mut clinic, 19_000);
        clinic.feed(id, &frame(8, &[0]));
        assert_eq!(clinic.serve(id), []);
    }
    assert!(clinic.closed.is_empty());
    after(&mut clinic, 19_000);
    assert_eq!(clinic.refused_with(id), Some(Code::Timeout));
    // One that has nothing under way may say as little as it likes.
    let mut hub = Solo::hub(Limits::hub(4));
    let id = hub.greeted("clinic_a", &[]);
    for _ in 0..20 {
        after(&mut hub, 19_000);
        hub.feed(id, &frame(8, &[0]));
    }
    assert!(hub.closed.is_empty());
}

//! Deadlines, and calls that come late, early or for nothing.

use super::support::*;
use ropeway_core::code::Code;
use ropeway_core::event::Chain;
use ropeway_core::limits::{Limits, Timing};
use ropeway_core::node::Reason;
use ropeway_core::time::Instant;

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

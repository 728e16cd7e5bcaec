//! Peers that lie. Each is closed with a code; nothing else is touched.

use super::support::*;
use ropeway_core::code::Code;
use ropeway_core::event::Chain;
use ropeway_core::limits::Limits;
use ropeway_core::node::{EndedBy, Ending, Flow};

fn start(key: &ropeway_core::id::StreamKey) -> Chain {
    Chain::start(key)
}

#[test]
fn a_batch_is_taken_and_acknowledged_only_after_it_is_durable() {
    let mut hub = Solo::hub(Limits::hub(4));
    let key = stream("clinic_a");
    let id = hub.greeted("clinic_a", &[key]);
    let (bytes, _) = batch(0, 1, start(&key), &[b"one", b"two"]);
    assert_eq!(hub.feed(id, &bytes), Flow::Open);
    let mut out = [0; 256];
    let said = hub.node.poll_transmit(hub.now(), id, &mut out).unwrap();
    assert_eq!(said, ropeway_core::node::Transmit::Idle);
    hub.disk();
    hub.ms += 1000;
    assert_eq!(hub.serve(id), [4, 2, 0, 2]);
    assert_eq!(hub.node.frontier().map(|e| (e.key, e.have)).collect::<Vec<_>>(), [(key, 2)]);
}

#[test]
fn a_gap_closes_the_session_and_stores_nothing() {
    let mut hub = Solo::hub(Limits::hub(4));
    let key = stream("clinic_a");
    let id = hub.greeted("clinic_a", &[key]);
    let (bytes, _) = batch(0, 3, start(&key), &[b"three"]);
    assert_eq!(hub.feed(id, &bytes), Flow::Closed);
    assert_eq!(hub.refused_with(id), Some(Code::Gap));
    assert_eq!(hub.node.frontier().count(), 0);
}

#[test]
fn a_batch_for_the_stream_of_another_node_closes_the_session() {
    // Whether the hub knows that stream or not, the answer is the same.
    for known in [false, true] {
        let mut hub = Solo::hub(Limits::hub(4));
        let victim = stream("clinic_a");
        if known {
            let id = hub.greeted("clinic_a", &[victim]);
            hub.feed(id, &batch(0, 1, start(&victim), &[b"true"]).0);
            hub.serve(id);
            hub.node.close(hub.now(), id);
            hub.serve(id);
            hub.closed.clear();
        }
        let id = hub.greeted("clinic_b", &[victim, stream("clinic_b")]);
        assert_eq!(hub.feed(id, &batch(0, 1, start(&victim), &[b"forged"]).0), Flow::Closed);
        assert_eq!(hub.refused_with(id), Some(Code::Origin));
        assert_eq!(hub.node.frontier().map(|e| e.have).collect::<Vec<_>>(), if known { vec![1] } else { vec![] });
    }
}

#[test]
fn more_than_the_credit_closes_the_session() {
    let mut hub = Solo::hub(Limits { credit_bytes: 4096, ..Limits::hub(4) });
    let key = stream("clinic_a");
    let id = hub.greeted("clinic_a", &[key]);
    let (one, chain) = batch(0, 1, start(&key), &[&[7; 3000]]);
    let (two, _) = batch(0, 2, chain, &[&[8; 3000]]);
    hub.feed(id, &one);
    hub.feed(id, &two);
    assert_eq!(hub.refused_with(id), Some(Code::Credit));
}

#[test]
fn another_history_of_the_same_events_is_a_fork_and_nothing_of_it_is_stored() {
    let mut hub = Solo::hub(Limits::hub(4));
    let key = stream("clinic_a");
    let id = hub.greeted("clinic_a", &[key]);
    hub.feed(id, &batch(0, 1, start(&key), &[b"one", b"two"]).0);
    hub.serve(id);
    hub.feed(id, &batch(0, 1, start(&key), &[b"one", b"TWO"]).0);
    assert_eq!(hub.refused_with(id), Some(Code::Fork));
    assert_eq!(hub.node.frontier().map(|e| e.have).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_repeated_batch_is_a_no_op_and_is_acknowledged_again() {
    let mut hub = Solo::hub(Limits::hub(4));
    let key = stream("clinic_a");
    let id = hub.greeted("clinic_a", &[key]);
    let (bytes, _) = batch(0, 1, start(&key), &[b"one", b"two"]);
    for _ in 0..3 {
        hub.feed(id, &bytes);
        hub.disk();
        hub.ms += 1000;
        assert_eq!(hub.serve(id), [4, 2, 0, 2]);
    }
    assert_eq!(hub.node.stats(id).map(|s| (s.received, s.duplicates)), Some((2, 4)));
}

#[test]
fn a_goodbye_before_what_was_promised_is_no_clean_end() {
    let mut hub = Solo::hub(Limits::hub(4));
    let id = hub.greeted("clinic_a", &[]);
    // It tells of five events and sends none.
    let mut entry = vec![1 | 1 << 2];
    entry.extend_from_slice(&stream("clinic_a").incarnation.as_u64().to_le_bytes());
    entry.extend_from_slice(&[5, 1, 2, 3, 4, 5, 6, 7, 8]);
    hub.feed(id, &frame(2, &entry));
    hub.feed(id, &frame(12, &[]));
    hub.serve(id);
    assert_eq!(hub.closed, [Ending { code: Some(Code::Cut), by: EndedBy::Peer }]);
}

#[test]
fn noise_of_any_kind_ends_the_session_once_and_gives_its_place_back() {
    let mut hub = Solo::hub(Limits { sessions: 1, ..Limits::hub(1) });
    let mut x = 1u64;
    for round in 0..500 {
        let id = hub.greeted("clinic_a", &[stream("clinic_a")]);
        let noise: Vec<u8> = (0..200)
            .map(|_| {
                x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (x >> 56) as u8
            })
            .collect();
        for part in noise.chunks(7) {
            if hub.node.receive(hub.now(), id, part).is_err() {
                break;
            }
        }
        hub.serve(id);
        hub.node.close(hub.now(), id);
        hub.serve(id);
        assert_eq!(hub.closed.len(), round + 1);
    }
}

//! Peers whose logs have lost events in the middle of a stream.

use super::support::*;
use ropeway_core::event::{Records, put_record};
use ropeway_core::limits::Limits;
use ropeway_core::policy::Role;
use ropeway_core::varint::Writer;

/// A hub that holds ten events of a clinic, and a session with it after its log has lost those from the
/// fifth on, some of which it may hold behind the gap.
fn hub_and_clinic_with_a_gap() -> (Solo, ropeway_core::node::SessionId) {
    let key = stream("clinic_a");
    let mut hub = holder("hub", Role::Hub, &key, 10, 0);
    let id = meet(&mut hub, ("clinic_a", Role::Clinic), &key, 4, &chain_at(&key, 4), 0);
    (hub, id)
}

fn ack(seq: u64) -> Vec<u8> {
    frame(4, &[0, seq as u8])
}

#[test]
fn events_from_behind_a_peers_gap_do_not_stop_its_filling() {
    let (mut hub, id) = hub_and_clinic_with_a_gap();
    let key = stream("clinic_a");
    // They arrive before the hub has sent anything.
    let (first, chain) = batch(0, 11, chain_at(&key, 10), &[b"payload"]);
    hub.feed(id, &first);
    hub.disk();
    hub.feed(id, &batch(0, 12, chain, &[b"payload", b"payload"]).0);
    hub.disk();
    let (said, request) = says(&mut hub, id);
    assert_eq!(request.map(|r| r.from_seq), Some(5), "the gap is still to be filled");
    hub.disk();
    hub.ms += 1000;
    let now = hub.now();
    hub.node.timeout(now);
    let told = [said, says(&mut hub, id).0].concat();
    assert!(told.windows(4).any(|w| w == [4, 2, 0, 13]), "what came is acknowledged: {told:02x?}");
}

#[test]
fn a_peer_whose_gap_is_filled_is_not_sent_what_it_has_sent() {
    let (mut hub, id) = hub_and_clinic_with_a_gap();
    let key = stream("clinic_a");
    hub.feed(id, &batch(0, 11, chain_at(&key, 10), &[b"payload"]).0);
    hub.disk();
    // Its log held all from the seventh on; what filled the gap came another way.
    hub.feed(id, &ack(10));
    let (_, request) = says(&mut hub, id);
    assert_eq!((request, entry(&hub).have, hub.closed.as_slice()), (None, 11, [].as_slice()));
}

#[test]
fn what_a_hub_holds_behind_a_gap_is_no_receipt_for_the_gap() {
    let key = stream("clinic_b");
    let mut clinic = holder("clinic_a", Role::Clinic, &key, 10, 0);
    let id = meet(&mut clinic, ("hub", Role::Hub), &key, 4, &chain_at(&key, 4), 0);
    clinic.feed(id, &batch(0, 11, chain_at(&key, 10), &[b"payload"]).0);
    clinic.disk();
    assert_eq!((entry(&clinic).have, entry(&clinic).acked), (11, 4));
}

#[test]
fn what_fills_a_gap_is_acknowledged_although_the_peer_has_acknowledged_more() {
    let key = stream("clinic_a");
    let mut clinic = Solo::with("clinic_a", Role::Clinic, Limits::hub(4), |r| {
        put(r, &key, true, 1..=4);
        put(r, &key, true, 11..=13);
    });
    assert_eq!(entry(&clinic).gap, Some((5, 10)));
    let id = meet(&mut clinic, ("hub", Role::Hub), &key, 10, &chain_at(&key, 10), 0);
    let (_, request) = says(&mut clinic, id);
    let request = request.unwrap();
    assert_eq!(request.from_seq, 11, "what lies behind the gap does not wait");
    let (mut bytes, mut w) = (vec![0; 256], 0);
    for seq in 11..=13 {
        let mut at = Writer::new(&mut bytes[w..]);
        put_record(&mut at, &event(seq)).unwrap();
        w += at.len();
    }
    let records = Records { first_seq: 11, prev_chain: chain_at(&key, 10), bytes: &bytes[..w] };
    let now = clinic.now();
    clinic.node.complete_read(now, &request, Ok(records), &mut vec![0; 1 << 16]);
    // The hub has taken that before the first of the filling arrives.
    clinic.feed(id, &ack(13));
    let (first, chain) = batch(0, 5, chain_at(&key, 4), &[b"payload", b"payload"]);
    clinic.feed(id, &first);
    clinic.disk();
    let acked = |clinic: &mut Solo| {
        clinic.ms += 1000;
        let now = clinic.now();
        clinic.node.timeout(now);
        says(clinic, id).0
    };
    assert_eq!(acked(&mut clinic), [4, 2, 0, 6]);
    clinic.feed(id, &batch(0, 7, chain, &[&b"payload"[..]; 4]).0);
    clinic.disk();
    assert_eq!((entry(&clinic).have, entry(&clinic).gap), (13, None));
    assert_eq!(acked(&mut clinic), [4, 2, 0, 13]);
}

//! First flights: batches that go before the peer has said anything.

use super::support::*;
use ropeway_core::code::Code;
use ropeway_core::event::{Chain, Records, put_record};
use ropeway_core::limits::Limits;
use ropeway_core::log::{GroupBuilder, Receipt, StreamDecl};
use ropeway_core::node::{ReadRequest, SessionId, Transmit};
use ropeway_core::policy::{PeerIdentity, Role};
use ropeway_core::varint::Writer;

/// First byte of a BATCH of a first flight that is the sender's last for now.
const EARLY: u8 = 3 | 0x20 | 0x40;

/// A clinic that holds `1..=upto`, of which `hub` has acknowledged `1..=acked`.
fn clinic(upto: u64, acked: u64, hub: &str) -> Solo {
    let key = stream("clinic_a");
    Solo::with("clinic_a", Role::Clinic, Limits::hub(4), |r| {
        fill(r, &key, true, upto);
        let (mut body, mut group) = (vec![0; 1024], GroupBuilder::new());
        group.stream(&mut body, &StreamDecl { index: 0, key, own_machine: Some(1), parent: None }).unwrap();
        let tag = chain_at(&key, acked).tag();
        group.receipt(&mut body, &Receipt { peer: name(hub), index: 0, seq: acked, tag }).unwrap();
        r.group(&body[..group.len()], |_| ()).unwrap();
    })
}

fn dial(clinic: &mut Solo) -> SessionId {
    clinic.node.open(clinic.now(), PeerIdentity { name: name("hub"), role: Role::Hub }).unwrap()
}

/// A session that is to end when all is sent.
fn dial_to_end(clinic: &mut Solo) -> SessionId {
    let (id, now) = (dial(clinic), clinic.now());
    clinic.node.finish(now, id);
    id
}

/// The next read of events to be sent; what it reads to compress against before is given.
fn wants(solo: &mut Solo, id: SessionId) -> Option<ReadRequest> {
    loop {
        let request = says(solo, id).1?;
        if request.upto_seq == solo.node.frontier().next()?.top {
            return Some(request);
        }
        assert_eq!(give(solo, &request), [], "{request:?} is no history");
    }
}

/// The events that are sent next, and the first byte of their frame.
fn sent(solo: &mut Solo, id: SessionId) -> Option<(u64, u64, u8)> {
    let request = wants(solo, id)?;
    Some((request.from_seq, request.upto_seq, *give(solo, &request).first()?))
}

/// HELLO and the vector of a hub that holds the stream up to `seq`.
fn hub_says(seq: u64, chain: &Chain) -> Vec<u8> {
    let mut entry = [&[2 | 1 << 2][..], &7u64.to_le_bytes()].concat();
    varint(&mut entry, seq);
    entry.extend_from_slice(&chain.tag()[..if seq > 0 { 8 } else { 0 }]);
    [frame(1, &hello(0)), frame(2 | 0x40, &entry)].concat()
}

#[test]
fn what_the_hub_has_not_acknowledged_goes_right_behind_the_vector() {
    let mut clinic = clinic(5, 2, "hub");
    let id = dial(&mut clinic);
    assert_eq!(sent(&mut clinic, id), Some((3, 5, EARLY)));
    assert_eq!(sent(&mut clinic, id), None);
    clinic.feed(id, &hub_says(2, &chain_at(&stream("clinic_a"), 2)));
    assert_eq!(sent(&mut clinic, id), None, "it is as it was believed to be: all is under way");
    clinic.feed(id, &frame(4, &[0, 5]));
    assert_eq!((entry(&clinic).acked, clinic.refused_with(id)), (5, None));
}

#[test]
fn where_the_hub_is_elsewhere_it_goes_on_from_there() {
    let key = stream("clinic_a");
    for (at, next) in [(0, Some((1, 5, 3 | 0x40))), (1, Some((2, 5, 3 | 0x40))), (4, None), (5, None)] {
        let mut clinic = clinic(5, 2, "hub");
        let id = dial(&mut clinic);
        assert_eq!(sent(&mut clinic, id), Some((3, 5, EARLY)));
        clinic.feed(id, &hub_says(at, &chain_at(&key, at)));
        assert_eq!(sent(&mut clinic, id), next, "the hub holds {at}");
        clinic.feed(id, &frame(4, &[0, 5]));
        assert_eq!((entry(&clinic).acked, clinic.refused_with(id)), (5, None));
    }
    // A hub that has lost the stream does not tell of it at all.
    let mut clinic = clinic(5, 2, "hub");
    let id = dial(&mut clinic);
    assert_eq!(sent(&mut clinic, id), Some((3, 5, EARLY)));
    clinic.feed(id, &[frame(1, &hello(0)), frame(2 | 0x40, &[])].concat());
    assert_eq!(sent(&mut clinic, id), Some((1, 5, 3 | 0x40)));
}

#[test]
fn a_hub_with_another_history_is_found_out_although_the_flight_was_under_way() {
    let mut clinic = clinic(5, 2, "hub");
    let id = dial(&mut clinic);
    assert_eq!(sent(&mut clinic, id), Some((3, 5, EARLY)));
    clinic.feed(id, &hub_says(2, &Chain([9; 32])));
    clinic.serve(id);
    assert_eq!((clinic.refused_with(id), entry(&clinic).acked), (Some(Code::Fork), 2));
    // It holds more, of another history: no receipt is noted for what it says of it, and it does not take the flight.
    let mut other = self::clinic(5, 2, "hub");
    let id = dial(&mut other);
    assert_eq!(sent(&mut other, id), Some((3, 5, EARLY)));
    other.feed(id, &hub_says(4, &Chain([9; 32])));
    other.feed(id, &[frame(4, &[0, 4]), vec![14, 1, 0]].concat());
    assert_eq!(entry(&other).acked, 2);
    let request = wants(&mut other, id).unwrap();
    assert_eq!(give(&mut other, &request), []);
    other.serve(id);
    assert_eq!(other.refused_with(id), Some(Code::Fork));
}

#[test]
fn nothing_goes_early_where_it_is_not_known_what_the_hub_holds() {
    // Another hub acknowledged it.
    let mut elsewhere = clinic(5, 2, "other_hub");
    let id = dial(&mut elsewhere);
    assert_eq!(sent(&mut elsewhere, id), None);
    // The session before broke off with events under way.
    let mut cut = clinic(5, 2, "hub");
    let id = dial(&mut cut);
    assert_eq!(sent(&mut cut, id), Some((3, 5, EARLY)));
    let now = cut.now();
    cut.node.close(now, id);
    cut.serve(id);
    let id = dial(&mut cut);
    assert_eq!(sent(&mut cut, id), None);
    cut.feed(id, &hub_says(5, &chain_at(&stream("clinic_a"), 5)));
    assert_eq!((sent(&mut cut, id), entry(&cut).acked), (None, 5));
    // A clinic is no hub, and a hub does not begin.
    let mut clinic_b = clinic(5, 2, "hub");
    let id = clinic_b.node.open(clinic_b.now(), PeerIdentity { name: name("clinic_b"), role: Role::Clinic }).unwrap();
    assert_eq!(sent(&mut clinic_b, id), None);
}

#[test]
fn a_first_flight_keeps_to_what_every_hub_takes() {
    let key = stream("clinic_a");
    let mut clinic = clinic(900, 2, "hub");
    let id = dial(&mut clinic);
    let (mut bytes, mut flown) = (0, 2);
    while let Some(request) = wants(&mut clinic, id) {
        let upto = request.upto_seq.min(request.from_seq + 149);
        let n = give(&mut clinic, &ReadRequest { upto_seq: upto, ..request }).len();
        bytes += n;
        flown = upto;
    }
    assert!(flown > 2 && (1024..=4096).contains(&bytes), "{flown} events, {bytes} B");
    // A hub that decodes nothing but `stored` and takes small batches gets it again as it wants it.
    let mut small = vec![1, 1];
    for v in [0, 1, 4, 1, 8, 7, 0, 0] {
        varint(&mut small, v);
    }
    let vector = hub_says(2, &chain_at(&key, 2)).split_off(frame(1, &hello(0)).len());
    clinic.feed(id, &[frame(1, &small), vector].concat());
    assert_eq!(wants(&mut clinic, id).map(|r| (r.from_seq, r.bytes <= 1024)), Some((3, true)));
}

#[test]
fn a_hub_takes_a_first_flight_that_goes_on_from_what_it_holds_and_drops_any_other() {
    let key = stream("clinic_a");
    let early = |first: u64, chain: Chain| {
        let mut bytes = batch(0, first, chain, &[b"payload", b"payload"]).0;
        bytes[0] |= 0x20;
        bytes
    };
    let other_codec = {
        let mut bytes = early(6, chain_at(&key, 5));
        // handle, seq, count, codec: behind the header of two bytes.
        bytes[5] = 1;
        bytes
    };
    let cases = [
        (early(6, chain_at(&key, 5)), 7, 0),
        (early(4, chain_at(&key, 3)), 5, 0),
        (early(8, chain_at(&key, 7)), 5, 0),
        (other_codec, 5, 0),
        // Of another history: it is asked for again, and said what is wrong then.
        (early(6, Chain([9; 32])), 5, 1),
    ];
    for (bytes, have, no_history) in cases {
        let mut hub = holder("hub", Role::Hub, &key, 5, 0);
        let id = meet(&mut hub, ("clinic_a", Role::Clinic), &key, 9, &chain_at(&key, 9), 0);
        says(&mut hub, id);
        hub.feed(id, &bytes);
        hub.disk();
        let said = says(&mut hub, id).0;
        assert_eq!((entry(&hub).have, hub.refused_with(id)), (have, None), "{bytes:02x?}");
        assert_eq!(said.windows(3).filter(|w| *w == [14, 1, 0]).count(), no_history, "{bytes:02x?}: {said:02x?}");
    }
}

#[test]
fn an_event_that_is_too_large_for_a_first_flight_waits_for_the_hub() {
    let (key, long) = (stream("clinic_a"), [7; 6000]);
    let mut clinic = Solo::with("clinic_a", Role::Clinic, Limits::hub(4), |r| fill(r, &key, true, 1));
    let id = dial(&mut clinic);
    let (_, request) = says(&mut clinic, id);
    let request = request.unwrap();
    let mut bytes = vec![0; 8192];
    let mut w = Writer::new(&mut bytes);
    put_record(&mut w, &ropeway_core::event::Event { payload: &long, ..event(1) }).unwrap();
    let n = w.len();
    let records = Records { first_seq: 1, prev_chain: Chain::start(&key), bytes: &bytes[..n] };
    let (now, mut out) = (clinic.now(), vec![0; 1 << 16]);
    assert_eq!(clinic.node.complete_read(now, &request, Ok(records), &mut out), Transmit::Idle);
    assert_eq!(says(&mut clinic, id).0, [], "nor does it ask for credit that it does not know of");
    clinic.feed(id, &[frame(1, &hello(0)), frame(2 | 0x40, &[])].concat());
    let (_, request) = says(&mut clinic, id);
    match clinic.node.complete_read(now, &request.unwrap(), Ok(records), &mut out) {
        Transmit::Bytes(n) => assert!(n > 6000 && out[0] == 3 | 0x40, "{n}, {:02x}", out[0]),
        other => panic!("{other:?}"),
    }
}

/// Before all is acknowledged, and after.
const OPEN_GOODBYE: [u8; 2] = [12 | 0x20, 0];
const GOODBYE: [u8; 2] = [12, 0];

#[test]
fn a_clinic_that_is_to_end_says_goodbye_behind_its_first_flight_and_ends_with_the_answer() {
    let key = stream("clinic_a");
    let mut clinic = clinic(5, 2, "hub");
    let id = dial(&mut clinic);
    assert!(!clinic.node.has_nothing_to_send(id));
    let now = clinic.now();
    clinic.node.finish(now, id);
    assert_eq!(sent(&mut clinic, id), Some((3, 5, EARLY)));
    assert!(clinic.node.has_nothing_to_send(id));
    assert_eq!(says(&mut clinic, id).0, OPEN_GOODBYE);
    clinic.feed(id, &hub_says(2, &chain_at(&key, 2)));
    assert_eq!(says(&mut clinic, id).0, [], "once is enough");
    clinic.feed(id, &[frame(4, &[0, 5]), GOODBYE.to_vec()].concat());
    clinic.serve(id);
    assert_eq!((entry(&clinic).acked, clinic.closed[0].code), (5, None));
}

#[test]
fn an_answer_before_all_is_acknowledged_is_no_clean_end() {
    let key = stream("clinic_a");
    let mut clinic = clinic(5, 2, "hub");
    let id = dial_to_end(&mut clinic);
    sent(&mut clinic, id);
    says(&mut clinic, id);
    clinic.feed(id, &[hub_says(2, &chain_at(&key, 2)), frame(4, &[0, 4]), GOODBYE.to_vec()].concat());
    assert_eq!((clinic.refused_with(id), entry(&clinic).acked), (Some(Code::Cut), 4));
}

#[test]
fn a_goodbye_behind_a_flight_in_vain_is_void_at_both_ends() {
    let key = stream("clinic_a");
    let mut clinic = clinic(5, 2, "hub");
    let id = dial_to_end(&mut clinic);
    sent(&mut clinic, id);
    assert_eq!(says(&mut clinic, id).0, OPEN_GOODBYE);
    clinic.feed(id, &hub_says(1, &chain_at(&key, 1)));
    assert_eq!(sent(&mut clinic, id), Some((2, 5, 3 | 0x40)));
    assert_eq!(says(&mut clinic, id).0, OPEN_GOODBYE, "again");

    let mut hub = holder("hub", Role::Hub, &key, 1, 0);
    let id = meet(&mut hub, ("clinic_a", Role::Clinic), &key, 5, &chain_at(&key, 5), 0);
    says(&mut hub, id);
    let mut flight = batch(0, 3, chain_at(&key, 2), &[b"payload".as_slice(); 3]).0;
    flight[0] |= 0x20;
    hub.feed(id, &[flight, OPEN_GOODBYE.to_vec()].concat());
    assert_eq!((says(&mut hub, id).0, hub.refused_with(id)), (vec![], None));
    let again = batch(0, 2, chain_at(&key, 1), &[b"payload".as_slice(); 4]).0;
    hub.feed(id, &[again, OPEN_GOODBYE.to_vec()].concat());
    hub.disk();
    hub.ms += 1000;
    let now = hub.now();
    hub.node.timeout(now);
    let said = says(&mut hub, id).0;
    assert!(said.ends_with(&[&[4, 2, 0, 5], &GOODBYE[..]].concat()), "{said:02x?}");
    // It thought that the hub holds all, and has sent nothing.
    let mut hub = holder("hub", Role::Hub, &key, 1, 0);
    let id = meet(&mut hub, ("clinic_a", Role::Clinic), &key, 5, &chain_at(&key, 5), 0);
    says(&mut hub, id);
    hub.feed(id, &OPEN_GOODBYE);
    assert_eq!((says(&mut hub, id).0, hub.refused_with(id)), (vec![], None));
    let mut clinic = self::clinic(5, 5, "hub");
    let id = dial_to_end(&mut clinic);
    assert!(says(&mut clinic, id).0.ends_with(&OPEN_GOODBYE));
    clinic.feed(id, &hub_says(1, &chain_at(&key, 1)));
    assert_eq!(sent(&mut clinic, id), Some((2, 5, 3 | 0x40)));
    // What is kept back by one who knows makes it no clean end.
    let mut hub = holder("hub", Role::Hub, &key, 1, 0);
    let id = meet(&mut hub, ("clinic_a", Role::Clinic), &key, 5, &chain_at(&key, 5), 0);
    hub.feed(id, &GOODBYE);
    hub.serve(id);
    assert_eq!(hub.closed[0].code, Some(Code::Cut));
}

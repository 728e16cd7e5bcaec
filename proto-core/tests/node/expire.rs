//! Receipts, and logs whose first events are gone.

use super::support::*;
use ropeway_core::code::Code;
use ropeway_core::event::{Chain, Records, put_record};
use ropeway_core::limits::Limits;
use ropeway_core::log::{GroupBuilder, StreamDecl};
use ropeway_core::node::{ReadFault, Transmit};
use ropeway_core::policy::Role;
use ropeway_core::recovery::Recovered;
use ropeway_core::varint::Writer;

const HUB: (&str, Role) = ("hub", Role::Hub);

fn floor(handle: u64, seq: u64, chain: &Chain) -> Vec<u8> {
    let mut body = Vec::new();
    varint(&mut body, handle);
    varint(&mut body, seq);
    body.extend_from_slice(&chain.0);
    frame(13 | 0x20, &body)
}

#[test]
fn a_hub_of_another_history_is_no_receipt() {
    let key = stream("clinic_a");
    for same in [true, false] {
        let mut clinic = holder("clinic_a", Role::Clinic, &key, 3, 0);
        let theirs = if same { chain_at(&key, 2) } else { Chain([9; 32]) };
        let id = meet(&mut clinic, HUB, &key, 2, &theirs, 0);
        assert_eq!(entry(&clinic).acked, 0, "nothing was compared yet");
        let (_, request) = says(&mut clinic, id);
        let (request, mut bytes) = (request.unwrap(), vec![0; 64]);
        let mut w = Writer::new(&mut bytes);
        put_record(&mut w, &event(3)).unwrap();
        let n = w.len();
        let records = Records { first_seq: 3, prev_chain: chain_at(&key, 2), bytes: &bytes[..n] };
        let now = clinic.now();
        clinic.node.complete_read(now, &request, Ok(records), &mut vec![0; 1 << 16]);
        assert_eq!(entry(&clinic).acked, if same { 2 } else { 0 });
    }
    // One that holds just as much has the same history, or is told at once that it has not.
    for same in [true, false] {
        let mut clinic = holder("clinic_a", Role::Clinic, &key, 3, 0);
        let theirs = if same { chain_at(&key, 3) } else { Chain([9; 32]) };
        meet(&mut clinic, HUB, &key, 3, &theirs, 0);
        assert_eq!(entry(&clinic).acked, if same { 3 } else { 0 });
    }
}

#[test]
fn a_clinic_knows_that_a_hub_holds_what_it_has_from_it() {
    let key = stream("clinic_b");
    let (bytes, _) = batch(0, 1, Chain::start(&key), &[b"one", b"two"]);
    for (role, acked) in [(Role::Hub, 2), (Role::Clinic, 0)] {
        let mut clinic = Solo::with("clinic_a", Role::Clinic, Limits::clinic(), |_| ());
        let peer = if role == Role::Hub { HUB } else { ("clinic_b", role) };
        let id = meet(&mut clinic, peer, &key, 2, &Chain([0; 32]), 0);
        clinic.feed(id, &bytes);
        clinic.disk();
        assert_eq!((entry(&clinic).have, entry(&clinic).acked), (2, acked));
    }
}

#[test]
fn a_peer_that_lacks_what_is_gone_is_told_and_gets_the_rest() {
    let key = stream("clinic_a");
    let mut hub = holder("hub", Role::Hub, &key, 9, 6);
    let id = meet(&mut hub, ("clinic_a", Role::Clinic), &key, 2, &chain_at(&key, 2), 1);
    let (said, request) = says(&mut hub, id);
    let told = floor(0, 6, &chain_at(&key, 6));
    assert!(said.windows(told.len()).any(|w| w == told), "{said:02x?}");
    assert_eq!(request.map(|r| (r.from_seq, r.upto_seq)), Some((7, 9)));
    // One that holds enough is not told, and one that does not know the frame gets nothing of the stream.
    let mut hub = holder("hub", Role::Hub, &key, 9, 6);
    let id = meet(&mut hub, ("clinic_a", Role::Clinic), &key, 6, &chain_at(&key, 6), 1);
    let (said, request) = says(&mut hub, id);
    assert!(!said.contains(&0x2d) && request.map(|r| r.from_seq) == Some(7));
    let mut hub = holder("hub", Role::Hub, &key, 9, 6);
    let id = meet(&mut hub, ("clinic_a", Role::Clinic), &key, 2, &chain_at(&key, 2), 0);
    let (said, request) = says(&mut hub, id);
    assert!(!said.windows(told.len()).any(|w| w == told) && request.is_none());
}

#[test]
fn what_is_removed_while_it_is_sent_is_told_in_the_same_session_each_time() {
    let key = stream("clinic_a");
    let mut hub = holder("hub", Role::Hub, &key, 9, 0);
    let id = meet(&mut hub, ("clinic_a", Role::Clinic), &key, 2, &chain_at(&key, 2), 1);
    let mut request = says(&mut hub, id).1.unwrap();
    for (gone, first) in [(4, 5), (7, 8)] {
        hub.node.expired(&key, gone, chain_at(&key, gone));
        // What was asked for is not there any more.
        let now = hub.now();
        let said = hub.node.complete_read(now, &request, Err(ReadFault(Code::Io)), &mut []);
        assert_eq!(said, Transmit::Idle);
        let (said, next) = says(&mut hub, id);
        let told = floor(0, gone, &chain_at(&key, gone));
        assert!(said.windows(told.len()).any(|w| w == told), "{said:02x?}");
        request = next.unwrap();
        assert_eq!((request.from_seq, request.upto_seq), (first, 9));
    }
    assert!(!give(&mut hub, &request).is_empty());
    // What a peer has got is not told to it.
    hub.node.expired(&key, 9, chain_at(&key, 9));
    let (said, next) = says(&mut hub, id);
    assert!(!said.contains(&0x2d) && next.is_none(), "{said:02x?}");
}

#[test]
fn what_is_gone_at_its_source_is_passed_over_durably_and_acknowledged() {
    let key = stream("clinic_b");
    for held in [0, 2] {
        let mut hub = Solo::with("hub", Role::Hub, Limits::hub(4), |r| {
            if held > 0 {
                fill(r, &key, false, held);
            }
        });
        let id = meet(&mut hub, ("clinic_b", Role::Clinic), &key, 8, &chain_at(&key, 8), 1);
        hub.disk();
        hub.feed(id, &floor(0, 6, &chain_at(&key, 6)));
        let (more, _) = batch(0, 7, chain_at(&key, 6), &[b"payload", b"payload"]);
        // Its stamps are those of `event`, so the chain is the same.
        hub.feed(id, &more);
        assert_eq!(hub.node.frontier().next().map_or(0, |e| e.have), held, "not before it is durable");
        let said = hub.serve(id);
        // What had to wait for the disk was kept.
        let e = entry(&hub);
        assert_eq!((e.have, e.top, e.floor, e.skipped, e.gap), (8, 8, 6, true, None));
        hub.ms += 1000;
        let acked = [said, hub.serve(id)].concat();
        assert!(acked.windows(4).any(|w| w == [4, 2, 0, 8]), "{acked:02x?}");
        assert_eq!(hub.closed, []);
    }
}

#[test]
fn a_floor_takes_nothing_away_and_goes_no_further_than_its_sender() {
    let key = stream("clinic_b");
    let with = |held: u64, frames: &[Vec<u8>]| {
        let mut hub = Solo::with("hub", Role::Hub, Limits::hub(4), |r| {
            if held > 0 {
                fill(r, &key, false, held);
            }
        });
        let id = meet(&mut hub, ("clinic_b", Role::Clinic), &key, 8, &chain_at(&key, 8), 1);
        for f in frames {
            hub.disk();
            hub.feed(id, f);
        }
        let code = hub.refused_with(id);
        (code, hub.node.frontier().next().map(|e| (e.have, e.floor)))
    };
    let at = |seq: u64| floor(0, seq, &chain_at(&key, seq));
    // What is here stays, with nothing noted.
    assert_eq!(with(7, &[at(5)]), (None, Some((7, 0))));
    assert_eq!(with(7, &[floor(0, 7, &Chain([1; 32]))]), (Some(Code::Fork), Some((7, 0))));
    // It may grow. Beyond what the peer told of, backwards, for a stream never told of, or one of somebody else.
    assert_eq!(with(0, &[at(9)]), (Some(Code::State), None));
    assert_eq!(with(0, &[at(3), at(5)]), (None, Some((5, 5))));
    assert_eq!(with(0, &[at(5), at(3)]), (Some(Code::State), Some((5, 5))));
    assert_eq!(with(0, &[at(3), at(3)]), (Some(Code::State), Some((3, 3))));
    assert_eq!(with(0, &[floor(1, 3, &chain_at(&key, 3))]), (Some(Code::State), None));
    let mut hub = Solo::hub(Limits::hub(4));
    let id = meet(&mut hub, ("clinic_a", Role::Clinic), &key, 8, &chain_at(&key, 8), 1);
    hub.feed(id, &at(3));
    assert_eq!(hub.refused_with(id), Some(Code::Origin));
    assert_eq!(hub.node.frontier().count(), 0);
}

#[test]
fn a_log_that_passed_over_events_is_read_back_so_in_any_order_of_its_records() {
    let key = stream("clinic_b");
    let group = |first: u64, last: u64, floor: Option<u64>| {
        let (mut body, mut g) = (vec![0; 4096], GroupBuilder::new());
        g.stream(&mut body, &StreamDecl { index: 0, key, own_machine: None, parent: None }).unwrap();
        for seq in first..=last {
            g.push_event(&mut body, 0, seq, &chain_at(&key, seq - 1), &event(seq)).unwrap();
        }
        if let Some(seq) = floor {
            let expired = ropeway_core::log::Expired { index: 0, seq, chain: chain_at(&key, seq) };
            g.expired(&mut body, &expired).unwrap();
        }
        body.truncate(g.len());
        body
    };
    let read = |groups: &[Vec<u8>]| {
        let memory = ropeway_core::recovery::StreamMemory::owned(8);
        let mut r = Recovered::new(name("hub"), memory);
        groups.iter().for_each(|g| r.group(g, |_| ()).unwrap());
        r.states().next().unwrap()
    };
    let as_written = read(&[group(1, 2, None), group(1, 0, Some(6)), group(7, 9, None)]);
    assert_eq!((as_written.have.0, as_written.gap, as_written.floor.map(|f| f.0)), (9, None, Some(6)));
    // A sealed segment holds all events before the other records.
    assert_eq!(read(&[group(1, 2, None), group(7, 9, Some(6))]), as_written);
    let twice = [group(1, 2, None), group(5, 5, Some(4)), group(8, 9, Some(7))];
    assert_eq!((read(&twice).have.0, read(&twice).gap, read(&twice).floor.map(|f| f.0)), (9, None, Some(7)));
}

//! Batches that refer to the events before them.

use super::support::*;
use ropeway_core::code::Code;
use ropeway_core::event::Chain;
use ropeway_core::limits::Limits;
use ropeway_core::node::{ReadFault, ReadRequest, SessionId};
use ropeway_core::policy::{PeerIdentity, Role};

const PAYLOAD: &[u8] = b"payload";

/// A hub that holds ten events of a clinic, of which the first are gone, and a session with that clinic.
fn hub_with_ten(gone: u64) -> (Solo, SessionId, Chain) {
    let key = stream("clinic_a");
    let mut hub = holder("hub", Role::Hub, &key, 10, gone);
    let id = meet(&mut hub, ("clinic_a", Role::Clinic), &key, 10, &chain_at(&key, 10), 0);
    says(&mut hub, id);
    (hub, id, chain_at(&key, 10))
}

fn have(hub: &mut Solo) -> u64 {
    hub.disk();
    entry(hub).have
}

#[test]
fn a_batch_may_refer_to_those_just_before_it_without_a_read() {
    let (mut hub, id, chain) = hub_with_ten(0);
    let (first, chain) = batch(0, 11, chain, &[PAYLOAD, b"twelve"]);
    hub.feed(id, &first);
    assert_eq!(have(&mut hub), 12);
    hub.feed(id, &batch_after(0, 13, chain, &[PAYLOAD], Some(&[PAYLOAD, b"twelve"])).0);
    assert_eq!((have(&mut hub), hub.wanted.len()), (13, 0));
}

#[test]
fn what_is_not_in_memory_is_read_from_the_log_and_the_batch_waits() {
    let (mut hub, id, chain) = hub_with_ten(0);
    let (first, chain) = batch_after(0, 11, chain, &[PAYLOAD], Some(&[PAYLOAD; 3]));
    let second = batch_after(0, 12, chain, &[PAYLOAD], Some(&[PAYLOAD; 4])).0;
    hub.feed(id, &first);
    assert_eq!(have(&mut hub), 10);
    let request = hub.wanted.pop().unwrap();
    assert_eq!((request.from_seq, request.upto_seq), (8, 10));
    give(&mut hub, &request);
    assert_eq!(hub.node.poll_resumed(), Some(id), "it was told to pause");
    hub.feed(id, &second);
    assert_eq!((have(&mut hub), hub.wanted.len()), (12, 0));
}

#[test]
fn a_history_that_is_gone_is_told_and_the_stream_comes_again_without() {
    let no_history = [14, 1, 0];
    // Removed on purpose; unreadable; more than there is room for.
    for (gone, refers, reads) in [(9, 3, false), (0, 3, true)] {
        let (mut hub, id, chain) = hub_with_ten(gone);
        let (lost, after) = batch_after(0, 11, chain, &[PAYLOAD, PAYLOAD], Some(&[PAYLOAD; 9][..refers]));
        let behind = batch(0, 13, after, &[PAYLOAD]).0;
        hub.feed(id, &lost);
        hub.disk();
        if reads {
            let request = hub.wanted.pop().unwrap();
            let now = hub.now();
            hub.node.complete_read(now, &request, Err(ReadFault(Code::Corrupt)), &mut []);
        }
        assert_eq!(says(&mut hub, id).0, no_history);
        // These were under way already.
        hub.feed(id, &behind);
        hub.feed(id, &lost);
        assert_eq!((have(&mut hub), hub.closed.len()), (10, 0));
        assert_eq!(says(&mut hub, id).0, [], "once is enough");
        hub.feed(id, &batch_after(0, 11, chain, &[PAYLOAD, PAYLOAD], Some(&[])).0);
        hub.feed(id, &behind);
        assert_eq!(have(&mut hub), 13);
    }
}

#[test]
fn more_history_than_was_offered_is_lacking_after_a_read_or_two() {
    let (mut hub, id, chain) = hub_with_ten(0);
    let mut limits = Limits::hub(4);
    limits.history_bytes = 1024;
    let key = stream("clinic_a");
    let mut small = Solo::with("hub", Role::Hub, limits, |r| fill(r, &key, false, 400));
    let small_id = meet(&mut small, ("clinic_a", Role::Clinic), &key, 400, &chain_at(&key, 400), 0);
    says(&mut small, small_id);
    let past = [PAYLOAD; 399];
    small.feed(small_id, &batch_after(0, 401, chain_at(&key, 400), &[PAYLOAD], Some(&past)).0);
    let mut reads = 0;
    small.disk();
    while let Some(request) = small.wanted.pop() {
        give(&mut small, &ReadRequest { upto_seq: request.upto_seq.min(request.from_seq + 150), ..request });
        small.disk();
        reads += 1;
    }
    assert_eq!((reads, says(&mut small, small_id).0), (1, vec![14, 1, 0]));
    // Before the first event there is nothing to refer to.
    hub.feed(id, &batch_after(0, 11, chain, &[PAYLOAD], Some(&[PAYLOAD; 11])).0);
    assert_eq!(hub.refused_with(id), Some(Code::Malformed));
}

#[test]
fn a_sender_that_is_told_so_begins_again_at_what_was_acknowledged() {
    let key = stream("clinic_a");
    let mut clinic = holder("clinic_a", Role::Clinic, &key, 5, 0);
    let id = meet(&mut clinic, ("hub", Role::Hub), &key, 2, &chain_at(&key, 2), 0);
    let (_, request) = says(&mut clinic, id);
    give(&mut clinic, &request.unwrap());
    assert_eq!(says(&mut clinic, id).1, None, "all is under way");
    clinic.feed(id, &[14, 1, 0]);
    let (_, request) = says(&mut clinic, id);
    assert_eq!(request.map(|r| (r.from_seq, r.upto_seq)), Some((3, 5)));
    clinic.feed(id, &[14, 1, 0]);
    assert_eq!(clinic.refused_with(id), Some(Code::State));
    let mut clinic = holder("clinic_a", Role::Clinic, &key, 5, 0);
    let id = meet(&mut clinic, ("hub", Role::Hub), &key, 2, &chain_at(&key, 2), 0);
    clinic.feed(id, &[14, 1, 7]);
    assert_eq!(clinic.refused_with(id), Some(Code::State));
}

#[test]
fn a_handle_that_was_not_given_yet_has_no_history_to_lack() {
    let (mut hub, key) = (Solo::hub(Limits::hub(4)), stream("clinic_a"));
    let id = hub.node.open(hub.now(), PeerIdentity { name: name("clinic_a"), role: Role::Clinic }).unwrap();
    hub.feed(id, &frame(1, &hello(0)));
    let entry = [&[1 | (key.lane as u8) << 2][..], &7u64.to_le_bytes(), &[0]].concat();
    hub.feed(id, &frame(2 | 0x40, &entry));
    // The stream is known, but the hub has not told of it: inside, it has the number 2^32 - 1.
    hub.feed(id, &frame(14, &[0xff, 0xff, 0xff, 0xff, 0x0f]));
    assert_eq!(hub.refused_with(id), Some(Code::State));
}

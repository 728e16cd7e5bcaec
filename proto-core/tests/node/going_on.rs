//! A codec with states: batches that go on from the one before them.

use super::support::*;
use ropeway_core::code::Code;
use ropeway_core::codec::{Codec, CodecId};
use ropeway_core::event::{Chain, Records, put_record};
use ropeway_core::history::Past;
use ropeway_core::limits::Limits;
use ropeway_core::node::{SessionId, Transmit};
use ropeway_core::policy::{PeerIdentity, Role};
use ropeway_core::varint::{Reader, Writer};
use ropeway_core::wire::batch::BatchHead;

/// Packs everything into a byte, and knows one stream up to where it has packed it.
#[derive(Default)]
struct Sticky {
    knows: Option<(u64, u64)>,
}

impl Codec for Sticky {
    fn id(&self) -> CodecId {
        CodecId::MODEL
    }

    fn compress_after(&mut self, past: &Past<'_>, _: &[u8], out: &mut [u8]) -> Option<usize> {
        assert!(self.has_state(past, true) || past.events().count() as u64 == past.count(), "{past:?}");
        self.knows = Some((past.from_seq, past.before_seq + past.batch_count));
        out.first_mut().map(|_| 1)
    }

    fn has_state(&mut self, past: &Past<'_>, sending: bool) -> bool {
        sending && self.knows == Some((past.from_seq, past.before_seq))
    }
}

/// A clinic that has so many events, and keeps a little more than 50 of them in memory; a session with a hub that
/// has none.
fn clinic_of(events: u64) -> (Solo, SessionId) {
    let (key, limits) = (stream("clinic_a"), Limits { history_bytes: 1024, ..Limits::hub(4) });
    let mut clinic = Solo::with_codec("clinic_a", Role::Clinic, limits, Box::<Sticky>::default(), |r| {
        fill(r, &key, true, events);
    });
    let id = clinic.node.open(clinic.now(), PeerIdentity { name: name("hub"), role: Role::Hub }).unwrap();
    let mut hello = vec![1, 1];
    for v in [0, 0b1001, 65_536, 65_536, 65_536, 7, WALL, 64] {
        varint(&mut hello, v);
    }
    clinic.feed(id, &frame(1, &hello));
    clinic.feed(id, &frame(2 | 0x40, &[]));
    (clinic, id)
}

/// First event, number and history of the next batch, which has 30 events at most; `None` if it says nothing more.
fn next_batch(clinic: &mut Solo, id: SessionId) -> Option<(u64, u64, u64)> {
    let key = stream("clinic_a");
    loop {
        let request = says(clinic, id).1?;
        let (mut bytes, mut n) = (vec![0; 4096], 0);
        for seq in request.from_seq..=request.upto_seq.min(request.from_seq + 29) {
            let mut w = Writer::new(&mut bytes[n..]);
            put_record(&mut w, &event(seq)).unwrap();
            n += w.len();
        }
        let prev_chain: Chain = chain_at(&key, request.from_seq - 1);
        let records = Records { first_seq: request.from_seq, prev_chain, bytes: &bytes[..n] };
        let (now, mut out) = (clinic.now(), vec![0; 1 << 16]);
        if let Transmit::Bytes(n) = clinic.node.complete_read(now, &request, Ok(records), &mut out) {
            let head = BatchHead::parse(&mut Reader::new(&out[2..n]), 1 << 20).unwrap();
            assert_eq!(head.codec, CodecId::MODEL);
            return Some((head.first_seq, head.count, head.history));
        }
    }
}

#[test]
fn while_batches_are_under_way_they_refer_to_all_before_them() {
    let (mut clinic, id) = clinic_of(180);
    for n in 0..6 {
        assert_eq!(next_batch(&mut clinic, id), Some((30 * n + 1, 30, 30 * n)));
    }
    assert_eq!(next_batch(&mut clinic, id), None);
}

#[test]
fn a_batch_that_nothing_was_under_way_before_for_a_second_refers_to_what_can_be_learned() {
    for waits_ms in [1_000, 1_001] {
        let (mut clinic, id) = clinic_of(180);
        for n in 0..5 {
            assert_eq!(next_batch(&mut clinic, id).unwrap().2, 30 * n);
        }
        clinic.ms = 7_000;
        clinic.feed(id, &frame(4, &[0, 150, 1]));
        clinic.ms += waits_ms;
        let (first, _, history) = next_batch(&mut clinic, id).unwrap();
        let goes_on = waits_ms == 1_000;
        assert!(first == 151 && goes_on == (history == 150), "{waits_ms}: {history}");
        assert!(goes_on || (25..=56).contains(&history), "{waits_ms}: {history}");
    }
}

#[test]
fn who_goes_on_and_is_not_understood_begins_again_with_what_can_be_learned() {
    let (mut clinic, id) = clinic_of(300);
    let next = |clinic: &mut Solo| next_batch(clinic, id).unwrap();
    (0..4).for_each(|n| assert_eq!(next(&mut clinic).2, 30 * n));
    clinic.feed(id, &frame(4, &[0, 60]));
    clinic.feed(id, &[14, 1, 0]);
    // Never more than that again, whatever is under way.
    for n in 2..6 {
        let (first, _, history) = next(&mut clinic);
        assert!(first == 30 * n + 1 && (25..=56).contains(&history), "{first}: {history}");
    }
    clinic.feed(id, &[14, 1, 0]);
    assert_eq!((next(&mut clinic), next(&mut clinic)), ((61, 30, 0), (91, 30, 0)));
    clinic.feed(id, &[14, 1, 0]);
    assert_eq!(clinic.refused_with(id), Some(Code::State));
}

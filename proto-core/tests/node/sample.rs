//! A sample that both ends know before the first event, or not the same one (docs/PROTOCOL.md#sample-1).

use super::support::*;
use ropeway_core::code::Code;
use ropeway_core::codec::{Codec, CodecId};
use ropeway_core::history::Past;
use ropeway_core::limits::Limits;
use ropeway_core::node::{Event, SessionId};
use ropeway_core::policy::{PeerIdentity, Role};
use ropeway_core::varint::Reader;
use ropeway_core::wire::batch::BatchHead;

/// Leaves out the first byte of a batch, which is the same in all.
struct Shorter(u32);

impl Codec for Shorter {
    fn id(&self) -> CodecId {
        CodecId::SAMPLED
    }

    fn sample(&self) -> u32 {
        self.0
    }

    fn compress_after(&mut self, _: &Past<'_>, raw: &[u8], out: &mut [u8]) -> Option<usize> {
        let rest = &raw[1..];
        out.get_mut(..rest.len())?.copy_from_slice(rest);
        Some(rest.len())
    }

    fn decompress_after(&mut self, _: &Past<'_>, data: &[u8], out: &mut [u8]) -> Result<(), Code> {
        let rest = out.get_mut(1..).filter(|rest| rest.len() == data.len()).ok_or(Code::BadBatch)?;
        rest.copy_from_slice(data);
        Ok(())
    }
}

/// A node with the sample 1 that holds nine events of `clinic_a`.
fn with_sample(node: &str, role: Role) -> Solo {
    let key = stream("clinic_a");
    Solo::with_codec(node, role, Limits::hub(4), Box::new(Shorter(1)), |r| fill(r, &key, node == "clinic_a", 9))
}

/// HELLO of a peer that has this sample.
fn hello_with(tag: Option<u32>) -> Vec<u8> {
    let mut body = hello(0);
    if let Some(tag) = tag {
        body[3] |= 1 << 4;
        body.extend(tag.to_le_bytes());
    }
    frame(1, &body)
}

fn meets(solo: &mut Solo, peer: (&str, Role), tag: Option<u32>) -> SessionId {
    let id = solo.node.open(solo.now(), PeerIdentity { name: name(peer.0), role: peer.1 }).unwrap();
    solo.feed(id, &hello_with(tag));
    id
}

/// What the first batch of a hub with the sample 1 to a clinic with another or none is coded with.
fn codec_for(tag: Option<u32>) -> (CodecId, bool) {
    let mut hub = with_sample("hub", Role::Hub);
    let id = meets(&mut hub, ("clinic_a", Role::Clinic), tag);
    hub.feed(id, &frame(2 | 0x40, &[]));
    let (said, request) = says(&mut hub, id);
    assert_eq!(said[2 + usize::from(said[1]) - 4..2 + usize::from(said[1])], 1u32.to_le_bytes(), "its HELLO ends so");
    let batch = give(&mut hub, &request.unwrap());
    let head = BatchHead::parse(&mut Reader::new(&batch[2..]), 1 << 16).unwrap();
    let now = hub.now();
    hub.node.close(now, id);
    let Some(Event::Closed { stats, .. }) = hub.node.poll_event() else { panic!("it was closed") };
    (head.codec, stats.sample_differs)
}

#[test]
fn only_the_same_sample_is_used_and_another_one_is_told() {
    assert_eq!(codec_for(Some(1)), (CodecId::SAMPLED, false));
    assert_eq!(codec_for(Some(2)), (CodecId::STORED, true));
    assert_eq!(codec_for(None), (CodecId::STORED, false));
}

#[test]
fn a_first_flight_with_another_sample_is_dropped_and_not_held_against_its_sender() {
    for (tag, taken) in [(1, true), (2, false)] {
        let mut hub = Solo::with_codec("hub", Role::Hub, Limits::hub(4), Box::new(Shorter(1)), |_| ());
        let id = meets(&mut hub, ("clinic_a", Role::Clinic), Some(tag));
        let key = stream("clinic_a");
        let entry = [&[1 | (key.lane as u8) << 2][..], &key.incarnation.as_u64().to_le_bytes(), &[1]].concat();
        let entry = [&entry[..], &chain_at(&key, 1).tag()].concat();
        hub.feed(id, &frame(2 | 0x40, &entry));
        let (stored, _) = batch(0, 1, chain_at(&key, 0), &[b"payload"]);
        // The same in the other codec: a byte less, and no event before it is referred to.
        let mut body = stored[2..].to_vec();
        body[3] = CodecId::SAMPLED.0;
        body.insert(4, 0);
        body.remove(22);
        hub.feed(id, &frame(3 | 0x20, &body));
        hub.serve(id);
        assert_eq!(hub.closed, [], "{tag}");
        assert_eq!(hub.node.frontier().next().is_some(), taken, "{tag}");
    }
}

//! Batches through the codec that learns.

use ropeway_core::codec::{Codec, CodecRef, Codecs};
use ropeway_core::event::Event;
use ropeway_core::fuzz::{batch, batch_of_events};
use ropeway_core::history::Past;
use ropeway_core::hlc::Hlc;
use ropeway_core::varint::{Reader, Writer};
use ropeway_core::wire::batch::{BatchHead, put_columns};

use crate::model_codec::ModelCodec;

const EVENTS_MAX: usize = 40;
/// What a stranger promises, mostly, at most: nonsense takes the model as long as sense.
const PROMISE: usize = 8 << 10;
/// Payloads of events before a row, so that there is something to learn.
const BEFORE: [&[u8]; 3] = [br#"{"type":"visit","weight":61}"#, b"", br#"{"type":"visit","weight":62}"#];

/// The first byte chooses: the body of a BATCH from a stranger, events to make one from, or a row of batches.
pub fn model(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else { return };
    match choice % 3 {
        0 => stranger(rest, if choice < 240 { PROMISE } else { usize::MAX }),
        1 => batch_of_events(rest, &mut Codecs::default().with(CodecRef::Owned(Box::new(ModelCodec::new(2))))),
        _ => row(rest),
    }
}

/// Nothing of what a stranger says is left behind for the next.
fn stranger(body: &[u8], promise: usize) {
    if BatchHead::parse(&mut Reader::new(body), usize::MAX).is_ok_and(|head| head.raw_bytes > promise) {
        return;
    }
    let mut codec = ModelCodec::new(1);
    batch(body, &mut Codecs::default().with(CodecRef::Borrowed(&mut codec)));
    let payloads = BEFORE.map(<[u8]>::to_vec);
    let (honest, raw) = sent(&mut ModelCodec::new(1), &payloads, (0, 0, 3));
    let mut out = vec![0; raw.len()];
    assert_eq!(codec.decompress_after(&past((0, 0, 3)), &honest, &mut out), Ok(()));
    assert_eq!(out, raw);
}

fn event(n: usize, payload: &[u8]) -> Event<'_> {
    let n = n as u64;
    Event { hlc: Hlc::new(n / 2 * 1_500, (n % 2) as u16), kind: (n % 3) as u16, flags: u8::from(n == 5), payload }
}

/// A batch of events `first..end` that refers to all from `from` on; event 0 has the number 1.
fn past((from, first, end): (usize, usize, usize)) -> Past<'static> {
    let (from_seq, before_seq, batch_count) = (1 + from as u64, 1 + first as u64, (end - first) as u64);
    Past { from_seq, before_seq, batch_count, first_hlc: event(first, &[]).hlc, ..Past::default() }
}

/// Compressed and not; the latter twice if nothing becomes smaller.
fn sent(codec: &mut ModelCodec, payloads: &[Vec<u8>], range: (usize, usize, usize)) -> (Vec<u8>, Vec<u8>) {
    let events = (range.1..range.2).map(|n| event(n, &payloads[n]));
    let mut raw = vec![0; payloads.iter().map(|p| p.len() + 32).sum()];
    let n = put_columns(events, &mut raw).expect("room");
    raw.truncate(n);
    let mut out = vec![0; n];
    match codec.compress_after(&past(range), &raw, &mut out) {
        Some(n) => out.truncate(n),
        None => out.clone_from(&raw),
    }
    (out, raw)
}

/// One side goes on from batch to batch, another learns the events before each: they agree. What is damaged on the way
/// spoils nothing but itself.
fn row(data: &[u8]) {
    let mut payloads: Vec<Vec<u8>> = BEFORE.iter().map(|p| p.to_vec()).collect();
    let (mut rest, mut ends) = (data, vec![payloads.len()]);
    while let Some((&how, after)) = rest.split_first() {
        let (payload, after) = after.split_at(usize::from(how & 63).min(after.len()));
        payloads.push(if how & 64 == 0 { payload.to_vec() } else { payload.repeat(9) });
        if how & 128 != 0 {
            ends.push(payloads.len());
        }
        rest = if payloads.len() < EVENTS_MAX { after } else { &[] };
    }
    let (mut here, mut there) = (ModelCodec::new(1), ModelCodec::new(1));
    let mut first = 0;
    for end in ends {
        let range = (0, first, end);
        let (mut bytes, mut stamps) = (vec![0; 64 << 10], Vec::new());
        let mut w = Writer::new(&mut bytes);
        for (n, payload) in payloads.iter().enumerate().take(first) {
            let e = event(n, payload);
            let _ = w.varint(u64::from(e.kind)).and_then(|()| w.varint(payload.len() as u64));
            w.put(payload).expect("room");
            stamps.splice(..0, [&e.hlc.as_u64().to_le_bytes()[..], &[e.flags]].concat());
        }
        let n = w.len();
        let known = Past { bytes: &bytes[..n], stamps: &stamps, ..past(range) };
        let (data, raw) = sent(&mut here, &payloads, range);
        if data == raw {
            // It went another way: the state is gone, and there is nothing to go on from.
            return;
        }
        let mut out = vec![0; raw.len()];
        assert_eq!(ModelCodec::new(1).decompress_after(&known, &data, &mut out), Ok(()));
        assert!(out == raw, "who has learned the events reads the batch");
        let mut damaged = data.clone();
        let at = usize::from(data[0]) % data.len();
        damaged[at] ^= 1 + data[0] / 2;
        let _ = there.decompress_after(&known, &damaged, &mut out);
        assert_eq!(there.decompress_after(&known, &data, &mut out), Ok(()));
        assert!(out == raw, "what was damaged has spoiled nothing");
        assert!(there.has_state(&past((0, end, end + 1)), false) && here.has_state(&past((0, end, end + 1)), true));
        first = end;
    }
}

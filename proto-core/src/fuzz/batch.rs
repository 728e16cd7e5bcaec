//! Batches through the codecs that a runtime brings: as they come, and made from drawn events.

use alloc::vec;
use alloc::vec::Vec;

use super::Tape;
use crate::code::Code;
use crate::codec::{CodecId, Codecs};
use crate::event::{Chain, Event, RECORD_HEAD_BYTES, Records, flags, put_record};
use crate::history::Past;
use crate::hlc::Hlc;
use crate::time::Instant;
use crate::varint::{Reader, Writer};
use crate::wire::batch::{self, BatchHead, Columns};

/// Bytes of a batch before compression: what a clinic takes.
pub(super) const BATCH_MAX: usize = (256 << 10) + 1024;
const EVENT_MAX: usize = 4096;
/// Most events that are made for one batch.
const EVENTS_MAX: usize = 300;
/// Bytes on both sides of the room for the columns that nobody may touch.
const GUARD: usize = 64;

/// Any bytes as the body of a BATCH. What can be read must be the same after it is written again.
pub fn batch(body: &[u8], codecs: &mut Codecs<'_>) {
    let Ok((head, raw)) = unpack(body, codecs) else { return };
    let Ok(columns) = Columns::parse(&raw, &head, EVENT_MAX) else { return };
    let events: Vec<_> = columns.iter().collect();
    assert_eq!(events.len() as u64, head.count, "iteration cannot fail after parsing");
    assert!(events.is_sorted_by(|a, b| a.hlc < b.hlc), "stamps grow");
    assert!(events.iter().all(|e| e.payload.len() <= EVENT_MAX));
    let bytes = records_of(&events);
    let records = Records { first_seq: head.first_seq, prev_chain: Chain([0; 32]), bytes: &bytes };
    let (mut scratch, mut out) = (vec![0; raw.len()], vec![0; raw.len() + 64]);
    let stored = (&mut Codecs::default(), CodecId::STORED);
    let made = batch::emit(head.handle, &records, raw.len(), stored, &Past::default(), &mut scratch, &mut out);
    let made = made.expect("room");
    assert_eq!((made.count, made.raw_bytes), (head.count, raw.len()));
    assert!(out[made.body_bytes - raw.len()..made.body_bytes] == raw, "columns have one form");
}

/// A batch of drawn events, whole and damaged.
pub fn batch_of_events(data: &[u8], codecs: &mut Codecs<'_>) {
    let mut tape = Tape(data);
    let (peer_codecs, damage) = match tape.byte() {
        0..0x20 => (CodecId::STORED.bit(), Vec::new()),
        0x20..0x80 => (u32::MAX, Vec::new()),
        n => (u32::MAX, (0..1 + n % 4).map(|_| (tape.byte(), tape.u16(), tape.byte())).collect()),
    };
    let target = match tape.u16() {
        0 => BATCH_MAX,
        n => usize::from(n),
    };
    let (handle, first_seq) = (tape.number() as u32, 1 + tape.number() / 2);
    let mut payloads = Vec::new();
    let events = drawn_events(&mut tape, &mut payloads);
    let bytes = records_of(&events);
    let start = Chain([3; 32]);
    let records = Records { first_seq, prev_chain: start, bytes: &bytes };
    let (mut scratch, mut out) = (vec![0; BATCH_MAX], vec![0; BATCH_MAX + 64]);
    let past = Past { before_seq: first_seq, from_seq: first_seq, ..Past::default() };
    let codec = codecs.choose(peer_codecs, 0, Instant(0));
    let made = batch::emit(handle, &records, target, (codecs, codec), &past, &mut scratch, &mut out).expect("room");
    assert!(made.raw_bytes <= target || made.count == 1);
    out.truncate(made.body_bytes);

    let (head, raw) = unpack(&out, codecs).expect("a batch is read by whom it was made for");
    let columns = Columns::parse(&raw, &head, EVENT_MAX).expect("its events are read");
    // The sender's own mark stays with it.
    let sent = || events.iter().take(made.count as usize).map(|e| Event { flags: e.flags & flags::HASHED, ..*e });
    assert!(columns.iter().eq(sent()), "the events are those that were sent");
    assert_eq!((head.handle, head.first_seq, head.last_seq()), (handle, first_seq, made.last_seq));
    assert!(peer_codecs != CodecId::STORED.bit() || head.codec == CodecId::STORED);
    assert_eq!(sent().fold(start, |chain, e| chain.then(&e)).tag(), head.tag);

    if damage.is_empty() {
        return;
    }
    damage.iter().for_each(|d| spoil(&mut out, *d));
    batch(&out, codecs);
    let Ok((damaged, raw)) = unpack(&out, codecs) else { return };
    let Ok(columns) = Columns::parse(&raw, &damaged, EVENT_MAX) else { return };
    if damaged.tag == head.tag && columns.iter().fold(start, |chain, e| chain.then(&e)).tag() == head.tag {
        assert!(columns.iter().eq(sent()), "damage does not pass for other events");
    }
}

/// Head and columns. The room for the columns is all that is written to, and all of it.
fn unpack(body: &[u8], codecs: &mut Codecs<'_>) -> Result<(BatchHead, Vec<u8>), Code> {
    let mut r = Reader::new(body);
    let head = BatchHead::parse(&mut r, BATCH_MAX)?;
    let mut again = [0; 64];
    let mut w = Writer::new(&mut again);
    head.emit(&mut w).expect("room");
    let n = w.len();
    assert_eq!(again[..n], body[..body.len() - r.rest().len()], "a head has one form");
    assert!(head.raw_bytes <= BATCH_MAX && head.last_seq() >= head.first_seq);

    let past = Past { batch_count: head.count, first_hlc: head.first_hlc, ..Past::default() };
    let mut decode = |filler: u8| {
        let mut room = vec![filler; GUARD + head.raw_bytes + GUARD];
        let outcome = codecs.decompress(head.codec, &past, r.rest(), &mut room[GUARD..GUARD + head.raw_bytes]);
        let behind = room.split_off(GUARD + head.raw_bytes);
        let raw = room.split_off(GUARD);
        assert!(room.iter().chain(&behind).all(|b| *b == filler), "written beyond the room");
        outcome.map(|()| raw)
    };
    let (raw, again) = (decode(0xa5), decode(0x5a));
    assert!(raw == again, "what is decoded depends on the data only");
    raw.map(|raw| (head, raw)).inspect_err(|code| assert_eq!(*code, Code::BadBatch))
}

/// At least one event, with growing stamps. Some payloads repeat, so that there is what to compress.
fn drawn_events<'p>(tape: &mut Tape<'_>, payloads: &'p mut Vec<Vec<u8>>) -> Vec<Event<'p>> {
    let mut heads = Vec::new();
    // Near the end of the range if the first bytes are.
    let mut hlc = Hlc::from_u64(tape.number()).unwrap_or(Hlc::ZERO);
    loop {
        let choice = tape.byte();
        let payload = match choice >> 6 {
            0 => payloads.last().cloned().unwrap_or_default(),
            1 => {
                let times = usize::from(tape.byte());
                tape.take(16).repeat(times)
            }
            _ => {
                let n = usize::from(tape.byte());
                tape.take(n).to_vec()
            }
        };
        debug_assert!(payload.len() <= EVENT_MAX);
        payloads.push(payload);
        heads.push((hlc, u16::from(choice >> 5 & 1) * tape.u16(), choice & (flags::UNSYNCED | flags::FUTURE)));
        let step = match choice >> 2 & 3 {
            0 => 1,
            1 => 1 + u64::from(tape.byte()),
            2 => (1 + u64::from(tape.u16())) << 16,
            _ => 1 + (tape.number() >> 8),
        };
        let Some(next) = hlc.as_u64().checked_add(step).and_then(Hlc::from_u64) else { break };
        if tape.is_over() || heads.len() == EVENTS_MAX {
            break;
        }
        hlc = next;
    }
    let heads = heads.into_iter().zip(payloads.iter());
    heads.map(|((hlc, kind, flags), payload)| Event { hlc, kind, flags, payload }).collect()
}

fn records_of(events: &[Event<'_>]) -> Vec<u8> {
    let mut bytes = vec![0; events.iter().map(|e| RECORD_HEAD_BYTES + e.payload.len()).sum()];
    let mut w = Writer::new(&mut bytes);
    events.iter().for_each(|e| put_record(&mut w, e).expect("room"));
    bytes
}

/// Changes a byte, cuts the end off or adds one.
fn spoil(body: &mut Vec<u8>, (how, at, value): (u8, u16, u8)) {
    let at = usize::from(at) % body.len().max(1);
    match how % 4 {
        0 => body.truncate(at),
        1 => body.resize(body.len() + usize::from(value), value),
        // Most of what matters stands at the beginning.
        2 => body.iter_mut().take(at % 40 + 1).skip(at % 40).for_each(|b| *b ^= value),
        _ => body.iter_mut().skip(at).take(1).for_each(|b| *b ^= value),
    }
}

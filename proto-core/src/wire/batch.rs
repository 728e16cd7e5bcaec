//! BATCH: consecutive events of one stream (docs/PROTOCOL.md#batch-1).
//!
//! Head: handle, first seq, count, codec (and, for some, how many events it refers to), raw length as varints, first stamp (8 bytes), chain tag
//! after the last event (8 bytes). Then the events in columns (stamps, kinds, lengths, payloads),
//! as one piece through the codec.

use crate::code::Code;
use crate::codec::{CodecId, Codecs};
use crate::event::{ChainTag, Event, Records, flags};
use crate::history::Past;
use crate::hlc::Hlc;
use crate::varint::{Full, Reader, Writer, varint_len};

/// Most events of one batch.
pub const BATCH_MAX_EVENTS: u64 = 4096;

/// The head of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHead {
    /// The sender's handle of the stream.
    pub handle: u32,
    /// Seq of the first event.
    pub first_seq: u64,
    /// Number of events, 1 to [`BATCH_MAX_EVENTS`].
    pub count: u64,
    /// How the columns are compressed.
    pub codec: CodecId,
    /// How many events before the first one it refers to; 0 with codecs that use none.
    pub history: u64,
    /// Bytes of the columns before compression.
    pub raw_bytes: usize,
    /// Stamp of the first event.
    pub first_hlc: Hlc,
    /// Chain hash after the last event, truncated.
    pub tag: ChainTag,
}

impl BatchHead {
    /// Seq of the last event.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.first_seq + (self.count - 1)
    }

    /// Reads the head; the rest of the reader is the compressed body.
    ///
    /// # Errors
    /// [`Code::Malformed`] for what cannot be, [`Code::HlcRange`] for an impossible stamp.
    pub fn parse(r: &mut Reader<'_>, raw_max_bytes: usize) -> Result<BatchHead, Code> {
        let handle = r.varint_max(u64::from(u32::MAX))? as u32;
        let first_seq = r.varint()?;
        let count = r.varint_max(BATCH_MAX_EVENTS)?;
        let codec = CodecId(r.u8()?);
        let history = if codec.uses_history() { r.varint()? } else { 0 };
        let raw_bytes = r.varint_max(raw_max_bytes as u64)? as usize;
        let first_hlc = r.u64()?;
        let tag = r.array()?;
        if first_seq == 0 || count == 0 || history >= first_seq || first_seq.checked_add(count).is_none() {
            return Err(Code::Malformed);
        }
        let first_hlc = Hlc::from_u64(first_hlc).ok_or(Code::HlcRange)?;
        Ok(BatchHead { handle, first_seq, count, codec, history, raw_bytes, first_hlc, tag })
    }

    pub(crate) fn emit(&self, w: &mut Writer<'_>) -> Result<(), Full> {
        w.varint(u64::from(self.handle))?;
        w.varint(self.first_seq)?;
        w.varint(self.count)?;
        w.u8(self.codec.0)?;
        if self.codec.uses_history() {
            w.varint(self.history)?;
        }
        w.varint(self.raw_bytes as u64)?;
        w.put(&self.first_hlc.as_u64().to_le_bytes())?;
        w.put(&self.tag)
    }
}

/// What [`emit`] made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Emitted {
    pub(crate) codec: CodecId,
    pub(crate) body_bytes: usize,
    pub(crate) raw_bytes: usize,
    pub(crate) count: u64,
    pub(crate) last_seq: u64,
}

/// Packs as many of `records` as keep the columns within `raw_target_bytes` (at least one), into
/// `out`, with `codec` if that makes them smaller. `past`: the events before them, for a codec that uses
/// them. `scratch` holds the columns. `None` if not even one event fits.
pub(crate) fn emit(
    handle: u32,
    records: &Records<'_>,
    raw_target_bytes: usize,
    (codecs, codec): (&mut Codecs<'_>, CodecId),
    past: &Past<'_>,
    scratch: &mut [u8],
    out: &mut [u8],
) -> Option<Emitted> {
    let first = records.iter().next()?;
    let (mut count, mut chain, mut raw, mut prev) = (0u64, records.prev_chain, 0usize, first.hlc);
    for (i, e) in records.iter().take(BATCH_MAX_EVENTS as usize).enumerate() {
        let cost = stamp_len(prev, e.hlc, e.flags, i == 0)
            + varint_len(u64::from(e.kind))
            + varint_len(e.payload.len() as u64)
            + e.payload.len();
        if count > 0 && raw + cost > raw_target_bytes {
            break;
        }
        (count, raw, prev, chain) = (count + 1, raw + cost, e.hlc, chain.then(&e));
    }
    let columns = scratch.get_mut(..raw)?;
    let written = put_columns(records.iter().take(count as usize), columns)?;
    debug_assert_eq!(written, raw);
    let past = &Past { batch_count: count, first_hlc: first.hlc, ..*past };

    let mut head = BatchHead {
        handle,
        first_seq: records.first_seq,
        count,
        codec,
        history: if codec.uses_history() { past.count() } else { 0 },
        raw_bytes: raw,
        first_hlc: first.hlc,
        tag: chain.tag(),
    };
    let put = |head: &BatchHead, out: &mut [u8]| {
        let mut w = Writer::new(out);
        head.emit(&mut w).ok()?;
        Some(w.len())
    };
    let mut at = put(&head, out)?;
    let n = match codecs.compress(codec, past, columns, &mut out[at..]) {
        Some(n) => n,
        None => {
            (head.codec, head.history) = (CodecId::STORED, 0);
            at = put(&head, out)?;
            out[at..].get_mut(..raw)?.copy_from_slice(columns);
            raw
        }
    };
    Some(Emitted { codec: head.codec, body_bytes: at + n, raw_bytes: raw, count, last_seq: head.last_seq() })
}

/// Writes the columns of events, of which there is at least one; how many bytes they are. `None` if there is no
/// room.
pub fn put_columns<'a>(events: impl Iterator<Item = Event<'a>> + Clone, out: &mut [u8]) -> Option<usize> {
    let mut w = Writer::new(out);
    let mut prev = events.clone().next()?.hlc;
    for (i, e) in events.clone().enumerate() {
        put_stamp(&mut w, prev, e.hlc, e.flags, i == 0).ok()?;
        prev = e.hlc;
    }
    events.clone().try_for_each(|e| w.varint(u64::from(e.kind))).ok()?;
    events.clone().try_for_each(|e| w.varint(e.payload.len() as u64)).ok()?;
    events.clone().try_for_each(|e| w.put(e.payload)).ok()?;
    Some(w.len())
}

/// The events of a decompressed batch. Construction walks the columns once, so that iteration
/// cannot fail.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    count: u64,
    first_hlc: Hlc,
    stamps: &'a [u8],
    kinds: &'a [u8],
    lengths: &'a [u8],
    payloads: &'a [u8],
}

impl<'a> Columns<'a> {
    /// Checks that the columns hold what the head says: strictly increasing stamps in range, kinds
    /// of 16 bits, lengths within `event_max_bytes` that add up to the bytes there are.
    ///
    /// # Errors
    /// [`Code::BadBatch`], [`Code::HlcRange`], [`Code::TooLarge`].
    pub fn parse(raw: &'a [u8], head: &BatchHead, event_max_bytes: usize) -> Result<Columns<'a>, Code> {
        Self::of(raw, (head.count, head.first_hlc), event_max_bytes)
    }

    /// As [`Columns::parse`], of so many events of which the first has this stamp.
    ///
    /// # Errors
    /// As of [`Columns::parse`].
    pub fn of(raw: &'a [u8], (count, first_hlc): (u64, Hlc), event_max_bytes: usize) -> Result<Columns<'a>, Code> {
        let bad = |_| Code::BadBatch;
        let mut r = Reader::new(raw);
        let stamps = r.rest();
        let mut prev = first_hlc;
        for i in 0..count {
            (prev, _) = take_stamp(&mut r, prev, i == 0)?;
        }
        let kinds = r.rest();
        for _ in 0..count {
            r.varint_max(u64::from(u16::MAX)).map_err(bad)?;
        }
        let lengths = r.rest();
        let mut sum = 0usize;
        for _ in 0..count {
            let len = r.varint().map_err(bad)?;
            if len > event_max_bytes as u64 {
                return Err(Code::TooLarge);
            }
            sum += len as usize;
        }
        if sum != r.rest().len() {
            return Err(Code::BadBatch);
        }
        Ok(Columns { count, first_hlc, stamps, kinds, lengths, payloads: r.rest() })
    }

    /// The events in order.
    pub fn iter(&self) -> impl Iterator<Item = Event<'a>> + use<'a> {
        let (mut s, mut k, mut l, mut p) =
            (Reader::new(self.stamps), Reader::new(self.kinds), Reader::new(self.lengths), Reader::new(self.payloads));
        let (mut prev, count) = (self.first_hlc, self.count);
        (0..count).map_while(move |i| {
            let (hlc, flags) = take_stamp(&mut s, prev, i == 0).ok()?;
            prev = hlc;
            let (kind, len) = (k.varint().ok()? as u16, l.varint().ok()? as usize);
            Some(Event { hlc, kind, flags, payload: p.take(len).ok()? })
        })
    }
}

// A stamp is told against the one before (docs/PROTOCOL.md#batch-4): the milliseconds that have
// passed, whether a counter follows, and the UNSYNCED flag. The first of a batch repeats the head's.

fn stamp_parts(prev: Hlc, hlc: Hlc, flag: u8, first: bool) -> (u64, Option<u64>) {
    let ms = hlc.ms().saturating_sub(prev.ms());
    let counter = match (first, ms) {
        (true, _) => None,
        (false, 0) => Some(u64::from(hlc.counter()).saturating_sub(u64::from(prev.counter()))).filter(|d| *d != 1),
        (false, _) => Some(u64::from(hlc.counter())).filter(|c| *c != 0),
    };
    (ms << 2 | u64::from(flag & flags::UNSYNCED) << 1 | u64::from(counter.is_some()), counter)
}

fn stamp_len(prev: Hlc, hlc: Hlc, flag: u8, first: bool) -> usize {
    let (word, counter) = stamp_parts(prev, hlc, flag, first);
    varint_len(word) + counter.map_or(0, varint_len)
}

fn put_stamp(w: &mut Writer<'_>, prev: Hlc, hlc: Hlc, flag: u8, first: bool) -> Result<(), Full> {
    let (word, counter) = stamp_parts(prev, hlc, flag, first);
    w.varint(word)?;
    counter.map_or(Ok(()), |c| w.varint(c))
}

fn take_stamp(r: &mut Reader<'_>, prev: Hlc, first: bool) -> Result<(Hlc, u8), Code> {
    let word = r.varint().map_err(|_| Code::BadBatch)?;
    let (ms, flag) = (word >> 2, (word >> 1 & 1) as u8 * flags::UNSYNCED);
    let counter = if word & 1 == 1 { Some(r.varint().map_err(|_| Code::BadBatch)?) } else { None };
    if first {
        return if ms == 0 && counter.is_none() { Ok((prev, flag)) } else { Err(Code::BadBatch) };
    }
    let counter = match (ms, counter) {
        (0, None) => u64::from(prev.counter()) + 1,
        (0, Some(d)) if d > 1 => u64::from(prev.counter()).saturating_add(d),
        (_, None) => 0,
        (1.., Some(c)) if c > 0 => c,
        _ => return Err(Code::BadBatch),
    };
    let total = prev.ms().checked_add(ms).ok_or(Code::HlcRange)?;
    if counter > u64::from(u16::MAX) || total > crate::hlc::HLC_MAX_MS {
        return Err(Code::HlcRange);
    }
    Ok((Hlc::new(total, counter as u16), flag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Chain, put_record};
    use alloc::vec;
    use alloc::vec::Vec;

    type Fields = (Hlc, u16, u8, &'static [u8]);

    fn sample() -> (Vec<u8>, Vec<Fields>) {
        let events: Vec<Fields> = vec![
            (Hlc::new(1000, 7), 1, 0, b"first"),
            (Hlc::new(1000, 8), 1, flags::UNSYNCED, b""),
            (Hlc::new(1000, 90), 65_535, 0, b"third"),
            (Hlc::new(2000, 0), 0, 0, b"fourth"),
            (Hlc::new(2001, 5), 0, 0, b"fifth"),
        ];
        let mut buf = vec![0; 1024];
        let mut w = Writer::new(&mut buf);
        for &(hlc, kind, flags, payload) in &events {
            put_record(&mut w, &Event { hlc, kind, flags, payload }).unwrap();
        }
        let n = w.len();
        buf.truncate(n);
        (buf, events)
    }

    fn packed(target: usize) -> (Emitted, Vec<u8>) {
        let (bytes, _) = sample();
        let records = Records { first_seq: 41, prev_chain: Chain([3; 32]), bytes: &bytes };
        let (mut scratch, mut out) = ([0; 512], vec![0; 512]);
        let e = emit(
            2,
            &records,
            target,
            (&mut Codecs::default(), CodecId::STORED),
            &Past::default(),
            &mut scratch,
            &mut out,
        )
        .unwrap();
        out.truncate(e.body_bytes);
        (e, out)
    }

    #[test]
    fn a_batch_round_trips_and_its_tag_is_the_chain_after_its_last_event() {
        let (e, body) = packed(1 << 16);
        assert_eq!((e.count, e.last_seq), (5, 45));
        let mut r = Reader::new(&body);
        let head = BatchHead::parse(&mut r, 1 << 16).unwrap();
        assert_eq!((head.handle, head.first_seq, head.count), (2, 41, 5));
        let columns = Columns::parse(r.rest(), &head, 100).unwrap();
        let (_, events) = sample();
        let mut chain = Chain([3; 32]);
        for (got, want) in columns.iter().zip(&events) {
            assert_eq!((got.hlc, got.kind, got.flags, got.payload), *want);
            chain = chain.then(&got);
        }
        assert_eq!(columns.iter().count(), 5);
        assert_eq!(chain.tag(), head.tag);
    }

    #[test]
    fn a_batch_takes_what_fits_the_target_but_always_one_event() {
        assert_eq!(packed(1).0.count, 1);
        assert_eq!(packed(20).0.count, 2);
    }

    #[test]
    fn golden_bytes_of_a_batch() {
        let (_, body) = packed(1 << 16);
        let hex: alloc::string::String = body.iter().map(|b| alloc::format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            concat!(
                "0229050029",       // handle 2, seq 41, 5 events, stored, 41 raw bytes
                "0700e80300000000", // first stamp 1000.7
                "ebd3014b8d020ddf", // chain tag
                "00020152a01f0505", // stamps: 0; +1 unsynced; +82; +1000 ms; +1 ms, counter 5
                "0101ffff030000",   // kinds
                "0500050605",       // lengths
                "6669727374746869726466",
                "6f757274686669667468"
            )
        );
    }

    #[test]
    fn every_cut_and_every_single_bit_flip_is_refused_or_changes_the_chain() {
        let (_, body) = packed(1 << 16);
        let check = |body: &[u8]| -> Result<bool, Code> {
            let mut r = Reader::new(body);
            let head = BatchHead::parse(&mut r, 1 << 16)?;
            if head.codec != CodecId::STORED
                || r.rest().len() != head.raw_bytes
                || head.first_seq != 41
                || head.handle != 2
            {
                return Err(Code::BadBatch);
            }
            let columns = Columns::parse(r.rest(), &head, 100)?;
            Ok(columns.iter().fold(Chain([3; 32]), |c, e| c.then(&e)).tag() == head.tag)
        };
        assert_eq!(check(&body), Ok(true));
        for cut in 0..body.len() {
            assert!(check(&body[..cut]).is_err());
        }
        for bit in 0..body.len() * 8 {
            let mut b = body.clone();
            b[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(check(&b), Ok(true), "bit {bit}");
        }
    }

    #[test]
    fn sizes_that_lie_are_refused_before_anything_is_made_from_them() {
        let head = BatchHead {
            handle: 0,
            first_seq: 1,
            count: 1,
            codec: CodecId::STORED,
            history: 0,
            raw_bytes: 3,
            first_hlc: Hlc::new(1, 0),
            tag: [0; 8],
        };
        assert_eq!(Columns::parse(&[0, 0, 200, 1], &head, 100).unwrap_err(), Code::TooLarge);
        assert_eq!(Columns::parse(&[0, 0, 5], &head, 100).unwrap_err(), Code::BadBatch);
        let mut buf = [0; 64];
        let mut w = Writer::new(&mut buf);
        BatchHead { first_seq: u64::MAX, ..head }.emit(&mut w).unwrap();
        let n = w.len();
        assert_eq!(BatchHead::parse(&mut Reader::new(&buf[..n]), 100), Err(Code::Malformed));
        assert_eq!(BatchHead::parse(&mut Reader::new(&buf[..n]), 2), Err(Code::Malformed));
    }
}

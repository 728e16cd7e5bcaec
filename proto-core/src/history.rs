//! The newest events of some streams, as bytes to compress against (docs/PROTOCOL.md#history-1).
//!
//! Both ends of a session hold the events before a batch, so these are its dictionary. A slot keeps
//! those of one stream; there are few slots, and what is not in one is read from the log again.

use crate::event::{Event, flags};
use crate::fifo::NONE;
use crate::hlc::Hlc;
use crate::mem::Lent;
use crate::planted::mark;
use crate::varint::{Reader, Writer, varint_len};

/// Events of a stream before a batch, in order; and what is known of the batch before its columns are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Past<'a> {
    /// Number of the session at this node; no other one has it.
    pub session: u64,
    /// Number of the stream at this node.
    pub stream: u32,
    /// Sequence number of the first of them.
    pub from_seq: u64,
    /// That of the event after the last of them: the first of the batch.
    pub before_seq: u64,
    /// For each: kind and length of the payload as varints, and the payload.
    pub bytes: &'a [u8],
    /// For each, the newest first: its stamp (8 bytes), and whether that is unsynced.
    pub stamps: &'a [u8],
    /// How many events the batch has.
    pub batch_count: u64,
    /// Stamp of the first of these.
    pub first_hlc: Hlc,
    /// Bytes a second that the link to the peer carries, 0 if that is not known: how much work a byte is worth.
    pub link_rate: u64,
}

impl<'a> Past<'a> {
    /// How many events.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.before_seq - self.from_seq
    }

    /// The events. None where a codec has a state that knows them already.
    pub fn events(&self) -> impl Iterator<Item = Event<'a>> + use<'a> {
        let mut r = Reader::new(self.bytes);
        self.stamps.rchunks_exact(STAMP_BYTES).map_while(move |stamp| {
            let mut stamp = Reader::new(stamp);
            let (hlc, flags) = (Hlc::from_u64(stamp.u64().ok()?)?, stamp.u8().ok()?);
            let kind = r.varint_max(u64::from(u16::MAX)).ok()? as u16;
            let len = usize::try_from(r.varint().ok()?).ok()?;
            Some(Event { hlc, kind, flags, payload: r.take(len).ok()? })
        })
    }
}

/// Memory for the history of one stream, beside its bytes.
#[derive(Clone, Copy, Debug)]
pub struct HistorySlot {
    stream: u32,
    first_seq: u64,
    next_seq: u64,
    len: usize,
    used: u64,
}

impl HistorySlot {
    /// An unused slot, to fill memory with.
    pub const EMPTY: HistorySlot = HistorySlot { stream: NONE, first_seq: 0, next_seq: 0, len: 0, used: 0 };
}

/// The slots, and their bytes in equal shares.
#[derive(Debug)]
pub(crate) struct Histories<'m> {
    slots: Lent<'m, HistorySlot>,
    bytes: Lent<'m, u8>,
    share: usize,
    uses: u64,
}

/// Of an event, at the end of its slot: they grow towards the events' bytes.
const STAMP_BYTES: usize = 9;

/// Bytes of one event in a slot, but for its stamp.
fn cost(e: &Event<'_>) -> usize {
    varint_len(u64::from(e.kind)) + varint_len(e.payload.len() as u64) + e.payload.len()
}

/// Bytes of so many stamps.
fn stamps(count: u64) -> usize {
    count as usize * STAMP_BYTES
}

/// Bytes of the first `count` events of a slot.
fn skip(bytes: &[u8], count: u64) -> usize {
    let mut r = Reader::new(bytes);
    for _ in 0..count {
        let mut one = || {
            r.varint().ok()?;
            let len = r.varint().ok()?;
            r.take(usize::try_from(len).ok()?).ok()
        };
        if one().is_none() {
            break;
        }
    }
    bytes.len() - r.rest().len()
}

impl<'m> Histories<'m> {
    /// Slots of `share` bytes each.
    pub(crate) fn new(slots: Lent<'m, HistorySlot>, bytes: Lent<'m, u8>, share: usize) -> Self {
        Self { slots, bytes, share, uses: 0 }
    }

    /// Bytes of one stream at most.
    pub(crate) fn share(&self) -> usize {
        if self.slots.is_empty() { 0 } else { self.share }
    }

    fn slot_of(&self, stream: u32) -> Option<usize> {
        self.slots.iter().position(|s| s.stream == stream)
    }

    /// What is held of a stream: the first event, and the one after the last.
    pub(crate) fn range(&self, stream: u32) -> Option<(u64, u64)> {
        let s = &self.slots[self.slot_of(stream)?];
        Some((s.first_seq, s.next_seq))
    }

    /// Begins anew with a stream: nothing before `seq` is held. The slot that was not used for longest
    /// is taken if there is none free.
    pub(crate) fn begin(&mut self, stream: u32, seq: u64) {
        let free = self.slot_of(stream).or_else(|| self.slot_of(NONE));
        let oldest = || (0..self.slots.len()).min_by_key(|&n| self.slots[n].used);
        let Some(n) = free.or_else(oldest) else { return };
        if free.is_none() {
            mark!("history.evicted");
        }
        self.uses += 1;
        self.slots[n] = HistorySlot { stream, first_seq: seq, next_seq: seq, len: 0, used: self.uses };
    }

    /// Adds the event after the last one; any other is ignored. When a slot is full, its older half goes:
    /// both ends of a session do that at the same events, so their histories begin at the same one.
    pub(crate) fn push(&mut self, stream: u32, seq: u64, event: &Event<'_>, share: usize) {
        let Some(n) = self.slot_of(stream) else { return };
        let s = &mut self.slots[n];
        if s.next_seq != seq {
            return;
        }
        if event.flags & flags::WITHHELD != 0 {
            // What is not here is no history: it begins anew behind it.
            (s.len, s.first_seq, s.next_seq) = (0, seq + 1, seq + 1);
            return;
        }
        let share = share.min(self.share);
        let slot = &mut self.bytes[n * self.share..][..self.share];
        let (need, held) = (cost(event) + STAMP_BYTES, s.next_seq - s.first_seq);
        if s.len + stamps(held) + need > share {
            mark!("history.cut");
            let (mut gone, mut count) = (0, 0);
            let most = (share / 2).saturating_sub(need);
            while s.len - gone + stamps(held - count) > most && count < held {
                gone += skip(&slot[gone..s.len], 1);
                count += 1;
            }
            slot.copy_within(gone..s.len, 0);
            let end = slot.len();
            slot.copy_within(end - stamps(held)..end - stamps(count), end - stamps(held - count));
            (s.len, s.first_seq) = (s.len - gone, s.first_seq + count);
        }
        s.next_seq = seq + 1;
        if need > share {
            (s.len, s.first_seq) = (0, seq + 1);
            return;
        }
        let at = slot.len() - stamps(s.next_seq - s.first_seq);
        slot[at..][..8].copy_from_slice(&event.hlc.as_u64().to_le_bytes());
        slot[at + 8] = event.flags & flags::HASHED;
        let mut w = Writer::new(&mut slot[s.len..]);
        let put = w.varint(u64::from(event.kind)).and_then(|()| w.varint(event.payload.len() as u64));
        if put.and_then(|()| w.put(event.payload)).is_ok() {
            s.len += need - STAMP_BYTES;
        }
    }

    /// Whether these events are held: from `from_seq` to the one before `before_seq`.
    pub(crate) fn holds(&self, stream: u32, from_seq: u64, before_seq: u64) -> bool {
        let held = self.range(stream);
        held.is_some_and(|(first, next)| first <= from_seq && from_seq <= before_seq && before_seq <= next)
    }

    /// The events from `from_seq` to the one before `before_seq`; `None` if they are not all held.
    pub(crate) fn past(&mut self, stream: u32, from_seq: u64, before_seq: u64) -> Option<Past<'_>> {
        let n = self.slot_of(stream).filter(|_| self.holds(stream, from_seq, before_seq))?;
        self.uses += 1;
        let s = &mut self.slots[n];
        s.used = self.uses;
        let slot = &self.bytes[n * self.share..][..self.share];
        let all = &slot[..s.len];
        let from = skip(all, from_seq - s.first_seq);
        let rest = &all[from..];
        let bytes = if before_seq == s.next_seq { rest } else { &rest[..skip(rest, before_seq - from_seq)] };
        let end = slot.len();
        let stamps = &slot[end - stamps(before_seq - s.first_seq)..end - stamps(from_seq - s.first_seq)];
        Some(Past { stream, from_seq, before_seq, bytes, stamps, ..Past::default() })
    }

    /// A past with its events, if they are all held.
    pub(crate) fn fill(&mut self, past: Past<'static>) -> Past<'_> {
        let held = self.past(past.stream, past.from_seq, past.before_seq);
        held.map_or(past, |held| Past { bytes: held.bytes, stamps: held.stamps, ..past })
    }

    /// Where to begin so that the events up to the one before `before_seq` are worth half of `most` to all of it,
    /// if so many are held. For some time, as the stream grows, it is the same event.
    pub(crate) fn begin_within(&self, stream: u32, before_seq: u64, most: usize) -> Option<u64> {
        let n = self.slot_of(stream)?;
        let s = &self.slots[n];
        let count = before_seq.checked_sub(s.first_seq).filter(|_| before_seq <= s.next_seq)?;
        let all = &self.bytes[n * self.share..][..s.len];
        let upto = if before_seq == s.next_seq { s.len } else { skip(all, count) };
        let (mut gone, mut first) = (0, s.first_seq);
        while first < before_seq && upto - gone + stamps(before_seq - first) > most {
            gone += skip(&all[gone..upto], 1);
            first += 1;
        }
        if first == s.first_seq {
            return Some(first);
        }
        let step = ((before_seq - first) / 2 + 1).next_power_of_two() / 2;
        Some(first.next_multiple_of(step.max(1)).min(before_seq))
    }

    /// Forgets a stream whose place in the table is given to another, or whose events were altered.
    pub(crate) fn forget(&mut self, stream: u32) {
        if let Some(n) = self.slot_of(stream) {
            self.slots[n] = HistorySlot::EMPTY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hlc::Hlc;
    use alloc::vec;
    use alloc::vec::Vec;

    fn event(payload: &[u8]) -> Event<'_> {
        Event { hlc: Hlc::new(payload.len() as u64, payload[0].into()), kind: 7, flags: 0, payload }
    }

    fn histories(slots: usize, share: usize) -> Histories<'static> {
        Histories::new(Lent::owned(HistorySlot::EMPTY, slots), Lent::owned(0, slots * share), share)
    }

    /// The payloads of a past.
    fn payloads(past: Past<'_>) -> Vec<Vec<u8>> {
        let mut r = Reader::new(past.bytes);
        let mut out = vec![];
        while !r.is_empty() {
            assert_eq!(r.varint(), Ok(7));
            let len = r.varint().unwrap();
            out.push(r.take(len as usize).unwrap().to_vec());
        }
        assert_eq!(out.len() as u64, past.count());
        assert!(past.events().eq(out.iter().map(|p| event(p))));
        out
    }

    #[test]
    fn any_part_of_what_is_held_can_be_had_and_nothing_else() {
        let mut h = histories(2, 91);
        h.begin(5, 10);
        for (seq, p) in (10..).zip([b"ten", b"elv", b"twl"]) {
            h.push(5, seq, &event(p), 91);
        }
        h.push(5, 14, &event(b"not the next"), 91);
        assert_eq!(h.range(5), Some((10, 13)));
        assert_eq!(payloads(h.past(5, 10, 13).unwrap()), [b"ten", b"elv", b"twl"]);
        assert_eq!(payloads(h.past(5, 11, 12).unwrap()), [b"elv"]);
        assert!(h.past(5, 13, 13).unwrap().bytes.is_empty());
        assert!(h.past(5, 9, 13).is_none() && h.past(5, 10, 14).is_none() && h.past(4, 10, 10).is_none());
        h.forget(5);
        assert_eq!(h.range(5), None);
    }

    #[test]
    fn a_full_slot_keeps_its_newer_half_wherever_it_began() {
        let (mut early, mut late) = (histories(1, 190), histories(1, 190));
        early.begin(1, 1);
        for seq in 1..=40 {
            early.push(1, seq, &event(&[seq as u8; 8]), 190);
            let (first, next) = early.range(1).unwrap();
            assert_eq!((next, (next - first) * 19 <= 190), (seq + 1, true));
            assert!(seq < 5 || next - first >= 5, "half of it stays");
        }
        // The same events from the same one on: the same is held, whatever came before.
        let (first, _) = early.range(1).unwrap();
        late.begin(1, first);
        for seq in first..=60 {
            late.push(1, seq, &event(&[seq as u8; 8]), 190);
            early.push(1, seq, &event(&[seq as u8; 8]), 190);
        }
        assert_eq!(early.range(1), late.range(1));
    }

    #[test]
    fn where_to_begin_stays_for_some_time_and_leaves_at_least_half() {
        let mut h = histories(1, 19 * 1000);
        h.begin(1, 1);
        let (mut begins, most) = (vec![], 19 * 100);
        for seq in 1..=900 {
            h.push(1, seq, &event(&[7; 8]), 19 * 1000);
            let from = h.begin_within(1, seq + 1, most).unwrap();
            let count = seq + 1 - from;
            assert!(count <= 100 && (seq < 100 && count == seq || count >= 50), "{count} before {}", seq + 1);
            assert_eq!(h.past(1, from, seq + 1).unwrap().count(), count);
            begins.push(from);
        }
        begins.dedup();
        assert!(begins.len() <= 900 / 32 + 1, "{begins:?}");
        assert_eq!((h.begin_within(1, 902, most), h.begin_within(2, 1, most)), (None, None));
        // Events that are larger than all of it.
        assert_eq!(h.begin_within(1, 901, 18), Some(901));
        assert!((880..=901).contains(&h.begin_within(1, 901, 60).unwrap()));
    }

    #[test]
    fn an_event_that_is_larger_than_a_slot_leaves_it_empty_behind_it() {
        let mut h = histories(1, 34);
        h.begin(1, 1);
        h.push(1, 1, &event(b"small"), 34);
        h.push(1, 2, &event(&[0; 40]), 34);
        assert_eq!(h.range(1), Some((3, 3)));
        h.push(1, 3, &event(b"next"), 34);
        assert_eq!(payloads(h.past(1, 3, 4).unwrap()), [b"next"]);
    }

    #[test]
    fn the_stream_that_was_not_used_for_longest_makes_room() {
        let mut h = histories(2, 34);
        h.begin(1, 1);
        h.begin(2, 1);
        assert!(h.past(1, 1, 1).is_some());
        h.begin(3, 1);
        assert_eq!((h.range(1).is_some(), h.range(2), h.range(3).is_some()), (true, None, true));
        let mut none = histories(0, 34);
        none.begin(1, 1);
        none.push(1, 1, &event(b"x"), 34);
        assert_eq!((none.range(1), none.share()), (None, 0));
    }
}

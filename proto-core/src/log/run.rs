//! Runs: consecutive events of one stream, with delta-coded stamps (docs/LOG.md#run-1).

use crate::code::Code;
use crate::event::{Chain, Event, flags};
use crate::hlc::{HLC_MAX_MS, Hlc};
use crate::varint::{Full, Reader, Writer};
use crate::withheld::Withheld;

const HAS_COUNTER: u64 = 1;
const UNSYNCED: u64 = 1 << 1;
const FUTURE: u64 = 1 << 2;
const FLAG_BITS: u32 = 3;

/// Consecutive events of one stream as they stand in a group. Checked when it was parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run<'a> {
    /// The stream, as an index into the group's dictionary.
    pub index: u32,
    /// Sequence number of the first event, 1 or more.
    pub base_seq: u64,
    /// How many events, 1 or more.
    pub count: u16,
    /// Chain hash up to `base_seq - 1`.
    pub prev_chain: Chain,
    /// Stamp of the first event.
    pub base_hlc: Hlc,
    /// Stamp of the last event, the largest of the run.
    pub last_hlc: Hlc,
    /// The events are not here: it tells what is known of them (docs/LOG.md#withheld-1).
    pub withheld: bool,
    bytes: &'a [u8],
}

impl<'a> Run<'a> {
    /// Sequence number of the last event.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.base_seq + u64::from(self.count - 1)
    }

    /// The events in order; the first has the number `base_seq`.
    #[must_use]
    pub fn events(&self) -> RunEvents<'a> {
        let (r, withheld) = (Reader::new(self.bytes), self.withheld);
        RunEvents { r, prev: self.base_hlc, at_base: true, left: self.count, withheld }
    }

    /// Chain hash up to the last event.
    #[must_use]
    pub fn end_chain(&self) -> Chain {
        self.events().fold(self.prev_chain, |chain, e| chain.then(&e))
    }

    /// Reads what follows the record type; `r` ends up behind the run.
    pub(super) fn parse(r: &mut Reader<'a>, withheld: bool) -> Result<Self, Code> {
        let index = r.varint_max(u64::from(u32::MAX))? as u32;
        let (base_seq, count) = (r.varint()?, r.u16()?);
        let prev_chain = Chain(r.array()?);
        let base_hlc = Hlc::from_u64(r.u64()?).ok_or(Code::Corrupt)?;
        if base_seq == 0 || count == 0 || base_seq.checked_add(u64::from(count - 1)).is_none() {
            return Err(Code::Corrupt);
        }
        let mut events = RunEvents { r: *r, prev: base_hlc, at_base: true, left: count, withheld };
        for _ in 0..count {
            let event = events.parse_next()?;
            if withheld {
                Withheld::parse(event.payload)?;
            }
        }
        let bytes = &r.rest()[..r.rest().len() - events.r.rest().len()];
        *r = events.r;
        Ok(Self { index, base_seq, count, prev_chain, base_hlc, last_hlc: events.prev, withheld, bytes })
    }
}

/// Iterator over the events of a [`Run`].
#[derive(Clone, Debug)]
pub struct RunEvents<'a> {
    r: Reader<'a>,
    prev: Hlc,
    at_base: bool,
    left: u16,
    withheld: bool,
}

impl<'a> RunEvents<'a> {
    fn parse_next(&mut self) -> Result<Event<'a>, Code> {
        let head = self.r.varint()?;
        let delta_ms = head >> FLAG_BITS;
        let has_counter = head & HAS_COUNTER != 0;
        let given = if has_counter { self.r.varint_max(u64::from(u16::MAX))? } else { 0 };
        let hlc = self.stamp(delta_ms, has_counter, given).ok_or(Code::Corrupt)?;
        let kind = self.r.varint_max(u64::from(u16::MAX))? as u16;
        let len = self.r.varint_max(super::MAX_BODY_BYTES as u64)?;
        let payload = self.r.take(len as usize)?;
        (self.prev, self.at_base) = (hlc, false);
        let marks = [(UNSYNCED, flags::UNSYNCED), (FUTURE, flags::FUTURE)];
        let own = if self.withheld { flags::WITHHELD } else { 0 };
        let flags = marks.iter().filter(|(bit, _)| head & bit != 0).fold(own, |all, (_, flag)| all | flag);
        Ok(Event { hlc, kind, flags, payload })
    }

    /// docs/LOG.md#run-4: one encoding for each stamp, and every stamp later than the one before.
    fn stamp(&self, delta_ms: u64, has_counter: bool, given: u64) -> Option<Hlc> {
        let prev = u64::from(self.prev.counter());
        let counter = match (self.at_base, delta_ms, has_counter) {
            (true, 0, false) => return Some(self.prev),
            (true, _, _) => return None,
            (false, 0, false) => prev + 1,
            (false, 0, true) if given >= 2 => prev + given,
            (false, 0, true) => return None,
            (false, _, false) => 0,
            (false, _, true) if given >= 1 => given,
            (false, _, true) => return None,
        };
        let ms = self.prev.ms().checked_add(delta_ms).filter(|ms| *ms <= HLC_MAX_MS)?;
        Some(Hlc::new(ms, u16::try_from(counter).ok()?))
    }
}

impl<'a> Iterator for RunEvents<'a> {
    type Item = Event<'a>;

    fn next(&mut self) -> Option<Event<'a>> {
        self.left = self.left.checked_sub(1)?;
        self.parse_next().ok()
    }
}

/// Bytes that an event takes in a run behind the stamp `prev`, payload included.
pub(crate) fn event_bytes_after(prev: Option<Hlc>, event: &Event<'_>) -> usize {
    let mut head = [0; 40];
    let mut w = Writer::new(&mut head);
    // It always fits: four varints.
    let _ = put_event_head(&mut w, prev, event);
    w.len() + event.payload.len()
}

/// Writes what precedes an event's payload. `prev` is `None` for the first event of a run, else
/// the stamp before, which must be smaller.
pub(super) fn put_event_head(w: &mut Writer<'_>, prev: Option<Hlc>, event: &Event<'_>) -> Result<(), Full> {
    let (delta_ms, counter) = match prev {
        None => (0, None),
        Some(p) if p.ms() == event.hlc.ms() => {
            let delta = event.hlc.counter().wrapping_sub(p.counter());
            (0, (delta != 1).then_some(delta))
        }
        Some(p) => (event.hlc.ms() - p.ms(), (event.hlc.counter() != 0).then_some(event.hlc.counter())),
    };
    let mut head = delta_ms << FLAG_BITS;
    if counter.is_some() {
        head |= HAS_COUNTER;
    }
    if event.flags & flags::UNSYNCED != 0 {
        head |= UNSYNCED;
    }
    if event.flags & flags::FUTURE != 0 {
        head |= FUTURE;
    }
    w.varint(head)?;
    if let Some(c) = counter {
        w.varint(u64::from(c))?;
    }
    w.varint(u64::from(event.kind))?;
    w.varint(event.payload.len() as u64)
}

//! REPAIR: what is known of pages that were damaged, and what became of what stood there.

use super::record::kind;
use super::sealed::{parse_key, put_key};
use crate::code::Code;
use crate::id::StreamKey;
use crate::varint::{Full, Reader, Writer};

/// Most ranges of events in one record.
pub const LOST_MAX: usize = 32;
/// Most bytes that one range takes: name, incarnation, lane, two numbers.
const RANGE_MAX_BYTES: usize = 1 + crate::id::NAME_MAX_BYTES + 8 + 1 + 10 + 10;
/// Longest record, type included.
pub const REPAIR_MAX_BYTES: usize = 1 + 1 + 2 + 10 + 5 + 5 + 8 + 32 + 1 + LOST_MAX * RANGE_MAX_BYTES;

const REPAIRED: u8 = 1;
const SEALED: u8 = 1 << 1;
const COST_KNOWN: u8 = 1 << 2;

/// Events of a stream that a damage has cost, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostRange {
    /// The stream.
    pub key: StreamKey,
    /// The first of them.
    pub from: u64,
    /// The last of them; `u64::MAX` if nobody knows how many there were.
    pub to: u64,
}

/// All of a REPAIR but the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepairHead {
    /// Everything that stood there is held again, or there was nothing. Otherwise the damage is only
    /// listed.
    pub repaired: bool,
    /// The pages are those of the sealed file, not of the hot one.
    pub sealed: bool,
    /// The events named are all that it has cost.
    pub cost_known: bool,
    /// [`Code::Corrupt`] or one of its kin.
    pub code: Code,
    /// Number of the segment.
    pub segment: u64,
    /// First page.
    pub from_page: u64,
    /// First page after.
    pub to_page: u64,
    /// When it was written, by this node's clock, in milliseconds since 1970.
    pub at_ms: u64,
    /// BLAKE3 of the pages as they were found; zeros if they could not be read.
    pub digest: [u8; 32],
}

/// A REPAIR as it stands in the log (docs/LOG.md#repair-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repair<'a> {
    /// What it says.
    pub head: RepairHead,
    count: u8,
    ranges: &'a [u8],
}

impl<'a> Repair<'a> {
    /// A record that names these events, written into `scratch`. More than [`LOST_MAX`] are left out,
    /// and their cost counts as unknown.
    #[must_use]
    pub fn new(head: &RepairHead, lost: &[LostRange], scratch: &'a mut [u8; REPAIR_MAX_BYTES]) -> Self {
        let all = lost.len() <= LOST_MAX;
        let mut w = Writer::new(scratch);
        let mut count = 0;
        for range in lost.iter().take(LOST_MAX) {
            // There is room for as many.
            let put = put_key(&mut w, &range.key).and_then(|()| w.varint(range.from)).and_then(|()| w.varint(range.to));
            count += u8::from(put.is_ok());
        }
        let len = w.len();
        let head = RepairHead { cost_known: head.cost_known && all, ..*head };
        Self { head, count, ranges: &scratch[..len] }
    }

    /// The events that it names.
    pub fn lost(&self) -> impl Iterator<Item = LostRange> + use<'a> {
        let mut r = Reader::new(self.ranges);
        core::iter::from_fn(move || parse_range(&mut r).ok())
    }

    pub(in crate::log) fn parse(r: &mut Reader<'a>) -> Result<Self, Code> {
        let flags = r.u8()?;
        let code = Code::from_u16(r.u16()?).filter(|c| is_damage(*c)).ok_or(Code::FormatNewer)?;
        if flags & !(REPAIRED | SEALED | COST_KNOWN) != 0 {
            return Err(Code::FormatNewer);
        }
        let (segment, from_page, to_page) =
            (r.varint()?, r.varint_max(u64::from(u32::MAX))?, r.varint_max(u64::from(u32::MAX))?);
        let (at_ms, digest, count) = (r.u64()?, r.array()?, r.u8()?);
        if segment == 0 || from_page > to_page || usize::from(count) > LOST_MAX {
            return Err(Code::Corrupt);
        }
        let rest = r.rest();
        for _ in 0..count {
            parse_range(r)?;
        }
        let ranges = rest.get(..rest.len() - r.rest().len()).ok_or(Code::Corrupt)?;
        let [repaired, sealed, cost_known] = [REPAIRED, SEALED, COST_KNOWN].map(|bit| flags & bit != 0);
        let head = RepairHead { repaired, sealed, cost_known, code, segment, from_page, to_page, at_ms, digest };
        Ok(Self { head, count, ranges })
    }

    pub(in crate::log) fn emit(&self, w: &mut Writer<'_>) -> Result<(), Full> {
        w.u8(kind::REPAIR)?;
        self.emit_body(w)
    }

    /// Without its type.
    pub(in crate::log) fn emit_body(&self, w: &mut Writer<'_>) -> Result<(), Full> {
        let h = &self.head;
        let bit = |on: bool, bit: u8| if on { bit } else { 0 };
        w.u8(bit(h.repaired, REPAIRED) | bit(h.sealed, SEALED) | bit(h.cost_known, COST_KNOWN))?;
        w.put(&h.code.as_u16().to_le_bytes())?;
        w.varint(h.segment)?;
        w.varint(h.from_page)?;
        w.varint(h.to_page)?;
        w.put(&h.at_ms.to_le_bytes())?;
        w.put(&h.digest)?;
        w.u8(self.count)?;
        w.put(self.ranges)
    }
}

fn parse_range(r: &mut Reader<'_>) -> Result<LostRange, Code> {
    let range = LostRange { key: parse_key(r)?, from: r.varint()?, to: r.varint()? };
    if range.from == 0 || range.from > range.to { Err(Code::Corrupt) } else { Ok(range) }
}

fn is_damage(code: Code) -> bool {
    let codes = [Code::Corrupt, Code::SegmentHeader, Code::SegmentMissing, Code::Tampered, Code::TailSuspect];
    codes.contains(&code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Incarnation, Lane, NodeName};
    use crate::log::{GroupBuilder, Record, records};
    use alloc::vec::Vec;

    fn head() -> RepairHead {
        RepairHead {
            repaired: true,
            sealed: true,
            cost_known: true,
            code: Code::Tampered,
            segment: u64::MAX,
            from_page: 3,
            to_page: u64::from(u32::MAX),
            at_ms: u64::MAX,
            digest: [7; 32],
        }
    }

    fn range(n: u64) -> LostRange {
        let node = NodeName::new(&"n".repeat(48)).unwrap();
        LostRange {
            key: StreamKey { node, incarnation: Incarnation::new(u64::MAX - n), lane: Lane::Bulk },
            from: u64::MAX,
            to: u64::MAX,
        }
    }

    #[test]
    fn the_longest_one_round_trips_and_cut_ones_are_refused() {
        let lost: Vec<_> = (0..LOST_MAX as u64).map(range).collect();
        let mut scratch = [0; REPAIR_MAX_BYTES];
        let repair = Repair::new(&head(), &lost, &mut scratch);
        let (mut body, mut group) = ([0; REPAIR_MAX_BYTES], GroupBuilder::new());
        group.repair(&mut body, &repair).unwrap();
        // All is of its greatest length but the first page.
        assert_eq!(group.len(), REPAIR_MAX_BYTES - 4);
        let found: Vec<_> = records(&body[..group.len()]).map(Result::unwrap).collect();
        let [Record::Repair(read)] = found[..] else { panic!("{found:?}") };
        assert_eq!((read, read.lost().collect::<Vec<_>>()), (repair, lost));
        for cut in 1..group.len() {
            assert_eq!(records(&body[..cut]).last(), Some(Err(Code::Corrupt)), "{cut}");
        }
    }

    #[test]
    fn what_is_too_much_for_one_record_counts_as_unknown() {
        let lost: Vec<_> = (0..LOST_MAX as u64 + 1).map(range).collect();
        let mut scratch = [0; REPAIR_MAX_BYTES];
        let repair = Repair::new(&head(), &lost, &mut scratch);
        assert_eq!((repair.head.cost_known, repair.lost().count()), (false, LOST_MAX));
    }

    #[test]
    fn unknown_flags_and_codes_are_of_a_newer_format() {
        let mut scratch = [0; REPAIR_MAX_BYTES];
        let repair = Repair::new(&head(), &[], &mut scratch);
        let (mut body, mut group) = ([0; REPAIR_MAX_BYTES], GroupBuilder::new());
        group.repair(&mut body, &repair).unwrap();
        for (at, value) in [(1, 0x80), (2, 1), (3, 0xff)] {
            let mut other = body;
            other[at] = value;
            assert_eq!(records(&other[..group.len()]).next(), Some(Err(Code::FormatNewer)), "{at}");
        }
    }
}

//! The records of a checkpoint: what a log holds of each stream, and its sealed segments
//! (docs/LOG.md#checkpoint-2).

use super::index::{parse_key, put_key};
use crate::code::Code;
use crate::event::Chain;
use crate::hlc::Hlc;
use crate::id::{Incarnation, NodeName, StreamKey};
use crate::log::record::{emit_name, parse_incarnation, parse_name};
use crate::log::repair::{REPAIR_MAX_BYTES, Repair};
use crate::varint::{Full, Reader, Writer};

const LOG: u8 = 1;
const STREAM: u8 = 2;
const SEGMENT: u8 = 3;
const REPAIR: u8 = 4;

const OWN: u8 = 1;
/// Of a LOG: the first segment is a stub.
const STUB: u8 = 1 << 1;
const END_AT_RISK: u8 = 1 << 1;
const GAP: u8 = 1 << 2;
const ACKED: u8 = 1 << 3;
const FLOOR: u8 = 1 << 4;
const SKIPPED: u8 = 1 << 5;
const WITHHELD: u8 = 1 << 6;
const LACKS: u8 = 1 << 7;

/// Longest record of a checkpoint.
pub const STATE_RECORD_MAX_BYTES: usize = if REPAIR_MAX_BYTES > 384 { REPAIR_MAX_BYTES } else { 384 };

/// A place in a stream: sequence number and chain hash up to it.
pub type At = (u64, Chain);

/// What is known of the log as a whole at the end of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogState {
    /// Everything up to the end of this segment is told of.
    pub upto: u64,
    /// What the first header of the next segment links to.
    pub link: [u8; 16],
    /// Latest stamp that moves the clock.
    pub clock: Hlc,
    /// The incarnation in which this node writes, and the machine.
    pub own: Option<(Incarnation, u64)>,
    /// Events that were read, repeated ones included.
    pub events: u64,
    /// Commit groups.
    pub groups: u64,
    /// The stub that the log begins with, if segments were removed.
    pub stub: Option<Stub>,
}

/// The stub with which a log begins whose first segments were removed (docs/LOG.md#stub-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stub {
    /// Its number: that of the last segment that is gone.
    pub number: u64,
    /// How many STREAM records there are: by that one knows whether all were read.
    pub streams: u32,
}

/// What is known of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamState {
    /// Which one.
    pub key: StreamKey,
    /// Highest position without a gap before it.
    pub have: At,
    /// Highest position and the last missing one, if there is a gap.
    pub gap: Option<(At, At)>,
    /// Stamp of the highest event.
    pub last_hlc: Hlc,
    /// Written by this node itself.
    pub own: bool,
    /// Damage may have taken its end.
    pub end_at_risk: bool,
    /// Acknowledged up to here, and by whom.
    pub acked: Option<(u64, NodeName)>,
    /// Everything up to here was removed on purpose.
    pub floor: Option<At>,
    /// Some of that was never here.
    pub skipped: bool,
    /// Among these are events that are not here.
    pub withheld: Option<(u64, u64)>,
    /// Among these own events are some that a hub lacks.
    pub lacks: Option<(u64, u64)>,
}

/// A sealed segment, as the manifest lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentState {
    /// Its number.
    pub number: u64,
    /// Size of the sealed file.
    pub bytes: u64,
    /// Digest of its seal.
    pub digest: [u8; 32],
    /// Earliest stamp in it.
    pub hlc_min: Hlc,
    /// Latest stamp in it.
    pub hlc_max: Hlc,
}

/// One record of a checkpoint. Made and read one at a time, so its size does not matter.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateRecord<'a> {
    /// The first one.
    Log(LogState),
    /// In the order of their numbers.
    Stream(StreamState),
    /// The manifest, ascending.
    Segment(SegmentState),
    /// What became of damaged pages, in the order of the log.
    Repair(Repair<'a>),
}

fn put_at(w: &mut Writer<'_>, at: &At) -> Result<(), Full> {
    w.varint(at.0)?;
    w.put(&at.1.0)
}

fn parse_at(r: &mut Reader<'_>) -> Result<At, Code> {
    Ok((r.varint()?, Chain(r.array()?)))
}

fn parse_hlc(r: &mut Reader<'_>) -> Result<Hlc, Code> {
    Hlc::from_u64(r.u64()?).ok_or(Code::Corrupt)
}

impl<'a> StateRecord<'a> {
    /// Writes it.
    ///
    /// # Errors
    /// [`Full`]; what stands in `w` is then of no use.
    pub fn emit(&self, w: &mut Writer<'_>) -> Result<(), Full> {
        match self {
            StateRecord::Log(s) => {
                w.u8(LOG)?;
                w.u8(if s.own.is_some() { OWN } else { 0 } | if s.stub.is_some() { STUB } else { 0 })?;
                w.varint(s.upto)?;
                w.put(&s.link)?;
                w.put(&s.clock.as_u64().to_le_bytes())?;
                w.varint(s.events)?;
                w.varint(s.groups)?;
                if let Some((incarnation, machine)) = s.own {
                    w.put(&incarnation.as_u64().to_le_bytes())?;
                    w.put(&machine.to_le_bytes())?;
                }
                if let Some(stub) = s.stub {
                    w.varint(stub.number)?;
                    w.varint(u64::from(stub.streams))?;
                }
                Ok(())
            }
            StateRecord::Stream(s) => {
                let bit = |on: bool, bit: u8| if on { bit } else { 0 };
                w.u8(STREAM)?;
                w.u8(bit(s.own, OWN)
                    | bit(s.end_at_risk, END_AT_RISK)
                    | bit(s.gap.is_some(), GAP)
                    | bit(s.acked.is_some(), ACKED)
                    | bit(s.floor.is_some(), FLOOR)
                    | bit(s.skipped, SKIPPED)
                    | bit(s.withheld.is_some(), WITHHELD)
                    | bit(s.lacks.is_some(), LACKS))?;
                put_key(w, &s.key)?;
                put_at(w, &s.have)?;
                w.put(&s.last_hlc.as_u64().to_le_bytes())?;
                if let Some((top, end)) = &s.gap {
                    put_at(w, top)?;
                    put_at(w, end)?;
                }
                if let Some((seq, by)) = &s.acked {
                    w.varint(*seq)?;
                    emit_name(w, by)?;
                }
                if let Some(floor) = &s.floor {
                    put_at(w, floor)?;
                }
                for (from, to) in [s.withheld, s.lacks].into_iter().flatten() {
                    w.varint(from)?;
                    w.varint(to)?;
                }
                Ok(())
            }
            StateRecord::Segment(s) => {
                w.u8(SEGMENT)?;
                w.varint(s.number)?;
                w.varint(s.bytes)?;
                w.put(&s.digest)?;
                w.put(&s.hlc_min.as_u64().to_le_bytes())?;
                w.put(&s.hlc_max.as_u64().to_le_bytes())
            }
            StateRecord::Repair(repair) => {
                w.u8(REPAIR)?;
                repair.emit_body(w)
            }
        }
    }

    fn parse(r: &mut Reader<'a>) -> Result<Self, Code> {
        match r.u8()? {
            LOG => {
                let flags = r.u8()?;
                let (upto, link, clock) = (r.varint()?, r.array()?, parse_hlc(r)?);
                let (events, groups) = (r.varint()?, r.varint()?);
                let own = if flags & OWN != 0 { Some((parse_incarnation(r)?, r.u64()?)) } else { None };
                let stub = match flags & STUB {
                    0 => None,
                    _ => Some(Stub { number: r.varint()?, streams: r.varint_max(u64::from(u32::MAX))? as u32 }),
                };
                Ok(StateRecord::Log(LogState { upto, link, clock, own, events, groups, stub }))
            }
            STREAM => {
                let flags = r.u8()?;
                let (key, have, last_hlc) = (parse_key(r)?, parse_at(r)?, parse_hlc(r)?);
                let gap = if flags & GAP != 0 { Some((parse_at(r)?, parse_at(r)?)) } else { None };
                let acked = if flags & ACKED != 0 { Some((r.varint()?, parse_name(r)?)) } else { None };
                let floor = if flags & FLOOR != 0 { Some(parse_at(r)?) } else { None };
                let mut range = |bit: u8| -> Result<_, Code> {
                    if flags & bit != 0 { Ok(Some((r.varint()?, r.varint()?))) } else { Ok(None) }
                };
                let (withheld, lacks) = (range(WITHHELD)?, range(LACKS)?);
                let (own, end_at_risk, skipped) = (flags & OWN != 0, flags & END_AT_RISK != 0, flags & SKIPPED != 0);
                Ok(StateRecord::Stream(StreamState {
                    key,
                    have,
                    gap,
                    last_hlc,
                    own,
                    end_at_risk,
                    acked,
                    floor,
                    skipped,
                    withheld,
                    lacks,
                }))
            }
            SEGMENT => {
                let (number, bytes, digest) = (r.varint()?, r.varint()?, r.array()?);
                let (hlc_min, hlc_max) = (parse_hlc(r)?, parse_hlc(r)?);
                Ok(StateRecord::Segment(SegmentState { number, bytes, digest, hlc_min, hlc_max }))
            }
            REPAIR => Repair::parse(r).map(StateRecord::Repair),
            _ => Err(Code::Corrupt),
        }
    }
}

/// The records of a STATE frame. Ends after the first error, [`Code::Corrupt`].
pub fn state_records(body: &[u8]) -> impl Iterator<Item = Result<StateRecord<'_>, Code>> {
    let mut r = Reader::new(body);
    core::iter::from_fn(move || {
        if r.is_empty() {
            return None;
        }
        let record = StateRecord::parse(&mut r).map_err(|_| Code::Corrupt);
        if record.is_err() {
            r = Reader::new(&[]);
        }
        Some(record)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Lane;
    use alloc::vec::Vec;

    #[test]
    fn records_of_every_shape_round_trip_and_cut_ones_are_refused() {
        let node = NodeName::new(&"n".repeat(48)).unwrap();
        let key = StreamKey { node, incarnation: Incarnation::new(u64::MAX), lane: Lane::Bulk };
        let at = |n: u64| (n, Chain([n as u8; 32]));
        let hlc = Hlc::new(1_770_000_000_000, 3);
        let log = |own, stub| LogState { upto: 9, link: [1; 16], clock: hlc, own, events: 10, groups: u64::MAX, stub };
        let stream = |gap, acked: Option<(u64, NodeName)>, floor: Option<At>| {
            let (own, end_at_risk, skipped) = (true, true, true);
            let (withheld, lacks) = (floor.map(|_| (1, u64::MAX)), acked.map(|_| (2, 3)));
            let have = at(4);
            StreamState { key, have, gap, last_hlc: hlc, own, end_at_risk, acked, floor, skipped, withheld, lacks }
        };
        let stub = Stub { number: u64::MAX, streams: u32::MAX };
        let records = [
            StateRecord::Log(log(None, Some(stub))),
            StateRecord::Log(log(Some((Incarnation::new(3), 4)), None)),
            StateRecord::Stream(stream(None, None, None)),
            StateRecord::Stream(stream(
                Some((at(u64::MAX), at(u64::MAX - 1))),
                Some((u64::MAX, node)),
                Some(at(u64::MAX)),
            )),
            StateRecord::Segment(SegmentState {
                number: u64::MAX,
                bytes: u64::MAX,
                digest: [3; 32],
                hlc_min: Hlc::ZERO,
                hlc_max: hlc,
            }),
        ];
        let (mut all, mut ends) = (Vec::new(), alloc::vec![0]);
        for record in &records {
            let mut buf = [0; STATE_RECORD_MAX_BYTES];
            let mut w = Writer::new(&mut buf);
            record.emit(&mut w).unwrap();
            let n = w.len();
            all.extend_from_slice(&buf[..n]);
            ends.push(all.len());
        }
        assert_eq!(state_records(&all).map(Result::unwrap).collect::<Vec<_>>(), records);
        for cut in 0..all.len() {
            assert_eq!(state_records(&all[..cut]).all(|r| r.is_ok()), ends.contains(&cut), "{cut}");
        }
    }
}

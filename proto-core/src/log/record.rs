//! Records: what stands in the body of a group.

use super::{Repair, Run};
use crate::code::Code;
use crate::event::{Chain, ChainTag};
use crate::id::{Incarnation, Lane, NodeName, StreamKey};
use crate::varint::{Full, Reader, Writer};

/// Record types (docs/LOG.md#record-1).
pub(super) mod kind {
    pub(in crate::log) const STREAM: u8 = 1;
    pub(in crate::log) const EVENTS: u8 = 2;
    pub(in crate::log) const RECEIPT: u8 = 3;
    pub(in crate::log) const REPAIR: u8 = 5;
    pub(in crate::log) const EXPIRED: u8 = 6;
    pub(in crate::log) const WITHHELD: u8 = 7;
    pub(in crate::log) const LACK: u8 = 8;
}

const OWN: u8 = 1;
const HAS_PARENT: u8 = 1 << 1;

/// Where a stream branched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The incarnation that it continues, of the same node and lane.
    pub incarnation: Incarnation,
    /// The last event that both have in common; 0 if none.
    pub seq: u64,
    /// Why it was branched off; the log only keeps it.
    pub reason: u8,
}

/// Declares a stream: gives it an index for the rest of the group (docs/LOG.md#stream-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamDecl {
    /// Its index in the group's dictionary.
    pub index: u32,
    /// The stream.
    pub key: StreamKey,
    /// If this node itself writes the stream: the fingerprint of the machine, by which a copied
    /// card is noticed.
    pub own_machine: Option<u64>,
    /// If it continues another stream.
    pub parent: Option<Parent>,
}

impl StreamDecl {
    /// Most bytes that it takes, type included.
    pub(super) const MAX_BYTES: usize = 1 + 5 + 1 + crate::id::NAME_MAX_BYTES + 8 + 1 + 1 + 8 + 8 + 10 + 1;

    fn parse(r: &mut Reader<'_>) -> Result<Self, Code> {
        let index = parse_index(r)?;
        let node = parse_name(r)?;
        let incarnation = parse_incarnation(r)?;
        let lane = Lane::from_u8(r.u8()?)?;
        let flags = r.u8()?;
        if flags & !(OWN | HAS_PARENT) != 0 {
            return Err(Code::FormatNewer);
        }
        let own_machine = if flags & OWN != 0 { Some(r.u64()?) } else { None };
        let parent = if flags & HAS_PARENT != 0 {
            Some(Parent { incarnation: parse_incarnation(r)?, seq: r.varint()?, reason: r.u8()? })
        } else {
            None
        };
        Ok(Self { index, key: StreamKey { node, incarnation, lane }, own_machine, parent })
    }

    pub(super) fn emit(&self, w: &mut Writer<'_>) -> Result<(), Full> {
        w.u8(kind::STREAM)?;
        w.varint(u64::from(self.index))?;
        emit_name(w, &self.key.node)?;
        w.put(&self.key.incarnation.as_u64().to_le_bytes())?;
        w.u8(self.key.lane as u8)?;
        let own = if self.own_machine.is_some() { OWN } else { 0 };
        w.u8(own | if self.parent.is_some() { HAS_PARENT } else { 0 })?;
        if let Some(machine) = self.own_machine {
            w.put(&machine.to_le_bytes())?;
        }
        if let Some(p) = &self.parent {
            w.put(&p.incarnation.as_u64().to_le_bytes())?;
            w.varint(p.seq)?;
            w.u8(p.reason)?;
        }
        Ok(())
    }
}

/// A peer has acknowledged a stream durably (docs/LOG.md#receipt-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Who acknowledged.
    pub peer: NodeName,
    /// The stream, as an index into the group's dictionary.
    pub index: u32,
    /// Up to which event.
    pub seq: u64,
    /// Chain hash up to that event, truncated.
    pub tag: ChainTag,
}

impl Receipt {
    /// Most bytes that it takes, type included.
    pub(super) const MAX_BYTES: usize = 1 + 1 + crate::id::NAME_MAX_BYTES + 5 + 10 + 8;

    fn parse(r: &mut Reader<'_>) -> Result<Self, Code> {
        Ok(Self { peer: parse_name(r)?, index: parse_index(r)?, seq: r.varint()?, tag: r.array()? })
    }

    pub(super) fn emit(&self, w: &mut Writer<'_>) -> Result<(), Full> {
        w.u8(kind::RECEIPT)?;
        emit_name(w, &self.peer)?;
        w.varint(u64::from(self.index))?;
        w.varint(self.seq)?;
        w.put(&self.tag)
    }
}

/// The events of a stream up to here were gone at their source before they came here, and this log goes on
/// behind them (docs/LOG.md#expired-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired {
    /// The stream, as an index into the group's dictionary.
    pub index: u32,
    /// The last event that is gone, at least 1.
    pub seq: u64,
    /// Chain hash up to there.
    pub chain: Chain,
}

impl Expired {
    /// Most bytes that it takes, type included.
    pub const MAX_BYTES: usize = 1 + 5 + 10 + 32;

    fn parse(r: &mut Reader<'_>) -> Result<Self, Code> {
        let (index, seq) = (parse_index(r)?, r.varint()?);
        if seq == 0 || seq == u64::MAX {
            return Err(Code::Corrupt);
        }
        Ok(Self { index, seq, chain: Chain(r.array()?) })
    }

    pub(super) fn emit(&self, w: &mut Writer<'_>) -> Result<(), Full> {
        w.u8(kind::EXPIRED)?;
        w.varint(u64::from(self.index))?;
        w.varint(self.seq)?;
        w.put(&self.chain.0)
    }
}

/// Among these events of a stream are some that are here, and that a hub lacks although it has acknowledged what
/// follows them (docs/LOG.md#lack-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lack {
    /// The stream, as an index into the group's dictionary.
    pub index: u32,
    /// The first and the last of them; `None`: there are none any more.
    pub range: Option<(u64, u64)>,
}

impl Lack {
    /// Most bytes that it takes, type included.
    pub const MAX_BYTES: usize = 1 + 5 + 10 + 10;

    fn parse(r: &mut Reader<'_>) -> Result<Self, Code> {
        let (index, from, more) = (parse_index(r)?, r.varint()?, r.varint()?);
        let range = match from {
            0 if more == 0 => None,
            0 => return Err(Code::Corrupt),
            _ => Some((from, from.checked_add(more).ok_or(Code::Corrupt)?)),
        };
        Ok(Self { index, range })
    }

    pub(super) fn emit(&self, w: &mut Writer<'_>) -> Result<(), Full> {
        let (from, to) = self.range.unwrap_or_default();
        w.u8(kind::LACK)?;
        w.varint(u64::from(self.index))?;
        w.varint(from)?;
        w.varint(to.saturating_sub(from))
    }
}

/// One record of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A stream gets its index.
    Stream(StreamDecl),
    /// Events, or what is known of events that are not here.
    Events(Run<'a>),
    /// A peer's acknowledgement.
    Receipt(Receipt),
    /// Events that were gone at their source.
    Expired(Expired),
    /// Events that are here and that a hub lacks.
    Lack(Lack),
    /// What became of damaged pages.
    Repair(Repair<'a>),
}

/// The records in the body of a frame of type GROUP, in order. Ends after the first error.
#[must_use]
pub fn records(body: &[u8]) -> RecordIter<'_> {
    RecordIter { r: Reader::new(body) }
}

/// Iterator over the records of a group. An item is an error if the bytes are no record
/// ([`Code::Corrupt`]) or one of a newer version ([`Code::FormatNewer`]): the tag has vouched for
/// the bytes, so either is a bug or a newer writer, never a rotten bit.
#[derive(Clone, Debug)]
pub struct RecordIter<'a> {
    r: Reader<'a>,
}

impl<'a> RecordIter<'a> {
    fn parse_next(&mut self) -> Result<Record<'a>, Code> {
        match self.r.u8()? {
            kind::STREAM => StreamDecl::parse(&mut self.r).map(Record::Stream),
            kind::EVENTS => Run::parse(&mut self.r, false).map(Record::Events),
            kind::WITHHELD => Run::parse(&mut self.r, true).map(Record::Events),
            kind::LACK => Lack::parse(&mut self.r).map(Record::Lack),
            kind::RECEIPT => Receipt::parse(&mut self.r).map(Record::Receipt),
            kind::REPAIR => Repair::parse(&mut self.r).map(Record::Repair),
            kind::EXPIRED => Expired::parse(&mut self.r).map(Record::Expired),
            _ => Err(Code::FormatNewer),
        }
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, Code>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.r.is_empty() {
            return None;
        }
        let record = self.parse_next();
        if record.is_err() {
            self.r = Reader::new(&[]);
        }
        Some(record.map_err(|code| if code == Code::FormatNewer { code } else { Code::Corrupt }))
    }
}

fn parse_index(r: &mut Reader<'_>) -> Result<u32, Code> {
    r.varint_max(u64::from(u32::MAX)).map(|n| n as u32)
}

pub(super) fn parse_name(r: &mut Reader<'_>) -> Result<NodeName, Code> {
    let len = r.u8()?;
    NodeName::from_bytes(r.take(usize::from(len))?)
}

pub(super) fn parse_incarnation(r: &mut Reader<'_>) -> Result<Incarnation, Code> {
    match r.u64()? {
        0 => Err(Code::Corrupt),
        n => Ok(Incarnation::new(n)),
    }
}

pub(super) fn emit_name(w: &mut Writer<'_>, name: &NodeName) -> Result<(), Full> {
    w.u8(name.as_bytes().len() as u8)?;
    w.put(name.as_bytes())
}

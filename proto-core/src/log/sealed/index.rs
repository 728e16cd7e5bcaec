//! Where the events of a sealed segment stand: index frames and the footer (docs/LOG.md#sealed-7).

use super::DENSE_ALIGN;
use crate::code::Code;
use crate::hlc::Hlc;
use crate::id::{Lane, StreamKey};
use crate::varint::{Full, Reader, Writer};

use super::super::record::{emit_name, parse_incarnation, parse_name};

const STREAM: u8 = 1;
const RANGE: u8 = 2;
/// Longest record of an index frame.
const RECORD_MAX_BYTES: usize = 1 + 1 + crate::id::NAME_MAX_BYTES + 8 + 1;

pub(in crate::log) fn put_key(w: &mut Writer<'_>, key: &StreamKey) -> Result<(), Full> {
    emit_name(w, &key.node)?;
    w.put(&key.incarnation.as_u64().to_le_bytes())?;
    w.u8(key.lane as u8)
}

pub(in crate::log) fn parse_key(r: &mut Reader<'_>) -> Result<StreamKey, Code> {
    let (node, incarnation) = (parse_name(r)?, parse_incarnation(r)?);
    Ok(StreamKey { node, incarnation, lane: Lane::from_u8(r.u8()?)? })
}

/// Consecutive events of one stream in one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Where the frame begins.
    pub offset: u64,
    /// First seq.
    pub first_seq: u64,
    /// Last seq.
    pub last_seq: u64,
}

/// Collects one piece of the index in a buffer of the caller's; every verb gets the same one. A verb
/// that does not fit changes nothing: then a new piece begins, with the stream once more.
#[derive(Clone, Debug, Default)]
pub struct IndexBuilder {
    len: usize,
    units: u64,
}

impl IndexBuilder {
    /// An empty piece.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes collected.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True before the first stream.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The ranges that follow are of this stream. Streams come in the order of their keys.
    ///
    /// # Errors
    /// [`Full`].
    pub fn stream(&mut self, buf: &mut [u8], key: &StreamKey) -> Result<(), Full> {
        self.put(buf, |w| {
            w.u8(STREAM)?;
            put_key(w, key)
        })
    }

    /// Notes a range. Offsets never fall within a piece.
    ///
    /// # Errors
    /// [`Full`].
    pub fn range(&mut self, buf: &mut [u8], range: &Range) -> Result<(), Full> {
        let units = range.offset / DENSE_ALIGN as u64;
        let ahead = units.checked_sub(self.units).ok_or(Full)?;
        let count = (range.last_seq - range.first_seq).checked_add(1).ok_or(Full)?;
        self.put(buf, |w| {
            w.u8(RANGE)?;
            w.varint(ahead)?;
            w.varint(range.first_seq)?;
            w.varint(count)
        })?;
        self.units = units;
        Ok(())
    }

    fn put(&mut self, buf: &mut [u8], f: impl FnOnce(&mut Writer<'_>) -> Result<(), Full>) -> Result<(), Full> {
        let mut scratch = [0; RECORD_MAX_BYTES];
        let mut w = Writer::new(&mut scratch);
        f(&mut w)?;
        let n = w.len();
        buf.get_mut(self.len..self.len + n).ok_or(Full)?.copy_from_slice(&scratch[..n]);
        self.len += n;
        Ok(())
    }
}

/// One record of an index frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexRecord {
    /// What follows is of this stream.
    Stream(StreamKey),
    /// Events of it.
    Range(Range),
}

/// The records of an index frame. Ends after the first error, [`Code::Corrupt`].
pub fn index_records(body: &[u8]) -> impl Iterator<Item = Result<IndexRecord, Code>> + '_ {
    let (mut r, mut units) = (Reader::new(body), 0u64);
    core::iter::from_fn(move || {
        if r.is_empty() {
            return None;
        }
        let mut parse = || match r.u8()? {
            STREAM => parse_key(&mut r).map(IndexRecord::Stream),
            RANGE => {
                units = units.checked_add(r.varint()?).ok_or(Code::Corrupt)?;
                let (first_seq, count) = (r.varint()?, r.varint()?);
                let more = count.checked_sub(1).filter(|_| first_seq > 0).ok_or(Code::Corrupt)?;
                let last_seq = first_seq.checked_add(more).ok_or(Code::Corrupt)?;
                let offset = units.checked_mul(DENSE_ALIGN as u64).ok_or(Code::Corrupt)?;
                Ok(IndexRecord::Range(Range { offset, first_seq, last_seq }))
            }
            _ => Err(Code::Corrupt),
        };
        let record = parse().map_err(|_| Code::Corrupt);
        if record.is_err() {
            r = Reader::new(&[]);
        }
        Some(record)
    })
}

/// The first range of the stream that ends at or after `seq`, in the index frame `body`.
///
/// # Errors
/// [`Code::Corrupt`].
pub fn find(body: &[u8], key: &StreamKey, seq: u64) -> Result<Option<Range>, Code> {
    let mut ours = false;
    for record in index_records(body) {
        match record? {
            IndexRecord::Stream(k) => ours = k == *key,
            IndexRecord::Range(r) if ours && r.last_seq >= seq => return Ok(Some(r)),
            IndexRecord::Range(_) => {}
        }
    }
    Ok(None)
}

/// One piece of the index, as the footer names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where its frame begins.
    pub offset: u64,
    /// The first stream in it.
    pub first: StreamKey,
}

/// What the footer says (docs/LOG.md#sealed-8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Digest of everything before the footer.
    pub content: [u8; 32],
    /// Commit groups that were sealed.
    pub groups: u64,
    /// Events.
    pub events: u64,
    /// Frames of type GROUP or STATE.
    pub frames: u32,
    /// Streams in the index.
    pub streams: u32,
    /// Bytes that the hot segment had in use.
    pub hot_bytes: u64,
    /// Earliest stamp, zero if there is no event.
    pub hlc_min: Hlc,
    /// Latest stamp.
    pub hlc_max: Hlc,
}

/// Iterator over the pieces that a footer names.
#[derive(Clone, Debug)]
pub struct Pieces<'a> {
    r: Reader<'a>,
}

impl Iterator for Pieces<'_> {
    type Item = Result<Piece, Code>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.r.is_empty() {
            return None;
        }
        let mut parse = || -> Result<Piece, Code> {
            let units = self.r.varint()?;
            let offset = units.checked_mul(DENSE_ALIGN as u64).ok_or(Code::Corrupt)?;
            Ok(Piece { offset, first: parse_key(&mut self.r)? })
        };
        let piece = parse().map_err(|_| Code::Corrupt);
        if piece.is_err() {
            self.r = Reader::new(&[]);
        }
        Some(piece)
    }
}

impl Summary {
    /// Writes the body of a footer.
    ///
    /// # Errors
    /// [`Full`].
    pub fn emit(&self, w: &mut Writer<'_>, pieces: impl IntoIterator<Item = Piece>) -> Result<(), Full> {
        w.put(&self.content)?;
        w.put(&self.groups.to_le_bytes())?;
        w.put(&self.events.to_le_bytes())?;
        w.put(&self.frames.to_le_bytes())?;
        w.put(&self.streams.to_le_bytes())?;
        w.put(&self.hot_bytes.to_le_bytes())?;
        w.put(&self.hlc_min.as_u64().to_le_bytes())?;
        w.put(&self.hlc_max.as_u64().to_le_bytes())?;
        for piece in pieces {
            w.varint(piece.offset / DENSE_ALIGN as u64)?;
            put_key(w, &piece.first)?;
        }
        Ok(())
    }

    /// Reads the body of a footer.
    ///
    /// # Errors
    /// [`Code::Corrupt`].
    pub fn parse(body: &[u8]) -> Result<(Self, Pieces<'_>), Code> {
        let fields = |r: &mut Reader<'_>| -> Result<Self, Code> {
            let content = r.array()?;
            let (groups, events, frames, streams) = (r.u64()?, r.u64()?, r.u32()?, r.u32()?);
            let (hot_bytes, min, max) = (r.u64()?, r.u64()?, r.u64()?);
            let hlc_min = Hlc::from_u64(min).ok_or(Code::Corrupt)?;
            let hlc_max = Hlc::from_u64(max).ok_or(Code::Corrupt)?;
            Ok(Self { content, groups, events, frames, streams, hot_bytes, hlc_min, hlc_max })
        };
        let mut r = Reader::new(body);
        let summary = fields(&mut r).map_err(|_| Code::Corrupt)?;
        Ok((summary, Pieces { r }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Incarnation, NodeName};
    use alloc::vec::Vec;

    fn key(name: &str) -> StreamKey {
        StreamKey { node: NodeName::new(name).unwrap(), incarnation: Incarnation::new(7), lane: Lane::Normal }
    }

    #[test]
    fn ranges_are_found_by_stream_and_number() {
        let mut buf = [0; 512];
        let mut b = IndexBuilder::new();
        let range = |offset, first_seq, last_seq| Range { offset, first_seq, last_seq };
        b.stream(&mut buf, &key("a")).unwrap();
        b.range(&mut buf, &range(192, 1, 40)).unwrap();
        b.range(&mut buf, &range(4096, 41, 50)).unwrap();
        b.range(&mut buf, &range(4096, 60, u64::MAX)).unwrap();
        b.stream(&mut buf, &key("b")).unwrap();
        b.range(&mut buf, &range(8192, 9, 9)).unwrap();
        let body = &buf[..b.len()];
        let at = |name, seq| find(body, &key(name), seq).unwrap();
        assert_eq!(at("a", 40), Some(range(192, 1, 40)));
        assert_eq!(at("a", 41), Some(range(4096, 41, 50)));
        assert_eq!(at("a", 55), Some(range(4096, 60, u64::MAX)), "the next one behind a hole");
        assert_eq!((at("b", 1), at("b", 10), at("c", 1)), (Some(range(8192, 9, 9)), None, None));
        assert_eq!(b.range(&mut buf, &range(16, 1, 1)), Err(Full), "offsets do not fall");
        let mut small = [0; 20];
        let mut b = IndexBuilder::new();
        b.stream(&mut small, &key("a")).unwrap();
        let before = small;
        let len = b.len();
        assert_eq!(b.range(&mut small, &range(1 << 40, 1 << 60, 1 << 61)), Err(Full));
        assert_eq!((small, b.len()), (before, len));
    }

    #[test]
    fn a_footer_round_trips_and_a_cut_one_is_refused() {
        let s = Summary {
            content: [3; 32],
            groups: 9,
            events: 100,
            frames: 4,
            streams: 2,
            hot_bytes: 8 << 20,
            hlc_min: Hlc::new(5, 1),
            hlc_max: Hlc::new(6, 0),
        };
        let pieces = [Piece { offset: 4096, first: key("a") }, Piece { offset: 1 << 20, first: key("b") }];
        let mut buf = [0; 256];
        let mut w = Writer::new(&mut buf);
        s.emit(&mut w, pieces).unwrap();
        let len = w.len();
        let (back, found) = Summary::parse(&buf[..len]).unwrap();
        assert_eq!((back, found.map(Result::unwrap).collect::<Vec<_>>()), (s, pieces.to_vec()));
        assert!(Summary::parse(&buf[..60]).is_err());
        let (_, mut found) = Summary::parse(&buf[..len - 1]).unwrap();
        assert!(found.any(|p| p.is_err()));
        for cut in 0..len {
            let _ = index_records(&buf[..cut]).count();
        }
    }
}

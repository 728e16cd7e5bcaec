//! PART and HAVE: the body of a large BATCH in pieces (docs/PROTOCOL.md#part-1).

use crate::code::Code;
use crate::id::NodeName;
use crate::varint::{Full, Reader, Writer};
use crate::wire::vector::{ENTRY_MAX_BYTES, Entry};

/// First bytes of BLAKE3 over a whole parcel: which one a part belongs to.
pub(crate) type ParcelTag = [u8; 8];

/// The tag of a whole parcel.
pub(crate) fn tag_of(parcel: &[u8]) -> ParcelTag {
    let mut tag = [0; 8];
    tag.copy_from_slice(&blake3::hash(parcel).as_bytes()[..8]);
    tag
}

/// Most bytes of a PART before the parcel's.
pub(crate) const PART_HEAD_MAX_BYTES: usize = 5 + 10 + 4 + 8 + 4;

/// The head of a PART. A *parcel* is what follows the handle in the body of a BATCH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The sender's handle of the stream.
    pub(crate) handle: u32,
    /// Seq of the parcel's first event.
    pub(crate) seq: u64,
    /// Bytes of the whole parcel.
    pub(crate) total: usize,
    /// Of the whole parcel.
    pub(crate) tag: ParcelTag,
    /// Where in the parcel these bytes stand.
    pub(crate) offset: usize,
}

impl Part {
    pub(crate) fn emit(&self, w: &mut Writer<'_>) -> Result<(), Full> {
        w.varint(u64::from(self.handle))?;
        w.varint(self.seq)?;
        w.varint(self.total as u64)?;
        w.put(&self.tag)?;
        w.varint(self.offset as u64)
    }

    /// The head and the parcel's bytes behind it, of which there is at least one.
    pub(crate) fn parse(body: &[u8], parcel_max_bytes: usize) -> Result<(Part, &[u8]), Code> {
        let mut r = Reader::new(body);
        let handle = r.varint_max(u64::from(u32::MAX))? as u32;
        let (seq, total) = (r.varint()?, r.varint()?);
        let (tag, offset) = (r.array()?, r.varint()?);
        let bytes = r.rest();
        if total > parcel_max_bytes as u64 {
            return Err(Code::FrameTooLarge);
        }
        let end = offset.checked_add(bytes.len() as u64);
        if seq == 0 || seq == u64::MAX || bytes.is_empty() || end.is_none_or(|end| end > total) {
            return Err(Code::Malformed);
        }
        Ok((Part { handle, seq, total: total as usize, tag, offset: offset as usize }, bytes))
    }
}

/// Most bytes of a HAVE's body.
const HAVE_MAX_BYTES: usize = ENTRY_MAX_BYTES + 10;

/// How far its sender has a parcel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Have {
    /// The stream, the seq of the parcel's first event and the parcel's tag.
    pub(crate) parcel: Entry,
    /// Bytes from its beginning; 0: it is to begin again.
    pub(crate) bytes: u64,
}

impl Have {
    pub(crate) fn emit(&self, out: &mut [u8], sender: &NodeName, receiver: &NodeName) -> Option<usize> {
        let room = out.len().min(HAVE_MAX_BYTES);
        let mut w = Writer::new(&mut out[..room]);
        self.parcel.emit(&mut w, sender, receiver).ok()?;
        w.varint(self.bytes).ok()?;
        Some(w.len())
    }

    pub(crate) fn parse(body: &[u8], sender: &NodeName, receiver: &NodeName) -> Result<Have, Code> {
        let mut r = Reader::new(body);
        let parcel = Entry::parse(&mut r, sender, receiver)?;
        let bytes = r.varint()?;
        if parcel.seq == 0 || !r.is_empty() {
            return Err(Code::Malformed);
        }
        Ok(Have { parcel, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Incarnation, Lane, StreamKey};
    use alloc::vec::Vec;

    const PART: Part = Part { handle: 2, seq: 300, total: 100_000, tag: *b"parcelta", offset: 1280 };

    #[test]
    fn a_part_has_its_golden_bytes() {
        let mut out = [0; 64];
        let mut w = Writer::new(&mut out);
        PART.emit(&mut w).unwrap();
        w.put(b"piece").unwrap();
        let n = w.len();
        let hex: alloc::string::String = out[..n].iter().map(|b| alloc::format!("{b:02x}")).collect();
        assert_eq!(hex, "02ac02a08d0670617263656c7461800a7069656365");
        assert_eq!(Part::parse(&out[..n], 100_000), Ok((PART, &b"piece"[..])));
        for cut in 0..n - 4 {
            assert_eq!(Part::parse(&out[..cut], 100_000), Err(Code::Malformed), "{cut}");
        }
        assert_eq!(Part::parse(&out[..n], 99_999), Err(Code::FrameTooLarge));
    }

    #[test]
    fn a_part_beyond_the_end_of_its_parcel_is_malformed() {
        let made = |part: Part, bytes: &[u8]| {
            let mut out = [0; 64];
            let mut w = Writer::new(&mut out);
            part.emit(&mut w).unwrap();
            w.put(bytes).unwrap();
            let n = w.len();
            Part::parse(&out[..n], 1 << 20).map(|(part, _)| part)
        };
        let last = Part { offset: 99_998, ..PART };
        assert_eq!(made(last, b"xy"), Ok(last));
        assert_eq!(made(last, b"xyz"), Err(Code::Malformed));
        assert_eq!(made(Part { offset: usize::MAX, ..PART }, b"x"), Err(Code::Malformed));
        assert_eq!(made(Part { seq: 0, ..PART }, b"x"), Err(Code::Malformed));
    }

    #[test]
    fn a_have_is_an_entry_and_the_bytes_and_nothing_more() {
        let (sender, receiver) = (NodeName::new("hub").unwrap(), NodeName::new("clinic_a").unwrap());
        let key = StreamKey { node: receiver, incarnation: Incarnation::new(0x0102), lane: Lane::Bulk };
        let have = Have { parcel: Entry { key, seq: 300, tag: *b"parcelta" }, bytes: 20_480 };
        let mut out = [0; 128];
        let n = have.emit(&mut out, &sender, &receiver).unwrap();
        let hex: alloc::string::String = out[..n].iter().map(|b| alloc::format!("{b:02x}")).collect();
        assert_eq!(hex, "0a0201000000000000ac0270617263656c746180a001");
        assert_eq!(Have::parse(&out[..n], &sender, &receiver), Ok(have));
        for cut in 0..n {
            assert_eq!(Have::parse(&out[..cut], &sender, &receiver), Err(Code::Malformed), "{cut}");
        }
        let more: Vec<u8> = out[..=n].to_vec();
        assert_eq!(Have::parse(&more, &sender, &receiver), Err(Code::Malformed));
        let none = Have { parcel: Entry { seq: 0, ..have.parcel }, ..have };
        let n = none.emit(&mut out, &sender, &receiver).unwrap();
        assert_eq!(Have::parse(&out[..n], &sender, &receiver), Err(Code::Malformed));
    }
}

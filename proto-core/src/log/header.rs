//! The header of an epoch.

use crc::{CRC_32_ISCSI, Crc, Table};

use super::{DataKey, HEADER_BYTES, PAGE_BYTES};
use crate::code::Code;
use crate::hlc::Hlc;
use crate::varint::Reader;

/// CRC32C, for headers and frames.
/// Sixteen bytes at a time where memory is no matter: opening a log and scrubbing it compute little else.
pub(super) static CRC: Crc<u32, Table<TABLES>> = Crc::<u32, Table<TABLES>>::new(&CRC_32_ISCSI);
const TABLES: usize = if cfg!(feature = "alloc") { 16 } else { 1 };

/// First bytes of an epoch header. The high bit, CR LF, ^Z and LF catch text-mode copies.
pub(super) const MAGIC: [u8; 8] = *b"\x89RPW\r\n\x1a\n";
const VERSION: u16 = 1;
pub(super) const SUITE: u8 = 1;
const ALIGNMENT_LOG2: u8 = 12;
/// What the epoch key is derived from: everything before the commitment.
const KEYED_BYTES: usize = 104;
const CRC_AT: usize = 124;
/// Context of the digest that links an epoch to what precedes it (docs/LOG.md#header-6).
const LINK_CONTEXT: &str = "ropeway 2026 log epoch link v1";

/// What the writer of a new epoch chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    /// Number of the segment, from 1.
    pub segment: u64,
    /// Page of the header within the segment.
    pub page: u64,
    /// Random, fresh for every epoch: nonces are page numbers, so a salt used twice would use
    /// nonces twice.
    pub salt: [u8; 32],
    /// Which data key.
    pub key_id: u32,
    /// No event of the epoch written by this node is stamped earlier.
    pub base_hlc: Hlc,
    /// [`link_digest`] of what precedes; zeros for the first epoch of a log.
    pub prev: [u8; 16],
}

/// The header of an epoch (docs/LOG.md#header-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the writer chose.
    pub start: EpochStart,
    /// Compatible features: bits that a reader may ignore. This version sets none.
    pub compatible: u32,
    commitment: [u8; 16],
}

impl Header {
    /// The header of a new epoch under `key`.
    #[must_use]
    pub fn new(key: &DataKey, start: EpochStart) -> Self {
        Self { start, compatible: 0, commitment: key.commitment(&start.salt) }
    }

    /// True if this header was written under `key`. Nothing else may be read before this is known
    /// (docs/LOG.md#key-3).
    #[must_use]
    pub fn is_under(&self, key: &DataKey) -> bool {
        self.commitment == key.commitment(&self.start.salt)
    }

    /// The bytes on disk; zeros fill the rest of the page.
    #[must_use]
    pub fn emit(&self) -> [u8; HEADER_BYTES] {
        let s = &self.start;
        let mut b = [0; HEADER_BYTES];
        b[..8].copy_from_slice(&MAGIC);
        b[8..10].copy_from_slice(&VERSION.to_le_bytes());
        b[16..20].copy_from_slice(&self.compatible.to_le_bytes());
        b[20] = SUITE;
        b[21] = ALIGNMENT_LOG2;
        b[24..32].copy_from_slice(&s.segment.to_le_bytes());
        b[32..40].copy_from_slice(&s.page.to_le_bytes());
        b[40..72].copy_from_slice(&s.salt);
        b[72..76].copy_from_slice(&s.key_id.to_le_bytes());
        b[80..88].copy_from_slice(&s.base_hlc.as_u64().to_le_bytes());
        b[88..104].copy_from_slice(&s.prev);
        b[104..120].copy_from_slice(&self.commitment);
        let crc = CRC.checksum(&b[..CRC_AT]);
        b[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        b
    }

    /// Reads a header from the start of `bytes`.
    ///
    /// # Errors
    /// [`Code::SegmentHeader`] if it is damaged; [`Code::FormatNewer`] if it is intact but uses
    /// something that this version does not know (docs/LOG.md#header-3).
    pub fn parse(bytes: &[u8]) -> Result<Self, Code> {
        let head = bytes.first_chunk::<HEADER_BYTES>().ok_or(Code::SegmentHeader)?;
        if head[..8] != MAGIC || !intact(head) {
            return Err(Code::SegmentHeader);
        }
        Self::parse_fields(head).map_err(|code| match code {
            Code::FormatNewer => code,
            _ => Code::SegmentHeader,
        })
    }

    /// As [`Header::parse`], but sets a single flipped bit right (docs/LOG.md#header-5): one
    /// rotten bit here would cost every frame of the epoch. True if that was needed.
    ///
    /// # Errors
    /// As [`Header::parse`].
    pub fn parse_repairing(bytes: &[u8]) -> Result<(Self, bool), Code> {
        let mut head = *bytes.first_chunk::<HEADER_BYTES>().ok_or(Code::SegmentHeader)?;
        if !resembles(&head) {
            return Err(Code::SegmentHeader);
        }
        if intact(&head) {
            return Self::parse(&head).map(|h| (h, false));
        }
        for bit in 0..HEADER_BYTES * 8 {
            head[bit / 8] ^= 1 << (bit % 8);
            if intact(&head) {
                return Self::parse(&head).map(|h| (h, true));
            }
            head[bit / 8] ^= 1 << (bit % 8);
        }
        Err(Code::SegmentHeader)
    }

    /// Puts a copy at the end of a frame's padding, for when the header's own page is lost; nothing if
    /// there is no room (docs/LOG.md#frame-8).
    pub fn copy_into(&self, padding: &mut [u8]) {
        if let Some(end) = padding.last_chunk_mut::<HEADER_BYTES>() {
            *end = self.emit();
        }
    }

    /// The copy that stands at the end of a page, if there is an intact one. It says itself which page
    /// is the header's own.
    #[must_use]
    pub fn copy_in(page: &[u8]) -> Option<Self> {
        let end = page.get(..PAGE_BYTES)?.last_chunk::<HEADER_BYTES>()?;
        Self::parse(end).ok()
    }

    fn parse_fields(head: &[u8; HEADER_BYTES]) -> Result<Self, Code> {
        let mut r = Reader::new(head);
        r.take(MAGIC.len())?;
        let (version, reserved_a, incompatible) = (r.u16()?, r.u16()?, r.u32()?);
        let compatible = r.u32()?;
        let (suite, alignment, reserved_b) = (r.u8()?, r.u8()?, r.u16()?);
        let (segment, page) = (r.u64()?, r.u64()?);
        let salt = r.array()?;
        let (key_id, reserved_c) = (r.u32()?, r.u32()?);
        let base_hlc = r.u64()?;
        let (prev, commitment) = (r.array()?, r.array()?);
        let reserved_d = r.u32()?;
        let known = (version, incompatible, suite, alignment) == (VERSION, 0, SUITE, ALIGNMENT_LOG2);
        if !known || (reserved_a, reserved_b, reserved_c, reserved_d) != (0, 0, 0, 0) {
            return Err(Code::FormatNewer);
        }
        let base_hlc = Hlc::from_u64(base_hlc).ok_or(Code::SegmentHeader)?;
        let start = EpochStart { segment, page, salt, key_id, base_hlc, prev };
        Ok(Self { start, compatible, commitment })
    }

    /// The part of the header that the epoch key is derived from.
    pub(super) fn with_keyed<T>(&self, f: impl FnOnce(&[u8]) -> T) -> T {
        f(&self.emit()[..KEYED_BYTES])
    }
}

/// Segment number and page of a header whose other fields may be of a newer format: their place is
/// the same in every version (docs/LOG.md#header-2).
pub(super) fn stands_at(bytes: &[u8]) -> Option<(u64, u64)> {
    let mut r = Reader::new(bytes);
    r.take(24).ok()?;
    Some((r.u64().ok()?, r.u64().ok()?))
}

/// True if `bytes` begin with the magic, or with all of it but one bit.
pub(super) fn resembles(bytes: &[u8]) -> bool {
    let differing = |m: &[u8; 8]| (u64::from_le_bytes(*m) ^ u64::from_le_bytes(MAGIC)).count_ones();
    bytes.first_chunk().is_some_and(|m| differing(m) <= 1)
}

fn intact(head: &[u8; HEADER_BYTES]) -> bool {
    CRC.checksum(&head[..CRC_AT]).to_le_bytes() == head[CRC_AT..]
}

/// The value of [`EpochStart::prev`] for an epoch that follows `header` and a frame with `last_tag`
/// (zeros if no frame stands between) (docs/LOG.md#header-6).
#[must_use]
pub fn link_digest(header: &Header, last_tag: &[u8; 16]) -> [u8; 16] {
    let mut h = blake3::Hasher::new_derive_key(LINK_CONTEXT);
    h.update(&header.emit());
    h.update(last_tag);
    let mut short = [0; 16];
    short.copy_from_slice(&h.finalize().as_bytes()[..16]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> (DataKey, Header) {
        let key = DataKey::new([7; 32]);
        let start = EpochStart {
            segment: 3,
            page: 9,
            salt: [5; 32],
            key_id: 2,
            base_hlc: Hlc::new(1_800_000_000_000, 4),
            prev: [6; 16],
        };
        let h = Header::new(&key, start);
        (key, h)
    }

    fn with_crc(mut b: [u8; HEADER_BYTES]) -> [u8; HEADER_BYTES] {
        let crc = CRC.checksum(&b[..CRC_AT]);
        b[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        b
    }

    #[test]
    fn a_header_round_trips_and_knows_its_key() {
        let (key, h) = header();
        assert_eq!(Header::parse(&h.emit()), Ok(h));
        assert!(h.is_under(&key));
        assert!(!h.is_under(&DataKey::new([8; 32])));
        assert_eq!(stands_at(&h.emit()), Some((3, 9)));
    }

    #[test]
    fn a_copy_stands_at_the_end_of_a_page_where_there_is_room() {
        let (_, h) = header();
        let mut page = [0; PAGE_BYTES];
        assert_eq!(Header::copy_in(&page), None);
        h.copy_into(&mut page[PAGE_BYTES - HEADER_BYTES + 1..]);
        assert_eq!(page, [0; PAGE_BYTES]);
        h.copy_into(&mut page[77..]);
        assert_eq!(Header::copy_in(&page), Some(h));
        assert_eq!(Header::copy_in(&page[1..]), None);
        page[PAGE_BYTES - 1] ^= 1;
        assert_eq!(Header::copy_in(&page), None, "no bit is set right here: there are other copies");
    }

    #[test]
    fn every_single_flipped_bit_is_found_and_set_right() {
        let (_, h) = header();
        for bit in 0..HEADER_BYTES * 8 {
            let mut b = h.emit();
            b[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::parse(&b), Err(Code::SegmentHeader), "bit {bit}");
            assert_eq!(Header::parse_repairing(&b), Ok((h, true)), "bit {bit}");
        }
    }

    #[test]
    fn two_flipped_bits_are_never_taken_for_a_header() {
        let (_, h) = header();
        for bit in 64..1023 {
            let mut b = h.emit();
            b[bit / 8] ^= 1 << (bit % 8);
            b[127] ^= 0x80;
            assert_eq!(Header::parse_repairing(&b), Err(Code::SegmentHeader), "bit {bit}");
        }
    }

    #[test]
    fn an_intact_header_of_the_future_is_told_from_damage() {
        let (_, h) = header();
        for (at, what) in [(8, "version"), (12, "incompatible"), (20, "suite"), (21, "alignment"), (10, "reserved")] {
            let mut b = h.emit();
            b[at] ^= 0x40;
            assert_eq!(Header::parse(&with_crc(b)), Err(Code::FormatNewer), "{what}");
        }
        let mut b = h.emit();
        b[16] = 1;
        assert_eq!(Header::parse(&with_crc(b)).map(|h| h.compatible), Ok(1));
    }
}

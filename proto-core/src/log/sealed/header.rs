//! The header of a sealed file.

use super::super::header::{CRC, SUITE};
use super::super::{Cipher, DataKey};
use super::{SEALED_HEADER_BYTES, SealedCipher};
use crate::code::Code;
use crate::hlc::Hlc;
use crate::varint::Reader;

const MAGIC: [u8; 8] = *b"\x89RPS\r\n\x1a\n";
const VERSION: u16 = 1;
/// What the key is derived from: everything before the commitment.
const KEYED_BYTES: usize = 160;
const CRC_AT: usize = SEALED_HEADER_BYTES - 4;
/// Context of a seal's digest (docs/LOG.md#sealed-9).
const DIGEST_CONTEXT: &str = "ropeway 2026 log seal digest v1";

/// What a sealed file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A segment.
    Segment = 1,
    /// The state at the end of a segment.
    Checkpoint = 2,
    /// What stands in the place of segments that were removed (docs/LOG.md#stub-1).
    Stub = 3,
}

/// What the writer of a sealed file chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedStart {
    /// What it is.
    pub kind: Kind,
    /// Number of the segment, of a stub that of the last one that is gone; of a checkpoint, its generation.
    pub number: u64,
    /// Random, fresh for every file that is begun: nonces are places in the file.
    pub salt: [u8; 32],
    /// Which data key.
    pub key_id: u32,
    /// Base HLC of the segment's first epoch.
    pub base_hlc: Hlc,
    /// What the first header of the hot segment linked to (docs/LOG.md#header-6).
    pub prev: [u8; 16],
    /// What the first header of the next segment links to; zeros in a checkpoint.
    pub link: [u8; 16],
    /// [`seal_digest`] of the segment before, zeros if that is not sealed.
    pub prev_seal: [u8; 32],
}

/// The header of a sealed file (docs/LOG.md#sealed-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedHeader {
    /// What the writer chose.
    pub start: SealedStart,
    /// Bits that a reader may ignore. This version sets none.
    pub compatible: u32,
    commitment: [u8; 16],
}

impl SealedHeader {
    /// The header of a new file under `key`.
    #[must_use]
    pub fn new(key: &DataKey, start: SealedStart) -> Self {
        Self { start, compatible: 0, commitment: key.commitment(&start.salt) }
    }

    /// True if the file was written under `key`.
    #[must_use]
    pub fn is_under(&self, key: &DataKey) -> bool {
        self.commitment == key.commitment(&self.start.salt)
    }

    /// The cipher of the frames (docs/LOG.md#sealed-4).
    ///
    /// # Errors
    /// [`Code::WrongKey`] if the file was written under another key.
    pub fn cipher(&self, key: &DataKey) -> Result<SealedCipher, Code> {
        if !self.is_under(key) {
            return Err(Code::WrongKey);
        }
        let file_key = key.sealed_key(&self.emit()[..KEYED_BYTES]);
        Ok(SealedCipher(Cipher::dense(&file_key, &self.start.salt)))
    }

    /// The bytes on disk.
    #[must_use]
    pub fn emit(&self) -> [u8; SEALED_HEADER_BYTES] {
        let s = &self.start;
        let mut b = [0; SEALED_HEADER_BYTES];
        b[..8].copy_from_slice(&MAGIC);
        b[8..10].copy_from_slice(&VERSION.to_le_bytes());
        b[16..20].copy_from_slice(&self.compatible.to_le_bytes());
        b[20] = SUITE;
        b[21] = s.kind as u8;
        b[24..32].copy_from_slice(&s.number.to_le_bytes());
        b[32..40].copy_from_slice(&s.base_hlc.as_u64().to_le_bytes());
        b[40..72].copy_from_slice(&s.salt);
        b[72..76].copy_from_slice(&s.key_id.to_le_bytes());
        b[80..96].copy_from_slice(&s.prev);
        b[96..112].copy_from_slice(&s.link);
        b[112..144].copy_from_slice(&s.prev_seal);
        b[KEYED_BYTES..176].copy_from_slice(&self.commitment);
        let crc = CRC.checksum(&b[..CRC_AT]);
        b[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        b
    }

    /// Reads a header, and sets a single flipped bit right. True if that was needed.
    ///
    /// # Errors
    /// [`Code::SegmentHeader`] if it is damaged; [`Code::FormatNewer`] if it is intact but uses
    /// something that this version does not know (docs/LOG.md#sealed-3).
    pub fn parse(bytes: &[u8]) -> Result<(Self, bool), Code> {
        let mut head = *bytes.first_chunk::<SEALED_HEADER_BYTES>().ok_or(Code::SegmentHeader)?;
        let magic = head.first_chunk().map_or(0, |m| u64::from_le_bytes(*m));
        if (magic ^ u64::from_le_bytes(MAGIC)).count_ones() > 1 {
            return Err(Code::SegmentHeader);
        }
        if intact(&head) {
            return Self::parse_fields(&head).map(|h| (h, false));
        }
        for bit in 0..SEALED_HEADER_BYTES * 8 {
            head[bit / 8] ^= 1 << (bit % 8);
            if intact(&head) {
                return Self::parse_fields(&head).map(|h| (h, true));
            }
            head[bit / 8] ^= 1 << (bit % 8);
        }
        Err(Code::SegmentHeader)
    }

    fn parse_fields(head: &[u8; SEALED_HEADER_BYTES]) -> Result<Self, Code> {
        let fields = |r: &mut Reader<'_>| -> Result<_, Code> {
            if r.array()? != MAGIC {
                return Err(Code::SegmentHeader);
            }
            let (version, reserved_a, incompatible, compatible) = (r.u16()?, r.u16()?, r.u32()?, r.u32()?);
            let (suite, kind, reserved_b) = (r.u8()?, r.u8()?, r.u16()?);
            let (number, base_hlc) = (r.u64()?, r.u64()?);
            let salt = r.array()?;
            let (key_id, reserved_c) = (r.u32()?, r.u32()?);
            let (prev, link, prev_seal) = (r.array()?, r.array()?, r.array()?);
            let reserved_d: [u8; 16] = r.array()?;
            let commitment = r.array()?;
            let reserved_e: [u8; 12] = r.array()?;
            let kind = match kind {
                1 => Kind::Segment,
                2 => Kind::Checkpoint,
                3 => Kind::Stub,
                _ => return Err(Code::FormatNewer),
            };
            let known = (version, incompatible, suite) == (VERSION, 0, SUITE);
            let zero = (reserved_a, reserved_b, reserved_c) == (0, 0, 0);
            if !known || !zero || reserved_d != [0; 16] || reserved_e != [0; 12] {
                return Err(Code::FormatNewer);
            }
            let base_hlc = Hlc::from_u64(base_hlc).ok_or(Code::SegmentHeader)?;
            let start = SealedStart { kind, number, salt, key_id, base_hlc, prev, link, prev_seal };
            Ok(Self { start, compatible, commitment })
        };
        fields(&mut Reader::new(head)).map_err(|code| match code {
            Code::FormatNewer => code,
            _ => Code::SegmentHeader,
        })
    }
}

fn intact(head: &[u8; SEALED_HEADER_BYTES]) -> bool {
    CRC.checksum(&head[..CRC_AT]).to_le_bytes() == head[CRC_AT..]
}

/// What names a sealed file and all that is in it: the next seal's header and the manifest hold it.
/// `footer`: the bytes of the SEAL frame as they stand on disk.
#[must_use]
pub fn seal_digest(header: &SealedHeader, footer: &[u8]) -> [u8; 32] {
    let mut h = blake3::Hasher::new_derive_key(DIGEST_CONTEXT);
    h.update(&header.emit());
    h.update(footer);
    *h.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SealedHeader {
        let start = SealedStart {
            kind: Kind::Segment,
            number: 3,
            salt: [5; 32],
            key_id: 2,
            base_hlc: Hlc::new(1_800_000_000_000, 4),
            prev: [6; 16],
            link: [7; 16],
            prev_seal: [8; 32],
        };
        SealedHeader::new(&DataKey::new([7; 32]), start)
    }

    #[test]
    fn a_header_round_trips_and_knows_its_key() {
        let h = header();
        assert_eq!(SealedHeader::parse(&h.emit()), Ok((h, false)));
        assert!(h.cipher(&DataKey::new([7; 32])).is_ok());
        assert_eq!(h.cipher(&DataKey::new([8; 32])).err(), Some(Code::WrongKey));
    }

    #[test]
    fn a_flipped_bit_is_set_right_and_two_are_not_guessed_at() {
        let h = header();
        for bit in 0..SEALED_HEADER_BYTES * 8 {
            let mut b = h.emit();
            b[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SealedHeader::parse(&b), Ok((h, true)), "bit {bit}");
            b[if bit / 8 == 100 { 101 } else { 100 }] ^= 0x81;
            assert_eq!(SealedHeader::parse(&b), Err(Code::SegmentHeader), "bit {bit}");
        }
    }

    #[test]
    fn an_intact_header_of_the_future_is_told_from_damage() {
        for at in [8, 10, 12, 20, 21, 22, 76, 150, 180] {
            let mut b = header().emit();
            b[at] ^= 0x40;
            let crc = CRC.checksum(&b[..CRC_AT]);
            b[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
            assert_eq!(SealedHeader::parse(&b), Err(Code::FormatNewer), "{at}");
        }
    }
}

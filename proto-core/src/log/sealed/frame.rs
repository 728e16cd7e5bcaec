//! Dense frames and the trailer that leads to the footer.

use core::ops::Range;

use super::super::header::CRC;
use super::super::{Cipher, FRAME_HEAD_BYTES, FRAME_TAG_BYTES, FrameFault, MAX_BODY_BYTES};
use super::{DENSE_ALIGN, PACK_HEAD_BYTES, SEALED_HEADER_BYTES, SealedHeader, TRAILER_BYTES};
use crate::code::Code;

const LEN_BITS: u32 = 24;
/// Largest packed body.
const PACKED_MAX_BYTES: usize = MAX_BODY_BYTES + PACK_HEAD_BYTES;

/// What a dense frame holds (docs/LOG.md#sealed-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DenseType {
    /// Records, as in a hot group.
    Group = 1,
    /// The footer: the last frame of a file.
    Seal = 2,
    /// A part of a node's state.
    State = 4,
    /// A piece of the index.
    Index = 6,
}

/// Bytes that a frame with a packed body of `packed_len` takes, padding included.
#[must_use]
pub const fn dense_len(packed_len: usize) -> usize {
    (FRAME_HEAD_BYTES + packed_len + FRAME_TAG_BYTES).next_multiple_of(DENSE_ALIGN)
}

fn split(head: &[u8]) -> Option<([u8; 4], DenseType, usize)> {
    let word = *head.first_chunk::<4>()?;
    let n = u32::from_le_bytes(word);
    let kind = match n >> LEN_BITS {
        1 => DenseType::Group,
        2 => DenseType::Seal,
        4 => DenseType::State,
        6 => DenseType::Index,
        _ => return None,
    };
    let len = (n & ((1 << LEN_BITS) - 1)) as usize;
    (len <= PACKED_MAX_BYTES).then_some((word, kind, len))
}

/// Bytes of the frame whose first four bytes are given, `None` if they begin none.
#[must_use]
pub fn dense_len_of(head: &[u8]) -> Option<usize> {
    split(head).map(|(_, _, len)| dense_len(len))
}

/// Type of the frame whose first four bytes are given.
pub(in crate::log) fn dense_type_of(head: &[u8]) -> Option<DenseType> {
    split(head).map(|(_, kind, _)| kind)
}

/// A frame opened in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DenseFrame {
    /// What it holds.
    pub frame_type: DenseType,
    /// Where the packed body stands in the buffer.
    pub body: Range<usize>,
    /// Bytes that the frame takes in the file.
    pub len: usize,
    /// The checksum was wrong although the tag is right.
    pub crc_rotten: bool,
}

/// Seals and opens the frames of one sealed file. Its key is erased when it is dropped.
#[derive(Clone, Debug)]
pub struct SealedCipher(pub(super) Cipher);

impl SealedCipher {
    /// Seals the packed body that stands at `buf[FRAME_HEAD_BYTES..][..packed_len]` as the frame at
    /// `offset`, padding included; its length. [`SealedWriter`](super::SealedWriter) sees to it that
    /// no place is used twice.
    pub(super) fn seal(
        &self,
        offset: u64,
        frame_type: DenseType,
        buf: &mut [u8],
        packed_len: usize,
    ) -> Result<usize, Code> {
        let frame = buf.get_mut(..dense_len(packed_len)).ok_or(Code::TooLarge)?;
        if packed_len > PACKED_MAX_BYTES {
            return Err(Code::TooLarge);
        }
        let word = ((frame_type as u32) << LEN_BITS | packed_len as u32).to_le_bytes();
        let (head, rest) = frame.split_at_mut(FRAME_HEAD_BYTES);
        let (body, rest) = rest.split_at_mut(packed_len);
        let (tag, crc) = self.0.seal_bytes(offset, word, body)?;
        let (at_tag, padding) = rest.split_at_mut(FRAME_TAG_BYTES);
        at_tag.copy_from_slice(&tag);
        padding.fill(0);
        head[..4].copy_from_slice(&word);
        head[4..].copy_from_slice(&crc.to_le_bytes());
        Ok(frame.len())
    }

    /// Opens the frame at `offset` in place. `buf` may be longer than the frame; a refusal leaves it
    /// as it was.
    ///
    /// # Errors
    /// [`FrameFault`].
    pub fn open(&self, offset: u64, buf: &mut [u8]) -> Result<DenseFrame, FrameFault> {
        let Some((word, frame_type, packed_len)) = split(buf) else { return Err(FrameFault::Damaged) };
        let (len, body) = (dense_len(packed_len), FRAME_HEAD_BYTES..FRAME_HEAD_BYTES + packed_len);
        let Some(frame) = buf.get_mut(..body.end + FRAME_TAG_BYTES) else { return Err(FrameFault::NeedMore(len)) };
        let (head, rest) = frame.split_at_mut(FRAME_HEAD_BYTES);
        let (packed, tag) = rest.split_at_mut(packed_len);
        let Some(tag) = tag.first_chunk() else { return Err(FrameFault::Damaged) };
        let crc_rotten = self.0.open_bytes(offset, word, &head[4..], packed, tag)?;
        Ok(DenseFrame { frame_type, body, len, crc_rotten })
    }
}

/// The end of a sealed file (docs/LOG.md#sealed-8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// The header once more.
    pub header: SealedHeader,
    /// Where the SEAL frame begins.
    pub footer_at: u64,
}

impl Trailer {
    /// The last bytes of the file.
    #[must_use]
    pub fn emit(&self) -> [u8; TRAILER_BYTES] {
        let mut b = [0; TRAILER_BYTES];
        b[..SEALED_HEADER_BYTES].copy_from_slice(&self.header.emit());
        b[SEALED_HEADER_BYTES..][..8].copy_from_slice(&self.footer_at.to_le_bytes());
        let crc = CRC.checksum(&b[..TRAILER_BYTES - 4]);
        b[TRAILER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        b
    }

    /// Reads the last [`TRAILER_BYTES`] of a file.
    ///
    /// # Errors
    /// [`Code::Corrupt`]; then the file is to be scanned. [`Code::FormatNewer`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Code> {
        let b = bytes.first_chunk::<TRAILER_BYTES>().ok_or(Code::Corrupt)?;
        if CRC.checksum(&b[..TRAILER_BYTES - 4]).to_le_bytes() != b[TRAILER_BYTES - 4..] {
            return Err(Code::Corrupt);
        }
        let (header, _) = SealedHeader::parse(b).map_err(|code| match code {
            Code::FormatNewer => code,
            _ => Code::Corrupt,
        })?;
        let at = b[SEALED_HEADER_BYTES..].first_chunk().ok_or(Code::Corrupt)?;
        Ok(Self { header, footer_at: u64::from_le_bytes(*at) })
    }
}

//! Reading a sealed file from front to back, also where it is damaged.

use super::{
    DENSE_ALIGN, DenseType, Kind, SEALED_HEADER_BYTES, SEALED_MAX_BYTES, SealedCipher, SealedHeader, TRAILER_BYTES,
    dense_len_of,
};
use crate::code::Code;
use crate::log::{DataKey, FrameFault, Want};

/// What the scan found in the bytes it was fed.
#[derive(Debug, PartialEq, Eq)]
pub enum SealedStep<'b> {
    /// Nothing yet: see [`SealedScan::poll_want`].
    NeedMore,
    /// The header. `repaired`: a bit of it is rotten, or it was read from its copy.
    Header {
        /// The header.
        header: SealedHeader,
        /// It is not whole.
        repaired: bool,
    },
    /// A frame; its packed body stands decrypted in the bytes that were fed.
    Frame {
        /// What it holds.
        frame_type: DenseType,
        /// Where it begins.
        offset: u64,
        /// Bytes that it takes.
        len: u64,
        /// The packed body.
        packed: &'b [u8],
        /// Its checksum is rotten, its content is good.
        crc_rotten: bool,
    },
    /// These bytes are damaged.
    Damaged {
        /// First byte.
        from: u64,
        /// First byte after.
        to: u64,
        /// [`Code::Corrupt`] or [`Code::Tampered`].
        code: Code,
    },
    /// The file is read. `sealed`: its last frame is the footer.
    End {
        /// The footer was there.
        sealed: bool,
    },
    /// The file cannot be read at all: [`Code::WrongKey`], [`Code::KeyMissing`], [`Code::FormatNewer`],
    /// [`Code::SegmentHeader`].
    Fault(Code),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Header,
    /// The copy of the header in the trailer.
    Copy,
    Frames,
    Over(Result<(), Code>),
}

/// Scanner of one sealed file. Read [`SealedScan::poll_want`] from the file afresh, hand it to
/// [`SealedScan::feed`], repeat until [`SealedStep::End`] or [`SealedStep::Fault`].
#[derive(Debug)]
pub struct SealedScan<'k> {
    keys: &'k [(u32, DataKey)],
    kind: Kind,
    number: u64,
    frames_end: u64,
    at: At,
    offset: u64,
    want_len: usize,
    cipher: Option<SealedCipher>,
    /// Where the damage began, and whether a part of it was altered on purpose.
    damage: Option<(u64, Code)>,
    sealed: bool,
}

impl<'k> SealedScan<'k> {
    /// A scan of a file of `len_bytes` that should be of this kind and number.
    ///
    /// # Errors
    /// [`Code::TooLarge`] if the file is larger than the format allows.
    pub fn new(keys: &'k [(u32, DataKey)], kind: Kind, number: u64, len_bytes: u64) -> Result<Self, Code> {
        if len_bytes > SEALED_MAX_BYTES {
            return Err(Code::TooLarge);
        }
        let frames_end = len_bytes.saturating_sub(TRAILER_BYTES as u64);
        Ok(Self {
            keys,
            kind,
            number,
            frames_end,
            at: At::Header,
            offset: 0,
            want_len: SEALED_HEADER_BYTES,
            cipher: None,
            damage: None,
            sealed: false,
        })
    }

    /// The bytes to feed next; `None` when the scan is over.
    #[must_use]
    pub fn poll_want(&self) -> Option<Want> {
        let offset = if self.at == At::Copy { self.frames_end } else { self.offset };
        (!matches!(self.at, At::Over(_))).then_some(Want { offset, len: self.want_len })
    }

    /// Takes the wanted bytes, fewer only if the file ends before. Frames are decrypted in place, so
    /// the same bytes must not be fed twice without being read again.
    pub fn feed<'b>(&mut self, bytes: &'b mut [u8]) -> SealedStep<'b> {
        let len = bytes.len().min(self.want_len);
        let bytes = &mut bytes[..len];
        match self.at {
            At::Over(Ok(())) => SealedStep::End { sealed: self.sealed },
            At::Over(Err(code)) => SealedStep::Fault(code),
            At::Header | At::Copy => self.feed_header(bytes),
            At::Frames => self.feed_frame(bytes),
        }
    }

    /// To call instead of [`SealedScan::feed`] when the disk cannot read the wanted bytes.
    pub fn unreadable(&mut self) -> SealedStep<'static> {
        match self.at {
            At::Frames => self.pass_bad(Code::Corrupt),
            _ => self.feed_header(&[]),
        }
    }

    fn feed_header(&mut self, bytes: &[u8]) -> SealedStep<'static> {
        let copy = self.at == At::Copy;
        let (header, repaired) = match SealedHeader::parse(bytes) {
            Ok((h, r)) if (h.start.kind, h.start.number) == (self.kind, self.number) => (h, r),
            Err(Code::FormatNewer) => return self.fault(Code::FormatNewer),
            Ok(_) | Err(_) if copy => return self.fault(Code::SegmentHeader),
            Ok(_) | Err(_) => {
                self.at = At::Copy;
                return SealedStep::NeedMore;
            }
        };
        let Some((_, key)) = self.keys.iter().find(|(id, _)| *id == header.start.key_id) else {
            return self.fault(Code::KeyMissing);
        };
        match header.cipher(key) {
            Ok(cipher) => self.cipher = Some(cipher),
            Err(code) => return self.fault(code),
        }
        self.at = At::Frames;
        self.go_to(SEALED_HEADER_BYTES as u64);
        SealedStep::Header { header, repaired: repaired || copy }
    }

    fn fault(&mut self, code: Code) -> SealedStep<'static> {
        self.at = At::Over(Err(code));
        SealedStep::Fault(code)
    }

    fn feed_frame<'b>(&mut self, bytes: &'b mut [u8]) -> SealedStep<'b> {
        if self.offset >= self.frames_end {
            self.at = At::Over(Ok(()));
            return match self.damage.take() {
                Some((from, code)) => SealedStep::Damaged { from, to: self.offset, code },
                None => SealedStep::End { sealed: self.sealed },
            };
        }
        let Some(need) = dense_len_of(bytes).filter(|n| self.offset + *n as u64 <= self.frames_end) else {
            return self.pass_bad(Code::Corrupt);
        };
        if need > self.want_len {
            self.want_len = need;
            return SealedStep::NeedMore;
        }
        let Some(cipher) = &self.cipher else { return self.fault(Code::SegmentHeader) };
        match cipher.open(self.offset, bytes) {
            Ok(_) if self.damage.is_some() => {
                // Its bytes are decrypted by now: report the damage and have it read again.
                let (from, code) = self.damage.take().unwrap_or((self.offset, Code::Corrupt));
                self.want_len = DENSE_ALIGN;
                SealedStep::Damaged { from, to: self.offset, code }
            }
            Ok(f) => {
                let offset = self.offset;
                self.sealed = f.frame_type == DenseType::Seal;
                self.go_to(offset + f.len as u64);
                let packed = bytes.get(f.body).unwrap_or_default();
                let (frame_type, len, crc_rotten) = (f.frame_type, f.len as u64, f.crc_rotten);
                SealedStep::Frame { frame_type, offset, len, packed, crc_rotten }
            }
            Err(FrameFault::Tampered) => self.pass_bad(Code::Tampered),
            Err(_) => self.pass_bad(Code::Corrupt),
        }
    }

    fn pass_bad(&mut self, code: Code) -> SealedStep<'static> {
        let damage = self.damage.get_or_insert((self.offset, code));
        if code == Code::Tampered {
            damage.1 = code;
        }
        self.sealed = false;
        self.go_to(self.offset + DENSE_ALIGN as u64);
        SealedStep::NeedMore
    }

    fn go_to(&mut self, offset: u64) {
        self.offset = offset;
        self.want_len = DENSE_ALIGN;
    }
}

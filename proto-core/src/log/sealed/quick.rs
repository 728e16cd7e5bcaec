//! Reading a sealed file without its key: header, checksums of the frames, trailer
//! (docs/LOG.md#scan-5).

use super::super::frame::frame_crc;
use super::super::{FRAME_HEAD_BYTES, FRAME_TAG_BYTES, Want};
use super::{
    DENSE_ALIGN, DenseType, Kind, SEALED_HEADER_BYTES, SEALED_MAX_BYTES, SealedHeader, TRAILER_BYTES, Trailer,
    dense_len_of, dense_type_of,
};
use crate::code::Code;

/// What [`SealedCrcScan`] found in the bytes it was fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealedSight {
    /// Nothing yet: see [`SealedCrcScan::poll_want`].
    NeedMore,
    /// The header: which data key the file is under, and what the next segment links to.
    Header {
        /// Which data key.
        key_id: u32,
        /// What the first header of the next segment links to.
        link: [u8; 16],
        /// It is not whole, or was read from its copy.
        repaired: bool,
    },
    /// A frame with a right checksum.
    Frame {
        /// What it holds.
        frame_type: DenseType,
    },
    /// These bytes are damaged.
    Damaged {
        /// First byte.
        from: u64,
        /// First byte after.
        to: u64,
    },
    /// The file is read. Said again however often the scan is fed.
    End {
        /// Its last frame is the footer.
        sealed: bool,
        /// The trailer behind it is whole and leads there.
        trailer: bool,
    },
    /// [`Code::FormatNewer`], or [`Code::SegmentHeader`] if neither header can be read.
    Fault(Code),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Header,
    Copy,
    Frames,
    Trailer,
    Over(Result<bool, Code>),
}

/// Scanner of one sealed segment by its checksums. Feed it what [`SealedCrcScan::poll_want`] asks for
/// until [`SealedSight::End`] or [`SealedSight::Fault`]. Memory: none that grows.
#[derive(Debug)]
pub struct SealedCrcScan {
    number: u64,
    frames_end: u64,
    at: At,
    offset: u64,
    want_len: usize,
    salt: [u8; 8],
    damage_from: Option<u64>,
    /// Where the last frame began, if it is the footer.
    footer_at: Option<u64>,
}

impl SealedCrcScan {
    /// A scan of the sealed segment `number`, a file of `len_bytes`.
    ///
    /// # Errors
    /// [`Code::TooLarge`] if the file is larger than the format allows.
    pub fn new(number: u64, len_bytes: u64) -> Result<Self, Code> {
        if len_bytes > SEALED_MAX_BYTES {
            return Err(Code::TooLarge);
        }
        Ok(Self {
            number,
            frames_end: len_bytes.saturating_sub(TRAILER_BYTES as u64),
            at: At::Header,
            offset: 0,
            want_len: SEALED_HEADER_BYTES,
            salt: [0; 8],
            damage_from: None,
            footer_at: None,
        })
    }

    /// The bytes to feed next; `None` when the scan is over.
    #[must_use]
    pub fn poll_want(&self) -> Option<Want> {
        match self.at {
            At::Over(_) => None,
            At::Copy => Some(Want { offset: self.frames_end, len: SEALED_HEADER_BYTES }),
            At::Trailer => Some(Want { offset: self.frames_end, len: TRAILER_BYTES }),
            At::Header | At::Frames => Some(Want { offset: self.offset, len: self.want_len }),
        }
    }

    /// Takes the wanted bytes, fewer only if the file ends before, and says what they are.
    pub fn feed(&mut self, bytes: &[u8]) -> SealedSight {
        match self.at {
            At::Over(Ok(trailer)) => SealedSight::End { sealed: self.footer_at.is_some(), trailer },
            At::Over(Err(code)) => SealedSight::Fault(code),
            At::Header | At::Copy => self.feed_header(bytes),
            At::Frames => self.feed_frame(bytes),
            At::Trailer => {
                let whole = Trailer::parse(bytes).is_ok_and(|t| Some(t.footer_at) == self.footer_at);
                self.at = At::Over(Ok(whole));
                SealedSight::End { sealed: self.footer_at.is_some(), trailer: whole }
            }
        }
    }

    /// To call instead of [`SealedCrcScan::feed`] when the disk cannot read the wanted bytes.
    pub fn unreadable(&mut self) -> SealedSight {
        self.feed(&[])
    }

    fn feed_header(&mut self, bytes: &[u8]) -> SealedSight {
        let copy = self.at == At::Copy;
        let (header, rotten) = match SealedHeader::parse(bytes) {
            Ok((h, rotten)) if (h.start.kind, h.start.number) == (Kind::Segment, self.number) => (h, rotten),
            Err(Code::FormatNewer) => return self.fault(Code::FormatNewer),
            Ok(_) | Err(_) if copy => return self.fault(Code::SegmentHeader),
            Ok(_) | Err(_) => {
                self.at = At::Copy;
                return SealedSight::NeedMore;
            }
        };
        self.salt.copy_from_slice(&header.start.salt[..8]);
        self.at = At::Frames;
        self.go_to(SEALED_HEADER_BYTES as u64);
        SealedSight::Header { key_id: header.start.key_id, link: header.start.link, repaired: rotten || copy }
    }

    fn fault(&mut self, code: Code) -> SealedSight {
        self.at = At::Over(Err(code));
        SealedSight::Fault(code)
    }

    fn feed_frame(&mut self, bytes: &[u8]) -> SealedSight {
        if self.offset >= self.frames_end {
            self.at = At::Trailer;
            return self.tell_damage().unwrap_or(SealedSight::NeedMore);
        }
        let need = dense_len_of(bytes).filter(|n| self.offset + *n as u64 <= self.frames_end);
        if let Some(need) = need.filter(|n| *n > self.want_len) {
            self.want_len = need;
            return SealedSight::NeedMore;
        }
        let Some((need, frame_type)) = need.zip(dense_type_of(bytes)).filter(|_| self.is_right(bytes)) else {
            self.damage_from.get_or_insert(self.offset);
            self.footer_at = None;
            self.go_to(self.offset + DENSE_ALIGN as u64);
            return SealedSight::NeedMore;
        };
        if let Some(damaged) = self.tell_damage() {
            // It is asked for again.
            self.want_len = DENSE_ALIGN;
            return damaged;
        }
        self.footer_at = (frame_type == DenseType::Seal).then_some(self.offset);
        self.go_to(self.offset + need as u64);
        SealedSight::Frame { frame_type }
    }

    fn tell_damage(&mut self) -> Option<SealedSight> {
        self.damage_from.take().map(|from| SealedSight::Damaged { from, to: self.offset })
    }

    /// Whether the frame at the start of `bytes` has a right checksum (docs/LOG.md#sealed-5).
    fn is_right(&self, bytes: &[u8]) -> bool {
        let Some((head, rest)) = bytes.split_first_chunk::<FRAME_HEAD_BYTES>() else { return false };
        let [a, b, c, d, sum @ ..] = *head;
        let (word, len) = ([a, b, c, d], u32::from_le_bytes([a, b, c, 0]) as usize);
        let Some(sealed) = rest.get(..len + FRAME_TAG_BYTES) else { return false };
        frame_crc(&self.salt, self.offset, word, &[sealed]).to_le_bytes() == sum
    }

    fn go_to(&mut self, offset: u64) {
        self.offset = offset;
        self.want_len = DENSE_ALIGN;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{PACK_HEAD_BYTES, SealedStart, SealedWriter, dense_len, pack};
    use super::*;
    use crate::hlc::Hlc;
    use crate::log::DataKey;
    use alloc::vec;
    use alloc::vec::Vec;

    /// Two groups, an index and a footer.
    fn file() -> Vec<u8> {
        let key = DataKey::new([7; 32]);
        let (none, zero) = ([0; 16], [0; 32]);
        let (kind, salt, base_hlc) = (Kind::Segment, [5; 32], Hlc::ZERO);
        let start =
            SealedStart { kind, number: 3, salt, key_id: 2, base_hlc, prev: none, link: [6; 16], prev_seal: zero };
        let header = SealedHeader::new(&key, start);
        let mut w = SealedWriter::new(header, &key).unwrap();
        let mut file = header.emit().to_vec();
        let types = [DenseType::Group, DenseType::Group, DenseType::Index, DenseType::Seal];
        for (frame_type, len) in types.into_iter().zip([700, 20, 90, 60]) {
            let mut buf = vec![0; dense_len(PACK_HEAD_BYTES + len)];
            let n = pack(&vec![9; len], None, &mut buf[FRAME_HEAD_BYTES..]).unwrap();
            let len = w.frame(frame_type, &mut buf, n).unwrap();
            file.extend(&buf[..len]);
        }
        file.extend(w.finish().unwrap().0);
        file
    }

    fn scan(file: &[u8]) -> Vec<SealedSight> {
        let mut scan = SealedCrcScan::new(3, file.len() as u64).unwrap();
        let mut all = Vec::new();
        while let Some(want) = scan.poll_want() {
            let at = (want.offset as usize).min(file.len());
            let sight = scan.feed(&file[at..(at + want.len).min(file.len())]);
            if sight != SealedSight::NeedMore {
                all.push(sight);
            }
        }
        assert_eq!(all.last(), Some(&scan.feed(&[])));
        all
    }

    #[test]
    fn a_whole_file_is_clean_and_any_flipped_bit_is_seen_or_set_right() {
        let good = file();
        let whole = scan(&good);
        assert_eq!(whole.last(), Some(&SealedSight::End { sealed: true, trailer: true }));
        assert_eq!(whole.len(), 6);
        let padding = |at: usize| {
            let mut zeros = good.clone();
            zeros[at] = 0;
            zeros == good && scan(&[&good[..at], &[1], &good[at + 1..]].concat()) == whole
        };
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(scan(&bad) != whole || padding(at), "{at}");
        }
    }

    #[test]
    fn a_damaged_frame_costs_itself_and_a_cut_file_has_no_footer() {
        let mut bad = file();
        bad[SEALED_HEADER_BYTES + 100] ^= 1;
        let found = scan(&bad);
        assert!(matches!(found[1], SealedSight::Damaged { from: 192, .. }), "{found:?}");
        assert_eq!(found.iter().filter(|s| matches!(s, SealedSight::Frame { .. })).count(), 3);
        let good = file();
        let cut = scan(&good[..good.len() - 300]);
        assert!(matches!(cut.last(), Some(SealedSight::End { sealed: false, .. })), "{cut:?}");
        assert_eq!(scan(&[]), [SealedSight::Fault(Code::SegmentHeader)]);
    }
}

//! One segment read by its checksums, a piece at a time and without a key.

use ropeway_core::code::Code;
use ropeway_core::log::sealed::{DenseType, SealedCrcScan, SealedSight};
use ropeway_core::log::{CrcScan, End, PAGE_BYTES, Sight};

use crate::error::{Error, Result};
use crate::store::{Ahead, Damage, Files, SideFile, or_less, read_full, read_side_full};

/// How much is read at once, in bytes.
const AHEAD_BYTES: usize = 64 << 10;

/// See this file's head.
#[derive(Debug)]
pub(crate) struct Glance {
    number: u64,
    len: u64,
    scan: Scan,
    /// Frames with a right checksum.
    pub(crate) frames: u64,
    /// Numbers of the data keys met.
    pub(crate) key_ids: Vec<u32>,
    /// What is not as it should be, but for the end of a hot segment.
    pub(crate) damages: Vec<Damage>,
    /// How a hot segment ended.
    pub(crate) end: Option<End>,
    /// What a sealed one says that the next one links to.
    pub(crate) link: Option<[u8; 16]>,
    /// An index frame was met: all groups stand before it.
    indexed: bool,
    ahead: Ahead,
}

#[derive(Debug)]
enum Scan {
    Hot(Box<CrcScan>),
    Sealed(SealedCrcScan),
}

impl Glance {
    /// Begins with a segment. `upto`: only so many bytes of a hot one are read.
    pub(crate) fn open<F: Files>(files: &mut F, number: u64, sealed: bool, upto: Option<u64>) -> Result<Self> {
        let (len, scan) = if sealed {
            let missing = || Error::new(Code::SegmentMissing, format!("{}", SideFile::Sealed(number)));
            let len = files.side_len(SideFile::Sealed(number))?.ok_or_else(missing)?;
            (len, Scan::Sealed(SealedCrcScan::new(number, len)?))
        } else {
            let len = files.len(number)?.min(upto.unwrap_or(u64::MAX));
            (len, Scan::Hot(Box::new(CrcScan::new(number, len)?)))
        };
        Ok(Self {
            number,
            len,
            scan,
            frames: 0,
            key_ids: Vec::new(),
            damages: Vec::new(),
            end: None,
            link: None,
            indexed: false,
            ahead: Ahead::of(AHEAD_BYTES),
        })
    }

    /// Bytes of its file that are looked at.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn is_sealed(&self) -> bool {
        matches!(self.scan, Scan::Sealed(_))
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Reads about so many bytes more; true at the end.
    ///
    /// # Errors
    /// [`Code::FormatNewer`].
    pub(crate) fn step<F: Files>(&mut self, files: &mut F, bytes: usize) -> Result<bool> {
        let mut done = 0;
        while done < bytes {
            let want = match &self.scan {
                Scan::Hot(scan) => scan.poll_want(),
                Scan::Sealed(scan) => scan.poll_want(),
            };
            let (number, is_hot) = (self.number, !self.is_sealed());
            let read = want.map(|w| {
                let len = w.len.min(self.len.saturating_sub(w.offset) as usize);
                let full = |buf: &mut [u8]| match is_hot {
                    true => read_full(files, number, w.offset, buf, buf.len()),
                    false => read_side_full(files, SideFile::Sealed(number), w.offset, buf),
                };
                self.ahead.get(w.offset, len, |buf| or_less(buf, len, full)).map(|piece| (w.len, piece))
            });
            let piece = match read {
                Some(Ok((len, piece))) => {
                    done += len;
                    Some(piece)
                }
                Some(Err(e)) => {
                    log::warn!("{e}");
                    done += PAGE_BYTES;
                    None
                }
                None => Some(&[][..]),
            };
            let over = match &mut self.scan {
                Scan::Hot(scan) => {
                    let sight = match piece {
                        Some(piece) => scan.feed(piece),
                        None => scan.unreadable(),
                    };
                    self.see(sight)?
                }
                Scan::Sealed(scan) => {
                    let sight = match piece {
                        Some(piece) => scan.feed(piece),
                        None => scan.unreadable(),
                    };
                    self.see_sealed(sight)?
                }
            };
            if over {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn damage(&mut self, code: Code, from_page: u64, to_page: u64) {
        let (segment, sealed) = (self.number, self.is_sealed());
        self.damages.push(Damage { code, segment, from_page, to_page, sealed });
    }

    fn see(&mut self, sight: Sight) -> Result<bool> {
        match sight {
            Sight::NeedMore => {}
            Sight::Epoch { page, key_id, repaired } => {
                self.note_key(key_id);
                if repaired {
                    self.damage(Code::Rotten, page, page + 1);
                }
            }
            Sight::Frame { .. } => self.frames += 1,
            Sight::Damaged { from_page, to_page } => self.damage(Code::Corrupt, from_page, to_page),
            Sight::End(end) => {
                self.end = Some(end);
                return Ok(true);
            }
            Sight::Fault(code) => return Err(self.refusal(code)),
        }
        Ok(false)
    }

    fn see_sealed(&mut self, sight: SealedSight) -> Result<bool> {
        let pages = |from: u64, to: u64| (from / PAGE_BYTES as u64, to.div_ceil(PAGE_BYTES as u64));
        match sight {
            SealedSight::NeedMore => {}
            SealedSight::Header { key_id, link, repaired } => {
                self.note_key(key_id);
                self.link = Some(link);
                if repaired {
                    self.damage(Code::Rotten, 0, 1);
                }
            }
            SealedSight::Frame { frame_type } => {
                self.frames += 1;
                self.indexed |= frame_type == DenseType::Index;
            }
            SealedSight::Damaged { from, to } => {
                let (from, to) = pages(from, to);
                self.damage(if self.indexed { Code::Rotten } else { Code::Corrupt }, from, to);
            }
            SealedSight::End { sealed, trailer } => {
                let (from, to) = pages(self.len.saturating_sub(1), self.len);
                let lost = !sealed && !self.indexed && !self.damages.iter().any(Damage::is_loss);
                if lost {
                    self.damage(Code::Corrupt, from, to);
                } else if !trailer {
                    self.damage(Code::Rotten, from, to);
                }
                return Ok(true);
            }
            SealedSight::Fault(Code::SegmentHeader) => {
                let (from, to) = pages(0, self.len);
                self.damage(Code::SegmentHeader, from, to);
                return Ok(true);
            }
            SealedSight::Fault(code) => return Err(self.refusal(code)),
        }
        Ok(false)
    }

    fn refusal(&self, code: Code) -> Error {
        Error::new(code, format!("segment {}: nothing was changed", self.number))
    }

    fn note_key(&mut self, id: u32) {
        if !self.key_ids.contains(&id) {
            self.key_ids.push(id);
        }
    }
}

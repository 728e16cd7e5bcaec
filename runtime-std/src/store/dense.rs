//! Reading sealed files: their footers, one frame, or all of it.

use ropeway_core::code::Code;
use ropeway_core::codec::{Codec, CodecId};
use ropeway_core::id::StreamKey;
use ropeway_core::log::sealed::{
    DenseType, Kind, Piece, SEALED_HEADER_BYTES, SealedCipher, SealedHeader, SealedScan, SealedStep, Summary,
    TRAILER_BYTES, Trailer, dense_len_of, seal_digest, unpack, unpacked_len,
};
use ropeway_core::log::{DataKey, Record, records};

use super::ahead::{Ahead, or_less};
use super::files::read_side_full;
use super::footing::Footing;
use super::{Files, SideFile};
use crate::error::{Error, Result};
use crate::zstd_codec::Zstd;

type CodeResult<T> = std::result::Result<T, Code>;

/// Unpacks bodies; its memory is taken at the first compressed one.
#[derive(Debug, Default)]
pub(crate) struct Unpacker {
    zstd: Option<Zstd>,
}

impl Unpacker {
    pub(super) fn unpack(&mut self, packed: &[u8], out: &mut Vec<u8>) -> CodeResult<()> {
        out.clear();
        out.resize(unpacked_len(packed)?, 0);
        if self.zstd.is_none() && packed.first() == Some(&CodecId::ZSTD.0) {
            self.zstd = Zstd::new();
        }
        unpack(packed, self.zstd.as_mut().map(|z| z as &mut (dyn Codec + Send)), out)
    }
}

/// The footer of a sealed segment.
#[derive(Debug)]
pub(super) struct Footer {
    pub(super) segment: u64,
    pub(super) header: SealedHeader,
    pub(super) cipher: SealedCipher,
    pub(super) summary: Summary,
    pub(super) digest: [u8; 32],
    pub(super) pieces: Vec<Piece>,
    /// The pieces themselves, where the file's own could not be read.
    pub(super) bodies: Vec<Vec<u8>>,
}

/// Reads the footer of a sealed file, [`Code::Corrupt`] if that is not to be had.
pub(super) fn read_footer<F: Files>(
    files: &mut F,
    keys: &[(u32, DataKey)],
    unpacker: &mut Unpacker,
    number: u64,
) -> Result<Footer> {
    let file = SideFile::Sealed(number);
    let corrupt = || Error::new(Code::Corrupt, format!("the footer of {file}"));
    let len = files.side_len(file)?.ok_or_else(|| Error::new(Code::SegmentMissing, format!("{file}")))?;
    let at = len.checked_sub(TRAILER_BYTES as u64).ok_or_else(corrupt)?;
    let mut end = [0; TRAILER_BYTES];
    read_side_full(files, file, at, &mut end)?;
    let trailer = Trailer::parse(&end).map_err(|c| Error::new(c, format!("the end of {file}")))?;
    let header = trailer.header;
    let footer_len = at.checked_sub(trailer.footer_at).filter(|n| *n <= 2 << 20).ok_or_else(corrupt)?;
    if !matches!(header.start.kind, Kind::Segment | Kind::Stub) || header.start.number != number {
        return Err(corrupt());
    }
    let key = keys.iter().find(|k| k.0 == header.start.key_id).ok_or(Code::KeyMissing)?;
    let cipher = header.cipher(&key.1)?;
    let mut frame = vec![0; footer_len as usize];
    if read_side_full(files, file, trailer.footer_at, &mut frame)? < frame.len() {
        return Err(corrupt());
    }
    let digest = seal_digest(&header, &frame);
    let opened = cipher.open(trailer.footer_at, &mut frame).map_err(|f| Error::new(f.code(), format!("{file}")))?;
    if opened.frame_type != DenseType::Seal {
        return Err(corrupt());
    }
    let mut body = Vec::new();
    unpacker.unpack(&frame[opened.body], &mut body)?;
    let (summary, pieces) = Summary::parse(&body)?;
    let pieces = pieces.collect::<CodeResult<Vec<_>>>()?;
    Ok(Footer { segment: number, header, cipher, summary, digest, pieces, bodies: Vec::new() })
}

/// The header of a sealed file of `len` bytes, from its beginning or, where that cannot be read, from its
/// trailer. [`Code::FormatNewer`] is that of the beginning.
pub(super) fn header_of<F: Files>(files: &mut F, file: SideFile, len: u64) -> CodeResult<SealedHeader> {
    let (mut head, mut end) = ([0; SEALED_HEADER_BYTES], [0; TRAILER_BYTES]);
    let _ = read_side_full(files, file, 0, &mut head);
    match SealedHeader::parse(&head) {
        Ok((header, _)) => return Ok(header),
        Err(Code::FormatNewer) => return Err(Code::FormatNewer),
        Err(_) => {}
    }
    let _ = read_side_full(files, file, len.saturating_sub(TRAILER_BYTES as u64), &mut end);
    Trailer::parse(&end).map(|t| t.header).map_err(|_| Code::SegmentHeader)
}

/// Opens one frame of a sealed file into `out`, unpacked.
pub(super) fn read_frame<F: Files>(
    files: &mut F,
    cipher: &SealedCipher,
    unpacker: &mut Unpacker,
    (file, offset): (SideFile, u64),
    out: &mut Vec<u8>,
) -> Result<DenseType> {
    let about = |code| Error::new(code, format!("{file}, byte {offset}"));
    let mut head = [0; 16];
    read_side_full(files, file, offset, &mut head)?;
    let mut frame = vec![0; dense_len_of(&head).ok_or_else(|| about(Code::Corrupt))?];
    let got = read_side_full(files, file, offset, &mut frame)?;
    let opened = cipher.open(offset, &mut frame[..got]).map_err(|f| about(f.code()))?;
    unpacker.unpack(&frame[opened.body], out).map_err(about)?;
    Ok(opened.frame_type)
}

/// The ranges of events in the body of a group: stream, first and last seq, joined where they continue.
pub(super) fn ranges_of(body: &[u8]) -> CodeResult<Vec<(StreamKey, u64, u64)>> {
    let (mut keys, mut ranges) = (Vec::new(), Vec::<(StreamKey, u64, u64)>::new());
    for record in records(body) {
        match record? {
            Record::Stream(decl) => keys.push(decl.key),
            Record::Events(run) => {
                let key = *keys.get(run.index as usize).ok_or(Code::Corrupt)?;
                match ranges.last_mut().filter(|r| r.0 == key && r.2.checked_add(1) == Some(run.base_seq)) {
                    Some(last) => last.2 = run.last_seq(),
                    None => ranges.push((key, run.base_seq, run.last_seq())),
                }
            }
            Record::Receipt(_) | Record::Expired(_) | Record::Lack(_) | Record::Repair(_) => {}
        }
    }
    Ok(ranges)
}

/// What [`scan_sealed`] finds, in the order of the file.
#[derive(Debug)]
pub(crate) enum Part<'b> {
    /// The header, and whether it was rotten.
    Header(SealedHeader, bool),
    /// A group: where it stands and its records.
    Group { offset: u64, len: u64, body: &'b [u8], rotten: bool },
    /// An index frame.
    Index { offset: u64, len: u64, rotten: bool },
    /// The footer.
    Seal { offset: u64, len: u64, summary: Summary, rotten: bool },
    /// A part of a checkpoint.
    State(&'b [u8]),
    /// Bytes that cannot be read.
    Damaged { from: u64, to: u64, code: Code },
    /// Rot in what only leads to the events: it has cost none.
    Footing { from: u64, to: u64 },
}

/// Reads a whole sealed segment; whether all its groups were there or told of as damaged. Refusals and a header that cannot be read are errors.
pub(crate) fn scan_sealed<F: Files>(
    files: &mut F,
    keys: &[(u32, DataKey)],
    unpacker: &mut Unpacker,
    segment: u64,
    mut each: impl FnMut(Part<'_>) -> CodeResult<()>,
) -> Result<bool> {
    let file = SideFile::Sealed(segment);
    let len = files.side_len(file)?.ok_or_else(|| Error::new(Code::SegmentMissing, format!("{file}")))?;
    let scan = SealedScan::new(keys, Kind::Segment, segment, len)?;
    let mut footing = Footing::default();
    let sealed = scan_file(files, unpacker, scan, file, |part| footing.pass(part, &mut each))?;
    let whole = footing.end(sealed, &mut each)?;
    let trailer_at = len.saturating_sub(TRAILER_BYTES as u64);
    let mut end = [0; TRAILER_BYTES];
    let leads = read_side_full(files, file, trailer_at, &mut end).is_ok()
        && Trailer::parse(&end).is_ok_and(|t| Some(t.footer_at) == footing.seal_at);
    if whole && !leads {
        each(Part::Footing { from: trailer_at, to: len })?;
    }
    Ok(whole)
}

/// As [`scan_sealed`], of any sealed file.
pub(super) fn scan_file<F: Files>(
    files: &mut F,
    unpacker: &mut Unpacker,
    mut scan: SealedScan<'_>,
    file: SideFile,
    mut each: impl FnMut(Part<'_>) -> CodeResult<()>,
) -> Result<bool> {
    let mut input = SideInput::default();
    let mut body = Vec::new();
    loop {
        let step = match scan.poll_want() {
            None => scan.feed(&mut []),
            Some(want) => match input.read(files, file, want.offset, want.len) {
                Ok(bytes) => scan.feed(bytes),
                Err(e) => {
                    log::warn!("{e}");
                    scan.unreadable()
                }
            },
        };
        match step {
            SealedStep::NeedMore => {}
            SealedStep::Header { header, repaired } => each(Part::Header(header, repaired))?,
            SealedStep::Frame { frame_type, offset, len, packed, crc_rotten: rotten } => {
                let unpacked = unpacker.unpack(packed, &mut body);
                if let Err(code @ Code::FormatNewer) = unpacked {
                    return Err(code.into());
                }
                let part = match (unpacked, frame_type) {
                    (Ok(()), DenseType::Group) => Part::Group { offset, len, body: &body, rotten },
                    (Ok(()), DenseType::Index) => Part::Index { offset, len, rotten },
                    (Ok(()), DenseType::Seal) => match Summary::parse(&body) {
                        Ok((summary, _)) => Part::Seal { offset, len, summary, rotten },
                        Err(code) => Part::Damaged { from: offset, to: offset + len, code },
                    },
                    (Ok(()), DenseType::State) => Part::State(&body),
                    (Err(code), _) => Part::Damaged { from: offset, to: offset + len, code },
                };
                each(part)?;
            }
            SealedStep::Damaged { from, to, code } => each(Part::Damaged { from, to, code })?,
            SealedStep::End { sealed } => return Ok(sealed),
            SealedStep::Fault(code) => return Err(Error::new(code, format!("{file}: nothing was changed"))),
        }
    }
}

/// Reads ahead, and hands out copies: the scanner decrypts in place.
#[derive(Default)]
struct SideInput {
    ahead: Ahead,
    piece: Vec<u8>,
}

impl SideInput {
    fn read<F: Files>(&mut self, files: &mut F, file: SideFile, offset: u64, len: usize) -> Result<&mut [u8]> {
        let bytes =
            self.ahead.get(offset, len, |buf| or_less(buf, len, |buf| read_side_full(files, file, offset, buf)))?;
        self.piece.clear();
        self.piece.extend_from_slice(bytes);
        Ok(&mut self.piece)
    }
}

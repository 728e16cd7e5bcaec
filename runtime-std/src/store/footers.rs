//! Finding events in sealed segments: footers and index frames are read when they are needed, and a
//! few are kept.

use std::collections::VecDeque;

use ropeway_core::code::Code;
use ropeway_core::id::StreamKey;
use ropeway_core::log::sealed::{DenseType, IndexBuilder, IndexRecord, Piece, Range, Summary, find, index_records};
use ropeway_core::log::{DataKey, MAX_BODY_BYTES, Record, records};

use super::dense::{Footer, Part, Unpacker, ranges_of, read_footer, read_frame, scan_sealed};
use super::{Files, SideFile};
use crate::error::{Error, Result};

/// Footers that are kept: some hundred bytes each.
const FOOTERS_MAX: usize = 32;
/// Pieces of indices that are kept.
const PIECES_MAX: usize = 16;
/// Size at which a piece of an index is closed.
pub(super) const PIECE_BYTES: usize = 32 << 10;

/// Collects the pieces of an index, each small enough for a frame.
#[derive(Debug, Default)]
pub(super) struct IndexPieces {
    pub(super) done: Vec<(StreamKey, Vec<u8>)>,
    open: Option<(StreamKey, IndexBuilder, Vec<u8>)>,
    stream: Option<StreamKey>,
    pub(super) streams: u32,
}

impl IndexPieces {
    pub(super) fn add(&mut self, key: &StreamKey, range: &Range) {
        let same = self.stream == Some(*key);
        self.streams += u32::from(!same);
        self.stream = Some(*key);
        if let Some((_, builder, buf)) = &mut self.open {
            let mut trial = builder.clone();
            let fits = (same || trial.stream(buf, key).is_ok()) && trial.range(buf, range).is_ok();
            if fits {
                *builder = trial;
                return;
            }
        }
        self.close();
        let (mut builder, mut buf) = (IndexBuilder::new(), vec![0; PIECE_BYTES]);
        // Both fit into an empty piece.
        let _ = builder.stream(&mut buf, key);
        let _ = builder.range(&mut buf, range);
        self.open = Some((*key, builder, buf));
    }

    pub(super) fn close(&mut self) {
        if let Some((first, builder, mut buf)) = self.open.take() {
            buf.truncate(builder.len());
            self.done.push((first, buf));
        }
    }
}

/// Whether the frame may reach into these bytes: frames are not much larger than one event.
fn frame_reaches(range: &Range, bytes: &std::ops::Range<u64>) -> bool {
    range.offset < bytes.start && range.offset + (MAX_BODY_BYTES as u64) > bytes.start
}

/// Adds the events of a group to what a footer says of them.
fn sum_up(body: &[u8], summary: &mut Summary) -> std::result::Result<(), Code> {
    for record in records(body) {
        if let Record::Events(run) = record? {
            let min = if summary.events == 0 { run.base_hlc } else { summary.hlc_min };
            summary.hlc_min = min.min(run.base_hlc);
            summary.hlc_max = summary.hlc_max.max(run.last_hlc);
            summary.events += u64::from(run.count);
        }
    }
    Ok(())
}

/// Looks events up in sealed segments, with a bounded memory of what was read.
#[derive(Debug, Default)]
pub(super) struct Footers {
    pub(super) unpacker: Unpacker,
    footers: VecDeque<Footer>,
    pieces: VecDeque<((u64, u64), Vec<u8>)>,
    /// Where the last event was found, as a place in the list of segments.
    hint: usize,
}

impl Footers {
    /// Forgets what is known of a segment.
    pub(super) fn forget(&mut self, segment: u64) {
        self.footers.retain(|f| f.segment != segment);
        self.pieces.retain(|p| p.0.0 != segment);
    }

    pub(super) fn footer<F: Files>(
        &mut self,
        files: &mut F,
        keys: &[(u32, DataKey)],
        segment: u64,
    ) -> Result<&mut Footer> {
        let at = match self.footers.iter().position(|f| f.segment == segment) {
            Some(at) => at,
            None => {
                let footer = match read_footer(files, keys, &mut self.unpacker, segment) {
                    // What the footer said is in the frames too, only slower.
                    Err(e) if matches!(e.code, Code::Corrupt | Code::Tampered | Code::Io) => {
                        self.rebuild(files, keys, segment)?
                    }
                    other => other?,
                };
                if self.footers.len() >= FOOTERS_MAX {
                    self.footers.pop_back();
                }
                self.footers.push_front(footer);
                0
            }
        };
        self.footers.swap(0, at);
        self.footers.front_mut().ok_or_else(|| Code::Corrupt.into())
    }

    /// The footer and the index of a segment from its frames: kept in memory, since the file's own
    /// cannot be read.
    fn rebuild<F: Files>(&mut self, files: &mut F, keys: &[(u32, DataKey)], segment: u64) -> Result<Footer> {
        let mut index = IndexPieces::default();
        let (mut header, mut summary) = (None, Summary::default());
        scan_sealed(files, keys, &mut self.unpacker, segment, |part| {
            match part {
                Part::Header(h, _) => header = Some(h),
                Part::Group { offset, body, .. } => {
                    summary.frames += 1;
                    sum_up(body, &mut summary)?;
                    for (key, first_seq, last_seq) in ranges_of(body)? {
                        index.add(&key, &Range { offset, first_seq, last_seq });
                    }
                }
                _ => {}
            }
            Ok(())
        })?;
        index.close();
        let header = header.ok_or(Code::SegmentHeader)?;
        let key = keys.iter().find(|k| k.0 == header.start.key_id).ok_or(Code::KeyMissing)?;
        let cipher = header.cipher(&key.1)?;
        let pieces = index.done.iter().map(|(first, _)| Piece { offset: 0, first: *first }).collect();
        let bodies = index.done.into_iter().map(|(_, body)| body).collect();
        Ok(Footer { segment, header, cipher, summary, digest: [0; 32], pieces, bodies })
    }

    /// The first events of the stream at or after `seq` in a segment.
    fn range<F: Files>(
        &mut self,
        files: &mut F,
        keys: &[(u32, DataKey)],
        segment: u64,
        key: &StreamKey,
        seq: u64,
    ) -> Result<Option<Range>> {
        let footer = self.footer(files, keys, segment)?;
        let candidates = |pieces: &[Piece]| {
            let end = pieces.partition_point(|p| p.first <= *key);
            pieces[..end].partition_point(|p| p.first < *key).saturating_sub(1)..end
        };
        for at in candidates(&footer.pieces) {
            let Some(footer) = self.footers.front() else { break };
            let offset = footer.pieces[at].offset;
            if footer.bodies.is_empty() && !self.load_piece(files, segment, offset)? {
                log::warn!("{}: the index of segment {segment} is read from its frames", Code::Corrupt);
                let footer = self.rebuild(files, keys, segment)?;
                self.footers[0] = footer;
                return self.range(files, keys, segment, key, seq);
            }
            let kept = self.pieces.front().map_or(&[][..], |p| &p.1);
            let body = self.footers.front().and_then(|f| f.bodies.get(at)).map_or(kept, Vec::as_slice);
            if let Some(found) = find(body, key, seq)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Brings a piece of the newest footer to the front of those that are kept; false if it is damaged.
    fn load_piece<F: Files>(&mut self, files: &mut F, segment: u64, offset: u64) -> Result<bool> {
        if let Some(at) = self.pieces.iter().position(|p| p.0 == (segment, offset)) {
            self.pieces.swap(0, at);
            return Ok(true);
        }
        let footer = self.footers.front().ok_or(Code::Corrupt)?;
        let mut body = Vec::new();
        match read_frame(files, &footer.cipher, &mut self.unpacker, (SideFile::Sealed(segment), offset), &mut body) {
            Ok(DenseType::Index) => {}
            Ok(_) | Err(Error { code: Code::Corrupt | Code::Tampered | Code::Io, .. }) => return Ok(false),
            Err(e) => return Err(e),
        }
        if self.pieces.len() >= PIECES_MAX {
            self.pieces.pop_back();
        }
        self.pieces.push_front(((segment, offset), body));
        Ok(true)
    }

    /// The events whose frames begin within these bytes of a segment and do not open any more; `None` if the
    /// index is damaged too.
    pub(super) fn unread_in<F: Files>(
        &mut self,
        files: &mut F,
        keys: &[(u32, DataKey)],
        segment: u64,
        bytes: std::ops::Range<u64>,
    ) -> Option<Vec<(StreamKey, u64, u64)>> {
        let footer = read_footer(files, keys, &mut self.unpacker, segment).ok()?;
        let (mut body, mut all, mut opens) = (Vec::new(), Vec::new(), (u64::MAX, false));
        for piece in &footer.pieces {
            let at = (SideFile::Sealed(segment), piece.offset);
            read_frame(files, &footer.cipher, &mut self.unpacker, at, &mut body).ok()?;
            let (index, mut frame) = (std::mem::take(&mut body), Vec::new());
            let mut stream = None;
            for record in index_records(&index) {
                match record.ok()? {
                    IndexRecord::Stream(key) => stream = Some(key),
                    IndexRecord::Range(r) if bytes.contains(&r.offset) || frame_reaches(&r, &bytes) => {
                        if opens.0 != r.offset {
                            let at = (SideFile::Sealed(segment), r.offset);
                            let read = read_frame(files, &footer.cipher, &mut self.unpacker, at, &mut frame);
                            opens = (r.offset, read.is_ok());
                        }
                        if !opens.1 {
                            all.push((stream?, r.first_seq, r.last_seq));
                        }
                    }
                    IndexRecord::Range(_) => {}
                }
            }
        }
        Some(all)
    }

    /// Which of these segments holds the event, and where. Streams grow with the segments' numbers, so
    /// halving finds them; what was repaired later stands elsewhere, and is looked for everywhere.
    pub(super) fn locate<F: Files>(
        &mut self,
        files: &mut F,
        keys: &[(u32, DataKey)],
        segments: &[u64],
        key: &StreamKey,
        seq: u64,
    ) -> Result<Option<(u64, Range)>> {
        let holds = |r: &Range| r.first_seq <= seq;
        for at in [self.hint, self.hint + 1] {
            if let Some(&segment) = segments.get(at)
                && let Some(range) = self.range_or_none(files, keys, segment, key, seq)?.filter(holds)
            {
                self.hint = at;
                return Ok(Some((segment, range)));
            }
        }
        let (mut low, mut high) = (0, segments.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let mut turn = None;
            for (at, &segment) in segments.iter().enumerate().take(high).skip(middle) {
                match self.range_or_none(files, keys, segment, key, seq)? {
                    Some(range) if holds(&range) => {
                        self.hint = at;
                        return Ok(Some((segment, range)));
                    }
                    Some(_) => turn = Some((low, middle)),
                    None if self.range_or_none(files, keys, segment, key, 0)?.is_some() => turn = Some((at + 1, high)),
                    None => continue,
                }
                break;
            }
            (low, high) = turn.unwrap_or((low, middle));
        }
        for (at, &segment) in segments.iter().enumerate().rev() {
            if let Some(range) = self.range_or_none(files, keys, segment, key, seq)?.filter(holds) {
                self.hint = at;
                return Ok(Some((segment, range)));
            }
        }
        Ok(None)
    }

    /// The next event of the stream at or after `seq` in any of the segments.
    pub(super) fn next_from<F: Files>(
        &mut self,
        files: &mut F,
        keys: &[(u32, DataKey)],
        segments: &[u64],
        key: &StreamKey,
        seq: u64,
    ) -> Option<u64> {
        let mut next = |s: &u64| self.range_or_none(files, keys, *s, key, seq).ok().flatten();
        segments.iter().filter_map(|s| next(s).map(|r| r.first_seq.max(seq))).min()
    }

    /// What cannot be read holds nothing.
    pub(super) fn range_or_none<F: Files>(
        &mut self,
        files: &mut F,
        keys: &[(u32, DataKey)],
        segment: u64,
        key: &StreamKey,
        seq: u64,
    ) -> Result<Option<Range>> {
        match self.range(files, keys, segment, key, seq) {
            Err(e) if matches!(e.code, Code::WrongKey | Code::FormatNewer) => Err(e),
            Err(e) => {
                log::warn!("{e}");
                Ok(None)
            }
            ok => ok,
        }
    }
}

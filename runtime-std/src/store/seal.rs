//! Sealing: a hot segment that is full is written once more, densely, and then removed. In small steps,
//! while the log goes on (docs/LOG.md#sealed-10).

mod survey;

use std::collections::VecDeque;

use ropeway_core::code::Code;
use ropeway_core::codec::Codec;
use ropeway_core::event::{Chain, Event};
use ropeway_core::log::sealed::{
    DenseType, Kind, PACK_HEAD_BYTES, Piece, Range, SEALED_FRAME_BYTES, SealedHeader, SealedStart, SealedWriter,
    Summary, dense_len, pack,
};
use ropeway_core::log::{
    DataKey, Expired, FRAME_HEAD_BYTES, GroupBuilder, Lack, MAX_BODY_BYTES, REPAIR_MAX_BYTES, Receipt, Record,
    StreamDecl, event_bytes_max, records,
};
use ropeway_core::varint::Writer;

use super::footers::IndexPieces;
use super::reader::{Hot, Reader};
use super::recover::first_link;
use super::{Files, SideFile};
use crate::error::{Error, Result};
use crate::repair::Ledger;
use crate::zstd_codec::Zstd;
use survey::Survey;

/// Decrypted groups that are kept while events are sorted, in bytes.
const CACHE_BYTES: usize = 1 << 20;
/// Bytes that a step surveys before it ends.
const STEP_BYTES: u64 = 256 << 10;
/// Longest declaration of a stream and receipt.
const DECL_MAX_BYTES: usize = 160;

/// How sealing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealing {
    /// There is nothing to seal.
    Idle,
    /// Something was done, and there is more.
    Working,
    /// This segment is sealed and its hot file removed.
    Sealed(u64),
    /// This segment stays as it is.
    Kept(u64),
}

/// The sealing of one segment. It writes only [`SideFile::Unfinished`] until the very end, so it can be
/// given up at any time.
#[derive(Debug)]
pub(super) struct Sealer {
    segment: u64,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Survey(Box<Survey>),
    Write(Box<Write>),
    /// The file is complete, but has no name yet.
    Written([u8; 32]),
}

/// Why a segment cannot be sealed: it stays hot, which loses nothing.
fn unfit(segment: u64, why: &str) -> Error {
    Error::new(Code::Corrupt, format!("segment {segment} is not sealed: {why}"))
}

impl Sealer {
    pub(super) fn new(segment: u64) -> Self {
        Self { segment, phase: Phase::Survey(Box::new(Survey::new(segment))) }
    }

    pub(super) fn segment(&self) -> u64 {
        self.segment
    }

    /// Does a bounded part of the work; the digest of the seal once the file is complete and synced.
    ///
    /// # Errors
    /// Whatever keeps the segment from being sealed; then the sealer is to be dropped.
    pub(super) fn step<F: Files>(
        &mut self,
        files: &mut F,
        reader: &mut Reader<F>,
        told: &Ledger,
        random: &mut dyn FnMut() -> Result<[u8; 32]>,
    ) -> Result<Option<[u8; 32]>> {
        match &mut self.phase {
            Phase::Survey(survey) => {
                if survey.step(reader, told, STEP_BYTES)? {
                    let mut survey = std::mem::replace(survey, Box::new(Survey::new(0)));
                    survey.bridge_losses(files);
                    if first_link(files, self.segment + 1) != Some(survey.link()) {
                        return Err(unfit(self.segment, "the next one does not link to its end"));
                    }
                    self.phase = Phase::Write(Box::new(Write::begin(*survey, files, reader, random()?)?));
                }
                Ok(None)
            }
            Phase::Write(write) => {
                if let Some(digest) = write.step(files, reader)? {
                    self.phase = Phase::Written(digest);
                    return Ok(Some(digest));
                }
                Ok(None)
            }
            Phase::Written(digest) => Ok(Some(*digest)),
        }
    }
}

/// Removes what a crash has left of unfinished sealing: a file without a name, and a sealed segment
/// whose hot file is still there (docs/LOG.md#sealed-11). What cannot be removed is in nobody's way.
/// `stub`: the one that the log begins with, which is no sealed segment.
pub(super) fn tidy<F: Files>(files: &mut F, stub: Option<u64>) {
    let tidied = (|| -> Result<()> {
        let hot = files.list()?;
        let mut both = files.list_sealed()?;
        both.retain(|n| hot.contains(n) && stub.is_none_or(|stub| *n > stub));
        let mut changed = !both.is_empty();
        for number in both {
            files.remove_side(SideFile::Sealed(number))?;
        }
        if files.side_len(SideFile::Unfinished)?.is_some() {
            files.remove_side(SideFile::Unfinished)?;
            changed = true;
        }
        if changed { files.sync_list() } else { Ok(()) }
    })();
    if let Err(e) = tidied {
        log::warn!("{e}");
    }
}

/// Where the writing stands in the sorted list of runs.
#[derive(Debug)]
struct Write {
    survey: Survey,
    writer: SealedWriter,
    zstd: Option<Zstd>,
    index: IndexPieces,
    pieces: Vec<Piece>,
    /// Place in the sorted streams, and in the runs of the one there.
    stream: usize,
    run: usize,
    /// What was written last of the stream.
    last: Option<(u64, Chain)>,
    declared_parent: bool,
    frame: Frame,
    next_receipt: usize,
    next_expired: usize,
    next_lack: usize,
    next_note: usize,
    cache: Cache,
    summary: Summary,
    buf: Vec<u8>,
    synced_at: u64,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Events,
    Receipts,
    /// The last declaration of this node's own stream, so that it comes last here too.
    Own,
    Index(usize),
    Footer,
}

/// The records of the frame that fills.
#[derive(Debug, Default)]
struct Frame {
    builder: GroupBuilder,
    raw: Vec<u8>,
    declared: u32,
    /// The stream, by its place in the survey, that was declared last.
    current: Option<u32>,
    ranges: Vec<(u32, u64, u64)>,
}

impl Frame {
    /// Makes room for `need` bytes; false if the frame must be written before. `first`: it holds only
    /// declarations so far, so that writing it makes no more room.
    fn reserve(&mut self, need: usize, first: bool) -> bool {
        let len = self.builder.len();
        if len > 0 && !first && len + need > SEALED_FRAME_BYTES {
            return false;
        }
        let want = (len + need).max(SEALED_FRAME_BYTES);
        if self.raw.len() < want {
            self.raw.resize(want, 0);
        }
        true
    }

    fn declare(&mut self, decl: StreamDecl) -> Result<u32> {
        let index = self.declared;
        let decl = StreamDecl { index, ..decl };
        self.builder.stream(&mut self.raw, &decl).map_err(|_| Code::TooLarge)?;
        self.declared += 1;
        Ok(index)
    }

    fn event(&mut self, stream: u32, seq: u64, chain: &Chain, event: &Event<'_>) -> Result<()> {
        let index = self.declared - 1;
        self.builder.push_event(&mut self.raw, index, seq, chain, event).map_err(|_| Code::TooLarge)?;
        match self.ranges.last_mut().filter(|r| r.0 == stream && r.2.checked_add(1) == Some(seq)) {
            Some(range) => range.2 = seq,
            None => self.ranges.push((stream, seq, seq)),
        }
        Ok(())
    }
}

impl Write {
    fn begin<F: Files>(survey: Survey, files: &mut F, reader: &mut Reader<F>, random: [u8; 32]) -> Result<Self> {
        let (own_files, keys, footers) = reader.parts();
        let segment = survey.segment;
        let before = segment.checked_sub(1).filter(|n| *n > 0);
        let sealed_before = match before {
            Some(n) => own_files.side_len(SideFile::Sealed(n))?.map(|_| n),
            None => None,
        };
        let prev_seal = match sealed_before {
            Some(n) => footers.footer(own_files, keys, n).map_or([0; 32], |f| f.digest),
            None => [0; 32],
        };
        let key = key_of(keys, survey.key_id)?;
        // What is to be written goes into the salt: should the random numbers repeat, then other
        // content still gets another key.
        let mut mix = blake3::Hasher::new_keyed(&random);
        mix.update(&segment.to_le_bytes());
        mix.update(&survey.content());
        let start = SealedStart {
            kind: Kind::Segment,
            number: segment,
            salt: *mix.finalize().as_bytes(),
            key_id: survey.key_id,
            base_hlc: survey.base_hlc,
            prev: survey.prev,
            link: survey.link(),
            prev_seal,
        };
        let header = SealedHeader::new(key, start);
        let writer = SealedWriter::new(header, key)?;
        files.write_unfinished(0, &header.emit())?;
        let summary = Summary { groups: survey.groups, hot_bytes: survey.hot_bytes, ..Summary::default() };
        Ok(Self {
            survey,
            writer,
            zstd: Zstd::new(),
            index: IndexPieces::default(),
            pieces: Vec::new(),
            stream: 0,
            run: 0,
            last: None,
            declared_parent: false,
            frame: Frame::default(),
            next_receipt: 0,
            next_expired: 0,
            next_lack: 0,
            next_note: 0,
            cache: Cache::default(),
            summary,
            buf: Vec::new(),
            synced_at: 0,
            stage: Stage::Events,
        })
    }

    /// Writes about one frame; the digest when all is written and synced.
    fn step<F: Files>(&mut self, files: &mut F, reader: &mut Reader<F>) -> Result<Option<[u8; 32]>> {
        match self.stage {
            Stage::Events => {
                if self.fill(reader)? {
                    self.stage = Stage::Receipts;
                }
                self.flush(files)?;
            }
            Stage::Receipts => {
                if self.fill_receipts()? && self.fill_notes()? {
                    self.stage = Stage::Own;
                }
                self.flush(files)?;
            }
            Stage::Own => {
                if let Some(own) = self.survey.last_own {
                    let _ = self.frame.reserve(DECL_MAX_BYTES, false);
                    let decl = self.survey.decl(own, None);
                    self.frame.declare(decl)?;
                    self.flush(files)?;
                }
                self.index.close();
                self.stage = Stage::Index(0);
            }
            Stage::Index(n) => match self.index.done.get_mut(n) {
                Some((first, body)) => {
                    let (first, body) = (*first, std::mem::take(body));
                    self.pieces.push(Piece { offset: self.writer.offset(), first });
                    self.put(files, DenseType::Index, &body)?;
                    self.stage = Stage::Index(n + 1);
                }
                None => self.stage = Stage::Footer,
            },
            Stage::Footer => return self.finish(files).map(Some),
        }
        // So that the last sync does not keep the log's own waiting for long.
        if self.writer.offset() - self.synced_at > 1 << 20 {
            self.synced_at = self.writer.offset();
            files.sync_unfinished()?;
        }
        Ok(None)
    }

    /// Fills a frame with events; true if there are no more.
    fn fill<F: Files>(&mut self, reader: &mut Reader<F>) -> Result<bool> {
        let segment = self.survey.segment;
        while let Some(&stream) = self.survey.order.get(self.stream) {
            if self.frame.current != Some(stream) {
                if !self.frame.reserve(DECL_MAX_BYTES, false) {
                    return Ok(false);
                }
                let parent = if self.declared_parent { None } else { self.survey.streams[stream as usize].parent };
                self.frame.declare(self.survey.decl(stream, parent))?;
                self.frame.current = Some(stream);
                self.declared_parent = true;
            }
            let runs = self.survey.runs_of(stream);
            let Some(run) = runs.get(self.run).copied() else {
                (self.stream, self.run, self.last, self.declared_parent) = (self.stream + 1, 0, None, false);
                continue;
            };
            let key = self.survey.streams[stream as usize].key;
            let body = self.cache.get(reader, segment, run.page, run.epoch)?;
            let (mut wanted, mut chain) = (None, None);
            for record in records(body) {
                let found = match record? {
                    Record::Stream(decl) => {
                        if decl.key == key {
                            wanted = Some(decl.index);
                        }
                        continue;
                    }
                    Record::Events(r) if Some(r.index) == wanted => r,
                    _ => continue,
                };
                if found.last_seq() < run.first_seq || found.base_seq > run.last_seq {
                    continue;
                }
                let mut before = found.prev_chain;
                for (event, seq) in found.events().zip(found.base_seq..) {
                    let after = before.then(&event);
                    // What stands there twice, after a repair, is written once; a place only where it is wanted.
                    let wanted = !found.withheld || (run.first_seq..=run.last_seq).contains(&seq);
                    let new = wanted && self.last.is_none_or(|l| seq > l.0);
                    if new {
                        if self.last.is_some_and(|l| l.0 + 1 == seq && l.1 != before) {
                            return Err(unfit(segment, "a stream does not continue its chain"));
                        }
                        let first = self.frame.ranges.is_empty();
                        if !self.frame.reserve(event_bytes_max(event.payload.len()), first) {
                            return Ok(false);
                        }
                        self.frame.event(stream, seq, &before, &event)?;
                        self.last = Some((seq, after));
                        self.summary.events += 1;
                        let first = self.summary.events == 1;
                        let min = self.summary.hlc_min;
                        self.summary.hlc_min = if first { event.hlc } else { min.min(event.hlc) };
                        self.summary.hlc_max = self.summary.hlc_max.max(event.hlc);
                    }
                    before = after;
                }
                chain = Some(before);
            }
            if chain.is_none() {
                return Err(unfit(segment, "a group has changed since it was read"));
            }
            self.run += 1;
        }
        Ok(true)
    }

    /// Fills a frame with what was gone at its source, and then receipts; true if there are no more.
    fn fill_receipts(&mut self) -> Result<bool> {
        let mut declared: Vec<(u32, u32)> = Vec::new();
        while let Some(e) = self.survey.expired.get(self.next_expired).copied() {
            if !self.frame.reserve(2 * DECL_MAX_BYTES, false) {
                return Ok(false);
            }
            let index = self.declare_for(&mut declared, e.stream)?;
            let expired = Expired { index, seq: e.seq, chain: e.chain };
            self.frame.builder.expired(&mut self.frame.raw, &expired).map_err(|_| Code::TooLarge)?;
            self.next_expired += 1;
        }
        while let Some(lack) = self.survey.lacks.get(self.next_lack).copied() {
            if !self.frame.reserve(2 * DECL_MAX_BYTES, false) {
                return Ok(false);
            }
            let index = self.declare_for(&mut declared, lack.stream)?;
            let lack = Lack { index, range: lack.range };
            self.frame.builder.lack(&mut self.frame.raw, &lack).map_err(|_| Code::TooLarge)?;
            self.next_lack += 1;
        }
        while let Some(r) = self.survey.receipts.get(self.next_receipt).copied() {
            if !self.frame.reserve(2 * DECL_MAX_BYTES, false) {
                return Ok(false);
            }
            let index = self.declare_for(&mut declared, r.stream)?;
            let receipt = Receipt { peer: r.peer, index, seq: r.seq, tag: r.tag };
            self.frame.builder.receipt(&mut self.frame.raw, &receipt).map_err(|_| Code::TooLarge)?;
            self.next_receipt += 1;
        }
        Ok(true)
    }

    /// The index of a stream in the frame that fills; `declared` remembers those that have one.
    fn declare_for(&mut self, declared: &mut Vec<(u32, u32)>, stream: u32) -> Result<u32> {
        if let Some(d) = declared.iter().find(|d| d.0 == stream) {
            return Ok(d.1);
        }
        let decl = StreamDecl { own_machine: None, ..self.survey.decl(stream, None) };
        let index = self.frame.declare(decl)?;
        declared.push((stream, index));
        Ok(index)
    }

    /// Fills a frame with what the segment tells of damages; true if there is no more.
    fn fill_notes(&mut self) -> Result<bool> {
        while let Some(note) = self.survey.notes.notes().get(self.next_note) {
            if !self.frame.reserve(REPAIR_MAX_BYTES, false) {
                return Ok(false);
            }
            let mut scratch = [0; REPAIR_MAX_BYTES];
            let record = note.record(&mut scratch);
            self.frame.builder.repair(&mut self.frame.raw, &record).map_err(|_| Code::TooLarge)?;
            self.next_note += 1;
        }
        Ok(true)
    }

    /// Writes the frame that fills, if there is anything in it.
    fn flush<F: Files>(&mut self, files: &mut F) -> Result<()> {
        let frame = std::mem::take(&mut self.frame);
        if frame.builder.is_empty() {
            return Ok(());
        }
        let offset = self.writer.offset();
        self.put(files, DenseType::Group, &frame.raw[..frame.builder.len()])?;
        for (stream, first_seq, last_seq) in frame.ranges {
            let key = self.survey.streams[stream as usize].key;
            self.index.add(&key, &Range { offset, first_seq, last_seq });
        }
        self.summary.frames += 1;
        // A large event's room is not kept for the small ones that follow.
        let mut raw = frame.raw;
        raw.truncate(SEALED_FRAME_BYTES);
        raw.shrink_to(SEALED_FRAME_BYTES);
        self.frame.raw = raw;
        Ok(())
    }

    fn put<F: Files>(&mut self, files: &mut F, frame_type: DenseType, raw: &[u8]) -> Result<()> {
        let room = dense_len(PACK_HEAD_BYTES + raw.len().min(MAX_BODY_BYTES));
        self.buf.resize(room, 0);
        let body = &mut self.buf[FRAME_HEAD_BYTES..];
        let packed = pack(raw, self.zstd.as_mut().map(|z| z as &mut (dyn Codec + Send)), body)?;
        let at = self.writer.offset();
        let len = self.writer.frame(frame_type, &mut self.buf, packed)?;
        files.write_unfinished(at, &self.buf[..len])
    }

    fn finish<F: Files>(&mut self, files: &mut F) -> Result<[u8; 32]> {
        self.summary.content = self.writer.content();
        self.summary.streams = self.index.streams;
        let mut body = vec![0; 256 + 80 * self.pieces.len()];
        let mut w = Writer::new(&mut body);
        self.summary.emit(&mut w, self.pieces.iter().copied()).map_err(|_| Code::TooLarge)?;
        let len = w.len();
        self.put(files, DenseType::Seal, &body[..len])?;
        let (trailer, digest) = self.writer.finish()?;
        files.write_unfinished(self.writer.offset(), &trailer)?;
        files.sync_unfinished()?;
        Ok(digest)
    }
}

fn key_of(keys: &[(u32, DataKey)], id: u32) -> Result<&DataKey> {
    keys.iter().find(|k| k.0 == id).map(|k| &k.1).ok_or_else(|| Error::new(Code::KeyMissing, "data key"))
}

/// Bodies of hot groups, decrypted, the newest first.
#[derive(Debug, Default)]
struct Cache {
    bodies: VecDeque<(u64, Vec<u8>)>,
    bytes: usize,
}

impl Cache {
    fn get<F: Files>(&mut self, reader: &mut Reader<F>, segment: u64, page: u64, epoch: u64) -> Result<&[u8]> {
        if let Some(at) = self.bodies.iter().position(|b| b.0 == page) {
            self.bodies.swap(0, at);
        } else {
            let mut epoch = epoch;
            let Hot::Group { body, .. } = reader.hot(segment, page, &mut epoch)? else {
                return Err(unfit(segment, "a group cannot be read any more"));
            };
            self.bytes += body.len();
            self.bodies.push_front((page, body.to_vec()));
            while self.bytes > CACHE_BYTES && self.bodies.len() > 1 {
                self.bytes -= self.bodies.pop_back().map_or(0, |b| b.1.len());
            }
        }
        Ok(self.bodies.front().map_or(&[], |b| &b.1))
    }
}

//! The checkpoint: the state at the end of a sealed segment and the list of those before it, in two
//! slots (docs/LOG.md#checkpoint-1). It makes opening fast and is worth nothing else: without it the log
//! is read, and says the same.

use ropeway_core::code::Code;
use ropeway_core::codec::Codec;
use ropeway_core::hlc::Hlc;
use ropeway_core::id::NodeName;
use ropeway_core::log::sealed::{
    DenseType, Kind, LogState, PACK_HEAD_BYTES, SEALED_FRAME_BYTES, STATE_RECORD_MAX_BYTES, SealedHeader, SealedScan,
    SealedStart, SealedWriter, SegmentState, StateRecord, Summary, dense_len, pack, state_records,
};
use ropeway_core::log::{DataKey, FRAME_HEAD_BYTES, REPAIR_MAX_BYTES};
use ropeway_core::recovery::{Recovered, StreamMemory};
use ropeway_core::varint::Writer;

use super::dense::{Part, Unpacker, header_of, read_footer, scan_file};
use super::footers::Footers;
use super::recover::{Opened, Scope, first_link, scan_within, with_room};
use super::{Files, SideFile, stub};
use crate::error::{Error, Result};
use crate::repair::{Ledger, Note};
use crate::zstd_codec::Zstd;

/// A checkpoint that was read.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) generation: u64,
    pub(super) log: LogState,
    pub(super) recovered: Recovered<'static>,
    pub(super) manifest: Vec<SegmentState>,
    pub(super) ledger: Ledger,
}

/// What a store must know to write checkpoints.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) name: NodeName,
    pub(super) streams: usize,
    pub(super) max_body: usize,
    /// The checkpoint that fits the log, if there is one.
    pub(super) fits: bool,
    /// The stub that the log begins with.
    pub(super) stub: Option<u64>,
}

/// The generation of a slot, by its trailer or header, `None` if neither can be read. Refusals are
/// errors: a checkpoint of a newer version belongs to a log of a newer version.
fn generation<F: Files>(files: &mut F, slot: u8) -> Result<Option<u64>> {
    let file = SideFile::Checkpoint(slot);
    let Some(len) = files.side_len(file)? else { return Ok(None) };
    let header = match header_of(files, file, len) {
        Err(Code::FormatNewer) => return Err(Error::new(Code::FormatNewer, format!("{file}: nothing was changed"))),
        other => other.ok(),
    };
    Ok(header.map(|h| h.start).filter(|s| s.kind == Kind::Checkpoint).map(|s| s.number))
}

/// The newest checkpoint that can be read whole. `streams`: for how many to make room.
///
/// # Errors
/// [`Code::WrongKey`], [`Code::FormatNewer`]; [`Code::Limit`] if there are more
/// streams than room.
pub(super) fn load<F: Files>(
    files: &mut F,
    keys: &[(u32, DataKey)],
    name: NodeName,
    streams: usize,
) -> Result<Option<Base>> {
    let mut slots = [(generation(files, 0)?, 0), (generation(files, 1)?, 1)];
    slots.sort_unstable();
    for (number, slot) in slots.into_iter().rev() {
        let Some(number) = number else { continue };
        match load_slot(files, keys, name, streams, (number, slot)) {
            Ok(base) => return Ok(Some(base)),
            // Without its data key the log itself may still be read, in part.
            Err(e) if matches!(e.code, Code::WrongKey | Code::FormatNewer | Code::Limit) => {
                return Err(e);
            }
            Err(e) => log::warn!("checkpoint {number} is not used: {e}"),
        }
    }
    Ok(None)
}

fn load_slot<F: Files>(
    files: &mut F,
    keys: &[(u32, DataKey)],
    name: NodeName,
    streams: usize,
    (generation, slot): (u64, u8),
) -> Result<Base> {
    let file = SideFile::Checkpoint(slot);
    let len = files.side_len(file)?.unwrap_or(0);
    let scan = SealedScan::new(keys, Kind::Checkpoint, generation, len)?;
    let mut recovered = Recovered::new(name, StreamMemory::owned(streams));
    let (mut log, mut manifest, mut ledger) = (None, Vec::new(), Ledger::default());
    let whole = scan_file(files, &mut Unpacker::default(), scan, file, |part| match part {
        Part::State(body) => {
            for record in state_records(body) {
                match record? {
                    StateRecord::Log(state) => {
                        recovered.restore_log(&state);
                        log = Some(state);
                    }
                    StateRecord::Stream(state) => recovered.restore_stream(&state)?,
                    StateRecord::Segment(state) => manifest.push(state),
                    StateRecord::Repair(repair) => ledger.take(Note::from(&repair)),
                }
            }
            Ok(())
        }
        Part::Damaged { code, .. } => Err(code),
        _ => Ok(()),
    })?;
    let log = log.filter(|_| whole).ok_or(Code::Corrupt)?;
    Ok(Base { generation, log, recovered, manifest, ledger })
}

/// The seals of the segments that the newest checkpoint lists; nothing if there is none to be read.
pub(crate) fn listed_seals<F: Files>(files: &mut F, keys: &[(u32, DataKey)], name: NodeName) -> Vec<(u64, [u8; 32])> {
    let base = with_room(1024, |room| load(files, keys, name, room)).ok().flatten();
    let listed = base.into_iter().flat_map(|b| b.manifest);
    // Zeros stand for a footer that could not be read when the checkpoint was written.
    listed.map(|s| (s.number, s.digest)).filter(|s| s.1 != [0; 32]).collect()
}

/// Digest of the seal of a segment, if its footer can be read.
pub(crate) fn seal_of<F: Files>(
    files: &mut F,
    keys: &[(u32, DataKey)],
    unpacker: &mut Unpacker,
    number: u64,
) -> Option<[u8; 32]> {
    read_footer(files, keys, unpacker, number).ok().map(|f| f.digest)
}

impl Base {
    /// Whether the log still is what the checkpoint says: each segment is there, of its size, and none
    /// else; the newest is that very one, and the next goes on from it.
    pub(super) fn fits<F: Files>(&self, files: &mut F, keys: &[(u32, DataKey)]) -> Result<bool> {
        let (upto, stub) = (self.log.upto, self.log.stub.map_or(0, |s| s.number));
        // What stands before the stub is gone, and its file perhaps not yet.
        if files.list()?.iter().any(|n| *n > stub && *n <= upto) {
            return Ok(false);
        }
        let mut sealed = files.list_sealed()?;
        sealed.retain(|n| *n >= stub && *n <= upto);
        if !sealed.iter().eq(self.manifest.iter().map(|s| &s.number)) || sealed.last() != Some(&upto) {
            return Ok(false);
        }
        for s in &self.manifest {
            if files.side_len(SideFile::Sealed(s.number))? != Some(s.bytes) {
                return Ok(false);
            }
        }
        if first_link(files, upto + 1) != Some(self.log.link) {
            return Ok(false);
        }
        let footer = read_footer(files, keys, &mut Unpacker::default(), upto);
        Ok(footer.is_ok_and(|f| self.manifest.last().is_some_and(|s| s.digest == f.digest)))
    }
}

/// Writes a checkpoint of the end of segment `upto`, all segments up to which are sealed, into the older
/// slot: synced before it gets its name, and the name before this returns.
pub(super) fn write<F: Files>(
    files: &mut F,
    keys: &[(u32, DataKey)],
    origin: &Origin,
    told: &Ledger,
    upto: u64,
    random: [u8; 32],
) -> Result<()> {
    let generations = [generation(files, 0)?, generation(files, 1)?];
    let state = state_at(files, keys, origin, told, upto)?;
    let slot = u8::from(generations[0] >= generations[1] && generations[0].is_some());
    let number = generations.into_iter().flatten().max().unwrap_or(0) + 1;
    let records = |each: &mut dyn FnMut(&StateRecord<'_>) -> Result<()>| -> Result<u32> {
        let recovered = &state.opened.recovered;
        each(&StateRecord::Log(recovered.log_state(upto, state.link, state.opened.groups)))?;
        let mut streams = 0;
        for s in recovered.states() {
            streams += 1;
            each(&StateRecord::Stream(s))?;
        }
        state.manifest.iter().try_for_each(|s| each(&StateRecord::Segment(*s)))?;
        let mut scratch = [0; REPAIR_MAX_BYTES];
        let notes = state.opened.index.ledger.notes();
        notes.iter().try_for_each(|note| each(&StateRecord::Repair(note.record(&mut scratch))))?;
        Ok(streams)
    };
    // As with sealed segments: should the random numbers repeat, then other content still gets another key.
    let mut mix = blake3::Hasher::new_keyed(&random);
    mix.update(&number.to_le_bytes());
    records(&mut |record| {
        let mut scratch = [0; STATE_RECORD_MAX_BYTES];
        mix.update(emitted(record, &mut scratch)?);
        Ok(())
    })?;
    let salt = *mix.finalize().as_bytes();
    let key_id = state.key_id;
    let key = &keys.iter().find(|k| k.0 == key_id).ok_or(Code::KeyMissing)?.1;
    let start = SealedStart {
        kind: Kind::Checkpoint,
        number,
        salt,
        key_id,
        base_hlc: Hlc::ZERO,
        prev: [0; 16],
        link: [0; 16],
        prev_seal: [0; 32],
    };
    let header = SealedHeader::new(key, start);
    let mut out = Out::begin(files, header, key)?;
    let streams = records(&mut |record| out.record(files, record))?;
    out.flush(files)?;
    let summary = Summary { content: out.content(), frames: out.frames, streams, ..Summary::default() };
    out.finish(files, &summary)?;
    files.sync_unfinished()?;
    files.name_unfinished(SideFile::Checkpoint(slot))?;
    files.sync_list()
}

struct StateAt {
    opened: Opened,
    manifest: Vec<SegmentState>,
    link: [u8; 16],
    key_id: u32,
}

/// The state at the end of segment `upto`: from the last checkpoint on, or from the start.
fn state_at<F: Files>(
    files: &mut F,
    keys: &[(u32, DataKey)],
    origin: &Origin,
    told: &Ledger,
    upto: u64,
) -> Result<StateAt> {
    with_room(origin.streams, |room| state_with(files, keys, (origin, told), upto, room))
}

fn state_with<F: Files>(
    files: &mut F,
    keys: &[(u32, DataKey)],
    (origin, told): (&Origin, &Ledger),
    upto: u64,
    room: usize,
) -> Result<StateAt> {
    let base = if origin.fits { load(files, keys, origin.name, room)? } else { None };
    let base = base.filter(|b| b.log.upto <= upto);
    let mut manifest = base.as_ref().map_or_else(Vec::new, |b| b.manifest.clone());
    if let Some(stub) = origin.stub {
        manifest.retain(|s| s.number > stub);
    }
    let known = manifest.last().map_or(0, |s| s.number);
    let (mut link, mut key_id, mut footers) = ([0; 16], 0, Footers::default());
    let mut sealed = files.list_sealed()?;
    sealed.retain(|n| *n <= upto && origin.stub.is_none_or(|stub| *n >= stub));
    for number in sealed {
        let stub = origin.stub == Some(number);
        if number <= known && number < upto && !stub {
            continue;
        }
        let footer = footers.footer(files, keys, number)?;
        (link, key_id) = (footer.header.start.link, footer.header.start.key_id);
        if number > known || stub {
            let bytes = files.side_len(SideFile::Sealed(number))?.unwrap_or(0);
            let (hlc_min, hlc_max) = (footer.summary.hlc_min, footer.summary.hlc_max);
            manifest.push(SegmentState { number, bytes, digest: footer.digest, hlc_min, hlc_max });
        }
    }
    manifest.sort_unstable_by_key(|s| s.number);
    let scope = Scope { name: origin.name, max_body: origin.max_body, without: None, upto: Some(upto) };
    let mut opened = scan_within(files, keys, &scope, room, base)?;
    if let Some(number) = origin.stub.filter(|n| opened.recovered.stub() != Some(*n)) {
        // The stub came after the checkpoint.
        let stub = stub::load(files, keys, origin.name, room, number)?.ok_or(Code::Corrupt)?;
        for s in stub.recovered.states() {
            s.floor.iter().for_each(|floor| opened.recovered.expired(&s.key, *floor));
        }
        opened.recovered.begins_with(number);
        opened.index.begins_with(&opened.recovered);
    }
    // A loss that the log does not tell of would be forgotten with the checkpoint.
    if opened.damages.iter().any(|d| d.is_loss() && told.about(d).is_none()) {
        return Err(Error::new(Code::Corrupt, "no checkpoint of a log with damage that is not listed"));
    }
    Ok(StateAt { opened, manifest, link, key_id })
}

fn emitted<'s>(record: &StateRecord<'_>, scratch: &'s mut [u8; STATE_RECORD_MAX_BYTES]) -> Result<&'s [u8]> {
    let mut w = Writer::new(scratch);
    record.emit(&mut w).map_err(|_| Code::TooLarge)?;
    let n = w.len();
    Ok(&scratch[..n])
}

/// Packs records into frames of the unfinished file.
pub(super) struct Out {
    writer: SealedWriter,
    zstd: Option<Zstd>,
    raw: Vec<u8>,
    frames: u32,
}

impl Out {
    /// Begins the file.
    pub(super) fn begin<F: Files>(files: &mut F, header: SealedHeader, key: &DataKey) -> Result<Self> {
        files.write_unfinished(0, &header.emit())?;
        Ok(Self { writer: SealedWriter::new(header, key)?, zstd: Zstd::new(), raw: Vec::new(), frames: 0 })
    }

    /// Digest of what was written so far.
    pub(super) fn content(&self) -> [u8; 32] {
        self.writer.content()
    }

    fn record<F: Files>(&mut self, files: &mut F, record: &StateRecord<'_>) -> Result<()> {
        let mut scratch = [0; STATE_RECORD_MAX_BYTES];
        let record = emitted(record, &mut scratch)?;
        if self.raw.len() + record.len() > SEALED_FRAME_BYTES {
            self.flush(files)?;
        }
        self.raw.extend_from_slice(record);
        Ok(())
    }

    fn flush<F: Files>(&mut self, files: &mut F) -> Result<()> {
        let raw = std::mem::take(&mut self.raw);
        self.frames += 1;
        self.put(files, DenseType::State, &raw)
    }

    pub(super) fn put<F: Files>(&mut self, files: &mut F, frame_type: DenseType, raw: &[u8]) -> Result<()> {
        let mut buf = vec![0; dense_len(PACK_HEAD_BYTES + raw.len())];
        let codec = self.zstd.as_mut().map(|z| z as &mut (dyn Codec + Send));
        let packed = pack(raw, codec, &mut buf[FRAME_HEAD_BYTES..])?;
        let at = self.writer.offset();
        let len = self.writer.frame(frame_type, &mut buf, packed)?;
        files.write_unfinished(at, &buf[..len])
    }

    /// Writes the footer; the length of the file.
    pub(super) fn finish<F: Files>(&mut self, files: &mut F, summary: &Summary) -> Result<u64> {
        let mut body = [0; 256];
        let mut w = Writer::new(&mut body);
        summary.emit(&mut w, []).map_err(|_| Code::TooLarge)?;
        let len = w.len();
        self.put(files, DenseType::Seal, &body[..len])?;
        let (trailer, _) = self.writer.finish()?;
        files.write_unfinished(self.writer.offset(), &trailer)?;
        Ok(self.writer.offset() + trailer.len() as u64)
    }
}

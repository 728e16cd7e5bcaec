//! Removing the first segments of a log: a *stub* takes the place of the last of them and holds the state at
//! its end (docs/LOG.md#stub-1). It gets its name in one step, so a crash leaves the segments or the stub.

use ropeway_core::code::Code;
use ropeway_core::hlc::Hlc;
use ropeway_core::id::{NodeName, StreamKey};
use ropeway_core::log::DataKey;
use ropeway_core::log::sealed::{
    At, DenseType, Kind, LogState, SEALED_FRAME_BYTES, STATE_RECORD_MAX_BYTES, SealedHeader, SealedScan, SealedStart,
    StateRecord, Stub, Summary, state_records,
};
use ropeway_core::recovery::{Recovered, StreamMemory};
use ropeway_core::varint::Writer;

use super::checkpoint::{Base, Origin, Out};
use super::dense::{Part, Unpacker, header_of, read_footer, scan_file};
use super::recover::{Scope, scan_within, with_room};
use super::{Damage, Files, SideFile};
use crate::error::{Error, Result};
use crate::repair::Ledger;

/// A stub that was read whole.
#[derive(Debug)]
pub(crate) struct StubRead {
    pub(crate) number: u64,
    /// The state that the log begins with.
    pub(crate) log: LogState,
    pub(crate) recovered: Recovered<'static>,
    /// Size of its file.
    pub(crate) bytes: u64,
    /// A part of it is damaged, and stands in it once more.
    pub(crate) rotten: bool,
}

impl StubRead {
    pub(super) fn into_base(self) -> Base {
        Base {
            generation: 0,
            log: self.log,
            recovered: self.recovered,
            manifest: Vec::new(),
            ledger: Ledger::default(),
        }
    }
}

/// Whether the sealed file of this number says that it is a stub.
pub(crate) fn is_stub<F: Files>(files: &mut F, number: u64) -> bool {
    let file = SideFile::Sealed(number);
    let Ok(Some(len)) = files.side_len(file) else { return false };
    header_of(files, file, len).is_ok_and(|h| (h.start.kind, h.start.number) == (Kind::Stub, number))
}

/// The newest stub that can be read whole: everything before it is gone, or on its way. One that cannot be
/// read does not count, so that nothing is taken for removed, or removed, on its word.
///
/// # Errors
/// [`Code::WrongKey`], [`Code::KeyMissing`], [`Code::FormatNewer`]; [`Code::Limit`] if there are more
/// streams than room.
pub(crate) fn newest<F: Files>(
    files: &mut F,
    keys: &[(u32, DataKey)],
    name: NodeName,
    streams: usize,
) -> Result<Option<StubRead>> {
    for number in files.list_sealed()?.into_iter().rev() {
        if is_stub(files, number)
            && let Some(stub) = load(files, keys, name, streams, number)?
        {
            return Ok(Some(stub));
        }
    }
    Ok(None)
}

/// As [`newest`], however many streams there are.
///
/// # Errors
/// As [`newest`].
pub(crate) fn newest_of_any_size<F: Files>(
    files: &mut F,
    keys: &[(u32, DataKey)],
    name: NodeName,
) -> Result<Option<StubRead>> {
    with_room(1024, |room| newest(files, keys, name, room))
}

/// Reads a stub; `None` if that is not possible.
pub(super) fn load<F: Files>(
    files: &mut F,
    keys: &[(u32, DataKey)],
    name: NodeName,
    streams: usize,
    number: u64,
) -> Result<Option<StubRead>> {
    let file = SideFile::Sealed(number);
    let bytes = files.side_len(file)?.unwrap_or(0);
    let mut recovered = Recovered::new(name, StreamMemory::owned(streams));
    let (mut log, mut rotten, mut count) = (None, false, 0);
    let scan = SealedScan::new(keys, Kind::Stub, number, bytes)?;
    let read = scan_file(files, &mut Unpacker::default(), scan, file, |part| {
        match part {
            Part::State(body) => {
                for record in state_records(body) {
                    match record? {
                        StateRecord::Log(state) => {
                            recovered.restore_log(&state);
                            log = Some(state);
                        }
                        // Everything stands there twice.
                        StateRecord::Stream(state) if recovered.knows(&state.key) => {}
                        StateRecord::Stream(state) => {
                            recovered.restore_stream(&state)?;
                            count += 1;
                        }
                        StateRecord::Segment(_) | StateRecord::Repair(_) => return Err(Code::Corrupt),
                    }
                }
            }
            Part::Group { .. } => return Err(Code::FormatNewer),
            Part::Header(_, bad) | Part::Index { rotten: bad, .. } | Part::Seal { rotten: bad, .. } => rotten |= bad,
            Part::Damaged { .. } | Part::Footing { .. } => rotten = true,
        }
        Ok(())
    });
    let log = match read {
        Err(e) if matches!(e.code, Code::WrongKey | Code::KeyMissing | Code::FormatNewer | Code::Limit) => {
            return Err(e);
        }
        Err(e) => {
            log::warn!("{file} cannot be read: {e}");
            None
        }
        Ok(sealed) => {
            rotten |= !sealed;
            log.filter(|l: &LogState| l.upto == number && l.stub == Some(Stub { number, streams: count }))
        }
    };
    Ok(log.map(|log| StubRead { number, log, recovered, bytes, rotten }))
}

/// Removes what stands before the stub `number`: what a crash has left of the removal. Only on the word of a
/// stub that can be read.
pub(super) fn tidy<F: Files>(files: &mut F, keys: &[(u32, DataKey)], name: NodeName, number: u64) -> Result<()> {
    let sealed: Vec<u64> = files.list_sealed()?.into_iter().filter(|n| *n < number).collect();
    let hot: Vec<u64> = files.list()?.into_iter().filter(|n| *n <= number).collect();
    if sealed.is_empty() && hot.is_empty() {
        return Ok(());
    }
    if with_room(1024, |room| load(files, keys, name, room, number))?.is_none() {
        return Err(Error::new(Code::Corrupt, format!("{}: nothing was removed", SideFile::Sealed(number))));
    }
    for n in hot {
        files.remove(n)?;
    }
    for n in sealed {
        files.remove_side(SideFile::Sealed(n))?;
    }
    files.sync_list()
}

/// Puts a stub in the place of segment `upto` and says what is gone with it: of each stream the last event.
/// All segments up to there are read once more; nothing changes if any of it is not as it should be, or if
/// `may_go` does not agree that a stream may go up to there.
///
/// # Errors
/// [`Code::Corrupt`] if something is damaged or does not fit, [`Code::Expired`] if `may_go` refuses;
/// [`Code::Io`] and its kin.
pub(super) fn write<F: Files>(
    files: &mut F,
    keys: &[(u32, DataKey)],
    origin: &Origin,
    upto: u64,
    may_go: &dyn Fn(&StreamKey, u64) -> bool,
    random: [u8; 32],
) -> Result<Vec<(StreamKey, At)>> {
    let refuse = |what: String| Error::new(Code::Corrupt, format!("nothing is removed up to segment {upto}: {what}"));
    if files.list()?.iter().any(|n| *n <= upto) || !files.list_sealed()?.contains(&upto) {
        return Err(refuse("it is not sealed".to_owned()));
    }
    let scope = Scope { name: origin.name, max_body: origin.max_body, without: None, upto: Some(upto) };
    let opened = with_room(origin.streams, |room| scan_within(files, keys, &scope, room, None))?;
    if let Some(d) = opened.damages.iter().find(|d| Damage::is_loss(d)) {
        return Err(refuse(format!("{} in segment {}", d.code, d.segment)));
    }
    let footer = read_footer(files, keys, &mut Unpacker::default(), upto)?;
    let mut recovered = opened.recovered;
    let mut floors = Vec::new();
    for s in recovered.states() {
        if s.gap.is_some() {
            return Err(refuse(format!("{} has a gap there that is filled later", s.key)));
        }
        if s.have.0 == 0 || s.floor.is_some_and(|f| f.0 == s.have.0) {
            continue;
        }
        if !may_go(&s.key, s.have.0) {
            return Err(Error::new(Code::Expired, format!("event {} of {} may not go", s.have.0, s.key)));
        }
        floors.push((s.key, s.have));
    }
    for (key, at) in &floors {
        recovered.expired(key, *at);
    }
    recovered.begins_with(upto);
    let link = footer.header.start.link;
    let bodies = bodies(&recovered, &recovered.log_state(upto, link, opened.groups))?;
    let (key_id, key) = keys.iter().max_by_key(|k| k.0).ok_or(Code::KeyMissing)?;
    let streams = recovered.states().count() as u32;
    let old_len = files.side_len(SideFile::Sealed(upto))?;
    // Everything stands in it twice, so that a rotten frame costs nothing. And it is never of the length of
    // what was there: by that a checkpoint of before sees that it is another file.
    for copies in 2..=3 {
        let mut mix = blake3::Hasher::new_keyed(&random);
        mix.update(&[copies]);
        bodies.iter().for_each(|b| {
            mix.update(b);
        });
        let start = SealedStart {
            kind: Kind::Stub,
            number: upto,
            salt: *mix.finalize().as_bytes(),
            key_id: *key_id,
            base_hlc: Hlc::ZERO,
            prev: [0; 16],
            link,
            prev_seal: [0; 32],
        };
        let mut out = Out::begin(files, SealedHeader::new(key, start), key)?;
        for body in (0..copies).flat_map(|_| &bodies) {
            out.put(files, DenseType::State, body)?;
        }
        let frames = bodies.len() as u32 * u32::from(copies);
        let summary = Summary { content: out.content(), frames, streams, ..Summary::default() };
        if Some(out.finish(files, &summary)?) != old_len {
            break;
        }
    }
    files.sync_unfinished()?;
    files.name_unfinished(SideFile::Sealed(upto))?;
    files.sync_list()?;
    Ok(floors)
}

/// The records, in bodies of frames.
fn bodies(recovered: &Recovered<'_>, log: &LogState) -> Result<Vec<Vec<u8>>> {
    let mut all = vec![Vec::new()];
    let records = std::iter::once(StateRecord::Log(*log)).chain(recovered.states().map(StateRecord::Stream));
    for record in records {
        let mut scratch = [0; STATE_RECORD_MAX_BYTES];
        let mut w = Writer::new(&mut scratch);
        record.emit(&mut w).map_err(|_| Code::TooLarge)?;
        let n = w.len();
        if all.last().is_none_or(|b| b.len() + n > SEALED_FRAME_BYTES) {
            all.push(Vec::new());
        }
        if let Some(body) = all.last_mut() {
            body.extend_from_slice(&scratch[..n]);
        }
    }
    Ok(all)
}

//! Opening a log: every segment is scanned, in order, and nothing is written.

use ropeway_core::code::Code;
use ropeway_core::id::NodeName;
use ropeway_core::log::sealed::{SEALED_HEADER_BYTES, SealedHeader};
use ropeway_core::log::{DataKey, End, Header, PAGE_BYTES, Place, SegmentScan, Step, Verdict};
use ropeway_core::recovery::{LogTail, Recovered, RunAt, StreamMemory};

use super::ahead::ReadAhead;
use super::checkpoint::{self, Base, Origin};
use super::dense::{Part, Unpacker, scan_sealed};
use super::files::{copy_of_header, list_all, read_full, read_side_full};
use super::segment::{Segments, Settled};
use super::{DirFiles, Files, Index, SideFile, keys, stub};
use crate::dir::DataDir;
use crate::error::{Error, Result};
use crate::repair::Note;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// [`Code::Corrupt`], [`Code::Tampered`], [`Code::TornTail`], [`Code::SegmentMissing`], ...
    pub code: Code,
    /// Number of the segment.
    pub segment: u64,
    /// First page.
    pub from_page: u64,
    /// First page after.
    pub to_page: u64,
    /// The pages are those of the sealed file, not of the hot one.
    pub sealed: bool,
}

impl Damage {
    /// True if durable data was lost or altered; false for what explains itself, as a torn tail
    /// does, and for rot that cost nothing.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        !matches!(self.code, Code::TornTail | Code::Rotten)
    }
}

/// What a log holds.
#[derive(Debug)]
pub struct Opened {
    /// The node's state, for `Node::new`.
    pub recovered: Recovered<'static>,
    /// Where its events stand.
    pub index: Index,
    /// Everything that is not as it should be, in the log's order.
    pub damages: Vec<Damage>,
    /// Bytes of all segment files.
    pub log_bytes: u64,
    /// Groups that were read.
    pub groups: u64,
    /// The newest group: what may not have been synced when the last process ended.
    pub newest: Option<GroupAt>,
    /// The newest group was left out, since nobody can tell whether it is durable: storage can be
    /// neither written nor read past the caches.
    pub in_doubt: bool,
}

/// Where a group stands, its epoch's header included if it began one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupAt {
    /// Number of the segment.
    pub segment: u64,
    /// First page.
    pub from_page: u64,
    /// First page after.
    pub to_page: u64,
}

impl GroupAt {
    /// Of its first page, in bytes.
    pub(super) fn offset(self) -> u64 {
        self.from_page * PAGE_BYTES as u64
    }

    /// Whether this is only that the header, which is written together with the group, did not reach the
    /// disk when the group did: the next start puts it back. `recalled`: the place of the last header of
    /// which only a copy was read.
    pub(crate) fn explains(&self, damage: &Damage, recalled: Option<(u64, u64)>) -> bool {
        let header = (self.segment, self.from_page, self.from_page + 1);
        damage.code == Code::Rotten
            && (damage.segment, damage.from_page, damage.to_page) == header
            && recalled == Some((self.segment, self.from_page))
    }
}

/// Reads the whole log of `dir`, checks every tag and chain, and writes nothing.
/// `streams`: for how many to make room at first; more is made if there are more.
///
/// # Errors
/// [`Code::WrongKey`], [`Code::FormatNewer`] and whatever else keeps the log from being read at
/// all. Damage is no error here: it is listed, and so is a part of a segment whose data key is not here
/// ([`Code::KeyMissing`]).
pub fn recover(dir: &DataDir, name: NodeName, streams: usize, max_body: usize) -> Result<Opened> {
    recover_files(&mut DirFiles::new(dir), &keys(dir)?, name, streams, max_body)
}

/// As [`recover_files`], and makes sure that everything found may be promised: the newest group is
/// written once more and synced. Where nothing can be written and the device does not show that
/// group either, the state is without it and refuses events (docs/LOG.md#recovery-6).
///
/// # Errors
/// As [`recover`]; [`Code::KeyMissing`] if a part of the log stands under a data key that is not here;
/// [`Code::Storage`] and [`Code::Io`] if the group could not be made durable.
pub fn recover_to_write<F: Files>(
    segments: &mut Segments<F>,
    keys: &[(u32, DataKey)],
    name: NodeName,
    streams: usize,
    max_body: usize,
) -> Result<Opened> {
    let scope = Scope { name, max_body, without: None, upto: None };
    let mut opened = open_quickly(segments.files(), keys, &scope, streams)?;
    // What stands under a key that is not here may be the newest: its numbers would be given out again.
    if let Some(d) = opened.damages.iter().find(|d| d.code == Code::KeyMissing) {
        let at = segments.files().describe(d.segment);
        return Err(Error::at(d.code, &at, "its data key is not in the keyring; the log can be read, not written"));
    }
    super::seal::tidy(segments.files(), opened.index.stub());
    if let Some(number) = opened.index.stub()
        && let Err(e) = stub::tidy(segments.files(), keys, name, number)
    {
        log::warn!("{e}");
    }
    match segments.settle(&opened)? {
        Settled::Durable => Ok(opened),
        Settled::InDoubt => {
            let origin = opened.index.origin.take();
            let scope = Scope { without: opened.newest, ..scope };
            opened = open_quickly(segments.files(), keys, &scope, streams)?;
            opened.index.origin = origin;
            Ok(opened)
        }
    }
}

/// As [`recover`], from any [`Files`]. `keys`: the data keys with their numbers.
///
/// # Errors
/// As [`recover`].
pub fn recover_files<F: Files>(
    files: &mut F,
    keys: &[(u32, DataKey)],
    name: NodeName,
    streams: usize,
    max_body: usize,
) -> Result<Opened> {
    let scope = Scope { name, max_body, without: None, upto: None };
    with_room(streams, |room| scan_within(files, keys, &scope, room, None))
}

/// As [`recover_files`], but only what lies behind the checkpoint is read if there is one that fits:
/// sealed segments before it are known to be there, and not known to be undamaged.
///
/// # Errors
/// As [`recover`].
pub fn recover_quickly<F: Files>(
    files: &mut F,
    keys: &[(u32, DataKey)],
    name: NodeName,
    streams: usize,
    max_body: usize,
) -> Result<Opened> {
    open_quickly(files, keys, &Scope { name, max_body, without: None, upto: None }, streams)
}

fn open_quickly<F: Files>(files: &mut F, keys: &[(u32, DataKey)], scope: &Scope, streams: usize) -> Result<Opened> {
    with_room(streams, |room| {
        let base = match checkpoint::load(files, keys, scope.name, room)? {
            Some(base) if base.fits(files, keys)? => Some(base),
            Some(base) => {
                // The log is what counts: it is read, and says itself what is missing.
                log::warn!("checkpoint {} does not fit the log and is not used", base.generation);
                None
            }
            None => None,
        };
        let fits = base.is_some();
        let mut opened = scan_within(files, keys, scope, room, base)?;
        let Scope { name, max_body, .. } = *scope;
        let stub = opened.index.stub();
        opened.index.origin = Some(Origin { name, streams: room, max_body, fits, stub });
        Ok(opened)
    })
}

/// What is to be read, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope {
    pub(super) name: NodeName,
    pub(super) max_body: usize,
    /// A group that is passed over as if it held nothing.
    pub(super) without: Option<GroupAt>,
    /// The last segment that is read, all if `None`.
    pub(super) upto: Option<u64>,
}

/// Makes room for more streams until there is enough.
pub(super) fn with_room<T>(streams: usize, mut f: impl FnMut(usize) -> Result<T>) -> Result<T> {
    let mut room = streams.max(16);
    loop {
        match f(room) {
            Err(e) if e.code == Code::Limit && room < 1 << 20 => room *= 4,
            other => return other,
        }
    }
}

/// Reads the log, from `base` on if there is one.
pub(super) fn scan_within<F: Files>(
    files: &mut F,
    keys: &[(u32, DataKey)],
    scope: &Scope,
    streams: usize,
    base: Option<Base>,
) -> Result<Opened> {
    let Scope { name, max_body, without, upto } = *scope;
    let mut out = Opened {
        recovered: Recovered::new(name, StreamMemory::owned(streams)),
        index: Index::default(),
        damages: Vec::new(),
        log_bytes: 0,
        groups: 0,
        newest: None,
        in_doubt: without.is_some(),
    };
    let (hot, mut numbers) = list_all(files)?;
    let mut tail = LogTail::default();
    let begun = base.is_some();
    let base = match base {
        Some(base) => Some(base),
        None => begin_with_stub(files, keys, name, streams, &mut out)?,
    };
    if let Some(base) = base {
        let Base { log, recovered, manifest, ledger, .. } = base;
        out.index.ledger = ledger;
        for s in &manifest {
            if log.stub.is_none_or(|stub| stub.number != s.number) {
                out.index.seal(s.number);
            }
            out.log_bytes += s.bytes;
        }
        (out.recovered, out.groups) = (recovered, log.groups);
        tail = LogTail { segment: log.upto, next_page: 0, clean: false, link: log.link };
        numbers.retain(|n| *n > log.upto);
        if !begun && let Some(damage) = judge_next(files, log.upto, Some(log.link), numbers.first().copied()) {
            // As behind a sealed segment: the number of one that is missing is not used again.
            tail.segment += u64::from(numbers.is_empty());
            out.recovered.damaged();
            out.damages.push(damage);
        }
    }
    let start = tail.segment + 1;
    let mut input = ReadAhead::default();
    let mut recalled = None;
    let mut unpacker = Unpacker::default();
    'segments: for (i, &number) in numbers.iter().enumerate() {
        if upto.is_some_and(|upto| number > upto) {
            break;
        }
        let expected = if i == 0 { start } else { numbers[i - 1] + 1 };
        for missing in expected..number {
            out.recovered.damaged();
            out.damages.push(Damage {
                code: Code::SegmentMissing,
                segment: missing,
                from_page: 0,
                to_page: 0,
                sealed: false,
            });
        }
        // Where both are there, the hot one is still whole (docs/LOG.md#sealed-11).
        let opened = if hot.contains(&number) { input.open(files, number).map(Some) } else { Ok(None) };
        let len = match opened {
            Ok(Some(len)) => len,
            Err(e) if files.side_len(SideFile::Sealed(number))?.is_none() => return Err(e),
            Ok(None) | Err(_) => {
                let link = match replay_sealed(files, keys, &mut unpacker, number, &mut out) {
                    // This segment cannot be read; others can.
                    Err(e) if e.code == Code::KeyMissing => {
                        log::warn!("{e}");
                        out.recovered.damaged();
                        let len = files.side_len(SideFile::Sealed(number))?.unwrap_or(0);
                        let to_page = len.div_ceil(PAGE_BYTES as u64);
                        out.damages.push(Damage { code: e.code, segment: number, from_page: 0, to_page, sealed: true });
                        None
                    }
                    other => other?,
                };
                if let Some(damage) = judge_next(files, number, link, numbers.get(i + 1).copied()) {
                    out.recovered.damaged();
                    out.damages.push(damage);
                }
                // The number of a segment that is missing is not used again: its loss would be forgotten.
                let segment = if numbers.get(i + 1).is_none() { number + 1 } else { number };
                tail = LogTail { segment, next_page: 0, clean: false, link: link.unwrap_or(tail.link) };
                continue;
            }
        };
        out.log_bytes += len;
        let mut scan = SegmentScan::new(keys, number, len, max_body)?;
        let mut began_epoch = None;
        let end = loop {
            let Some(want) = scan.poll_want() else {
                match scan.feed(&mut []) {
                    Step::End(end) => break end,
                    Step::Fault(code) => {
                        return Err(Error::at(code, &files.describe(number), "nothing was changed"));
                    }
                    _ => continue,
                }
            };
            let page = want.offset / PAGE_BYTES as u64;
            let step = match input.read(files, want.offset, want.len) {
                Ok(bytes) => scan.feed(bytes),
                Err(e) => {
                    log::warn!("{e}");
                    scan.unreadable()
                }
            };
            match step {
                Step::NeedMore => {}
                Step::Epoch { header, repaired, recalled: copied, .. } => {
                    recalled = copied.then_some((number, header.start.page));
                    out.index.begin_epoch(header.start.page);
                    began_epoch = Some(header.start.page + 1);
                    if repaired {
                        let from_page = header.start.page;
                        let (code, to_page) = (Code::Rotten, from_page + 1);
                        out.damages.push(Damage { code, segment: number, from_page, to_page, sealed: false });
                    }
                }
                Step::Group { page, pages, body, crc_rotten } => {
                    out.groups += 1;
                    let headed = began_epoch == Some(page);
                    let from_page = page - u64::from(headed);
                    let at = GroupAt { segment: number, from_page, to_page: page + pages };
                    out.newest = Some(at);
                    if without == Some(at) {
                        continue;
                    }
                    let index = &mut out.index;
                    let mut notes = Vec::new();
                    let run = |run: RunAt| index.add(&run, number, page);
                    let taken = out.recovered.group_with(body, run, |repair| notes.push(Note::from(repair)));
                    notes.into_iter().for_each(|note| out.index.ledger.take(note));
                    match taken {
                        Ok(()) => {}
                        Err(code @ (Code::Limit | Code::FormatNewer)) => return Err(code.into()),
                        Err(code) => {
                            out.damages.push(Damage {
                                code,
                                segment: number,
                                from_page: page,
                                to_page: page + pages,
                                sealed: false,
                            });
                        }
                    }
                    if crc_rotten {
                        let (code, to_page) = (Code::Rotten, page + pages);
                        out.damages.push(Damage { code, segment: number, from_page: page, to_page, sealed: false });
                    }
                }
                Step::Damaged { from_page, to_page, verdict } => {
                    let code = verdict.code().unwrap_or(Code::Corrupt);
                    out.recovered.damaged();
                    out.damages.push(Damage { code, segment: number, from_page, to_page, sealed: false });
                }
                Step::End(end) => break end,
                // The rest of the segment cannot be read; others can.
                Step::Fault(Code::KeyMissing) => {
                    let (from_page, to_page) = (page, len.div_ceil(PAGE_BYTES as u64));
                    log::warn!("{}: {}", Code::KeyMissing, files.describe(number).display());
                    out.recovered.damaged();
                    out.damages.push(Damage {
                        code: Code::KeyMissing,
                        segment: number,
                        from_page,
                        to_page,
                        sealed: false,
                    });
                    tail = LogTail { segment: number, next_page: from_page, clean: false, link: tail.link };
                    continue 'segments;
                }
                Step::Fault(code) => return Err(Error::at(code, &files.describe(number), "nothing was changed")),
            }
        };
        let place = place_before(files, number, numbers.get(i + 1).copied(), end.link);
        let verdict = end.verdict(place, place == Place::Last && out.recovered.receipt_beyond_log());
        if let Some(code) = verdict.code() {
            if verdict != Verdict::TornTail {
                out.recovered.damaged();
            }
            out.damages.push(Damage {
                code,
                segment: number,
                from_page: end.from_page,
                to_page: end.to_page,
                sealed: false,
            });
        }
        let empty = end.from_page == 0 && verdict == Verdict::CleanEnd;
        let link = if empty { tail.link } else { end.link };
        tail = LogTail { segment: number, next_page: end.from_page, clean: verdict == Verdict::CleanEnd, link };
    }
    if let Some(newest) = out.newest {
        out.damages.retain(|d| !newest.explains(d, recalled));
    }
    out.index.begins_with(&out.recovered);
    out.recovered = out.recovered.ending_at(tail);
    if out.in_doubt {
        out.recovered = out.recovered.refusing(Code::ReadOnly);
    }
    Ok(out)
}

/// The state that the log begins with, if its first segments were removed.
fn begin_with_stub<F: Files>(
    files: &mut F,
    keys: &[(u32, DataKey)],
    name: NodeName,
    streams: usize,
    out: &mut Opened,
) -> Result<Option<Base>> {
    let stub = match stub::newest(files, keys, name, streams) {
        // As a segment whose key is missing: the rest can be read.
        Err(e) if e.code == Code::KeyMissing => {
            log::warn!("{e}");
            out.damages.push(Damage { code: e.code, segment: 0, from_page: 0, to_page: 0, sealed: true });
            None
        }
        other => other?,
    };
    Ok(stub.map(|stub| {
        out.log_bytes += stub.bytes;
        if stub.rotten {
            let to_page = stub.bytes.div_ceil(PAGE_BYTES as u64);
            out.damages.push(Damage { code: Code::Rotten, segment: stub.number, from_page: 0, to_page, sealed: true });
        }
        stub.into_base()
    }))
}

/// What the first header of a segment links to, `None` if there is none to be read.
pub(super) fn first_link<F: Files>(files: &mut F, number: u64) -> Option<[u8; 16]> {
    let mut page = [0; PAGE_BYTES];
    let read = read_full(files, number, 0, &mut page, PAGE_BYTES);
    if let Ok((header, _)) = Header::parse_repairing(&page[..*read.as_ref().unwrap_or(&0)]) {
        return Some(header.start.prev);
    }
    if let Some(header) = copy_of_header(files, number, 0) {
        return Some(header.start.prev);
    }
    if read.is_ok() {
        return None;
    }
    let mut head = [0; SEALED_HEADER_BYTES];
    read_side_full(files, SideFile::Sealed(number), 0, &mut head).ok()?;
    SealedHeader::parse(&head).ok().map(|(h, _)| h.start.prev)
}

/// Reads a sealed segment into the state; what the next segment links to, `None` if its header cannot
/// be read. What is damaged is listed, in pages of the sealed file.
fn replay_sealed<F: Files>(
    files: &mut F,
    keys: &[(u32, DataKey)],
    unpacker: &mut Unpacker,
    number: u64,
    out: &mut Opened,
) -> Result<Option<[u8; 16]>> {
    let file = SideFile::Sealed(number);
    let len = files.side_len(file)?.unwrap_or(0);
    out.log_bytes += len;
    out.newest = None;
    out.index.seal(number);
    let (mut link, mut frames, mut groups) = (None, 0, None);
    let (recovered, damages, ledger) = (&mut out.recovered, &mut out.damages, &mut out.index.ledger);
    let damage = |code, from: u64, to: u64| {
        let (from_page, to_page) = (from / PAGE_BYTES as u64, to.div_ceil(PAGE_BYTES as u64));
        Damage { code, segment: number, from_page, to_page, sealed: true }
    };
    let read = scan_sealed(files, keys, unpacker, number, |part| {
        match part {
            Part::Header(header, repaired) => {
                link = Some(header.start.link);
                if repaired {
                    damages.push(damage(Code::Rotten, 0, SEALED_HEADER_BYTES as u64));
                }
            }
            Part::Group { offset, len, body, rotten } => {
                frames += 1;
                match recovered.group_with(body, |_| (), |repair| ledger.take(Note::from(repair))) {
                    Ok(()) => {}
                    Err(code @ (Code::Limit | Code::FormatNewer)) => return Err(code),
                    Err(code) => damages.push(damage(code, offset, offset + len)),
                }
                if rotten {
                    damages.push(damage(Code::Rotten, offset, offset + len));
                }
            }
            Part::Index { rotten: false, .. } => {}
            Part::Index { offset, len, .. } => damages.push(damage(Code::Rotten, offset, offset + len)),
            Part::Seal { offset, len, summary, rotten } => {
                groups = Some(summary.groups);
                if rotten {
                    damages.push(damage(Code::Rotten, offset, offset + len));
                }
            }
            Part::State(_) => return Err(Code::FormatNewer),
            Part::Footing { from, to } => damages.push(damage(Code::Rotten, from, to)),
            Part::Damaged { from, to, code } => {
                recovered.damaged();
                damages.push(damage(code, from, to));
            }
        }
        Ok(())
    });
    out.groups += groups.unwrap_or(frames);
    match read {
        Ok(true) => {}
        Ok(false) => {
            out.recovered.damaged();
            if out.damages.last().is_none_or(|d| d.segment != number || !d.is_loss()) {
                out.damages.push(damage(Code::Corrupt, len, len));
            }
        }
        Err(e) if e.code == Code::SegmentHeader => {
            log::warn!("{e}");
            out.recovered.damaged();
            out.damages.push(damage(Code::SegmentHeader, 0, len));
        }
        Err(e) => return Err(e),
    }
    Ok(link)
}

/// Where a segment stands that ends with `link`; `next` is the number of the one behind it.
pub(crate) fn place_before<F: Files>(files: &mut F, number: u64, next: Option<u64>, link: [u8; 16]) -> Place {
    match next.map(|n| (n, first_link(files, n))) {
        // One that was made and never written to: this one is still the last in use.
        None | Some((_, None)) => Place::Last,
        Some((n, Some(prev))) if n == number + 1 && prev == link => Place::Continued,
        Some(_) => Place::Broken,
    }
}

/// What the end of a hot segment means (docs/LOG.md#recovery-3), as far as it can be told without a look at
/// the receipts. `next`: the number of the one behind it.
pub(crate) fn judge_end<F: Files>(files: &mut F, number: u64, next: Option<u64>, end: &End) -> Option<Damage> {
    let code = end.verdict(place_before(files, number, next, end.link), false).code()?;
    let (from_page, to_page) = (end.from_page, end.to_page);
    Some(Damage { code, segment: number, from_page, to_page, sealed: false })
}

/// What is wrong with the segment behind a sealed one: that is sealed only when the next one is in use, so
/// it must be there and link to it (docs/LOG.md#sealed-12). What is missing in the middle is told where the
/// one behind it is looked at.
pub(crate) fn judge_next<F: Files>(
    files: &mut F,
    number: u64,
    link: Option<[u8; 16]>,
    next: Option<u64>,
) -> Option<Damage> {
    let (code, to_page) = match (next, link) {
        (None, _) => (Code::SegmentMissing, 0),
        (Some(n), Some(link)) if n == number + 1 && first_link(files, n) != Some(link) => (Code::Corrupt, 1),
        _ => return None,
    };
    let sealed = files.len(number + 1).is_err() && next == Some(number + 1);
    Some(Damage { code, segment: number + 1, from_page: 0, to_page, sealed })
}

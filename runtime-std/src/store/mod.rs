//! The log's files: segments are made, written, scanned and read here; what the bytes mean is the
//! core's business (docs/LOG.md).

mod ahead;
mod checkpoint;
mod dense;
mod examine;
mod expire;
mod files;
mod footers;
mod footing;
mod index;
mod key_use;
mod reader;
mod recover;
mod seal;
mod segment;
mod stub;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::PathBuf;

use ropeway_core::code::Code;
use ropeway_core::id::StreamKey;
use ropeway_core::log::{DataKey, PAGE_BYTES};
use ropeway_core::node::{Completion, LogPosition, WriteFault};
use ropeway_core::recovery::RunAt;

pub(crate) use ahead::{Ahead, ReadAhead, or_less};
pub(crate) use checkpoint::{listed_seals, seal_of};
pub(crate) use dense::{Part, Unpacker, scan_sealed};
pub(crate) use expire::{Look, SegmentSketch, sketch};
pub use files::{DirFiles, Files, SideFile};
pub(crate) use files::{list_all, read_full, read_side_full};
pub use index::Index;
pub use key_use::{KeyUse, key_use};
pub use reader::{Reader, Stop};
pub use recover::{Damage, GroupAt, Opened, recover, recover_files, recover_quickly, recover_to_write};
pub(crate) use recover::{judge_end, judge_next, place_before};
pub use seal::Sealing;
pub use segment::Segments;
pub(crate) use stub::{is_stub, newest_of_any_size as newest_stub};

use crate::dir::DataDir;
use crate::error::{Error, Result};
use crate::repair::{Ledger, Note};
use crate::scrub::{Scrub, Suspects};
use checkpoint::Origin;
use seal::Sealer;

/// Number of the first data key.
pub const KEY_ID: u32 = crate::keyring::FIRST_KEY_ID;

/// The writing side of the log: does what the core's effects say.
#[derive(Debug)]
pub struct Store<F = DirFiles> {
    segments: Segments<F>,
    index: Index,
    reader: Reader<F>,
    /// Segment and page of the group being written, and the page of its epoch header, if any.
    at: Option<(u64, u64, Option<u64>)>,
    /// The page behind that group.
    at_end: u64,
    seals: Seals,
    /// The segment that is written to, and its first page that is not durable.
    end: (u64, u64),
    scrub: Option<Scrub<F>>,
    suspects: Suspects,
}

/// What is to be sealed.
#[derive(Debug, Default)]
struct Seals {
    /// Segments before this one are no longer written to: a group of it is durable.
    below: u64,
    /// Everything below this was looked at.
    looked_below: u64,
    /// Hot segments that are full, the oldest first.
    waiting: VecDeque<u64>,
    /// The one that is being sealed.
    at_work: Option<Sealer>,
}

impl Store {
    /// A store over what was recovered.
    ///
    /// # Errors
    /// As [`DataDir::keyring`].
    pub fn new(dir: &DataDir, segments: Segments, index: Index) -> Result<Self> {
        Ok(Self::over(segments, Reader::new(dir)?, index))
    }
}

impl<F: Files> Store<F> {
    /// A store over what was recovered from the same files that `segments` and `reader` see.
    #[must_use]
    pub fn over(segments: Segments<F>, reader: Reader<F>, index: Index) -> Self {
        let end = segments.settled();
        let seals = Seals { below: end.0, ..Seals::default() };
        let suspects = Suspects::default();
        Self { segments, index, reader, at: None, at_end: 0, seals, end, scrub: None, suspects }
    }

    /// Does [`Effect::Provision`](ropeway_core::node::Effect::Provision).
    pub fn provision(&mut self, segment: u64) -> Completion {
        match self.segments.provision(segment) {
            Ok(()) => Completion::Provisioned { segment },
            Err(e) => failed(&e, true),
        }
    }

    /// Does [`Effect::Append`](ropeway_core::node::Effect::Append). Says something only if it
    /// failed.
    pub fn append(&mut self, at: LogPosition, bytes: &[u8]) -> Option<Completion> {
        let page = at.offset / PAGE_BYTES as u64;
        let epoch = bytes.starts_with(segment::MAGIC).then_some(page);
        self.at = Some((at.segment, epoch.map_or(page, |p| p + 1), epoch));
        self.at_end = page + (bytes.len() / PAGE_BYTES) as u64;
        self.segments.write(at.segment, at.offset, bytes).err().map(|e| failed(&e, false))
    }

    /// Does [`Effect::Sync`](ropeway_core::node::Effect::Sync). `runs`: what the group holds
    /// ([`Node::runs_in_flight`](ropeway_core::node::Node::runs_in_flight)), for the index.
    pub fn sync(&mut self, upto: u64, runs: &[RunAt]) -> Completion {
        match self.segments.sync() {
            Ok(()) => {
                if let Some((segment, page, epoch)) = self.at.take() {
                    self.seals.below = segment;
                    self.end = (segment, self.at_end);
                    self.index.wrote(runs, segment, page, epoch);
                }
                Completion::Durable { upto }
            }
            Err(e) => failed(&e, false),
        }
    }

    /// Does a bounded part of what there is to seal: call it when nothing else is to be done. What
    /// fails is given up until the next segment is full, and loses nothing. `random`: 32 bytes from a
    /// cryptographic source.
    pub fn seal(&mut self, random: &mut dyn FnMut() -> Result<[u8; 32]>) -> Sealing {
        if self.seals.looked_below < self.seals.below {
            self.seals.looked_below = self.seals.below;
            let at_work = self.seals.at_work.as_ref().map(Sealer::segment);
            let hot = self.segments.files().list().unwrap_or_default();
            let full = hot.into_iter().filter(|n| *n < self.seals.below && Some(*n) != at_work);
            self.seals.waiting = full.collect();
        }
        if self.seals.at_work.is_none() {
            self.seals.at_work = self.seals.waiting.pop_front().map(Sealer::new);
        }
        let Some(sealer) = &mut self.seals.at_work else { return Sealing::Idle };
        let number = sealer.segment();
        let stepped = sealer.step(self.segments.files(), &mut self.reader, &self.index.ledger, random);
        let done = match stepped {
            Ok(None) => return Sealing::Working,
            Ok(Some(_)) => self.replace(number),
            Err(e) => Err(e),
        };
        self.seals.at_work = None;
        match done {
            Ok(()) => {
                self.remember(number, random);
                Sealing::Sealed(number)
            }
            Err(e) => {
                log::warn!("segment {number} stays as it is: {e}");
                let _ = self.segments.files().remove_side(SideFile::Unfinished);
                Sealing::Kept(number)
            }
        }
    }

    /// Puts the sealed file in the place of the hot one (docs/LOG.md#sealed-10).
    fn replace(&mut self, number: u64) -> Result<()> {
        let files = self.segments.files();
        files.name_unfinished(SideFile::Sealed(number))?;
        files.sync_list()?;
        files.remove(number)?;
        self.index.seal(number);
        self.reader.forget(number);
        // Should the removal be lost, then both are there, and the hot one counts.
        files.sync_list()
    }

    /// Writes a checkpoint of the end of a segment that was sealed. One that fails costs the next start
    /// some time, and nothing else.
    fn remember(&mut self, number: u64, random: &mut dyn FnMut() -> Result<[u8; 32]>) {
        let Some(origin) = self.index.origin else { return };
        let files = self.segments.files();
        let written = files.list().and_then(|hot| {
            // A segment that stays hot is read at every start, and with it all that follows.
            if hot.first().is_some_and(|n| *n <= number) {
                return Ok(false);
            }
            let (_, keys, _) = self.reader.parts();
            checkpoint::write(files, keys, &origin, &self.index.ledger, number, random()?).map(|()| true)
        });
        match written {
            Ok(true) => self.index.origin = Some(Origin { fits: true, ..origin }),
            Ok(false) => {}
            Err(e) => {
                log::warn!("no checkpoint of segment {number}: {e}");
                let _ = self.segments.files().remove_side(SideFile::Unfinished);
            }
        }
    }

    /// Removes the checkpoint: events that it counts on cannot be read. The next start then reads
    /// everything, finds what is missing, and asks peers for it.
    pub(crate) fn distrust(&mut self) {
        let Some(origin) = self.index.origin.filter(|o| o.fits) else { return };
        self.index.origin = Some(Origin { fits: false, ..origin });
        if let Err(e) = remove_checkpoint(self.segments.files()) {
            log::warn!("{e}");
        }
    }

    /// What the log tells of its damages.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.index.ledger
    }

    /// Takes a REPAIR that is durable in the log ([`Book::poll`](crate::repair::Book::poll)). Segments that
    /// could not be sealed for the damage are tried again.
    pub fn learn(&mut self, note: Note) {
        self.index.ledger.take(note);
        self.seals.looked_below = 0;
    }

    /// An event cannot be read: where it should stand is looked at closely, and no start trusts the
    /// checkpoint before that.
    pub(crate) fn suspect(&mut self, stream: u32, key: &StreamKey, seq: u64) {
        self.distrust();
        for (segment, sealed) in self.reader.places(&self.index, stream, key, seq) {
            self.suspects.push(segment, sealed);
        }
    }

    /// The reading side, with the index it needs.
    pub fn reader(&mut self) -> (&mut Reader<F>, &Index) {
        (&mut self.reader, &self.index)
    }
}

fn remove_checkpoint<F: Files>(files: &mut F) -> Result<()> {
    let removed = [0, 1].map(|slot| files.remove_side(SideFile::Checkpoint(slot)));
    removed.into_iter().chain([files.sync_list()]).collect()
}

/// Removes the checkpoint of a log in which damage was found, so that the next start reads everything,
/// sees what is missing, and asks peers for it. Nothing but time is lost (docs/LOG.md#checkpoint-3).
///
/// # Errors
/// [`Code::Locked`] if a process works on the log; [`Code::ReadOnly`], [`Code::Io`].
pub fn forget_checkpoint(dir: &DataDir) -> Result<()> {
    let _lock = crate::dir::DirLock::acquire(dir)?;
    remove_checkpoint(&mut DirFiles::new(dir))
}

fn failed(e: &Error, provisioning: bool) -> Completion {
    log::error!("{e}");
    let fault = match e.code {
        Code::DiskFull => WriteFault::Full,
        Code::ReadOnly => WriteFault::ReadOnly,
        _ => WriteFault::Failed,
    };
    Completion::WriteFailed { fault, provisioning }
}

/// The data keys of a directory, as the scanner wants them.
pub(crate) fn keys(dir: &DataDir) -> Result<Vec<(u32, DataKey)>> {
    Ok(dir.keyring()?.data_keys())
}

pub(crate) fn segment_path(dir: &DataDir, number: u64) -> PathBuf {
    dir.log().join(ropeway_core::log::SegmentName(number).to_string())
}

pub(crate) fn side_path(dir: &DataDir, file: SideFile) -> PathBuf {
    dir.log().join(file.to_string())
}

//! The log's files: segments are made, written, scanned and read here; what the bytes mean is the
//! core's business (docs/LOG.md).

mod files;
mod index;
mod reader;
mod recover;
mod segment;

use std::path::PathBuf;

use ropeway_core::code::Code;
use ropeway_core::log::{DataKey, PAGE_BYTES};
use ropeway_core::node::{Completion, LogPosition, WriteFault};
use ropeway_core::recovery::RunAt;

pub use files::{DirFiles, Files};
pub use index::Index;
pub use reader::{Reader, Stop};
pub use recover::{Damage, GroupAt, Opened, recover, recover_files, recover_to_write};
pub use segment::Segments;

use crate::dir::DataDir;
use crate::error::{Error, IoContext, Result};

/// Number of the only data key that there is so far.
pub const KEY_ID: u32 = 1;

/// The writing side of the log: does what the core's effects say.
#[derive(Debug)]
pub struct Store<F = DirFiles> {
    segments: Segments<F>,
    index: Index,
    reader: Reader<F>,
    /// Segment and page of the group being written, and the page of its epoch header, if any.
    at: Option<(u64, u64, Option<u64>)>,
}

impl Store {
    /// A store over what was recovered.
    ///
    /// # Errors
    /// As [`DataDir::read_log_key`].
    pub fn new(dir: &DataDir, segments: Segments, index: Index) -> Result<Self> {
        Ok(Self::over(segments, Reader::new(dir)?, index))
    }
}

impl<F: Files> Store<F> {
    /// A store over what was recovered from the same files that `segments` and `reader` see.
    #[must_use]
    pub fn over(segments: Segments<F>, reader: Reader<F>, index: Index) -> Self {
        Self { segments, index, reader, at: None }
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
        self.segments.write(at.segment, at.offset, bytes).err().map(|e| failed(&e, false))
    }

    /// Does [`Effect::Sync`](ropeway_core::node::Effect::Sync). `runs`: what the group holds
    /// ([`Node::runs_in_flight`](ropeway_core::node::Node::runs_in_flight)), for the index.
    pub fn sync(&mut self, upto: u64, runs: &[RunAt]) -> Completion {
        match self.segments.sync() {
            Ok(()) => {
                if let Some((segment, page, epoch)) = self.at.take() {
                    self.index.wrote(runs, segment, page, epoch);
                }
                Completion::Durable { upto }
            }
            Err(e) => failed(&e, false),
        }
    }

    /// The reading side, with the index it needs.
    pub fn reader(&mut self) -> (&mut Reader<F>, &Index) {
        (&mut self.reader, &self.index)
    }
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
pub(crate) fn keys(dir: &DataDir) -> Result<[(u32, DataKey); 1]> {
    Ok([(KEY_ID, DataKey::new(*dir.read_log_key()?.as_bytes()))])
}

pub(crate) fn segment_path(dir: &DataDir, number: u64) -> PathBuf {
    dir.log().join(ropeway_core::log::SegmentName(number).to_string())
}

/// Copies what a torn write has left at the end of the log to `quarantine/`: the next group goes
/// elsewhere and nothing is cut off, but the copy survives the segment's reuse. Without room for it, or
/// on a read-only disk, there is none: that must not keep the node from sending what it holds.
pub(crate) fn set_aside(dir: &DataDir, damages: &[Damage]) -> Result<()> {
    match copy_tails(dir, damages) {
        Err(e) if matches!(e.code, Code::DiskFull | Code::ReadOnly) => {
            log::warn!("{e}; the torn write stays where it is")
        }
        other => return other,
    }
    Ok(())
}

fn copy_tails(dir: &DataDir, damages: &[Damage]) -> Result<()> {
    use std::os::unix::fs::FileExt;
    for d in damages.iter().filter(|d| matches!(d.code, Code::TornTail | Code::TailSuspect) && d.to_page > d.from_page)
    {
        let to = dir.quarantine().join(format!("seg-{:08}-page-{}.bin", d.segment, d.from_page));
        if to.exists() {
            continue;
        }
        std::fs::create_dir_all(dir.quarantine()).at("making", &dir.quarantine())?;
        let from = segment_path(dir, d.segment);
        let mut bytes = vec![0; (d.to_page - d.from_page) as usize * PAGE_BYTES];
        let file = std::fs::File::open(&from).at("opening", &from)?;
        file.read_exact_at(&mut bytes, d.from_page * PAGE_BYTES as u64).at("reading", &from)?;
        crate::dir::write_atomic(&to, &bytes, crate::dir::Access::Secret)?;
    }
    Ok(())
}

//! Segment files: made full of zeros, written in place, synced.
//!
//! Zero-filled, because the file's size and blocks then never change: a commit costs the device
//! its own pages and nothing else.

use ropeway_core::code::Code;
use ropeway_core::log::{HEADER_BYTES, Header, PAGE_BYTES};

use super::files::{copy_of_header, read_full};
use super::{DirFiles, Files, GroupAt, Opened};
use crate::dir::DataDir;
use crate::error::{Error, Result};

/// How an epoch header begins (docs/LOG.md#header-1).
pub(super) const MAGIC: &[u8] = b"\x89RPW\r\n\x1a\n";

/// The segment files that are being written.
#[derive(Debug)]
pub struct Segments<F = DirFiles> {
    files: F,
    segment_bytes: u64,
    /// The segment that was written to last.
    current: Option<u64>,
    /// A sync failed: the kernel may have dropped the pages and will report success next time, so
    /// no further sync of this log is believed.
    poisoned: bool,
    /// The segment of the newest group when the log was opened, and the page behind it, once it was durable.
    settled: (u64, u64),
}

/// What became of the newest group when a log was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// It is on stable storage, as is everything before it.
    Durable,
    /// Nobody can tell.
    InDoubt,
}

impl Segments {
    /// Writes segments of `segment_bytes` in `dir`.
    #[must_use]
    pub fn new(dir: &DataDir, segment_bytes: u64) -> Self {
        Self::over(DirFiles::new(dir), segment_bytes)
    }
}

impl<F: Files> Segments<F> {
    /// Writes segments of `segment_bytes`.
    #[must_use]
    pub fn over(files: F, segment_bytes: u64) -> Self {
        Self { files, segment_bytes, current: None, poisoned: false, settled: (0, 0) }
    }

    /// Makes durable what opening has found. A process that was killed between write and sync leaves
    /// its last group in the page cache, and one whose sync failed leaves it there marked clean: it
    /// can be read, and would be told of and acknowledged, until the power goes. Writing it once
    /// more is the only way to be sure (Rebello et al., "Can Applications Recover from fsync
    /// Failures?", USENIX ATC 2020). Before that, nothing may be promised.
    ///
    /// Where nothing can be written, what the device itself holds decides. If that cannot be read
    /// either, or differs, the newest group is [in doubt](Settled::InDoubt) (docs/LOG.md#recovery-6).
    ///
    /// # Errors
    /// [`Code::Storage`], [`Code::Io`].
    pub(super) fn settle(&mut self, opened: &Opened) -> Result<Settled> {
        let Some(newest) = opened.newest else { return Ok(Settled::Durable) };
        let bytes = self.pages(newest)?;
        match self.rewrite(newest, &bytes) {
            Err(e) if e.code == Code::ReadOnly => {
                log::warn!("{e}");
                let mut stable = vec![0; bytes.len()];
                let read = self.files.read_stable(newest.segment, newest.offset(), &mut stable);
                if read.is_ok() && stable == bytes {
                    return Ok(Settled::Durable);
                }
                log::warn!("the newest group may stand in the page cache only and is told to nobody");
                Ok(Settled::InDoubt)
            }
            Ok(()) => {
                self.settled = (newest.segment, newest.to_page);
                Ok(Settled::Durable)
            }
            Err(e) => Err(e),
        }
    }

    fn pages(&mut self, group: GroupAt) -> Result<Vec<u8>> {
        let mut bytes = vec![0; (group.to_page - group.from_page) as usize * PAGE_BYTES];
        let (len, n) = (bytes.len(), read_full(&mut self.files, group.segment, group.offset(), &mut bytes, 1)?);
        if n < len {
            let path = self.files.describe(group.segment);
            return Err(Error::at(Code::Storage, &path, "it has shrunk since it was read"));
        }
        // Where the group began an epoch and the header did not reach its page, or has rotted there, it is
        // put back: the copies are spent one by one.
        if Header::parse(&bytes).is_err()
            && let Some(header) = copy_of_header(&mut self.files, group.segment, group.from_page)
        {
            bytes[..PAGE_BYTES].fill(0);
            bytes[..HEADER_BYTES].copy_from_slice(&header.emit());
        }
        Ok(bytes)
    }

    fn rewrite(&mut self, group: GroupAt, bytes: &[u8]) -> Result<()> {
        self.files.sync_list()?;
        self.write(group.segment, group.offset(), bytes)?;
        self.sync()
    }

    /// Segments before this one are full, and what follows them is durable up to this page.
    pub(super) fn settled(&self) -> (u64, u64) {
        self.settled
    }

    pub(super) fn files(&mut self) -> &mut F {
        &mut self.files
    }

    /// Makes segment `number`: durably, and whole or not at all.
    ///
    /// # Errors
    /// [`Code::DiskFull`], [`Code::ReadOnly`], [`Code::Io`].
    pub fn provision(&mut self, number: u64) -> Result<()> {
        self.files.provision(number, self.segment_bytes)
    }

    /// Writes `bytes` at `offset` of segment `number`.
    ///
    /// # Errors
    /// [`Code::Io`] and its kin.
    pub fn write(&mut self, number: u64, offset: u64, bytes: &[u8]) -> Result<()> {
        self.current = Some(number);
        self.files.write_at(number, offset, bytes)
    }

    /// Waits until everything written is on stable storage. After one failure it fails for good.
    ///
    /// # Errors
    /// [`Code::Storage`].
    pub fn sync(&mut self) -> Result<()> {
        let Some(number) = self.current.filter(|_| !self.poisoned) else {
            return Err(Code::Storage.into());
        };
        let synced = self.files.sync(number);
        self.poisoned = synced.is_err();
        synced.map_err(|e| Error::new(Code::Storage, e.to_string()))
    }
}

//! Segment files: made full of zeros, written in place, synced.
//!
//! Zero-filled, because the file's size and blocks then never change: a commit costs the device
//! its own pages and nothing else.

use ropeway_core::code::Code;

use super::{DirFiles, Files};
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
        Self { files, segment_bytes, current: None, poisoned: false }
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

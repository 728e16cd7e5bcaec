//! Segment files: made full of zeros, written in place, synced.
//!
//! Zero-filled, because the file's size and blocks then never change: a commit costs the device
//! its own pages and nothing else.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use ropeway_core::code::Code;
use ropeway_core::log::SegmentName;

use super::segment_path;
use crate::dir::DataDir;
use crate::error::{Error, IoContext, Result};

/// How an epoch header begins (docs/LOG.md#header-1).
pub(super) const MAGIC: &[u8] = b"\x89RPW\r\n\x1a\n";

/// The segment files that are being written.
#[derive(Debug)]
pub struct Segments {
    dir: DataDir,
    segment_bytes: u64,
    current: Option<(u64, File)>,
    /// A sync failed: the kernel may have dropped the pages and will report success next time, so
    /// no further sync of this log is believed.
    poisoned: bool,
}

impl Segments {
    /// Writes segments of `segment_bytes` in `dir`.
    #[must_use]
    pub fn new(dir: &DataDir, segment_bytes: u64) -> Self {
        Self { dir: dir.clone(), segment_bytes, current: None, poisoned: false }
    }

    /// Makes the file of segment `number`: under another name until it is complete and synced, so
    /// that a crash leaves no half-filled segment.
    ///
    /// # Errors
    /// [`Code::DiskFull`], [`Code::ReadOnly`], [`Code::Io`].
    pub fn provision(&mut self, number: u64) -> Result<()> {
        let (path, dir) = (segment_path(&self.dir, number), self.dir.log());
        if path.exists() {
            return Err(Error::at(Code::Storage, &path, "the next segment's file exists already"));
        }
        let fresh = dir.join("next.tmp");
        let filled = fill(&fresh, self.segment_bytes);
        if filled.is_err() {
            // Half a file would keep the space that is missing.
            let _ = std::fs::remove_file(&fresh);
        }
        filled?;
        std::fs::rename(&fresh, &path).at("renaming", &fresh)?;
        File::open(&dir).and_then(|d| d.sync_all()).at("syncing", &dir)
    }

    /// Writes `bytes` at `offset` of segment `number`.
    ///
    /// # Errors
    /// [`Code::Io`] and its kin.
    pub fn write(&mut self, number: u64, offset: u64, bytes: &[u8]) -> Result<()> {
        let path = segment_path(&self.dir, number);
        let file = match &mut self.current {
            Some((n, file)) if *n == number => file,
            slot => {
                let file = OpenOptions::new().write(true).open(&path).at("opening", &path)?;
                &mut slot.insert((number, file)).1
            }
        };
        file.write_all_at(bytes, offset).at("writing", &path)
    }

    /// Waits until everything written is on stable storage. After one failure it fails for good.
    ///
    /// # Errors
    /// [`Code::Storage`].
    pub fn sync(&mut self) -> Result<()> {
        let Some((number, file)) = self.current.as_ref().filter(|_| !self.poisoned) else {
            return Err(Code::Storage.into());
        };
        let synced = file.sync_data().at("syncing", &segment_path(&self.dir, *number));
        self.poisoned = synced.is_err();
        synced.map_err(|e| Error::new(Code::Storage, e.to_string()))
    }
}

fn fill(path: &Path, len: u64) -> Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path).at("making", path)?;
    let zeros = [0u8; 64 << 10];
    let mut left = len;
    while left > 0 {
        let n = left.min(zeros.len() as u64);
        file.write_all(&zeros[..n as usize]).at("filling", path)?;
        left -= n;
    }
    file.sync_all().at("syncing", path)
}

/// The numbers of the segment files in `dir`, ascending. Files of other names are left alone.
pub(super) fn list(dir: &DataDir) -> Result<Vec<u64>> {
    let path = dir.log();
    let entries = match std::fs::read_dir(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.at("listing", &path)?,
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry.at("listing", &path)?.file_name();
        if let Some(SegmentName(n)) = name.to_str().and_then(|n| n.parse().ok()) {
            numbers.push(n);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

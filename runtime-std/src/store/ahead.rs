//! A segment read in large pieces and handed out in small ones.

use super::Files;
use super::files::read_full;
use crate::error::Result;

/// How much is read at once where nothing else is said, in bytes.
const AHEAD_BYTES: usize = 128 << 10;

/// A piece of a file in memory: more than was asked for, so that what follows is there already.
#[derive(Debug)]
pub(crate) struct Ahead {
    at_once_bytes: usize,
    bytes: Vec<u8>,
    at: u64,
}

impl Default for Ahead {
    fn default() -> Self {
        Self::of(AHEAD_BYTES)
    }
}

impl Ahead {
    /// Reads at least so many bytes at once.
    pub(crate) fn of(at_once_bytes: usize) -> Self {
        Self { at_once_bytes, bytes: Vec::new(), at: 0 }
    }

    /// Forgets what was read: the file is another one, or was written to.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// `len` bytes of the file from `offset` on, fewer if it ends before. Where they are not in memory, `read`
    /// fills as much as it can of a buffer, which may be cut short, from `offset` on, and says how much.
    ///
    /// # Errors
    /// Those of `read`.
    pub(crate) fn get(
        &mut self,
        offset: u64,
        len: usize,
        read: impl FnOnce(&mut Vec<u8>) -> Result<usize>,
    ) -> Result<&[u8]> {
        let end = self.at + self.bytes.len() as u64;
        if offset < self.at || offset + len as u64 > end {
            self.bytes.resize(len.max(self.at_once_bytes), 0);
            let read = read(&mut self.bytes);
            self.bytes.truncate(*read.as_ref().unwrap_or(&0));
            read?;
            self.at = offset;
        }
        let at = ((offset - self.at) as usize).min(self.bytes.len());
        Ok(&self.bytes[at..(at + len).min(self.bytes.len())])
    }
}

/// Fills the buffer, or, where that fails, its first `len` bytes: what lies behind may be unreadable, what is
/// wanted perhaps not.
pub(crate) fn or_less(
    buf: &mut Vec<u8>,
    len: usize,
    mut read: impl FnMut(&mut [u8]) -> Result<usize>,
) -> Result<usize> {
    read(buf).or_else(|_| {
        buf.truncate(len);
        read(buf)
    })
}

/// Reads one segment after another. Holds one piece of the file and one frame.
#[derive(Debug, Default)]
pub(crate) struct ReadAhead {
    segment: u64,
    ahead: Ahead,
    piece: Vec<u8>,
}

impl ReadAhead {
    /// Goes on with this segment, read afresh; its length in bytes.
    pub(crate) fn open<F: Files>(&mut self, files: &mut F, segment: u64) -> Result<u64> {
        self.segment = segment;
        self.ahead.clear();
        files.len(segment)
    }

    /// A copy of these bytes, fewer if the file ends before: who decrypts them does so in place.
    pub(crate) fn read<F: Files>(&mut self, files: &mut F, offset: u64, len: usize) -> Result<&mut [u8]> {
        let segment = self.segment;
        let bytes = self.ahead.get(offset, len, |buf| read_full(files, segment, offset, buf, len))?;
        self.piece.clear();
        self.piece.extend_from_slice(bytes);
        Ok(&mut self.piece)
    }
}

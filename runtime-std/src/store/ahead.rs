//! A segment read in large pieces and handed out in small ones.

use super::Files;
use super::files::read_full;
use crate::error::Result;

/// How much is read at once, in bytes.
const AHEAD_BYTES: usize = 128 << 10;

/// Reads one segment after another. Holds one piece of the file and one frame.
#[derive(Debug, Default)]
pub(crate) struct ReadAhead {
    segment: u64,
    ahead: Vec<u8>,
    ahead_at: u64,
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
        let end = self.ahead_at + self.ahead.len() as u64;
        if offset < self.ahead_at || offset + len as u64 > end {
            self.ahead.resize(len.max(AHEAD_BYTES), 0);
            let read = read_full(files, self.segment, offset, &mut self.ahead, len);
            self.ahead.truncate(*read.as_ref().unwrap_or(&0));
            read?;
            self.ahead_at = offset;
        }
        let at = (offset - self.ahead_at) as usize;
        let end = (at + len).min(self.ahead.len());
        self.piece.clear();
        self.piece.extend_from_slice(&self.ahead[at..end]);
        Ok(&mut self.piece)
    }
}

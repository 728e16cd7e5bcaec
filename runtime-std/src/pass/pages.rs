//! A segment read in large pieces and handed out in small ones.

use crate::error::Result;
use crate::store::Files;

/// How much is read at once, in bytes.
const AHEAD_BYTES: usize = 128 << 10;

/// Reads one segment after another. Holds one piece of the file and one frame.
#[derive(Debug)]
pub(crate) struct Pages<F> {
    pub(crate) files: F,
    segment: u64,
    ahead: Vec<u8>,
    ahead_at: u64,
    piece: Vec<u8>,
}

impl<F: Files> Pages<F> {
    pub(crate) fn new(files: F) -> Self {
        Self { files, segment: 0, ahead: Vec::new(), ahead_at: 0, piece: Vec::new() }
    }

    /// Goes on with this segment, read afresh; its length in bytes.
    pub(crate) fn open(&mut self, segment: u64) -> Result<u64> {
        self.segment = segment;
        self.ahead.clear();
        self.files.len(segment)
    }

    /// A copy of these bytes, fewer if the file ends before: who decrypts them does so in place.
    pub(crate) fn read(&mut self, offset: u64, len: usize) -> Result<&mut [u8]> {
        let end = self.ahead_at + self.ahead.len() as u64;
        if offset < self.ahead_at || offset + len as u64 > end {
            self.ahead.resize(len.max(AHEAD_BYTES), 0);
            let read = fill(&mut self.files, self.segment, offset, &mut self.ahead, len);
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

/// Reads until `buf` is full or the segment ends; an error behind the first `need` bytes is another
/// read's worry.
fn fill<F: Files>(files: &mut F, segment: u64, offset: u64, buf: &mut [u8], need: usize) -> Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match files.read_at(segment, offset + done as u64, &mut buf[done..]) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(_) if done >= need => break,
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

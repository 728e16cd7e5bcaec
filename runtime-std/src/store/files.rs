//! What lies under the store: numbered files of fixed size. On a computer they are files in the
//! data directory; a simulator lends a disk of its own.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ropeway_core::code::Code;
use ropeway_core::log::{HEADER_BYTES, Header, MAX_BODY_BYTES, PAGE_BYTES, SealedName, SegmentName, frame_pages};

use super::{segment_path, side_path};
use crate::dir::DataDir;
use crate::error::{Error, IoContext, Result};

/// A file of the log beside the hot segments (docs/LOG.md#sealed-1): written once from front to back,
/// synced, and given its name only then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SideFile {
    /// A sealed segment.
    Sealed(u64),
    /// One of the two slots of the checkpoint.
    Checkpoint(u8),
    /// What is being written and has no name yet. Worth nothing after a crash.
    Unfinished,
}

impl fmt::Display for SideFile {
    /// Its file name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SideFile::Sealed(number) => SealedName(*number).fmt(f),
            SideFile::Checkpoint(0) => f.write_str("checkpoint-a"),
            SideFile::Checkpoint(_) => f.write_str("checkpoint-b"),
            SideFile::Unfinished => f.write_str("unfinished.tmp"),
        }
    }
}

/// Segment files, by number. Offsets and lengths are in bytes.
///
/// The reading and the writing side of a store have one of these each; both see the same files.
///
/// # Errors
/// Every call: [`Code::Io`], or [`Code::DiskFull`] and [`Code::ReadOnly`] where that is the cause.
pub trait Files {
    /// The numbers of the segments, ascending.
    ///
    /// # Errors
    /// See [`Files`].
    fn list(&mut self) -> Result<Vec<u64>>;

    /// Size of a segment.
    ///
    /// # Errors
    /// See [`Files`].
    fn len(&mut self, segment: u64) -> Result<u64>;

    /// Reads at least one byte and at most `buf.len()`; 0 at the end of the segment only. Fewer than
    /// asked for where something behind them cannot be read: asking for that is the error.
    ///
    /// # Errors
    /// See [`Files`].
    fn read_at(&mut self, segment: u64, offset: u64, buf: &mut [u8]) -> Result<usize>;

    /// Fills `buf` with what is on stable storage, past every cache of the system. Offset and length
    /// are multiples of the page size.
    ///
    /// # Errors
    /// See [`Files`]; also where the system cannot do that.
    fn read_stable(&mut self, segment: u64, offset: u64, buf: &mut [u8]) -> Result<()>;

    /// Makes a segment of `bytes` zeros, durably: a crash leaves all of it or nothing.
    ///
    /// # Errors
    /// See [`Files`]; [`Code::Storage`] if it exists.
    fn provision(&mut self, segment: u64, bytes: u64) -> Result<()>;

    /// Writes all of `bytes`, not durably yet.
    ///
    /// # Errors
    /// See [`Files`].
    fn write_at(&mut self, segment: u64, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Waits until everything written to the segment that was written to last is on stable storage.
    ///
    /// # Errors
    /// See [`Files`]. What was written may be lost then, and the next call may succeed all the same.
    fn sync(&mut self, segment: u64) -> Result<()>;

    /// Waits until the list of the segments is on stable storage.
    ///
    /// # Errors
    /// See [`Files`].
    fn sync_list(&mut self) -> Result<()>;

    /// What messages call the segment.
    fn describe(&self, segment: u64) -> PathBuf;

    /// The numbers of the sealed segments, ascending.
    ///
    /// # Errors
    /// See [`Files`].
    fn list_sealed(&mut self) -> Result<Vec<u64>> {
        Ok(Vec::new())
    }

    /// Removes a hot segment. Not durable before [`Files::sync_list`].
    ///
    /// # Errors
    /// See [`Files`].
    fn remove(&mut self, segment: u64) -> Result<()> {
        Err(Error::at(Code::ReadOnly, &self.describe(segment), "segments cannot be removed here"))
    }

    /// Asks the system to forget what it remembers of a segment or its sealed file, so that the next
    /// reads come from the device. Nothing where it cannot.
    fn drop_cached(&mut self, _segment: u64, _sealed: bool) {}

    /// Lets go of a segment that was removed: a file that is still open keeps its room.
    fn close(&mut self, _segment: u64) {}

    /// Size of a side file, `None` if there is none.
    ///
    /// # Errors
    /// See [`Files`].
    fn side_len(&mut self, _file: SideFile) -> Result<Option<u64>> {
        Ok(None)
    }

    /// Reads from a side file as [`Files::read_at`] does.
    ///
    /// # Errors
    /// See [`Files`].
    fn read_side(&mut self, file: SideFile, _offset: u64, _buf: &mut [u8]) -> Result<usize> {
        Err(Error::new(Code::Io, format!("{file} is not there")))
    }

    /// Writes all of `bytes` into [`SideFile::Unfinished`], not durably yet. At offset 0 the file
    /// is made anew.
    ///
    /// # Errors
    /// See [`Files`].
    fn write_unfinished(&mut self, _offset: u64, _bytes: &[u8]) -> Result<()> {
        Err(Error::new(Code::ReadOnly, "no side files here"))
    }

    /// Waits until everything written to [`SideFile::Unfinished`] is on stable storage.
    ///
    /// # Errors
    /// See [`Files`].
    fn sync_unfinished(&mut self) -> Result<()> {
        Err(Error::new(Code::ReadOnly, "no side files here"))
    }

    /// Gives [`SideFile::Unfinished`] its name, in the place of what had it. Atomic, and not durable
    /// before [`Files::sync_list`].
    ///
    /// # Errors
    /// See [`Files`].
    fn name_unfinished(&mut self, _file: SideFile) -> Result<()> {
        Err(Error::new(Code::ReadOnly, "no side files here"))
    }

    /// Removes a side file; nothing if there is none. Not durable before [`Files::sync_list`].
    ///
    /// # Errors
    /// See [`Files`].
    fn remove_side(&mut self, _file: SideFile) -> Result<()> {
        Ok(())
    }
}

/// The numbers of the hot segments, and of all segments, ascending.
pub(crate) fn list_all<F: Files>(files: &mut F) -> Result<(Vec<u64>, Vec<u64>)> {
    // Hot ones first: what is sealed between the two lists is in both.
    let hot = files.list()?;
    let mut all = files.list_sealed()?;
    all.extend(&hot);
    all.sort_unstable();
    all.dedup();
    Ok((hot, all))
}

/// As [`read_full`], from a side file.
pub(crate) fn read_side_full<F: Files>(files: &mut F, file: SideFile, offset: u64, buf: &mut [u8]) -> Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match files.read_side(file, offset + done as u64, &mut buf[done..])? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}

/// Reads until `buf` is full or the segment ends. Once `need` bytes are there, an error behind them
/// is another read's worry.
pub(crate) fn read_full<F: Files>(
    files: &mut F,
    segment: u64,
    offset: u64,
    buf: &mut [u8],
    need: usize,
) -> Result<usize> {
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

/// Pages behind one that has lost its header of which at least one holds something, if ever anything was
/// written behind it: of an empty segment not more is read. More than a group of 288 KiB has, all of which may have been
/// written elsewhere together with the header.
const NEAR_PAGES: u64 = 80;

/// The header of a page of a hot segment that has lost it, from a copy in one of the frames behind it
/// (docs/LOG.md#frame-8). `None` if there is no copy, or nothing was ever written behind the page.
pub(super) fn copy_of_header<F: Files>(files: &mut F, segment: u64, page: u64) -> Option<Header> {
    let page_bytes = PAGE_BYTES as u64;
    let mut is_used = |page: u64| {
        let mut word = [0; 4];
        let read = read_full(files, segment, page * page_bytes, &mut word, 4);
        !matches!((read, word), (Ok(_), [0, 0, 0, 0] | [0xff, 0xff, 0xff, 0xff]))
    };
    if !(page + 1..=page + NEAR_PAGES).any(&mut is_used) {
        return None;
    }
    let mut copy = [0; HEADER_BYTES];
    for last in page + 1..=page + frame_pages(MAX_BODY_BYTES) {
        let at = (last + 1) * page_bytes - HEADER_BYTES as u64;
        match read_full(files, segment, at, &mut copy, HEADER_BYTES) {
            Ok(HEADER_BYTES) => {}
            Ok(_) => return None,
            Err(_) => continue,
        }
        let found = Header::parse(&copy).ok();
        if let Some(header) = found.filter(|h| (h.start.segment, h.start.page) == (segment, page)) {
            return Some(header);
        }
    }
    None
}

/// The files in the `log` folder of a data directory. Keeps the one that was read last open, and the
/// one that was written last.
#[derive(Debug)]
pub struct DirFiles {
    dir: DataDir,
    reading: Option<(u64, File)>,
    writing: Option<(u64, File)>,
    side: Option<(SideFile, File)>,
    unfinished: Option<File>,
}

impl DirFiles {
    /// The segments of `dir`. Opens nothing yet.
    #[must_use]
    pub fn new(dir: &DataDir) -> Self {
        Self { dir: dir.clone(), reading: None, writing: None, side: None, unfinished: None }
    }

    fn reading(&mut self, segment: u64) -> Result<&File> {
        let path = segment_path(&self.dir, segment);
        kept(&mut self.reading, segment, || File::open(&path).at("opening", &path))
    }

    /// The numbers that `number` finds in the names of the folder.
    fn numbers(&self, number: impl Fn(&str) -> Option<u64>) -> Result<Vec<u64>> {
        let path = self.dir.log();
        let entries = match std::fs::read_dir(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.at("listing", &path)?,
        };
        let mut numbers = Vec::new();
        for entry in entries {
            numbers.extend(entry.at("listing", &path)?.file_name().to_str().and_then(&number));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }
}

impl Files for DirFiles {
    /// Files of other names are left alone.
    fn list(&mut self) -> Result<Vec<u64>> {
        self.numbers(|name| name.parse::<SegmentName>().ok().map(|n| n.0))
    }

    fn len(&mut self, segment: u64) -> Result<u64> {
        let metadata = self.reading(segment)?.metadata();
        Ok(metadata.at("reading", &self.describe(segment))?.len())
    }

    fn read_at(&mut self, segment: u64, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let read = self.reading(segment)?.read_at(buf, offset);
        read.at("reading", &self.describe(segment))
    }

    /// With `O_DIRECT`, page by page, since the buffer must be aligned.
    fn read_stable(&mut self, segment: u64, offset: u64, buf: &mut [u8]) -> Result<()> {
        let path = segment_path(&self.dir, segment);
        let flags = rustix::fs::OFlags::DIRECT.bits() as i32;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&path).at("opening", &path)?;
        let mut page = Box::new(Aligned([0; PAGE_BYTES]));
        for (i, part) in buf.chunks_mut(PAGE_BYTES).enumerate() {
            file.read_exact_at(&mut page.0, offset + (i * PAGE_BYTES) as u64).at("reading", &path)?;
            part.copy_from_slice(&page.0[..part.len()]);
        }
        Ok(())
    }

    /// Under another name until it is complete and synced, so that a crash leaves no half-filled
    /// segment.
    fn provision(&mut self, segment: u64, bytes: u64) -> Result<()> {
        let (path, dir) = (segment_path(&self.dir, segment), self.dir.log());
        if path.exists() {
            return Err(Error::at(Code::Storage, &path, "the next segment's file exists already"));
        }
        let fresh = dir.join("next.tmp");
        let filled = fill(&fresh, bytes);
        if filled.is_err() {
            // Half a file would keep the space that is missing.
            let _ = std::fs::remove_file(&fresh);
        }
        filled?;
        std::fs::rename(&fresh, &path).at("renaming", &fresh)?;
        self.sync_list()
    }

    fn write_at(&mut self, segment: u64, offset: u64, bytes: &[u8]) -> Result<()> {
        let path = segment_path(&self.dir, segment);
        let open = || OpenOptions::new().write(true).open(&path).at("opening", &path);
        let file = kept(&mut self.writing, segment, open)?;
        file.write_all_at(bytes, offset).at("writing", &path)
    }

    /// Through the very file that was written to: another one might not hear of a lost page.
    fn sync(&mut self, segment: u64) -> Result<()> {
        let path = segment_path(&self.dir, segment);
        let Some((_, file)) = self.writing.as_ref().filter(|w| w.0 == segment) else {
            return Err(Error::at(Code::Storage, &path, "nothing was written"));
        };
        file.sync_data().at("syncing", &path)
    }

    fn sync_list(&mut self) -> Result<()> {
        let dir = self.dir.log();
        File::open(&dir).and_then(|d| d.sync_all()).at("syncing", &dir)
    }

    fn describe(&self, segment: u64) -> PathBuf {
        segment_path(&self.dir, segment)
    }

    fn list_sealed(&mut self) -> Result<Vec<u64>> {
        self.numbers(|name| name.parse::<SealedName>().ok().map(|n| n.0))
    }

    fn close(&mut self, segment: u64) {
        self.reading.take_if(|f| f.0 == segment);
        self.writing.take_if(|f| f.0 == segment);
    }

    fn drop_cached(&mut self, segment: u64, sealed: bool) {
        let side = SideFile::Sealed(segment);
        let path = if sealed { side_path(&self.dir, side) } else { segment_path(&self.dir, segment) };
        if let Ok(file) = File::open(path) {
            let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        }
    }

    fn remove(&mut self, segment: u64) -> Result<()> {
        self.close(segment);
        let path = segment_path(&self.dir, segment);
        std::fs::remove_file(&path).at("removing", &path)
    }

    fn side_len(&mut self, file: SideFile) -> Result<Option<u64>> {
        let path = side_path(&self.dir, file);
        match std::fs::metadata(&path) {
            Ok(m) => Ok(Some(m.len())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).at("reading", &path),
        }
    }

    fn read_side(&mut self, file: SideFile, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let path = side_path(&self.dir, file);
        if self.side.as_ref().is_none_or(|f| f.0 != file) {
            self.side = Some((file, File::open(&path).at("opening", &path)?));
        }
        let Some((_, open)) = &self.side else { return Err(Code::Io.into()) };
        open.read_at(buf, offset).at("reading", &path)
    }

    fn write_unfinished(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let path = side_path(&self.dir, SideFile::Unfinished);
        if offset == 0 {
            let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
            self.unfinished = Some(made.at("making", &path)?);
        }
        let file = self.unfinished.as_ref().ok_or_else(|| Error::at(Code::Storage, &path, "it was not begun"))?;
        file.write_all_at(bytes, offset).at("writing", &path)
    }

    fn sync_unfinished(&mut self) -> Result<()> {
        let path = side_path(&self.dir, SideFile::Unfinished);
        let file = self.unfinished.as_ref().ok_or_else(|| Error::at(Code::Storage, &path, "it was not begun"))?;
        file.sync_all().at("syncing", &path)
    }

    fn name_unfinished(&mut self, file: SideFile) -> Result<()> {
        self.unfinished = None;
        self.side.take_if(|f| f.0 == file);
        let (from, to) = (side_path(&self.dir, SideFile::Unfinished), side_path(&self.dir, file));
        std::fs::rename(&from, &to).at("renaming", &from)
    }

    fn remove_side(&mut self, file: SideFile) -> Result<()> {
        if file == SideFile::Unfinished {
            self.unfinished = None;
        }
        self.side.take_if(|f| f.0 == file);
        let path = side_path(&self.dir, file);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other.at("removing", &path),
        }
    }
}

#[repr(align(4096))]
struct Aligned([u8; PAGE_BYTES]);

/// The file that is kept open, if it is this one; otherwise it is opened and kept.
fn kept(slot: &mut Option<(u64, File)>, segment: u64, open: impl FnOnce() -> Result<File>) -> Result<&File> {
    if slot.as_ref().is_none_or(|f| f.0 != segment) {
        *slot = Some((segment, open()?));
    }
    slot.as_ref().map(|f| &f.1).ok_or_else(|| Code::Io.into())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// One segment of 10 bytes, read three at a time; the byte at `bad` cannot be read.
    struct Small {
        bad: u64,
    }

    impl Files for Small {
        fn list(&mut self) -> Result<Vec<u64>> {
            Ok(vec![1])
        }
        fn len(&mut self, _: u64) -> Result<u64> {
            Ok(10)
        }
        fn read_at(&mut self, _: u64, offset: u64, buf: &mut [u8]) -> Result<usize> {
            if offset == self.bad {
                return Err(Code::Io.into());
            }
            let end = if offset < self.bad { self.bad.min(10) } else { 10 };
            let n = (end - offset).min(3).min(buf.len() as u64) as usize;
            buf[..n].fill(7);
            Ok(n)
        }
        fn read_stable(&mut self, _: u64, _: u64, _: &mut [u8]) -> Result<()> {
            Err(Code::Io.into())
        }
        fn provision(&mut self, _: u64, _: u64) -> Result<()> {
            Err(Code::ReadOnly.into())
        }
        fn write_at(&mut self, _: u64, _: u64, _: &[u8]) -> Result<()> {
            Err(Code::ReadOnly.into())
        }
        fn sync(&mut self, _: u64) -> Result<()> {
            Err(Code::Io.into())
        }
        fn sync_list(&mut self) -> Result<()> {
            Ok(())
        }
        fn describe(&self, _: u64) -> PathBuf {
            PathBuf::new()
        }
    }

    #[test]
    fn what_was_synced_is_read_past_the_page_cache() {
        // Beside the program: a folder for temporary files may lie in memory.
        let home = tempfile::tempdir_in(std::env::current_exe().unwrap().parent().unwrap()).unwrap();
        let dir = DataDir::new(home.path());
        std::fs::create_dir_all(dir.log()).unwrap();
        let mut files = DirFiles::new(&dir);
        files.provision(1, 3 * PAGE_BYTES as u64).unwrap();
        files.write_at(1, PAGE_BYTES as u64, &[7; PAGE_BYTES]).unwrap();
        files.sync(1).unwrap();
        let mut buf = [0; 2 * PAGE_BYTES];
        match files.read_stable(1, PAGE_BYTES as u64, &mut buf) {
            Ok(()) => assert!(buf[..PAGE_BYTES] == [7; PAGE_BYTES] && buf[PAGE_BYTES..] == [0; PAGE_BYTES]),
            Err(e) => println!("skipped: this file system cannot be read past its cache: {e}"),
        }
        assert!(files.read_stable(1, 2 * PAGE_BYTES as u64, &mut buf).is_err(), "behind the end");
    }

    #[test]
    fn a_read_ahead_ends_before_what_cannot_be_read() {
        let mut buf = [0; 12];
        let read = |bad, need, buf: &mut [u8]| read_full(&mut Small { bad }, 1, 0, buf, need).map_err(|e| e.code);
        assert_eq!(read(99, 12, &mut buf), Ok(10));
        assert_eq!(read(8, 4, &mut buf), Ok(8));
        assert_eq!(read(8, 8, &mut buf), Ok(8));
        assert_eq!(read(8, 9, &mut buf), Err(Code::Io));
        assert_eq!(read(0, 1, &mut buf), Err(Code::Io));
    }
}

//! Copying files, hashed on the way and durable at the end.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::dir::hex;
use crate::error::{IoContext, Result};

/// How much is copied at once, in bytes.
const PIECE_BYTES: usize = 256 << 10;

/// Copies the first `bytes` bytes of `from` to the new file `to` (0600), fills it up with zeros to
/// `full_bytes` and syncs it. Returns the number of bytes that there were, at most `bytes`, and their
/// BLAKE3.
///
/// # Errors
/// `Io` and its kin.
pub(super) fn copy(
    from: &Path,
    to: &Path,
    bytes: u64,
    full_bytes: u64,
    mut progress: impl FnMut(u64),
) -> Result<(u64, String)> {
    let source = File::open(from).at("opening", from)?;
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).at("making", to)?;
    let (copied, hash) = pump(source, from, bytes, |piece| {
        progress(piece.len() as u64);
        target.write_all(piece).at("writing", to)
    })?;
    let zeros = [0; 4096];
    let mut left = full_bytes.saturating_sub(copied);
    while left > 0 {
        let n = left.min(zeros.len() as u64);
        target.write_all(&zeros[..n as usize]).at("writing", to)?;
        left -= n;
    }
    target.sync_all().at("syncing", to)?;
    Ok((copied, hash))
}

/// Length and BLAKE3 of a file.
///
/// # Errors
/// `Io`.
pub(super) fn hash(path: &Path, mut progress: impl FnMut(u64)) -> Result<(u64, String)> {
    let file = File::open(path).at("opening", path)?;
    pump(file, path, u64::MAX, |piece| {
        progress(piece.len() as u64);
        Ok(())
    })
}

fn pump(source: File, from: &Path, bytes: u64, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<(u64, String)> {
    let mut source = source.take(bytes);
    let (mut hasher, mut buf, mut done) = (blake3::Hasher::new(), vec![0; PIECE_BYTES], 0);
    loop {
        let n = match source.read(&mut buf) {
            Ok(0) => return Ok((done, hex(hasher.finalize().as_bytes()))),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            other => other.at("reading", from)?,
        };
        hasher.update(&buf[..n]);
        each(&buf[..n])?;
        done += n as u64;
    }
}

/// Makes a folder for its owner only, if it is not there.
///
/// # Errors
/// `Io` and its kin.
pub(super) fn make_folder(path: &Path) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).at("making", path)
}

//! Small files: read with a bound, replaced as a whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ropeway_core::code::Code;

use crate::error::{Error, IoContext, Result};

/// Who may read a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The owner only (0600).
    Secret,
    /// Everybody whom the folders let through (0644).
    Public,
}

/// Ending of files that are being written.
const TEMPORARY: &str = ".tmp";

/// Whether a file's name is that of an interrupted [`write_atomic`].
pub(crate) fn is_temporary(name: &str) -> bool {
    name.ends_with(TEMPORARY)
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY);
    PathBuf::from(name)
}

/// Removes what an interrupted [`write_atomic`] of `path` has left, if anything.
///
/// # Errors
/// [`Code::Io`], [`Code::ReadOnly`].
pub(crate) fn forget_temporary(path: &Path) -> Result<()> {
    let temporary = temporary(path);
    match fs::remove_file(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e).at("removing", &temporary),
        _ => Ok(()),
    }
}

/// Replaces `path` by `bytes`: after a crash at any moment it holds the old content or the new.
/// Returns when the new content is durable.
///
/// # Errors
/// [`Code::Io`], [`Code::DiskFull`], [`Code::ReadOnly`]; then `path` is as it was.
pub fn write_atomic(path: &Path, bytes: &[u8], access: Access) -> Result<()> {
    let temporary = temporary(path);
    let mode = match access {
        Access::Secret => 0o600,
        Access::Public => 0o644,
    };
    // Left over from a crash. It may have other permissions, so it is not written into.
    forget_temporary(path)?;
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().at("writing", path).inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })?;
    sync_dir(folder_of(path))
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// [`Code::Config`] if it is longer; [`Code::Io`].
pub fn read_bounded(path: &Path, limit: usize) -> Result<Vec<u8>> {
    let file = File::open(path).at("reading", path)?;
    read_open(&file, path, limit)
}

/// As [`read_bounded`], for a file that is open.
pub(crate) fn read_open(file: &File, path: &Path, limit: usize) -> Result<Vec<u8>> {
    // Reserved at once: growing would leave copies of a secret behind in freed memory.
    let mut bytes = Vec::with_capacity(limit.saturating_add(1).min(64 * 1024));
    file.take(limit as u64 + 1).read_to_end(&mut bytes).at("reading", path)?;
    if bytes.len() > limit {
        return Err(Error::at(Code::Config, path, format!("longer than {limit} bytes")));
    }
    Ok(bytes)
}

/// The folder a file lies in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Makes new names in a folder durable.
pub(crate) fn sync_dir(folder: &Path) -> Result<()> {
    match File::open(folder).and_then(|f| f.sync_all()) {
        // Some file systems of USB sticks cannot sync a folder; they have nothing better to offer.
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other.at("syncing", folder),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_replaced_whole_and_a_secret_is_never_readable_by_others() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("k");
        // What a crash left, with permissions that must not survive.
        let left = tmp.path().join("k.tmp");
        fs::write(&left, "torn").unwrap();
        fs::set_permissions(&left, fs::Permissions::from_mode(0o666)).unwrap();
        write_atomic(&path, b"one", Access::Secret).unwrap();
        write_atomic(&path, b"two", Access::Secret).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_long_file_is_refused_without_being_read_whole() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("f");
        fs::write(&path, [0; 11]).unwrap();
        assert_eq!(read_bounded(&path, 10).unwrap_err().code, Code::Config);
        assert_eq!(read_bounded(&path, 11).unwrap().len(), 11);
    }
}

//! Files that only their owner may read.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ropeway_core::code::Code;
use zeroize::Zeroizing;

use super::file::read_open;
use crate::error::{Error, IoContext, Result};

/// A data key of the log. Wiped from memory when dropped, never printed.
#[derive(Clone)]
pub struct LogKey(Zeroizing<[u8; 32]>);

impl LogKey {
    /// Draws a new key.
    ///
    /// # Errors
    /// [`Code::Io`] if the system has no randomness to give.
    pub fn random() -> Result<Self> {
        let mut key = Zeroizing::new([0; 32]);
        crate::cert::random(&mut *key)?;
        Ok(Self(key))
    }

    /// Takes these bytes over.
    pub(crate) fn of(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// The bytes of the key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogKey(..)")
    }
}

/// Reads a file of at most `limit` bytes that nobody but its owner may be able to read.
///
/// # Errors
/// [`Code::KeyMissing`]; [`Code::KeyExposed`] if its group or others have any access to it;
/// [`Code::KeyBad`] if it is longer or no plain file; [`Code::Io`].
pub fn read_secret(path: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(Error::at(Code::KeyMissing, path, "there is no such file"));
        }
        Err(e) => return Err(e).at("reading", path),
    };
    // The open file is asked, so that it cannot be exchanged between the question and the reading.
    let meta = file.metadata().at("reading", path)?;
    if !meta.is_file() {
        return Err(Error::at(Code::KeyBad, path, "not a plain file"));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(Error::at(Code::KeyExposed, path, format!("its mode is {:04o}", meta.mode() & 0o7777)));
    }
    match read_open(&file, path, limit) {
        Err(e) if e.code == Code::Config => Err(Error::new(Code::KeyBad, e.context)),
        other => other.map(Zeroizing::new),
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    hex_into(&mut text, bytes);
    text
}

pub(crate) fn hex_into(text: &mut String, bytes: &[u8]) {
    for b in bytes {
        for nibble in [b >> 4, b & 15] {
            text.push(char::from_digit(u32::from(nibble), 16).unwrap_or_default());
        }
    }
}

/// Decodes hexadecimal of exactly `out`'s length; on `false`, `out` is worthless.
pub(crate) fn unhex(text: &[u8], out: &mut [u8]) -> bool {
    let (pairs, rest) = text.as_chunks::<2>();
    if pairs.len() != out.len() || !rest.is_empty() {
        return false;
    }
    let digit = |c: u8| char::from(c).to_digit(16).map(|d| d as u8);
    for (o, pair) in out.iter_mut().zip(pairs) {
        let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else { return false };
        *o = high << 4 | low;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dir::{Access, DataDir, write_atomic};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_log_key_is_read_only_if_whole_and_private() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DataDir::new(tmp.path());
        let path = dir.log_key();
        fs::create_dir(tmp.path().join("keys")).unwrap();
        let read = || dir.keyring().map(|ring| *ring.entries()[0].key.as_bytes()).map_err(|e| e.code);
        assert_eq!(read(), Err(Code::KeyMissing));
        let key = LogKey::random().unwrap();
        write_atomic(&path, hex(key.as_bytes()).as_bytes(), Access::Secret).unwrap();
        assert_eq!(read(), Ok(*key.as_bytes()));
        assert_eq!(format!("{key:?}"), "LogKey(..)");
        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(), Err(Code::KeyExposed), "{mode:o}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let digits = "a".repeat(64);
        let two = format!("{digits}\n{digits}\n");
        for bad in
            ["", "zz", &digits[1..], &format!("{digits}a"), &format!("{}g", &digits[1..]), &"a".repeat(999), &two]
        {
            fs::write(&path, bad).unwrap();
            assert_eq!(read(), Err(Code::KeyBad), "{bad}");
        }
        fs::write(&path, format!("{}\r\n", digits.to_uppercase())).unwrap();
        assert_eq!(read(), Ok([0xaa; 32]));
        fs::write(&path, format!("{digits} kek\n")).unwrap();
        assert_eq!(read(), Err(Code::KeyMissing), "the keyring that it opens is not there");
    }
}

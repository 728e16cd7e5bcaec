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

/// The key of the log. Wiped from memory when dropped, never printed.
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

    /// The bytes of the key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads the content of the file; white space around the digits is left out.
    ///
    /// # Errors
    /// [`Code::KeyBad`].
    pub(crate) fn parse(text: &[u8]) -> Result<Self> {
        let mut key = Zeroizing::new([0; 32]);
        if !unhex(text.trim_ascii(), &mut *key) {
            return Err(Error::new(Code::KeyBad, "not 64 hexadecimal digits"));
        }
        Ok(Self(key))
    }

    /// As it stands in the file: 64 hexadecimal digits and a line end.
    pub(crate) fn to_file(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(65));
        hex_into(&mut text, self.as_bytes());
        text.push('\n');
        text
    }
}

impl fmt::Debug for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogKey(..)")
    }
}

pub(super) fn read_log_key(path: &Path) -> Result<LogKey> {
    LogKey::parse(&read_secret(path, 128)?).map_err(|e| e.in_file(path))
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

fn hex_into(text: &mut String, bytes: &[u8]) {
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
    use crate::dir::{Access, write_atomic};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_log_key_is_read_only_if_whole_and_private() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("log.key");
        assert_eq!(read_log_key(&path).unwrap_err().code, Code::KeyMissing);
        let key = LogKey::random().unwrap();
        write_atomic(&path, key.to_file().as_bytes(), Access::Secret).unwrap();
        assert_eq!(read_log_key(&path).unwrap().as_bytes(), key.as_bytes());
        assert_eq!(format!("{key:?}"), "LogKey(..)");
        for mode in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_log_key(&path).unwrap_err().code, Code::KeyExposed, "{mode:o}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let digits = "a".repeat(64);
        for bad in ["", "zz", &digits[1..], &format!("{digits}a"), &format!("{}g", &digits[1..]), &"a".repeat(999)] {
            fs::write(&path, bad).unwrap();
            assert_eq!(read_log_key(&path).unwrap_err().code, Code::KeyBad, "{bad}");
        }
        fs::write(&path, format!("{}\r\n", digits.to_uppercase())).unwrap();
        assert_eq!(read_log_key(&path).unwrap().as_bytes(), &[0xaa; 32]);
    }
}

//! A base sample: events like those of the deployment, which both ends know before the first one
//! (docs/PROTOCOL.md#sample-1). The operator gives it to the hub; `sign` puts it beside each clinic's certificate.
//!
//! It lies in every clinic, so it holds invented events, never those of patients.

use std::path::Path;

use ropeway_core::code::Code;

use crate::dir::{Access, DataDir, exists, read_bounded, write_atomic};
use crate::error::{Error, Result};

/// Longest sample: what is learned of it is kept in memory, and what is older than a quarter of a megabyte, the model
/// has nearly forgotten.
pub const SAMPLE_MAX_BYTES: usize = 256 << 10;

/// See the [module](self).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    bytes: Vec<u8>,
}

impl Sample {
    /// A sample of these bytes: one event a line.
    ///
    /// # Errors
    /// [`Code::BadArgument`] if there is no event in it or it is longer than [`SAMPLE_MAX_BYTES`].
    pub fn new(bytes: Vec<u8>) -> Result<Self> {
        let sample = Self { bytes };
        let what = match sample.events().count() {
            _ if sample.bytes.len() > SAMPLE_MAX_BYTES => "a sample has 256 KiB at most: take fewer events",
            0 => "there is no event in it: a sample has one event a line",
            _ => return Ok(sample),
        };
        Err(Error::new(Code::BadArgument, what))
    }

    /// Reads the sample in a file.
    ///
    /// # Errors
    /// As [`Sample::new`]; [`Code::Io`].
    pub fn read(path: &Path) -> Result<Self> {
        match read_bounded(path, SAMPLE_MAX_BYTES) {
            Err(e) if e.code == Code::Config => {
                Err(Error::at(Code::BadArgument, path, "a sample has 256 KiB at most: take fewer events"))
            }
            other => Self::new(other?).map_err(|e| e.in_file(path)),
        }
    }

    /// The sample of a node, if it has one.
    ///
    /// # Errors
    /// As [`Sample::read`].
    pub fn of(dir: &DataDir) -> Result<Option<Self>> {
        let path = dir.sample();
        if exists(&path)? { Self::read(&path).map(Some) } else { Ok(None) }
    }

    /// Makes it the sample of a node, from its next start on.
    ///
    /// # Errors
    /// [`Code::Io`], [`Code::DiskFull`], [`Code::ReadOnly`].
    pub fn install(&self, dir: &DataDir) -> Result<()> {
        self.write(&dir.sample())
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        write_atomic(path, &self.bytes, Access::Public)
    }

    /// Its events, without line ends.
    pub fn events(&self) -> impl Iterator<Item = &[u8]> {
        let lines = self.bytes.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        lines.filter(|line| !line.is_empty())
    }

    /// Its length in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// What peers tell each other of it: the first four bytes of BLAKE3 over its events, each with a line end.
    #[must_use]
    pub fn tag(&self) -> u32 {
        let mut hasher = blake3::Hasher::new();
        for event in self.events() {
            hasher.update(event);
            hasher.update(b"\n");
        }
        let [a, b, c, d, ..] = *hasher.finalize().as_bytes();
        u32::from_le_bytes([a, b, c, d])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Sample> {
        Sample::new(text.as_bytes().to_vec())
    }

    #[test]
    fn how_lines_end_makes_no_difference() {
        let one = of("{\"a\":1}\n{\"a\":2}\n").unwrap();
        for other in ["{\"a\":1}\n{\"a\":2}", "{\"a\":1}\r\n\n{\"a\":2}\r\n"] {
            let other = of(other).unwrap();
            assert_eq!(one.events().collect::<Vec<_>>(), other.events().collect::<Vec<_>>());
            assert_eq!(one.tag(), other.tag());
        }
        assert_ne!(one.tag(), of("{\"a\":1}{\"a\":2}").unwrap().tag());
        assert_ne!(one.tag(), of("{\"a\":2}\n{\"a\":1}").unwrap().tag());
    }

    #[test]
    fn nothing_and_too_much_are_refused_with_a_sentence() {
        let code = |text: &str| of(text).unwrap_err().code;
        assert_eq!([code(""), code("\n\r\n"), code(&"x".repeat(SAMPLE_MAX_BYTES + 1))], [Code::BadArgument; 3]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("much");
        std::fs::write(&path, vec![b'x'; SAMPLE_MAX_BYTES + 1]).unwrap();
        assert!(Sample::read(&path).unwrap_err().to_string().contains("256 KiB"));
    }

    #[test]
    fn a_node_has_none_or_the_one_that_was_installed() {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::new(folder.path());
        assert_eq!(Sample::of(&dir).unwrap(), None);
        std::fs::create_dir(dir.tls()).unwrap();
        let sample = of("{\"a\":1}\n").unwrap();
        sample.install(&dir).unwrap();
        assert_eq!(Sample::of(&dir).unwrap(), Some(sample));
    }
}

//! One error type for the runtime: a stable code, the thing it is about, and the cause.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::Path;

use ropeway_core::code::Code;

/// What the runtime's functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// A fault that a person may meet. Displays as `R204 wrong key: <context>: <cause>`.
#[derive(Debug)]
pub struct Error {
    /// What kind of fault, for programs and documentation.
    pub code: Code,
    /// Exactly what it is about: the file, the peer, the field.
    pub context: String,
    /// What the layer below reported.
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of this code about `context`.
    #[must_use]
    pub fn new(code: Code, context: impl Into<String>) -> Self {
        Self { code, context: context.into(), source: None }
    }

    /// An error about a file: `<path>: <what>`.
    #[must_use]
    pub fn at(code: Code, path: &Path, what: impl fmt::Display) -> Self {
        Self::new(code, format!("{}: {what}", path.display()))
    }

    /// The same error, about the file in which it was found.
    pub(crate) fn in_file(self, path: &Path) -> Self {
        Self { context: format!("{}: {}", path.display(), self.context), ..self }
    }

    /// The same error with its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// An I/O error while `doing` something: a full disk and a read-only one have codes of their
    /// own, everything else is [`Code::Io`].
    #[must_use]
    pub fn io(doing: impl Into<String>, source: io::Error) -> Self {
        Self::new(io_code(&source), doing).with_source(source)
    }

    /// What to do about it, as one sentence.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        self.code.hint()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if !self.context.is_empty() {
            write!(f, ": {}", self.context)?;
        }
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|s| s.as_ref() as &(dyn StdError + 'static))
    }
}

impl From<Code> for Error {
    fn from(code: Code) -> Self {
        Self::new(code, "")
    }
}

/// The code for an I/O error.
#[must_use]
pub fn io_code(e: &io::Error) -> Code {
    match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::DiskFull,
        io::ErrorKind::ReadOnlyFilesystem => Code::ReadOnly,
        _ => Code::Io,
    }
}

/// Says which file an [`io::Error`] is about.
pub trait IoContext<T> {
    /// Turns the error into `R901 input or output: <doing> <path>: <cause>`, or the code for a
    /// full or read-only disk.
    ///
    /// # Errors
    /// The error it was called on.
    fn at(self, doing: &str, path: &Path) -> Result<T>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn at(self, doing: &str, path: &Path) -> Result<T> {
        self.map_err(|e| Error::io(format!("{doing} {}", path.display()), e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_code_file_and_cause() {
        let e = Err::<(), _>(io::Error::from(io::ErrorKind::NotFound)).at("reading", Path::new("/x/keys")).unwrap_err();
        assert_eq!(e.to_string(), "R901 input or output: reading /x/keys: entity not found");
        assert_eq!(Error::new(Code::WrongKey, "log 7").to_string(), "R204 wrong key: log 7");
        assert_eq!(Error::from(Code::Cut).to_string(), "R502 link cut");
        assert!(e.hint().ends_with('.'));
    }

    #[test]
    fn a_full_and_a_read_only_disk_have_their_own_codes() {
        for (errno, code) in [(28, Code::DiskFull), (122, Code::DiskFull), (30, Code::ReadOnly), (5, Code::Io)] {
            assert_eq!(Error::io("writing", io::Error::from_raw_os_error(errno)).code, code, "errno {errno}");
        }
    }
}

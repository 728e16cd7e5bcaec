//! What a verb returns, and the exit codes.

use std::fmt;
use std::process::ExitCode;

use ropeway_core::code::Code;
use ropeway_std::Error;

/// What the command line's functions return.
pub type Result<T> = std::result::Result<T, CliError>;

/// How the process ends. The numbers never change their meaning; `ropeway --help` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Refused or failed; the message has an R code.
    Failed = 1,
    /// The command was not written as it must be; nothing was done.
    Usage = 2,
    /// `verify`, `audit` or `pull` found damage, or history that is not what it was.
    Damage = 3,
    /// `sync` did not get everything across; the same command goes on later.
    Incomplete = 4,
    /// Another process works on the data directory.
    Locked = 5,
}

/// The end of `ropeway --help`.
pub const EXIT_CODES_HELP: &str = "\
Exit codes:
  0  done
  1  refused or failed; the message has an R code
  2  wrong usage; nothing was done
  3  verify, audit or pull found damage, key list a missing key
  4  sync incomplete (unreachable, link cut, timeout, budget): run it again, it goes on where it was
  5  locked: another process works on the data directory";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// How a verb that did not fail ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was done.
    Done,
    /// Everything was read, and there is damage.
    Damage,
    /// `sync` reported how far it came, which is not all the way.
    Incomplete,
    /// The verb reported that something is not as it must be (a failed demo).
    Failed,
}

impl Outcome {
    /// The exit code.
    #[must_use]
    pub fn exit(self) -> Exit {
        match self {
            Outcome::Done => Exit::Done,
            Outcome::Damage => Exit::Damage,
            Outcome::Incomplete => Exit::Incomplete,
            Outcome::Failed => Exit::Failed,
        }
    }
}

/// Why a verb ended early.
#[derive(Debug)]
pub enum CliError {
    /// A fault with a code.
    Fault(Error),
    /// Whoever read standard output has gone (`ropeway pull | head`): no fault, nothing to say.
    OutputClosed,
}

impl CliError {
    /// A fault of this code about `context`.
    #[must_use]
    pub fn new(code: Code, context: impl Into<String>) -> Self {
        Self::Fault(Error::new(code, context))
    }

    /// The fault's code, `None` if it is no fault.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            CliError::Fault(e) => Some(e.code),
            CliError::OutputClosed => None,
        }
    }

    /// The exit code: a caller can tell "try again later" from "look at this".
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self.code() {
            None => Exit::Done,
            Some(Code::Locked) => Exit::Locked,
            Some(Code::Unreachable | Code::Cut | Code::Timeout | Code::Overloaded | Code::Stopping) => Exit::Incomplete,
            Some(Code::Budget | Code::Window) => Exit::Incomplete,
            Some(_) => Exit::Failed,
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CliError::Fault(e) => e.fmt(f),
            CliError::OutputClosed => f.write_str("standard output was closed"),
        }
    }
}

impl std::error::Error for CliError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CliError::Fault(e) => e.source(),
            CliError::OutputClosed => None,
        }
    }
}

impl From<Error> for CliError {
    fn from(e: Error) -> Self {
        Self::Fault(e)
    }
}

impl From<Code> for CliError {
    fn from(code: Code) -> Self {
        Self::Fault(code.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_can_tell_try_again_from_look_at_this() {
        let rows = [
            (Code::WrongKey, Exit::Failed),
            (Code::Locked, Exit::Locked),
            (Code::Cut, Exit::Incomplete),
            (Code::Unreachable, Exit::Incomplete),
            (Code::Timeout, Exit::Incomplete),
            (Code::Overloaded, Exit::Incomplete),
            (Code::Budget, Exit::Incomplete),
            (Code::Window, Exit::Incomplete),
            (Code::Address, Exit::Failed),
            (Code::Superseded, Exit::Failed),
        ];
        for (code, exit) in rows {
            assert_eq!(CliError::from(code).exit(), exit, "{code}");
        }
        assert_eq!(CliError::OutputClosed.exit(), Exit::Done);
    }

    #[test]
    fn the_help_lists_every_exit_code() {
        for exit in [Exit::Done, Exit::Failed, Exit::Usage, Exit::Damage, Exit::Incomplete, Exit::Locked] {
            assert!(EXIT_CODES_HELP.contains(&format!("\n  {}  ", exit as u8)), "{exit:?}");
        }
    }
}

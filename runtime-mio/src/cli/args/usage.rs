//! Wrong usage, `--help` and `--version`: clap's words for people, an object for programs.

use std::error::Error as _;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use ropeway_core::code::Code;

use super::{Cli, try_parse};
use crate::cli::error::Exit;
use crate::cli::output::ErrorObject;
use crate::cli::value::BadValue;

/// Parses the program's own command line.
///
/// # Errors
/// [`UsageError`], which also stands for `--help` and `--version`.
pub fn parse(argv: impl IntoIterator<Item = OsString>) -> Result<Cli, UsageError> {
    let argv: Vec<OsString> = argv.into_iter().collect();
    // The line could not be parsed, so whether JSON is wanted must be seen in it as it is.
    let json = argv.iter().skip(1).take_while(|arg| *arg != "--").any(|arg| arg == "--json");
    try_parse(argv).map_err(|error| UsageError { error: Box::new(error), json })
}

/// Why there is nothing to run.
#[derive(Debug)]
pub struct UsageError {
    error: Box<clap::Error>,
    json: bool,
}

impl UsageError {
    /// Prints it and says how to exit: 0 after help and version, else 2.
    #[must_use]
    pub fn show(&self) -> ExitCode {
        // Where nobody reads, nothing can be said.
        let _ = match self.to_json() {
            Some(line) => io::stdout().write_all(line.as_bytes()),
            None => self.error.print(),
        };
        self.exit().into()
    }

    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.error.exit_code() == 0 { Exit::Done } else { Exit::Usage }
    }

    /// The error as one line of JSON; `None` without `--json` and for help and version.
    #[must_use]
    pub fn to_json(&self) -> Option<String> {
        if !self.json || self.exit() == Exit::Done {
            return None;
        }
        let (code, message) = self.code_and_message();
        let mut line = serde_json::to_string(&ErrorObject::new(code, &message)).ok()?;
        line.push('\n');
        Some(line)
    }

    #[cfg(test)]
    pub(super) fn error_kind(&self) -> ErrorKind {
        self.error.kind()
    }

    fn code_and_message(&self) -> (Code, String) {
        if let Some(bad) = self.error.source().and_then(|e| e.downcast_ref::<BadValue>()) {
            let message = match self.error.get(ContextKind::InvalidArg) {
                Some(ContextValue::String(arg)) => format!("{arg}: {}", bad.what),
                _ => bad.what.clone(),
            };
            return (bad.code, message);
        }
        if self.error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            return (Code::BadArgument, "arguments are missing".to_owned());
        }
        let text = self.error.render().to_string();
        // The first paragraph says what is wrong; usage and tips for people follow.
        let first = text.split("\n\n").next().unwrap_or_default();
        let first = first.strip_prefix("error: ").unwrap_or(first);
        (Code::BadArgument, first.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

impl std::fmt::Display for UsageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for UsageError {}

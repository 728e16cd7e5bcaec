//! `ropeway serve`.

use ropeway_core::code::Code;

use super::args::ServeArgs;
use super::{CliError, Outcome, Output, Result};

/// Runs it.
///
/// # Errors
/// Always: this version cannot do it yet.
pub fn run(_args: &ServeArgs, _out: &mut Output) -> Result<Outcome> {
    Err(CliError::new(Code::BadArgument, "`ropeway serve` is not built yet"))
}

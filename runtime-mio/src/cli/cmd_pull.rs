//! `ropeway pull`.

use ropeway_core::code::Code;

use super::args::PullArgs;
use super::{CliError, Outcome, Output, Result};

/// Runs it.
///
/// # Errors
/// Always: this version cannot do it yet.
pub fn run(_args: &PullArgs, _out: &mut Output) -> Result<Outcome> {
    Err(CliError::new(Code::BadArgument, "`ropeway pull` is not built yet"))
}

//! `ropeway verify`.

use ropeway_core::code::Code;

use super::args::VerifyArgs;
use super::{CliError, Outcome, Output, Result};

/// Runs it.
///
/// # Errors
/// Always: this version cannot do it yet.
pub fn run(_args: &VerifyArgs, _out: &mut Output) -> Result<Outcome> {
    Err(CliError::new(Code::BadArgument, "`ropeway verify` is not built yet"))
}

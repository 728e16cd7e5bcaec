//! `ropeway push`.

use ropeway_core::code::Code;

use super::args::PushArgs;
use super::{CliError, Outcome, Output, Result};

/// Runs it.
///
/// # Errors
/// Always: this version cannot do it yet.
pub fn run(_args: &PushArgs, _out: &mut Output) -> Result<Outcome> {
    Err(CliError::new(Code::BadArgument, "`ropeway push` is not built yet"))
}

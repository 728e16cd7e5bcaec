//! `ropeway sync`.

use ropeway_core::code::Code;

use super::args::SyncArgs;
use super::{CliError, Outcome, Output, Result};

/// Runs it.
///
/// # Errors
/// Always: this version cannot do it yet.
pub fn run(_args: &SyncArgs, _out: &mut Output) -> Result<Outcome> {
    Err(CliError::new(Code::BadArgument, "`ropeway sync` is not built yet"))
}

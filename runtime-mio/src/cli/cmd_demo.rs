//! `ropeway demo`.

use ropeway_core::code::Code;

use super::args::DemoArgs;
use super::{CliError, Outcome, Output, Result};

/// Runs it.
///
/// # Errors
/// Always: this version cannot do it yet.
pub fn run(_args: &DemoArgs, _out: &mut Output) -> Result<Outcome> {
    Err(CliError::new(Code::BadArgument, "`ropeway demo` is not built yet"))
}

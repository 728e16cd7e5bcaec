//! `ropeway completions`.

use clap::CommandFactory;
use serde::Serialize;

use super::args::{Cli, CompletionsArgs};
use super::{Outcome, Output, Result};

#[derive(Serialize)]
struct Script<'a> {
    shell: String,
    script: &'a str,
}

/// Prints a shell's completion script.
///
/// # Errors
/// Those of [`Output::bytes`].
pub fn run(args: &CompletionsArgs, out: &mut Output) -> Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "ropeway", &mut script);
    if out.json() {
        let script = String::from_utf8_lossy(&script);
        out.object(&Script { shell: args.shell.to_string(), script: &script })?;
    } else {
        out.bytes(&script)?;
    }
    Ok(Outcome::Done)
}

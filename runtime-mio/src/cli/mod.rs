//! The command line: arguments parsed once into checked structs, one file per verb, one way to
//! print results and errors.
//!
//! A verb is `run(&XArgs, &mut Output) -> Result<Outcome>`; it prints through [`Output`] only and
//! never ends the process, so tests can call it. [`finish`] turns what it returned into the exit
//! code and the message.

pub mod args;
pub mod cmd_audit;
pub mod cmd_backup_mark;
pub mod cmd_completions;
pub mod cmd_demo;
pub mod cmd_expire;
pub mod cmd_fetch;
mod cmd_forecast;
pub mod cmd_keep;
pub mod cmd_key;
pub mod cmd_keygen;
pub mod cmd_pull;
pub mod cmd_push;
pub mod cmd_rekey;
pub mod cmd_restore;
pub mod cmd_retain;
pub mod cmd_sample;
pub mod cmd_serve;
pub mod cmd_sign;
pub mod cmd_snapshot;
pub mod cmd_status;
pub mod cmd_sync;
pub mod cmd_verify;
pub mod error;
mod head;
pub mod logging;
pub mod output;
mod passphrase;
mod show;
mod time;
pub mod value;

pub use args::{Cli, Command, GlobalArgs};
pub use error::{CliError, Exit, Outcome, Result};
pub use output::Output;

/// Runs the verb that was asked for.
///
/// # Errors
/// Those of the verb.
pub fn dispatch(cli: &Cli, out: &mut Output) -> Result<Outcome> {
    match &cli.command {
        Command::Demo(args) => cmd_demo::run(args, cli.global.verbose > 0, out),
        Command::Keygen(args) => cmd_keygen::run(args, out),
        Command::Sign(args) => cmd_sign::run(args, out),
        Command::Serve(args) => {
            logging::start(&cli.global);
            args.warn(out);
            cmd_serve::run(args, out)
        }
        Command::Push(args) => cmd_push::run(args, out),
        Command::Sync(args) if args.keep => {
            logging::start(&cli.global);
            cmd_keep::run(args, out)
        }
        Command::Sync(args) => cmd_sync::run(args, out),
        Command::Pull(args) => cmd_pull::run(args, out),
        Command::Status(args) => cmd_status::run(args, out),
        Command::Verify(args) => cmd_verify::run(args, out),
        Command::Rekey(args) => cmd_rekey::run(args, out),
        Command::Key(args) => cmd_key::run(args, out),
        Command::Audit(args) => cmd_audit::run(args, out),
        Command::Snapshot(args) => cmd_snapshot::run(args, out),
        Command::Restore(args) => cmd_restore::run(args, out),
        Command::Retain(args) => cmd_retain::run(args, out),
        Command::Expire(args) => cmd_expire::run(args, out),
        Command::Fetch(args) => cmd_fetch::run(args, out),
        Command::Sample(args) => cmd_sample::run(args, out),
        Command::BackupMark(args) => cmd_backup_mark::run(args, out),
        Command::Completions(args) => cmd_completions::run(args, out),
    }
}

/// Writes out what is still held back, shows the error if there is one, and says how to exit.
pub fn finish(result: Result<Outcome>, out: &mut Output) -> Exit {
    let result = result.and_then(|outcome| out.flush().map(|()| outcome));
    match result {
        Ok(outcome) => outcome.exit(),
        Err(error) => {
            out.error(&error);
            error.exit()
        }
    }
}

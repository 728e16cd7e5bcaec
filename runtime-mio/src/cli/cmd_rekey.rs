//! `ropeway rekey`.

use std::path::{Path, PathBuf};

use ropeway_std::keyring::{NewKek, RekeyOptions, Rekeyed, Source, rekey};
use serde::Serialize;

use super::args::RekeyArgs;
use super::cmd_key::SourceRow;
use super::{Outcome, Output, Result, passphrase};

/// The result for programs.
#[derive(Serialize)]
struct Done {
    generation: u64,
    source: SourceRow,
    kek_replaced: bool,
    new_data_key: Option<u32>,
    /// Written anew: to be backed up.
    key_file: Option<String>,
    /// Opened nothing any more.
    removed: Option<String>,
    /// Opens nothing any more and was left where it is.
    left: Option<String>,
    bytes_written: u64,
}

/// Replaces the key-encryption key, where it comes from, or the data key for what is written from now on.
///
/// # Errors
/// Those of [`rekey`].
pub fn run(args: &RekeyArgs, out: &mut Output) -> Result<Outcome> {
    let dir = passphrase::data_dir(&args.data_dir);
    let done = rekey(&dir, &options(args), &mut passphrase::new_passphrase)?;
    tell(&done, &dir.keyring_file(), out)?;
    let shown = |path: &Option<PathBuf>| path.as_ref().map(|p| p.display().to_string());
    out.object(&Done {
        generation: done.ring.generation(),
        source: done.ring.source().into(),
        kek_replaced: done.kek_replaced,
        new_data_key: done.new_data_key,
        key_file: shown(&done.key_file),
        removed: shown(&done.removed),
        left: shown(&done.left),
        bytes_written: done.bytes_written,
    })?;
    Ok(Outcome::Done)
}

fn options(args: &RekeyArgs) -> RekeyOptions {
    let kek = match &args.to_file {
        Some(path) => Some(NewKek::File(path.clone())),
        None if args.to_passphrase => Some(NewKek::Passphrase),
        None if args.to_credential => Some(NewKek::Credential),
        None if args.data => None,
        None => Some(NewKek::Same),
    };
    RekeyOptions { kek, data: args.data }
}

fn tell(done: &Rekeyed, keyring: &Path, out: &mut Output) -> Result<()> {
    if done.kek_replaced {
        out.say(format_args!("the keyring is opened by another key now: {}", done.ring.source()))?;
    }
    if let Some(id) = done.new_data_key {
        out.say(format_args!("data key {id} is new; what is written from now on is written under it"))?;
    }
    out.say("the log was not changed")?;
    if let Some(path) = &done.key_file {
        out.say(format_args!("  back up  {}  without it nobody can read the log", path.display()))?;
    }
    if matches!(done.ring.source(), Source::Passphrase(_)) {
        out.say("  remember the passphrase: without it nobody can read the log")?;
    }
    let keyring = keyring.display();
    out.say(format_args!("  back up  {keyring}  the data keys, of use only together with that key"))?;
    if let Some(path) = &done.removed {
        out.say(format_args!("  removed  {}  it opens nothing any more", path.display()))?;
    }
    if let Some(path) = &done.left {
        out.say(format_args!("  delete   {}  it opens nothing any more", path.display()))?;
    }
    Ok(())
}

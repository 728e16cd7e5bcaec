//! `ropeway backup-mark`.

use std::time::{SystemTime, UNIX_EPOCH};

use ropeway_core::code::Code;
use ropeway_core::policy::Role;
use ropeway_std::Error;
use ropeway_std::retain::Mark;
use ropeway_std::snapshot::Manifest;
use serde::Serialize;

use super::args::BackupMarkArgs;
use super::{Outcome, Output, Result, passphrase, show, time};

/// The result for programs.
#[derive(Serialize)]
struct Marked {
    /// Whether there is a mark now.
    marked: bool,
    taken_ms: Option<u64>,
    streams: usize,
    /// Whether this command has set it.
    changed: bool,
}

/// Records up to where a backup of a hub exists: behind it nothing is removed. Without an option it shows the
/// mark.
///
/// # Errors
/// [`Code::BadArgument`] on a clinic, which needs none; those of [`Manifest::read`] and [`Mark::set`].
pub fn run(args: &BackupMarkArgs, out: &mut Output) -> Result<Outcome> {
    let dir = passphrase::data_dir(&args.data_dir);
    let node = dir.node()?;
    if node.role != Role::Hub {
        let what = "it is a clinic: what a hub has acknowledged may be removed there, and needs no mark";
        return Err(Error::at(Code::BadArgument, &args.data_dir, what).into());
    }
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
    let new = match &args.snapshot {
        Some(path) => Some(Mark::of_snapshot(&Manifest::read(path)?, node.name.as_str())?),
        None if args.now => Some(Mark::of_log(&dir, now_ms)?),
        None => None,
    };
    let changed = new.is_some();
    let mark = match new {
        Some(mark) => {
            mark.set(&dir)?;
            Some(mark)
        }
        None => Mark::read(&dir)?,
    };
    let streams = mark.as_ref().map_or(0, |m| m.heads.len());
    match &mark {
        None => out.line("no backup is marked: nothing is removed here")?,
        Some(m) => {
            let (when, of) = (time::minute(m.taken_ms / 1000), show::counted(streams as u64, "stream"));
            out.line(format_args!("backup of {when}: what it holds of {of} may be removed"))?;
        }
    }
    if changed {
        out.say("  keep it: what is removed here is then in your backups and on no other disk of yours")?;
    }
    out.object(&Marked { marked: mark.is_some(), taken_ms: mark.map(|m| m.taken_ms), streams, changed })?;
    Ok(Outcome::Done)
}

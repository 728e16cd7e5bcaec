//! `ropeway snapshot`.

use ropeway_std::snapshot::{Manifest, SnapshotOptions, snapshot};
use serde::Serialize;

use super::args::SnapshotArgs;
use super::cmd_verify::set;
use super::{Outcome, Output, Result, passphrase, show};

/// The result for programs.
#[derive(Serialize)]
struct Taken<'a> {
    snapshot: String,
    bytes: u64,
    files: usize,
    #[serde(flatten)]
    manifest: Summary<'a>,
}

/// What of the manifest is worth a line.
#[derive(Serialize)]
struct Summary<'a> {
    node: &'a str,
    incarnation: Option<&'a str>,
    taken_ms: u64,
    events: u64,
    streams: usize,
    with_key: bool,
    damages: &'a [String],
}

/// Copies the log of a node, which may be at work.
///
/// # Errors
/// Those of [`snapshot`]. Damage that is copied along is no error: it is warned of.
pub fn run(args: &SnapshotArgs, out: &mut Output) -> Result<Outcome> {
    let bar = show::bytes_bar(out, "copying");
    let options = SnapshotOptions { with_key: args.with_key };
    let taken =
        snapshot(&passphrase::data_dir(&args.data_dir), &args.dest, &options, |done, total| set(&bar, done, total));
    bar.finish_and_clear();
    let m = taken?;
    tell(&m, args, out)?;
    if m.role == "hub" && m.damages.is_empty() {
        let (dir, dest) = (args.data_dir.display(), args.dest.display());
        out.say(format_args!("  once it is safe: ropeway backup-mark --data-dir {dir} --snapshot {dest}"))?;
    }
    for damage in &m.damages {
        out.warn(format_args!("the log was damaged before, and so is the copy: {damage}"));
    }
    out.object(&Taken {
        snapshot: args.dest.display().to_string(),
        bytes: m.bytes(),
        files: m.files.len(),
        manifest: Summary {
            node: &m.node,
            incarnation: m.incarnation.as_deref(),
            taken_ms: m.taken_ms,
            events: m.events,
            streams: m.heads.len(),
            with_key: m.with_key,
            damages: &m.damages,
        },
    })?;
    Ok(Outcome::Done)
}

fn tell(m: &Manifest, args: &SnapshotArgs, out: &mut Output) -> Result<()> {
    let (events, streams) = (show::counted(m.events, "event"), show::counted(m.heads.len() as u64, "stream"));
    let (dest, size) = (args.dest.display(), show::size(m.bytes()));
    out.say(format_args!("snapshot of {} in {dest}: {events} of {streams}, {size}, read back and whole", m.node))?;
    if m.with_key {
        out.say("  the log's keys are in it: whoever has this directory can read everything")?;
        return out.say("  (unless a passphrase, a credential or a key file elsewhere opens them: then keep that too)");
    }
    let keys = args.data_dir.join("keys");
    out.say(format_args!("  no key is in it: without {} it cannot be read or restored", keys.display()))
}

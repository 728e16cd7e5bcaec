//! `ropeway restore`.

use ropeway_std::DataDir;
use ropeway_std::snapshot::{RestoreOptions, Restored, restore};
use serde::Serialize;

use super::args::RestoreArgs;
use super::cmd_sign::role_word;
use super::cmd_verify::set;
use super::{Outcome, Output, Result, passphrase, show, time};

/// The result for programs.
#[derive(Serialize)]
struct Made<'a> {
    dir: String,
    node: String,
    role: &'static str,
    /// Whether it has a certificate that fits.
    signed: bool,
    /// Whose log it began with.
    from_node: &'a str,
    taken_ms: u64,
    /// In which nothing is written here.
    former_incarnation: Option<&'a str>,
    events: u64,
    key_kept_as: Option<String>,
}

/// Makes a data directory from a snapshot.
///
/// # Errors
/// Those of [`restore`].
pub fn run(args: &RestoreArgs, out: &mut Output) -> Result<Outcome> {
    let bar = show::bytes_bar(out, "restoring");
    let dir = passphrase::data_dir(&args.dir);
    let options = RestoreOptions { keys: args.keys.clone(), identity: args.identity.clone() };
    let restored = restore(&args.snapshot, &dir, &options, |done, total| set(&bar, done, total));
    bar.finish_and_clear();
    let r = restored?;
    tell(&r, &dir, out)?;
    let m = &r.manifest;
    out.object(&Made {
        dir: args.dir.display().to_string(),
        node: r.node.name.to_string(),
        role: role_word(r.node.role),
        signed: r.signed,
        from_node: &m.node,
        taken_ms: m.taken_ms,
        former_incarnation: m.incarnation.as_deref(),
        events: m.events,
        key_kept_as: r.key_kept_as.as_ref().map(|p| p.display().to_string()),
    })?;
    Ok(Outcome::Done)
}

fn tell(r: &Restored, dir: &DataDir, out: &mut Output) -> Result<()> {
    let (m, root) = (&r.manifest, dir.root().display());
    let events = show::counted(m.events, "event");
    let taken = time::utc(m.taken_ms);
    out.say(format_args!("restored {} in {root}: {events} of {}, as of {taken}", r.node.name, m.node))?;
    if r.node.name.as_str() == m.node {
        out.say("  it goes on in a new incarnation; the old device must not come back beside it")?;
    } else {
        out.say("  it holds copies of these events, and writes its own under its own name")?;
    }
    if let Some(path) = &r.key_kept_as {
        out.say(format_args!("  the key that lay there opens nothing of this; it is kept in {}", path.display()))?;
    }
    if r.signed {
        return out.say(format_args!("  next     ropeway sync --data-dir {root} --hub HOST:PORT, or serve"));
    }
    let role = if m.role == "hub" && r.node.name.as_str() == m.node { " --role hub" } else { "" };
    let csr = dir.node_csr();
    out.say(format_args!("  next     ropeway sign {} --ca HUBDIR --replace{role}  where the CA is", csr.display()))
}

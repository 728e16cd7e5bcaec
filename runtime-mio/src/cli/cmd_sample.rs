//! `ropeway sample`.

use ropeway_std::error::IoContext;
use ropeway_std::sample::Sample;
use serde::Serialize;

use super::args::SampleArgs;
use super::{Outcome, Output, Result, passphrase, show};

/// The result for programs.
#[derive(Serialize)]
struct Shown {
    /// Whether there is a sample now.
    sample: bool,
    /// The same at both ends if it is the same sample.
    tag: Option<String>,
    events: u64,
    bytes: u64,
    /// Whether this command has set or removed it.
    changed: bool,
}

/// Shows a node's base sample, sets or removes it.
///
/// # Errors
/// `R102` for a file that is no sample; `R103` without a node; `R901`.
pub fn run(args: &SampleArgs, out: &mut Output) -> Result<Outcome> {
    let dir = passphrase::data_dir(&args.data_dir);
    dir.node()?;
    let changed = args.set.is_some() || args.remove;
    if let Some(path) = &args.set {
        Sample::read(path)?.install(&dir)?;
    } else if args.remove {
        let path = dir.sample();
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            other => other.at("removing", &path)?,
        }
    }
    let sample = Sample::of(&dir)?;
    let tag = sample.as_ref().map(|s| format!("{:08x}", s.tag().swap_bytes()));
    let (events, bytes) = sample.as_ref().map_or((0, 0), |s| (s.events().count() as u64, s.bytes() as u64));
    match &tag {
        None => out.line("no sample: streams begin with nothing known")?,
        Some(tag) => {
            out.line(format_args!("sample {tag}: {}, {}", show::counted(events, "event"), show::size(bytes)))?
        }
    }
    if changed {
        out.say("  it counts from the next start of this node on; both ends need the same one")?;
    }
    if args.set.is_some() {
        out.say("  every clinic gets it with its certificate: it must hold invented events, never those of patients")?;
    }
    out.object(&Shown { sample: sample.is_some(), tag, events, bytes, changed })?;
    Ok(Outcome::Done)
}

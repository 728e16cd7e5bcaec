//! `ropeway verify`.

use ropeway_core::id::StreamKey;
use ropeway_std::LogView;
use ropeway_std::store::Stop;
use ropeway_std::view::Filter;
use serde::Serialize;

use super::args::VerifyArgs;
use super::{Outcome, Output, Result, passphrase, show};

/// The result for programs.
#[derive(Serialize)]
struct Verified {
    clean: bool,
    events: u64,
    groups: u64,
    log_bytes: u64,
    damages: Vec<show::DamageRow>,
    missing: Vec<Missing>,
}

/// Events of a stream that cannot be read, both inclusive.
#[derive(Serialize)]
struct Missing {
    node: String,
    lane: &'static str,
    incarnation: String,
    from: u64,
    to: u64,
}

/// Reads the whole log and checks it: once as it lies there, once by way of the index.
///
/// # Errors
/// Those of [`LogView::open`] and [`LogView::read`]; damage is [`Outcome::Damage`].
pub fn run(args: &VerifyArgs, out: &mut Output) -> Result<Outcome> {
    let mut view = LogView::open(&passphrase::data_dir(&args.data_dir))?;
    let mut events = 0;
    let missing = view.read(&Filter::default(), 1, |_, _, _| {
        events += 1;
        Stop::No
    })?;
    let clean = missing.is_empty() && !view.damages().iter().any(|d| d.is_loss());
    let verified = Verified {
        clean,
        events,
        groups: view.groups(),
        log_bytes: view.log_bytes(),
        damages: show::damage_rows(view.damages()),
        missing: missing.iter().map(missing_row).collect(),
    };
    tell(&verified, &view, &missing, out)?;
    out.object(&verified)?;
    Ok(if clean { Outcome::Done } else { Outcome::Damage })
}

fn missing_row((key, from, to): &(StreamKey, u64, u64)) -> Missing {
    Missing {
        node: key.node.to_string(),
        lane: key.lane.as_str(),
        incarnation: key.incarnation.to_string(),
        from: *from,
        to: *to,
    }
}

fn tell(v: &Verified, view: &LogView, missing: &[(StreamKey, u64, u64)], out: &mut Output) -> Result<()> {
    let state = match (v.clean, view.damages().len()) {
        (true, 0) => "clean",
        (true, _) => "clean, but for writes that a power cut interrupted; nothing acknowledged was in them",
        (false, _) => "DAMAGED",
    };
    let (events, groups) = (show::counted(v.events, "event"), show::counted(v.groups, "group"));
    out.line(format_args!("verified {events} in {groups}, {}: {state}", show::size(v.log_bytes)))?;
    for d in view.damages() {
        out.line(format_args!("  {}", show::damage_line(d)))?;
    }
    for (key, from, to) in missing {
        let range = if from == to { format!("event {from}") } else { format!("events {from} to {to}") };
        out.line(format_args!("  missing: {range} of {key}"))?;
    }
    if let Some(d) = view.damages().iter().find(|d| d.is_loss()) {
        out.line(format_args!("  {}", d.code.hint()))?;
    }
    Ok(())
}

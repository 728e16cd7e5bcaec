//! `ropeway fetch`.

use ropeway_core::code::Code;
use ropeway_std::fetch::{Asked, Wanted};
use ropeway_std::{Error, Options};
use serde::Serialize;

use super::args::FetchArgs;
use super::{CliError, Outcome, Output, Result, passphrase, show};

/// The result for programs.
#[derive(Serialize)]
struct Fetched {
    dry_run: bool,
    /// What is asked for from now on, or would be.
    asked: Vec<Row>,
    /// Streams that are left out until damage is mended.
    damaged: Vec<String>,
    /// What is not asked for any more.
    cancelled: Vec<show::LostRow>,
}

#[derive(Serialize)]
struct Row {
    /// The first and the last event of which only the place is here.
    #[serde(flatten)]
    range: show::LostRow,
    /// How many such events there are, and the bytes of their payloads as far as they are known.
    events: u64,
    bytes: u64,
    /// Events between them that are here and come again.
    again: u64,
    again_bytes: u64,
}

impl From<&Wanted> for Row {
    fn from(w: &Wanted) -> Self {
        let Wanted { places: events, bytes, again, again_bytes, .. } = *w;
        Row { range: row(&w.asked), events, bytes, again, again_bytes }
    }
}

fn row(asked: &Asked) -> show::LostRow {
    show::LostRow::new(&asked.key, asked.from, asked.to)
}

/// Asks for withheld events once more, or takes that back.
///
/// # Errors
/// [`Code::Locked`] if another process works on the directory; those of [`ropeway_std::Replica::open`] and
/// [`ropeway_std::Replica::fetch`].
pub fn run(args: &FetchArgs, out: &mut Output) -> Result<Outcome> {
    let dir = passphrase::data_dir(&args.data_dir);
    let mut replica = show::open(&dir, Options::default()).map_err(|e| locked(e, args))?;
    show::warn_of_damage(&replica, out);
    if args.cancel {
        let gone = replica.take_back(args.node)?;
        let lines = gone.iter().map(|a| format!("not asked for any more: {}", show::range_of(&a.key, a.from, a.to)));
        lines.chain(gone.is_empty().then(|| "nothing was asked for".to_owned())).try_for_each(|line| out.line(line))?;
        let cancelled = gone.iter().map(row).collect();
        out.object(&Fetched { dry_run: false, asked: Vec::new(), damaged: Vec::new(), cancelled })?;
        return Ok(Outcome::Done);
    }
    let found = replica.fetch(args.node, args.dry_run)?;
    for key in &found.damaged {
        out.warn(format_args!("{key}: damage has taken events here, which a sync fetches by itself; ask again then"));
    }
    for wanted in &found.wanted {
        for line in text(wanted, args.dry_run) {
            out.line(line)?;
        }
    }
    if found.wanted.is_empty() {
        out.line("nothing is withheld here: there is nothing to ask for")?;
    } else if !args.dry_run {
        out.say(
            "  they come with the next sync, or are withheld again; `ropeway status` tells what is still asked for",
        )?;
    }
    let (asked, damaged) = (found.wanted.iter().map(Row::from).collect(), &found.damaged);
    let damaged = damaged.iter().map(ToString::to_string).collect();
    out.object(&Fetched { dry_run: args.dry_run, asked, damaged, cancelled: Vec::new() })?;
    Ok(Outcome::Done)
}

fn locked(e: CliError, args: &FetchArgs) -> CliError {
    match e {
        CliError::Fault(e) if e.code == Code::Locked => {
            let what = "stop it, run this, and start it again, without what has made it refuse events";
            CliError::Fault(Error::at(Code::Locked, &args.data_dir, what).with_source(e))
        }
        other => other,
    }
}

/// What is asked for of one stream, and what that costs.
fn text(w: &Wanted, dry_run: bool) -> Vec<String> {
    let (Asked { key, from, to }, verb) = (w.asked, if dry_run { "would ask for" } else { "asked for" });
    let size = if w.bytes > 0 { format!(", {}", show::size(w.bytes)) } else { String::new() };
    let mut lines = vec![match w.again {
        0 => format!("{verb} {}{size}", show::range_of(&key, from, to)),
        _ => format!("{verb} {} of events {from} to {to} of {key}{size}", w.places),
    }];
    if w.again > 0 {
        let (events, size) = (show::counted(w.again, "event"), show::size(w.again_bytes));
        lines.push(format!("  {events} between them come again, {size}: a stream is asked for in one piece"));
    }
    lines
}

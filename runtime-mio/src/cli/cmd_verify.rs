//! `ropeway verify`.

use std::ops::ControlFlow;

use indicatif::ProgressBar;
use ropeway_core::id::StreamKey;
use ropeway_core::withheld::Withheld;
use ropeway_std::pass::{Filter, Pass, Seen, Visitor};
use ropeway_std::quick::{Quick, quick_verify};
use ropeway_std::repair::{Fate, Judged, Ledger};
use ropeway_std::store::forget_checkpoint;
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
    /// All gaps of all streams.
    missing: Vec<show::LostRow>,
    /// Events that are not here though what follows them is: they were withheld or refused.
    withheld: Vec<WithheldRow>,
    /// Events that are here, among which are some that a hub does not have.
    not_at_hub: Vec<show::LostRow>,
}

/// An event that was withheld or refused.
#[derive(Serialize)]
struct WithheldRow {
    #[serde(flatten)]
    event: show::LostRow,
    /// Of its payload; 0 if it is not known.
    bytes: u64,
    code: String,
}

/// The result of `--quick` for programs.
#[derive(Serialize)]
struct Quickly {
    quick: bool,
    clean: bool,
    segments: u64,
    frames: u64,
    log_bytes: u64,
    key_ids: Vec<u32>,
    damages: Vec<show::DamageRow>,
    /// Files of the log that were not looked at.
    unread: Vec<String>,
    cannot_tell: [&'static str; 4],
}

/// What the checksums alone do not show.
const CANNOT_TELL: [&str; 4] = [
    "whether frames were altered on purpose, with a checksum made to fit",
    "which streams and events a damage has cost, and whether the chains hold",
    "whether a frame with a wrong checksum is whole all the same",
    "whether what a damage has cost was fetched again since",
];

/// Reads the whole log and checks it: every tag and every chain, or the checksums only.
///
/// # Errors
/// Those of reading a log; damage is [`Outcome::Damage`].
pub fn run(args: &VerifyArgs, out: &mut Output) -> Result<Outcome> {
    let dir = passphrase::data_dir(&args.data_dir);
    let bar = show::bytes_bar(out, "verifying");
    if args.quick {
        let quick = quick_verify(&dir, |done, total| set(&bar, done, total));
        bar.finish_and_clear();
        return tell_quick(&quick?, out);
    }
    let mut pass = Pass::new(&dir)?;
    let mut watch = Watch { bar: &bar, withheld: Vec::new() };
    let read = pass.run(&Filter::default(), &mut watch);
    bar.finish_and_clear();
    let _ = read?;
    let streams = pass.streams().iter();
    let missing: Vec<_> = streams.flat_map(|(key, t)| t.holes.iter().map(move |h| (key, h.from, h.to))).collect();
    let judged = pass.judged();
    let clean = missing.is_empty() && !judged.iter().any(Judged::is_loss);
    let (events, groups, bytes) = (pass.events(), pass.groups(), pass.log_bytes());
    let state = state(clean, &judged);
    let (e, g) = (show::counted(events, "event"), show::counted(groups, "group"));
    out.line(format_args!("verified {e} in {g}, {}: {state}", show::size(bytes)))?;
    show::note_expired(&pass, &Filter::default(), &mut show::Told::default(), out);
    for line in show::damage_lines(&judged, Some(&pass)) {
        out.line(format_args!("  {line}"))?;
    }
    for (key, from, to) in &missing {
        out.line(format_args!("  missing: {}", show::range_of(key, *from, *to)))?;
    }
    let mut withheld = watch.withheld;
    // Some of them came later.
    withheld.retain(|(key, seq, _)| pass.streams().get(key).is_some_and(|t| t.withheld.contains(seq)));
    for (key, seq, place) in &withheld {
        let what = show::range_of(key, *seq, *seq);
        out.line(format_args!("  withheld: {what}, {}: {}", show::size(place.bytes), place.reason()))?;
    }
    let lacks: Vec<_> = pass.streams().iter().filter_map(|(key, t)| Some((key, t.lacks?))).collect();
    for (key, (from, to)) in &lacks {
        out.line(format_args!("  not at the hub, or some of them: {}", show::range_of(key, *from, *to)))?;
    }
    hint(&judged, out)?;
    // What the log tells of is not forgotten with a checkpoint.
    let told = judged.iter().any(Judged::is_loss) && !judged.iter().any(|j| j.fate == Fate::Open(None));
    if !clean
        && !told
        && let Err(e) = forget_checkpoint(&dir)
    {
        out.note(format_args!("the next start may not see this damage: {e}; stop the node and verify again"));
    }
    out.object(&Verified {
        clean,
        events,
        groups,
        log_bytes: bytes,
        damages: show::damage_rows(&judged, Some(&pass)),
        missing: missing.iter().map(|(key, from, to)| show::LostRow::new(key, *from, *to)).collect(),
        withheld: withheld.iter().map(WithheldRow::from).collect(),
        not_at_hub: lacks.iter().map(|(key, (from, to))| show::LostRow::new(key, *from, *to)).collect(),
    })?;
    Ok(if clean { Outcome::Done } else { Outcome::Damage })
}

fn tell_quick(q: &Quick, out: &mut Output) -> Result<Outcome> {
    // Without the key nobody can read what was repaired.
    let judged = Ledger::default().judge(&q.damages);
    let clean = !judged.iter().any(Judged::is_loss);
    let state = match (clean, q.unread.len()) {
        (true, 1..) => "nothing wrong in what was read; there are files that were not looked at",
        _ => state(clean, &judged),
    };
    let (f, s) = (show::counted(q.frames, "frame"), show::counted(q.segments, "segment"));
    out.line(format_args!("checksums of {f} in {s}, {}: {state}", show::size(q.log_bytes)))?;
    for line in show::damage_lines(&judged, None) {
        out.line(format_args!("  {line}"))?;
    }
    for path in &q.unread {
        out.line(format_args!("  not looked at: {}", path.display()))?;
    }
    hint(&judged, out)?;
    for what in CANNOT_TELL {
        out.say(format_args!("  not told without the key: {what}"))?;
    }
    out.object(&Quickly {
        quick: true,
        clean,
        segments: q.segments,
        frames: q.frames,
        log_bytes: q.log_bytes,
        key_ids: q.key_ids.clone(),
        damages: show::damage_rows(&judged, None),
        unread: q.unread.iter().map(|p| p.display().to_string()).collect(),
        cannot_tell: CANNOT_TELL,
    })?;
    Ok(if clean { Outcome::Done } else { Outcome::Damage })
}

fn state(clean: bool, judged: &[Judged]) -> &'static str {
    let repaired = judged.iter().any(|j| matches!(j.fate, Fate::Repaired(_)));
    match (clean, judged.len()) {
        (true, 0) => "clean",
        (true, _) if repaired => "clean; what was damaged has been repaired",
        (true, _) => "clean, but for writes that a power cut interrupted; nothing acknowledged was in them",
        (false, _) => "DAMAGED",
    }
}

fn hint(judged: &[Judged], out: &mut Output) -> Result<()> {
    match judged.iter().find(|j| j.is_loss()) {
        Some(j) => out.line(format_args!("  {}", j.damage.code.hint())),
        None => Ok(()),
    }
}

impl From<&Place> for WithheldRow {
    fn from((key, seq, place): &Place) -> Self {
        let code = format!("R{}", place.code);
        Self { event: show::LostRow::new(key, *seq, *seq), bytes: place.bytes, code }
    }
}

type Place = (StreamKey, u64, Withheld);

struct Watch<'a> {
    bar: &'a ProgressBar,
    withheld: Vec<Place>,
}

impl Visitor for Watch<'_> {
    fn event(&mut self, _: &Seen<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn withheld(&mut self, s: &Seen<'_>) -> ControlFlow<()> {
        self.withheld.extend(s.event.withheld().map(|place| (*s.key, s.seq, place)));
        ControlFlow::Continue(())
    }

    fn progress(&mut self, done: u64, total: u64) {
        set(self.bar, done, total);
    }
}

pub(super) fn set(bar: &ProgressBar, done: u64, total: u64) {
    bar.set_length(total);
    bar.set_position(done);
}

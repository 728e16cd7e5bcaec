//! How verbs show sizes, damage and progress, and how they open a node.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ropeway_core::code::Code;
use ropeway_core::id::StreamKey;
use ropeway_std::pass::{Filter, Pass};
use ropeway_std::repair::{Fate, Judged};
use ropeway_std::store::Damage;
use ropeway_std::{DataDir, Options, Replica};
use serde::Serialize;

use super::{Outcome, Output, Result, time};

/// How long a verb waits for another one to end that works on the same directory.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(2);
/// How long a verb goes on after its work with what the log has left to tidy.
pub(super) const MAINTAIN_LIMIT: Duration = Duration::from_secs(3);
/// Damages that a verb tells of that has other work.
const DAMAGES_TOLD: usize = 3;
pub(super) const LOCK_RETRY: Duration = Duration::from_millis(50);

/// Opens a node for writing; waits a little if it is locked, since a push is over soon.
pub(super) fn open(dir: &DataDir, options: Options) -> Result<Replica> {
    let start = Instant::now();
    loop {
        match Replica::open(dir.clone(), options) {
            Err(e) if e.code == Code::Locked && start.elapsed() < LOCK_WAIT => std::thread::sleep(LOCK_RETRY),
            other => return Ok(other?),
        }
    }
}

/// Bytes for people: `271 kB`, `8.4 MB`.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", bytes.div_ceil(1_000)),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// A time for people: `40 s`, `7 min`, `2 h 5 min`.
pub(super) fn span(seconds: f64) -> String {
    match seconds.ceil() as u64 {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7_200 => format!("{} min", s.div_ceil(60)),
        s => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}

/// `, 7 min left` by what was done in the time so far; nothing before anything was.
pub(super) fn time_left(done: u64, all: u64, seconds: f64) -> String {
    match all.saturating_sub(done) {
        left if left > 0 && done > 0 => format!(", {} left", span(seconds / done as f64 * left as f64)),
        _ => String::new(),
    }
}

/// `1 event`, `2 events`.
pub(super) fn counted(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// A bar on standard error, if a person watches it. `template` as indicatif takes it.
pub(super) fn bar(out: &Output, total: Option<u64>, template: &str) -> ProgressBar {
    // Standard error that is no terminal hides it as well.
    let hidden = out.json() || out.quiet();
    let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(total, target).with_style(style.progress_chars("=> "))
}

/// A bar for so many bytes; `verb` says what is done with them.
pub(super) fn bytes_bar(out: &Output, verb: &str) -> ProgressBar {
    bar(out, Some(0), &format!("{verb} [{{bar:32}}] {{bytes}}/{{total_bytes}}"))
}

/// Damage as programs read it.
#[derive(Serialize)]
pub(super) struct DamageRow {
    code: String,
    name: &'static str,
    segment: u64,
    from_page: u64,
    /// The first page after it.
    to_page: u64,
    /// Whether these are pages of a sealed file.
    sealed: bool,
    /// `harmless`, `open` or `repaired`.
    fate: &'static str,
    /// Since when the log tells of it, or when it was repaired.
    since: Option<String>,
    /// The events that it has cost, as far as later events show it.
    lost: Vec<LostRow>,
}

/// Events of a stream that cannot be read, both inclusive.
#[derive(Serialize)]
pub(super) struct LostRow {
    node: String,
    lane: &'static str,
    incarnation: String,
    from: u64,
    to: u64,
}

impl LostRow {
    pub(super) fn new(key: &StreamKey, from: u64, to: u64) -> Self {
        let (node, incarnation) = (key.node.to_string(), key.incarnation.to_string());
        Self { node, lane: key.lane.as_str(), incarnation, from, to }
    }
}

/// The rows of all damages. `pass`: what has read them, to tell what they have cost.
pub(super) fn damage_rows(judged: &[Judged], pass: Option<&Pass>) -> Vec<DamageRow> {
    let row = |j: &Judged| DamageRow {
        code: format!("R{}", j.damage.code.as_u16()),
        name: j.damage.code.name(),
        segment: j.damage.segment,
        from_page: j.damage.from_page,
        to_page: j.damage.to_page,
        sealed: j.damage.sealed,
        fate: match j.fate {
            Fate::Harmless => "harmless",
            Fate::Open(_) => "open",
            Fate::Repaired(_) => "repaired",
        },
        since: match j.fate {
            Fate::Open(Some(ms)) | Fate::Repaired(ms) => Some(time::utc(ms)),
            _ => None,
        },
        lost: costs(j, pass).into_iter().map(|(key, from, to)| LostRow::new(&key, from, to)).collect(),
    };
    judged.iter().map(row).collect()
}

/// The events that a damage has cost: those that are missing still, else those that the log names.
fn costs(j: &Judged, pass: Option<&Pass>) -> Vec<(StreamKey, u64, u64)> {
    let missing: Vec<_> = pass.into_iter().flat_map(|p| p.hit_by(&j.damage)).map(|(k, a, b)| (*k, a, b)).collect();
    if missing.is_empty() { j.lost.iter().map(|l| (l.key, l.from, l.to)).collect() } else { missing }
}

/// The same for people: each damage, and below it the events that it has cost.
pub(super) fn damage_lines(judged: &[Judged], pass: Option<&Pass>) -> Vec<String> {
    let mut lines = Vec::new();
    for j in judged {
        let (line, verb) = (damage_line(&j.damage), "it has cost");
        let (line, verb) = match j.fate {
            Fate::Repaired(ms) => (format!("{line}: repaired on {}", time::minute(ms / 1000)), "fetched again:"),
            Fate::Open(Some(ms)) => (format!("{line}: not repaired, known since {}", time::minute(ms / 1000)), verb),
            _ => (line, verb),
        };
        lines.push(line);
        lines.extend(costs(j, pass).iter().map(|(key, from, to)| format!("  {verb} {}", range_of(key, *from, *to))));
    }
    lines
}

/// `event 3 of STREAM`, `events 3 to 5 of STREAM`.
pub(super) fn range_of(key: &StreamKey, from: u64, to: u64) -> String {
    if to == u64::MAX {
        format!("perhaps events from {from} on of {key}")
    } else if from == to {
        format!("event {from} of {key}")
    } else {
        format!("events {from} to {to} of {key}")
    }
}

/// Warns of what opening the log has found lost: who only writes or sends would not hear of it.
pub(super) fn warn_of_damage(replica: &Replica, out: &mut Output) {
    let mut lost = replica.judged();
    lost.retain(Judged::is_loss);
    for j in lost.iter().take(DAMAGES_TOLD) {
        out.warn(damage_line(&j.damage));
    }
    if let Some(more) = lost.len().checked_sub(DAMAGES_TOLD).filter(|n| *n > 0) {
        out.warn(format_args!("and {more} more"));
    }
    if !lost.is_empty() {
        out.warn("the log is damaged: `ropeway status` tells what it has cost, and `ropeway sync` fetches it again");
    }
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// What was warned of already.
#[derive(Default)]
pub(super) struct Told {
    ranges: HashSet<(StreamKey, u64, u64)>,
    damages: usize,
}

/// Notes what was removed of the wanted streams, once: it is not damage.
pub(super) fn note_expired(pass: &Pass, filter: &Filter, told: &mut Told, out: &mut Output) {
    for (key, track) in pass.streams().iter().filter(|(key, _)| filter.wants_stream(key)) {
        let (from, to) = (filter.from_seq.max(1), track.floor);
        if to >= from && told.ranges.insert((*key, from, to)) {
            out.note(format_args!("{}: {} were removed by the rule", Code::Expired, range_of(key, from, to)));
        }
    }
}

/// Notes what is not here of the wanted streams because it was withheld or refused, once: it is not damage.
pub(super) fn note_withheld(pass: &Pass, filter: &Filter, told: &mut Told, out: &mut Output) {
    for (key, track) in pass.streams().iter().filter(|(key, _)| filter.wants_stream(key)) {
        for seq in track.withheld.range(filter.from_seq..) {
            if told.ranges.insert((*key, *seq, *seq)) {
                out.note(format_args!("{}: {} is not here", Code::Withheld, range_of(key, *seq, *seq)));
            }
        }
    }
}

/// Warns of what a pass could not read of the wanted streams, once.
pub(super) fn warn_of_losses(pass: &Pass, filter: &Filter, told: &mut Told, out: &mut Output) -> Outcome {
    let (mut outcome, code) = (Outcome::Done, Code::Corrupt);
    for (key, track) in pass.streams().iter().filter(|(key, _)| filter.wants_stream(key)) {
        for hole in track.holes.iter().filter(|h| h.to >= filter.from_seq) {
            outcome = Outcome::Damage;
            let from = hole.from.max(filter.from_seq);
            if told.ranges.insert((*key, from, hole.to)) {
                out.warn(format_args!("{code}: {} cannot be read", range_of(key, from, hole.to)));
            }
        }
    }
    // Damage that no later event shows: nobody knows what was there.
    let lost: Vec<_> = pass.judged().into_iter().filter(Judged::is_loss).collect();
    if outcome == Outcome::Done && lost.len() > told.damages {
        outcome = Outcome::Damage;
        for j in &lost[told.damages..] {
            out.warn(damage_line(&j.damage));
        }
    }
    told.damages = told.damages.max(lost.len());
    outcome
}

/// Damage for people: `R302 corrupt: segment 1, pages 10 to 12`.
pub(super) fn damage_line(d: &Damage) -> String {
    let (code, segment, from) = (d.code, d.segment, d.from_page);
    match d.to_page.saturating_sub(from) {
        0 if code == Code::SegmentMissing => format!("{code}: segment {segment}"),
        0 | 1 => format!("{code}: segment {segment}, page {from}"),
        _ => format!("{code}: segment {segment}, pages {from} to {}", d.to_page - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_damages_are_short() {
        let sizes = [0, 999, 1_000, 270_100, 8_388_608, 1_234_567_890].map(size);
        assert_eq!(sizes, ["0 B", "999 B", "1 kB", "271 kB", "8.4 MB", "1.2 GB"]);
        let spans = [0.0, 0.2, 119.0, 121.0, 7_200.0, 90_061.0].map(span);
        assert_eq!(spans, ["0 s", "1 s", "119 s", "3 min", "2 h 0 min", "25 h 1 min"]);
        let left = [(0, 9), (9, 9), (3, 9)].map(|(done, all)| time_left(done, all, 30.0));
        assert_eq!(left, ["", "", ", 60 s left"]);
        let damage = |code, to_page| damage_line(&Damage { code, segment: 2, from_page: 5, to_page, sealed: false });
        assert_eq!(damage(Code::Corrupt, 9), "R302 corrupt: segment 2, pages 5 to 8");
        assert_eq!(damage(Code::TornTail, 6), "R312 torn tail: segment 2, page 5");
        assert_eq!(damage(Code::SegmentMissing, 5), "R304 segment missing: segment 2");
    }
}

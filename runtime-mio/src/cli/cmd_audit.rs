//! `ropeway audit`.

use std::collections::HashMap;
use std::ops::ControlFlow;

use ropeway_core::code::Code;
use ropeway_core::event::flags;
use ropeway_core::id::StreamKey;
use ropeway_core::withheld::Known;
use ropeway_std::pass::{Filter, Pass, Seen, Track, Visitor};
use ropeway_std::{DataDir, snapshot};
use serde::Serialize;

use super::args::AuditArgs;
use super::head::{self, Head};
use super::{CliError, Outcome, Output, Result, passphrase, show, time};

/// A line of the audit, for programs.
#[derive(Serialize)]
struct Row<'a> {
    time: String,
    hlc_ms: u64,
    hlc_counter: u16,
    node: &'a str,
    incarnation: String,
    lane: &'static str,
    seq: u64,
    kind: u16,
    size: usize,
    chain: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unsynced: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    future: bool,
}

/// The end of a stream, for programs.
#[derive(Serialize)]
struct HeadRow<'a> {
    head: String,
    node: &'a str,
    incarnation: String,
    lane: &'static str,
    seq: u64,
    chain: String,
    missing: u64,
}

/// What became of a head that was kept, for programs.
#[derive(Serialize)]
struct Checked {
    head: String,
    ok: bool,
    /// Events up to there that cannot be read.
    missing: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    says: Option<String>,
}

/// Lists the events of the log, or its heads, or checks heads that were kept. Works beside a process
/// that writes.
///
/// # Errors
/// Those of reading a log and of printing. Damage, and a head that the log does not hold any more, are
/// [`Outcome::Damage`].
pub fn run(args: &AuditArgs, out: &mut Output) -> Result<Outcome> {
    let dir = passphrase::data_dir(&args.data_dir);
    if !args.check_head.is_empty() {
        return check(args, &dir, out);
    }
    let filter = args.filter.filter();
    let mut pass = Pass::new(&dir)?;
    if !args.heads {
        out.say(COLUMNS)?;
    }
    let mut list = List { out, events: !args.heads, failed: None };
    let _ = pass.run(&filter, &mut list)?;
    list.failed.map_or(Ok(()), Err)?;
    if !args.heads {
        out.say("")?;
    }
    for (key, track) in pass.streams().iter().filter(|(key, t)| filter.wants_stream(key) && t.top > 0) {
        let word = snapshot::head(key, track.top, &track.chain);
        if out.json() {
            out.row(&head_row(key, track, word))?;
        } else {
            let label = if args.heads { "" } else { "head  " };
            out.bytes(format!("{label}{word}\n").as_bytes())?;
        }
    }
    out.flush()?;
    Ok(show::warn_of_losses(&pass, &filter, &mut show::Told::default(), out))
}

const COLUMNS: &str =
    "time                      node              incarn.   lane           seq   kind      size  chain";

struct List<'a> {
    out: &'a mut Output,
    events: bool,
    failed: Option<CliError>,
}

impl List<'_> {
    fn print(&mut self, s: &Seen<'_>) -> Result<()> {
        let (key, e) = (s.key, s.event);
        let (time, incarnation) = (time::utc(e.hlc.ms()), key.incarnation.to_string());
        let (lane, size, chain) = (key.lane.as_str(), e.payload.len(), show::hex(&s.chain.0));
        if self.out.json() {
            return self.out.row(&Row {
                time,
                hlc_ms: e.hlc.ms(),
                hlc_counter: e.hlc.counter(),
                node: key.node.as_str(),
                incarnation,
                lane,
                seq: s.seq,
                kind: e.kind,
                size,
                chain,
                unsynced: e.flags & flags::UNSYNCED != 0,
                future: e.flags & flags::FUTURE != 0,
            });
        }
        let (node, short, chain) = (key.node, &incarnation[..8], &chain[..16]);
        let (seq, kind) = (s.seq, e.kind);
        let line = format!("{time:24}  {node:16}  {short}  {lane:6}  {seq:>10}  {kind:>5}  {size:>8}  {chain}\n");
        self.out.bytes(line.as_bytes())
    }
}

impl Visitor for List<'_> {
    fn event(&mut self, seen: &Seen<'_>) -> ControlFlow<()> {
        if !self.events {
            return ControlFlow::Continue(());
        }
        match self.print(seen) {
            Ok(()) => ControlFlow::Continue(()),
            Err(e) => {
                self.failed = Some(e);
                ControlFlow::Break(())
            }
        }
    }
}

fn head_row<'a>(key: &'a StreamKey, track: &Track, head: String) -> HeadRow<'a> {
    HeadRow {
        head,
        node: key.node.as_str(),
        incarnation: key.incarnation.to_string(),
        lane: key.lane.as_str(),
        seq: track.top,
        chain: show::hex(&track.chain.0),
        missing: track.missing(),
    }
}

/// The chain hash that the log has at each place that was asked for.
struct Compare(HashMap<(StreamKey, u64), Option<[u8; 32]>>);

impl Visitor for Compare {
    fn event(&mut self, seen: &Seen<'_>) -> ControlFlow<()> {
        if let Some(place) = self.0.get_mut(&(*seen.key, seen.seq)) {
            *place = Some(seen.chain.0);
        }
        ControlFlow::Continue(())
    }

    fn withheld(&mut self, seen: &Seen<'_>) -> ControlFlow<()> {
        match seen.event.withheld() {
            Some(place) if place.known != Known::Nothing => self.event(seen),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn check(args: &AuditArgs, dir: &DataDir, out: &mut Output) -> Result<Outcome> {
    let mut heads = Vec::new();
    for argument in &args.check_head {
        heads.extend(head::read(argument)?);
    }
    let mut nodes: Vec<_> = heads.iter().map(|h| h.key.node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let filter = Filter { nodes, ..Filter::default() };
    let mut compare = Compare(heads.iter().map(|h| ((h.key, h.seq), None)).collect());
    let mut pass = Pass::new(dir)?;
    let _ = pass.run(&filter, &mut compare)?;
    let (mut wrong, mut past_all, mut unseen) = (0, 0u64, 0);
    for h in &heads {
        let track = pass.streams().get(&h.key);
        // The chain hash of the last event that was removed is known.
        let floor = track.filter(|t| t.floor == h.seq && h.seq > 0).map(|t| t.floor_chain.0);
        let found = compare.0.get(&(h.key, h.seq)).copied().flatten().or(floor);
        let fault = fault(h, found, track);
        let past = fault.as_ref().is_some_and(|(code, _)| *code == Code::Expired);
        wrong += u64::from(fault.is_some() && !past);
        past_all += u64::from(past);
        let missing = missing_before(h, track);
        unseen += u64::from(fault.is_none() && missing > 0);
        let (short, word) = (format!("{}:{}", h.key, h.seq), format!("{}:{}:{}", h.key, h.seq, show::hex(&h.hash)));
        let text = match &fault {
            None if missing > 0 => format!("ok    {short}, but for {} before it", show::counted(missing, "event")),
            None => format!("ok    {short}"),
            Some((code, says)) if past => format!("past  {short}\n  {code}: {says}"),
            Some((code, says)) => format!("GONE  {short}\n  {code}: {says}"),
        };
        out.line(text)?;
        out.object(&Checked {
            head: word,
            ok: fault.is_none(),
            missing,
            code: fault.as_ref().map(|(code, _)| format!("R{}", code.as_u16())),
            name: fault.as_ref().map(|(code, _)| code.name()),
            says: fault.map(|(_, says)| says),
        })?;
    }
    let (all, holds) = (show::counted(heads.len() as u64, "head"), if heads.len() == 1 { "is" } else { "are" });
    match wrong {
        0 if unseen > 0 => out.say(format_args!(
            "{all} {holds} in the log, but not all before {unseen} of them can be read: what stood there is not checked"
        ))?,
        0 if past_all > 0 => out.say(format_args!("{all}: none is gone, {past_all} cannot be compared any more"))?,
        0 => out.say(format_args!("{all} {holds} in the log: nothing up to there was changed or cut off"))?,
        n => out.say(format_args!("{n} of {all} {} not in the log any more", if n == 1 { "is" } else { "are" }))?,
    }
    let losses = show::warn_of_losses(&pass, &filter, &mut show::Told::default(), out);
    Ok(if wrong > 0 { Outcome::Damage } else { losses })
}

/// How many events up to a head cannot be read: the chain leads around them by what the log says of them.
fn missing_before(h: &Head, track: Option<&Track>) -> u64 {
    let holes = track.into_iter().flat_map(|t| &t.holes);
    holes.filter(|hole| hole.from <= h.seq).map(|hole| hole.to.min(h.seq) + 1 - hole.from).sum()
}

/// Why a head that was kept is not in the log any more.
fn fault(h: &Head, found: Option<[u8; 32]>, track: Option<&Track>) -> Option<(Code, String)> {
    let top = track.map_or(0, |t| t.top);
    match found {
        Some(hash) if hash == h.hash => None,
        Some(hash) => Some((
            Code::Fork,
            format!(
                "the chain at event {} is {}: history was rewritten after the head was printed, or this is another copy of it",
                h.seq,
                show::hex(&hash)
            ),
        )),
        None if top == 0 => Some((Code::TailLost, "the log holds nothing of this stream any more".to_owned())),
        None if track.is_some_and(|t| h.seq < t.floor) => Some((
            Code::Expired,
            format!(
                "events up to {} were removed by the rule: whether it is the same history cannot be seen here",
                track.map_or(0, |t| t.floor)
            ),
        )),
        None if h.seq > top => {
            Some((Code::TailLost, format!("the stream ends at event {top} now: its end was cut off")))
        }
        None => Some((Code::Corrupt, format!("event {} cannot be read; sync may bring it back", h.seq))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_stand_over_their_values() {
        let line =
            format!("{:24}  {:16}  {}  {:6}  {:>10}  {:>5}  {:>8}  {}", "t", "n", "i".repeat(8), "l", 1, 2, 3, "c");
        for (title, value) in [("node", " n "), ("incarn.", "iiiiiiii"), ("lane", " l "), ("chain", "c")] {
            let at = line.rfind(value).unwrap() + usize::from(value.starts_with(' '));
            assert_eq!(COLUMNS.find(title).unwrap(), at, "{title}");
        }
    }
}

//! `ropeway pull`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ropeway_core::code::Code;
use ropeway_core::event::{Event, flags};
use ropeway_core::id::StreamKey;
use ropeway_std::store::Stop;
use ropeway_std::{DataDir, Error, LogView};
use serde::Serialize;

use super::args::PullArgs;
use super::{Outcome, Output, Result, passphrase, show};

/// How often `--follow` looks.
const POLL: Duration = Duration::from_millis(500);
const NAP: Duration = Duration::from_millis(50);

/// An event as programs read it. Exactly one of the two payloads is there.
#[derive(Serialize)]
struct Row<'a> {
    node: &'a str,
    incarnation: &'a str,
    lane: &'static str,
    seq: u64,
    hlc_ms: u64,
    hlc_counter: u16,
    kind: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    flags: Vec<&'static str>,
}

/// Prints events. Works beside a process that writes.
///
/// # Errors
/// Those of [`LogView::open`] and of printing. What damage has left out is no error: it is
/// warned of, and [`Outcome::Damage`].
pub fn run(args: &PullArgs, out: &mut Output) -> Result<Outcome> {
    let dir = passphrase::data_dir(&args.data_dir);
    let stop = Arc::new(AtomicBool::new(false));
    if args.follow {
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(|e| Error::io("catching signals", e))?;
        }
    }
    let mut pull = Pull { args, next: HashMap::new(), outcome: Outcome::Done, warned: 0 };
    loop {
        let looked = SystemTime::now();
        let seen = fingerprint(&dir);
        pull.print(&mut LogView::open_quickly(&dir)?, out)?;
        out.flush()?;
        if !args.follow || !wait_for_change(&dir, looked, &seen, &stop) {
            return Ok(pull.outcome);
        }
    }
}

struct Pull<'a> {
    args: &'a PullArgs,
    /// The first seq that was not printed, per stream.
    next: HashMap<StreamKey, u64>,
    outcome: Outcome,
    /// Damages warned of so far.
    warned: usize,
}

impl Pull<'_> {
    fn print(&mut self, view: &mut LogView, out: &mut Output) -> Result<()> {
        let args = self.args;
        let wanted =
            |key: &StreamKey| args.node.is_none_or(|n| n == key.node) && args.lane.is_none_or(|l| l == key.lane);
        let streams: Vec<_> = view.frontier().filter(|e| wanted(&e.key)).collect();
        let mut missing = Vec::new();
        for entry in streams {
            let from = self.next.get(&entry.key).copied().unwrap_or(args.from_seq);
            let incarnation = entry.key.incarnation.to_string();
            let mut printed = Ok(());
            let holes = view.read_stream(&entry.key, from, |key, seq, event| {
                printed = if args.raw { raw(event, out) } else { out.row(&row(key, &incarnation, seq, event)) };
                if printed.is_ok() { Stop::No } else { Stop::After }
            })?;
            printed?;
            missing.extend(holes);
            self.next.insert(entry.key, from.max(entry.top + 1));
        }
        // Rows before warnings, where both go to one terminal.
        out.flush()?;
        let code = Code::Corrupt;
        for (key, from, to) in &missing {
            self.outcome = Outcome::Damage;
            match from == to {
                true => out.warn(format_args!("{code}: event {from} of {key} cannot be read")),
                false => out.warn(format_args!("{code}: events {from} to {to} of {key} cannot be read")),
            }
        }
        // Damage that no later event shows: nobody knows what was there.
        let lost: Vec<_> = view.damages().iter().filter(|d| d.is_loss()).collect();
        if missing.is_empty() && lost.len() > self.warned {
            self.outcome = Outcome::Damage;
            for d in &lost[self.warned..] {
                out.warn(show::damage_line(d));
            }
        }
        self.warned = self.warned.max(lost.len());
        Ok(())
    }
}

fn raw(event: &Event<'_>, out: &mut Output) -> Result<()> {
    out.bytes(event.payload)?;
    out.bytes(b"\n")
}

fn row<'a>(key: &'a StreamKey, incarnation: &'a str, seq: u64, event: &Event<'a>) -> Row<'a> {
    let payload = std::str::from_utf8(event.payload).ok();
    let names = [(flags::UNSYNCED, "unsynced"), (flags::FUTURE, "future")];
    Row {
        node: key.node.as_str(),
        incarnation,
        lane: key.lane.as_str(),
        seq,
        hlc_ms: event.hlc.ms(),
        hlc_counter: event.hlc.counter(),
        kind: event.kind,
        payload,
        payload_base64: payload.is_none().then(|| STANDARD.encode(event.payload)),
        flags: names.iter().filter(|(bit, _)| event.flags & bit != 0).map(|(_, name)| *name).collect(),
    }
}

/// Waits until the log was written to; false if the user wants no more.
fn wait_for_change(dir: &DataDir, looked: SystemTime, seen: &Files, stop: &AtomicBool) -> bool {
    loop {
        for _ in 0..POLL.as_millis() / NAP.as_millis() {
            if stop.load(Ordering::Relaxed) {
                return false;
            }
            std::thread::sleep(NAP);
        }
        let now = fingerprint(dir);
        // File times are coarse: two writes shortly after one another have the same.
        let fresh = seen.iter().any(|(_, _, time)| *time + POLL > looked);
        if fresh || now != *seen {
            return true;
        }
    }
}

/// Name, length and time of each file of the log.
type Files = Vec<(std::ffi::OsString, u64, SystemTime)>;

fn fingerprint(dir: &DataDir) -> Files {
    let entries = std::fs::read_dir(dir.log()).into_iter().flatten().flatten();
    let mut files: Files = entries
        .filter_map(|e| {
            let meta = e.metadata().ok()?;
            Some((e.file_name(), meta.len(), meta.modified().ok()?))
        })
        .collect();
    files.sort();
    files
}

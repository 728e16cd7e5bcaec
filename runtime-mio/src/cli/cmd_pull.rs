//! `ropeway pull`.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ropeway_core::event::{Event, flags};
use ropeway_core::id::StreamKey;
use ropeway_std::pass::{Pass, Seen, Visitor};
use ropeway_std::{DataDir, Error};
use serde::Serialize;

use super::args::PullArgs;
use super::{CliError, Outcome, Output, Result, passphrase, show};

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

/// Prints events, in the order in which the log took them. Works beside a process that writes, and
/// holds one frame and a little for each stream.
///
/// # Errors
/// Those of reading a log and of printing. What damage has left out is no error: it is
/// warned of, and [`Outcome::Damage`].
pub fn run(args: &PullArgs, out: &mut Output) -> Result<Outcome> {
    let dir = passphrase::data_dir(&args.data_dir);
    let stop = Arc::new(AtomicBool::new(false));
    if args.follow {
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(|e| Error::io("catching signals", e))?;
        }
    }
    let (filter, mut pass) = (args.filter.filter(), Pass::new(&dir)?);
    let (mut told, mut outcome) = (show::Told::default(), Outcome::Done);
    loop {
        let looked = SystemTime::now();
        let seen = fingerprint(&dir);
        let mut printer = Printer { raw: args.raw, out, failed: None };
        let _ = pass.run(&filter, &mut printer)?;
        printer.failed.map_or(Ok(()), Err)?;
        // Rows before warnings, where both go to one terminal.
        out.flush()?;
        show::note_expired(&pass, &filter, &mut told, out);
        show::note_withheld(&pass, &filter, &mut told, out);
        if show::warn_of_losses(&pass, &filter, &mut told, out) == Outcome::Damage {
            outcome = Outcome::Damage;
        }
        if !args.follow || !wait_for_change(&dir, looked, &seen, &stop) {
            return Ok(outcome);
        }
    }
}

struct Printer<'a> {
    raw: bool,
    out: &'a mut Output,
    failed: Option<CliError>,
}

impl Visitor for Printer<'_> {
    fn event(&mut self, s: &Seen<'_>) -> ControlFlow<()> {
        let printed = match self.raw {
            true => raw(s.event, self.out),
            false => self.out.row(&row(s.key, &s.key.incarnation.to_string(), s.seq, s.event)),
        };
        match printed {
            Ok(()) => ControlFlow::Continue(()),
            Err(e) => {
                self.failed = Some(e);
                ControlFlow::Break(())
            }
        }
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

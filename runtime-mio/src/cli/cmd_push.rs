//! `ropeway push`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use ropeway_core::code::Code;
use ropeway_core::id::Lane;
use ropeway_std::local::LocalPush;
use ropeway_std::{DataDir, Error, IoContext, Options, Replica};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use super::args::{PushArgs, Source};
use super::output::{ErrorFields, message};
use super::value::Input;
use super::{CliError, Outcome, Output, Result, passphrase, show};

/// How long input may be silent before what has come so far is committed.
const IDLE: Duration = Duration::from_millis(200);
const BUFFER_BYTES: usize = 64 << 10;

/// What was taken. The result for programs.
#[derive(Serialize)]
struct Pushed {
    pushed: u64,
    first_seq: Option<u64>,
    last_seq: Option<u64>,
    lane: &'static str,
    /// Of the payloads.
    bytes: u64,
    seconds: f64,
    skipped_empty: u64,
}

/// The same with why it ended early.
#[derive(Serialize)]
struct Stopped<'a> {
    #[serde(flatten)]
    pushed: &'a Pushed,
    error: ErrorFields<'a>,
}

/// Appends events.
///
/// # Errors
/// Those of [`Replica::open`], [`Replica::append`] and [`Replica::commit`], and of reading the
/// input. What was taken before is committed and reported.
pub fn run(args: &PushArgs, out: &mut Output) -> Result<Outcome> {
    let start = Instant::now();
    let options = Options::default();
    let log = Log::open(&passphrase::data_dir(&args.data_dir), options)?;
    if let Log::Own(replica) = &log {
        show::warn_of_damage(replica, out);
    }
    let pushed = Pushed {
        pushed: 0,
        first_seq: None,
        last_seq: None,
        lane: args.lane.as_str(),
        bytes: 0,
        seconds: 0.0,
        skipped_empty: 0,
    };
    let mut push = Push { log, lane: args.lane, kind: args.kind, limit: options.limits.event_bytes, pushed };
    let outcome = match &args.source {
        Source::Payload(text) => push.take(text.as_bytes()),
        Source::Stdin => push.whole_input(),
        Source::Ndjson(input) => push.lines(input, out),
    };
    let Push { log, mut pushed, .. } = push;
    let (committed, outcome) = log.finish(&mut pushed, outcome);
    pushed.seconds = start.elapsed().as_secs_f64();
    if let Err(mut e) = committed {
        e.context =
            format!("{}; the last of {} may not be on the disk", e.context, show::counted(pushed.pushed, "event"));
        return Err(e.into());
    }
    match outcome {
        Ok(()) => {
            pushed.tell(out)?;
            out.object(&pushed)?;
            Ok(Outcome::Done)
        }
        Err(e) if out.json() => {
            let text = message(&e);
            out.object(&Stopped { pushed: &pushed, error: ErrorFields::new(e.code, &text) })?;
            Ok(Outcome::Failed)
        }
        Err(e) => {
            pushed.tell(out)?;
            Err(CliError::Fault(e))
        }
    }
}

impl Pushed {
    fn tell(&self, out: &mut Output) -> Result<()> {
        let seqs = match (self.first_seq, self.last_seq) {
            (Some(first), Some(last)) if first == last => format!(", seq {first}"),
            (Some(first), Some(last)) => format!(", seq {first}..{last}"),
            _ => String::new(),
        };
        let events = show::counted(self.pushed, "event");
        let skipped = match self.skipped_empty {
            0 => String::new(),
            n => format!("; skipped {}", show::counted(n, "empty line")),
        };
        out.say(format_args!("pushed {events} ({} lane{seqs}), durable{skipped}", self.lane))
    }
}

/// Where events go.
enum Log {
    /// We hold the lock.
    Own(Box<Replica>),
    /// A sync holds it and takes events for us.
    Neighbour(LocalPush),
}

impl Log {
    /// Opens the log, or finds the process that works on it.
    fn open(dir: &DataDir, options: Options) -> Result<Log> {
        let start = Instant::now();
        loop {
            match Replica::open(dir.clone(), options) {
                Ok(replica) => return Ok(Log::Own(Box::new(replica))),
                Err(e) if e.code == Code::Locked && start.elapsed() < show::LOCK_WAIT => {}
                Err(e) => return Err(e.into()),
            }
            if let Some(push) = LocalPush::connect(dir) {
                return Ok(Log::Neighbour(push));
            }
            std::thread::sleep(show::LOCK_RETRY);
        }
    }

    /// The input pauses: what has come so far should not wait for more.
    fn settle(&mut self) -> ropeway_std::Result<()> {
        match self {
            Log::Own(replica) => replica.commit(),
            Log::Neighbour(push) => push.flush(),
        }
    }

    /// Makes everything durable; what the commit and the push as a whole came to.
    fn finish(
        self,
        pushed: &mut Pushed,
        outcome: ropeway_std::Result<()>,
    ) -> (ropeway_std::Result<()>, ropeway_std::Result<()>) {
        let push = match self {
            Log::Own(mut replica) => {
                let committed = replica.commit();
                // The next process would begin with it anew.
                replica.maintain(show::MAINTAIN_LIMIT);
                return (committed, outcome);
            }
            Log::Neighbour(push) => push,
        };
        match push.finish() {
            Ok(taken) => {
                (pushed.pushed, pushed.first_seq, pushed.last_seq) = (taken.events, taken.first_seq, taken.last_seq);
                let refused = taken.error.map(|(code, context)| {
                    let code = Code::from_u16(code).unwrap_or(Code::Io);
                    Err(Error::new(code, context))
                });
                (Ok(()), refused.unwrap_or(outcome))
            }
            Err(e) => (Err(e), outcome),
        }
    }
}

struct Push {
    log: Log,
    lane: Lane,
    kind: u16,
    limit: usize,
    pushed: Pushed,
}

impl Push {
    fn take(&mut self, payload: &[u8]) -> ropeway_std::Result<()> {
        let p = &mut self.pushed;
        match &mut self.log {
            Log::Own(replica) => {
                let seq = replica.append(self.lane, self.kind, payload)?;
                p.first_seq.get_or_insert(seq);
                p.last_seq = Some(seq);
            }
            Log::Neighbour(push) => push.push(self.lane, self.kind, payload)?,
        }
        p.pushed += 1;
        p.bytes += payload.len() as u64;
        Ok(())
    }

    fn too_large(&self, what: impl std::fmt::Display) -> Error {
        Error::new(Code::TooLarge, format!("{what} has more than {} bytes, which is the limit", self.limit))
    }

    /// All of standard input is one event.
    fn whole_input(&mut self) -> ropeway_std::Result<()> {
        let mut payload = Vec::new();
        let most = self.limit as u64 + 1;
        let read = io::stdin().lock().take(most).read_to_end(&mut payload);
        read.map_err(|e| Error::io("reading standard input", e))?;
        if payload.len() > self.limit {
            return Err(self.too_large("standard input"));
        }
        self.take(&payload)
    }

    /// Each line that is not empty is an event.
    fn lines(&mut self, input: &Input, out: &Output) -> ropeway_std::Result<()> {
        let file = open_input(input)?;
        let total = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|m| m.len());
        let template = match total {
            Some(_) => "pushing [{bar:32}] {bytes}/{total_bytes}  {msg}",
            None => "pushing {spinner} {bytes}  {msg}",
        };
        let bar = show::bar(out, total, template);
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, file);
        let outcome = self.each_line(&mut reader, input, &bar);
        bar.finish_and_clear();
        outcome
    }

    fn each_line(&mut self, reader: &mut BufReader<File>, input: &Input, bar: &ProgressBar) -> ropeway_std::Result<()> {
        let (mut line, mut number, mut committed) = (Vec::new(), 0u64, 0);
        loop {
            // Whoever feeds us may pause for hours: what has come is not to wait for what has not.
            let waits = !reader.buffer().contains(&b'\n') && committed < self.pushed.pushed;
            if waits && !ready(reader.get_ref(), IDLE) {
                self.log.settle()?;
                committed = self.pushed.pushed;
            }
            number += 1;
            let read =
                next_line(reader, self.limit, &mut line).map_err(|e| Error::io(format!("reading {input}"), e))?;
            bar.inc(line.len() as u64 + 1);
            match read {
                Line::End => return Ok(()),
                Line::TooLong => return Err(self.too_large(format_args!("line {number} of {input}"))),
                Line::Whole if line.is_empty() => self.pushed.skipped_empty += 1,
                Line::Whole => {
                    self.take(&line).map_err(|mut e| {
                        e.context = format!("line {number} of {input}: {}", e.context);
                        e
                    })?;
                    if number.is_multiple_of(256) {
                        bar.set_message(show::counted(self.pushed.pushed, "event"));
                    }
                }
            }
        }
    }
}

fn open_input(input: &Input) -> ropeway_std::Result<File> {
    match input {
        // Not through the standard library's buffer: it would hide whether bytes are there.
        Input::Stdin => {
            let fd = io::stdin().as_fd().try_clone_to_owned();
            Ok(File::from(fd.map_err(|e| Error::io("opening standard input", e))?))
        }
        Input::File(path) => File::open(path).at("opening", path),
    }
}

/// Whether a read would not wait longer than `time`; errors and the end count as ready.
fn ready(file: &File, time: Duration) -> bool {
    let time = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) as _ };
    !matches!(poll(&mut [PollFd::new(file, PollFlags::IN)], Some(&time)), Ok(0))
}

#[derive(Debug, PartialEq, Eq)]
enum Line {
    Whole,
    /// The rest was not read.
    TooLong,
    End,
}

/// Reads up to the next line end, which is left out, but no more than a byte over `limit`.
fn next_line(input: &mut impl BufRead, limit: usize, line: &mut Vec<u8>) -> io::Result<Line> {
    line.clear();
    if input.by_ref().take(limit as u64 + 1).read_until(b'\n', line)? == 0 {
        return Ok(Line::End);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(if line.len() > limit { Line::TooLong } else { Line::Whole })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_as_they_are_up_to_the_limit() {
        let mut input: &[u8] = b"abcd\n\nx\r\n\xff\nlast";
        let mut line = Vec::new();
        for expected in [&b"abcd"[..], b"", b"x\r", b"\xff", b"last"] {
            assert_eq!(next_line(&mut input, 4, &mut line).unwrap(), Line::Whole);
            assert_eq!(line, expected);
        }
        assert_eq!(next_line(&mut input, 4, &mut line).unwrap(), Line::End);
        let mut input: &[u8] = b"abcdefghij\nx\n";
        assert_eq!(next_line(&mut input, 4, &mut line).unwrap(), Line::TooLong);
        assert_eq!(line.len(), 5);
    }
}

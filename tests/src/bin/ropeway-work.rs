//! A helper of the tests: writes numbered events into a log of small segments, and says on standard
//! output what is durable. It is killed at every system call, and every system call fails it once.
//!
//! - `ropeway-work write DIR FROM GROUPS EVENTS BYTES`: groups of events, a commit after each.
//! - `ropeway-work churn DIR FROM EVENTS BYTES`: as `write`, without end, and seals after each third group.
//! - `ropeway-work keep DIR`: makes it a hub with a rule that removes all that it may, and marks a backup.
//! - `ropeway-work expire DIR FROM GROUPS EVENTS BYTES`: removes what the rule wants to be rid of, then writes.
//! - `ropeway-work tear DIR`: makes the end of the log look as an interrupted write leaves it.
//! - `ropeway-work seal DIR`: opens the log and seals what is full.
//! - `ropeway-work litter DIR`: as `seal`, and then as if the process had ended in the middle of it: the hot
//!   files are back beside the sealed ones, and so are files that were not complete.
#![forbid(unsafe_code)]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use ropeway_core::code::Code;
use ropeway_core::log::{MAX_BODY_BYTES, PAGE_BYTES, SegmentName};
use ropeway_std::retain::{Mark, Rule};
use ropeway_std::store::recover;
use ropeway_std::{DataDir, Error, Replica, Result};
use ropeway_tests::numbered::{lane, open, payload};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args[..] {
        [how @ ("write" | "expire"), dir, from, groups, events, bytes] => {
            match (from.parse(), groups.parse(), events.parse(), bytes.parse()) {
                (Ok(from), Ok(groups), Ok(events), Ok(bytes)) => open(&DataDir::new(dir)).and_then(|mut node| {
                    if how == "expire" {
                        thrice(|| node.expire().map(|_| ()))?;
                    }
                    write(&mut node, from, groups, events, bytes)
                }),
                _ => Err(Code::BadArgument.into()),
            }
        }
        ["keep", dir] => keep(&DataDir::new(dir)),
        ["churn", dir, from, events, bytes] => match (from.parse(), events.parse(), bytes.parse()) {
            (Ok(from), Ok(events), Ok(bytes)) => churn(&DataDir::new(dir), from, events, bytes),
            _ => Err(Code::BadArgument.into()),
        },
        ["tear", dir] => tear(&DataDir::new(dir)),
        ["seal", dir] => seal(&DataDir::new(dir)),
        ["litter", dir] => litter(&DataDir::new(dir)),
        _ => Err(Code::BadArgument.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let _ = writeln!(std::io::stderr(), "{e}");
            ExitCode::FAILURE
        }
    }
}

fn keep(dir: &DataDir) -> Result<()> {
    let path = dir.node_json();
    let text = fs::read_to_string(&path).map_err(|e| Error::io("reading", e))?;
    fs::write(&path, text.replace("\"clinic\"", "\"hub\"")).map_err(|e| Error::io("writing", e))?;
    Rule { age_ms: None, bytes: Some(1), keep_at_least: 0 }.write(dir)?;
    Mark::of_log(dir, 0)?.set(dir).map(|_| ())
}

fn write(node: &mut Replica, from: u64, groups: u64, events: u64, bytes: usize) -> Result<()> {
    (0..groups).try_for_each(|group| commit(node, from + group * events, events, bytes))
}

fn churn(dir: &DataDir, from: u64, events: u64, bytes: usize) -> Result<()> {
    let mut node = open(dir)?;
    for group in 0.. {
        commit(&mut node, from + group * events, events, bytes)?;
        if group % 3 == 2 {
            node.maintain(Duration::from_secs(600));
        }
    }
    Ok(())
}

/// One group, durable when this returns.
fn commit(node: &mut Replica, from: u64, events: u64, bytes: usize) -> Result<()> {
    for n in from..from + events {
        thrice(|| node.append(lane(n), 0, &payload(n, bytes)).map(|_| ()))?;
    }
    thrice(|| Replica::commit(node))?;
    // If nobody hears it, it was not promised.
    let _ = writeln!(std::io::stdout(), "durable {}", from + events - 1);
    Ok(())
}

fn seal(dir: &DataDir) -> Result<()> {
    let mut node = open(dir)?;
    node.maintain(Duration::from_secs(600));
    Ok(())
}

fn litter(dir: &DataDir) -> Result<()> {
    let hot = || -> std::io::Result<Vec<(PathBuf, Vec<u8>)>> {
        let paths = fs::read_dir(dir.log())?.flatten().map(|entry| entry.path());
        let hot = paths.filter(|path| path.extension().is_some_and(|e| e == "log"));
        hot.map(|path| fs::read(&path).map(|bytes| (path, bytes))).collect()
    };
    let before = hot().map_err(|e| Error::io("reading", e))?;
    seal(dir)?;
    let gone = before.into_iter().filter(|(path, _)| !path.exists());
    let unfinished = ["log/next.tmp", "log/unfinished.tmp", "keys/log.key.tmp", "keys/keyring.tmp", "node.json.tmp"];
    let unfinished = unfinished.iter().map(|name| (dir.root().join(name), vec![7; 5000]));
    for (path, bytes) in gone.chain(unfinished) {
        fs::write(&path, bytes).map_err(|e| Error::io("littering", e))?;
    }
    Ok(())
}

/// Again after a failure, as an application would that hopes for better times: what it is told then
/// must be true as well.
fn thrice(mut f: impl FnMut() -> Result<()>) -> Result<()> {
    f().or_else(|_| f()).or_else(|_| f())
}

fn tear(dir: &DataDir) -> Result<()> {
    let opened = recover(dir, dir.node()?.name, 64, MAX_BODY_BYTES)?;
    let newest = opened.newest.ok_or(Code::Corrupt)?;
    let path = dir.log().join(SegmentName(newest.segment).to_string());
    let at = (newest.to_page - 1) * PAGE_BYTES as u64;
    let zero = |path| OpenOptions::new().write(true).open(path)?.write_all_at(&[0; PAGE_BYTES - 16], at + 16);
    zero(&path).map_err(|e| Error::io("tearing", e))
}

//! A helper of the tests: writes numbered events into a log of small segments, and says on standard
//! output what is durable. It is killed at every system call, and every system call fails it once.
//!
//! - `ropeway-work write DIR FROM GROUPS EVENTS BYTES`: groups of events, a commit after each.
//! - `ropeway-work keep DIR`: makes it a hub with a rule that removes all that it may, and marks a backup.
//! - `ropeway-work expire DIR FROM GROUPS EVENTS BYTES`: removes what the rule wants to be rid of, then writes.
//! - `ropeway-work tear DIR`: makes the end of the log look as an interrupted write leaves it.
#![forbid(unsafe_code)]

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::ExitCode;

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
                    write(node, from, groups, events, bytes)
                }),
                _ => Err(Code::BadArgument.into()),
            }
        }
        ["keep", dir] => keep(&DataDir::new(dir)),
        ["tear", dir] => tear(&DataDir::new(dir)),
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
    let text = std::fs::read_to_string(&path).map_err(|e| Error::io("reading", e))?;
    std::fs::write(&path, text.replace("\"clinic\"", "\"hub\"")).map_err(|e| Error::io("writing", e))?;
    Rule { age_ms: None, bytes: Some(1), keep_at_least: 0 }.write(dir)?;
    Mark::of_log(dir, 0)?.set(dir).map(|_| ())
}

fn write(mut node: Replica, from: u64, groups: u64, events: u64, bytes: usize) -> Result<()> {
    let mut n = from;
    for _ in 0..groups {
        for _ in 0..events {
            thrice(|| node.append(lane(n), 0, &payload(n, bytes)).map(|_| ()))?;
            n += 1;
        }
        thrice(|| Replica::commit(&mut node))?;
        // If nobody hears it, it was not promised.
        let _ = writeln!(std::io::stdout(), "durable {}", n - 1);
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

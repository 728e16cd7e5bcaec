//! Durable appends per second, beside a bare write and fdatasync of the same pages.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use ropeway_core::id::Lane;
use ropeway_core::log::{PAGE_BYTES, padded_len};
use ropeway_std::Replica;

use super::workload::{Payloads, node};
use crate::Result;
use crate::progress::bar;
use crate::stats::median;
use crate::table::{Cell, Table};

/// Bytes of an event here (log.md of many engines measures 200).
const EVENT_BYTES: usize = 200;
/// What the bare loop writes in a ring: a zero-filled file as the log's.
const FILE_PAGES: u64 = 2_048;

pub(super) fn measure(home: &Path, rounds: u32) -> Result<Table> {
    let mut table = Table::new(
        "rate",
        format!("Durable appends of {EVENT_BYTES} bytes; medians of {rounds} rounds, measured in turns"),
        &[
            ("events_per_commit", "events/commit"),
            ("events_per_s", "events/s"),
            ("commit_ms", "commit (ms)"),
            ("bare_ms", "bare write+fdatasync (ms)"),
            ("ratio", "ratio"),
        ],
    );
    let cases = [(1u64, 100u64), (16, 100), (256, 50), (1_000, 20)];
    let bar = bar("durable appends", cases.len() as u64 * u64::from(rounds));
    for (per_commit, commits) in cases {
        let (dir, mut node) = node(home, &format!("rate-{per_commit}"))?;
        let bare = bare_file(&home.join(format!("bare-{per_commit}")))?;
        let mut payloads = Payloads::new(EVENT_BYTES);
        let pages = padded_len(per_commit as usize * (EVENT_BYTES + 8)) / PAGE_BYTES;
        let (mut ours, mut theirs, mut at) = (Vec::new(), Vec::new(), 0);
        append(&mut node, &mut payloads, per_commit, 2)?;
        for _ in 0..rounds {
            ours.push(append(&mut node, &mut payloads, per_commit, commits)?);
            theirs.push(write_bare(&bare, pages as u64, commits, &mut at)?);
            bar.inc(1);
        }
        let (a, b) = (median(&ours), median(&theirs));
        let ratio = median(&ours.iter().zip(&theirs).map(|(a, b)| a / b).collect::<Vec<_>>());
        table.row(vec![
            Cell::Count(per_commit),
            Cell::Figure(per_commit as f64 / a, 0),
            Cell::Figure(a * 1e3, 3),
            Cell::Figure(b * 1e3, 3),
            Cell::Figure(ratio, 2),
        ]);
        drop(node);
        std::fs::remove_dir_all(dir.root())?;
    }
    bar.finish_and_clear();
    table.note(in_memory(rounds)?);
    Ok(table)
}

/// Seconds of one commit.
fn append(node: &mut Replica, payloads: &mut Payloads, per_commit: u64, commits: u64) -> Result<f64> {
    let begin = Instant::now();
    for _ in 0..commits {
        for _ in 0..per_commit {
            node.append(Lane::Normal, 1, payloads.next())?;
        }
        node.commit()?;
    }
    Ok(begin.elapsed().as_secs_f64() / commits as f64)
}

fn bare_file(path: &Path) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    for page in 0..FILE_PAGES {
        file.write_all_at(&[0; PAGE_BYTES], page * PAGE_BYTES as u64)?;
    }
    file.sync_all()?;
    Ok(file)
}

/// Seconds of one write with its sync.
fn write_bare(file: &File, pages: u64, commits: u64, at: &mut u64) -> Result<f64> {
    let bytes = vec![0x5a; pages as usize * PAGE_BYTES];
    let begin = Instant::now();
    for _ in 0..commits {
        if *at + pages > FILE_PAGES {
            *at = 0;
        }
        file.write_all_at(&bytes, *at * PAGE_BYTES as u64)?;
        file.sync_data()?;
        *at += pages;
    }
    Ok(begin.elapsed().as_secs_f64() / commits as f64)
}

/// How fast events are taken, sealed and hashed where syncing costs nothing.
fn in_memory(rounds: u32) -> Result<String> {
    let Ok(home) = tempfile::tempdir_in("/dev/shm") else { return Ok("No /dev/shm: no figure without a disk.".into()) };
    let (_dir, mut node) = node(home.path(), "memory")?;
    let mut payloads = Payloads::new(EVENT_BYTES);
    let mut rates = Vec::new();
    for _ in 0..rounds {
        rates.push(1_000.0 / append(&mut node, &mut payloads, 1_000, 50)?);
    }
    Ok(format!("In memory (/dev/shm), 1,000 events a commit: {:.0} events/s on one core.", median(&rates)))
}

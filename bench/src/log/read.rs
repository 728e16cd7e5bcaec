//! Reading one event, and a thousand in a row.

use std::time::Instant;

use ropeway_core::id::{Lane, StreamKey};
use ropeway_std::store::Stop;
use ropeway_std::{DataDir, LogView};

use super::workload::drop_cache;
use crate::Result;
use crate::stats::median;
use crate::table::{Cell, Table};

/// Events of a range.
const RANGE: u64 = 1_000;

pub(super) fn table() -> Table {
    Table::new(
        "read",
        "Reading from an open log",
        &[
            ("events", "events"),
            ("single_cold_ms", "one event, cold (ms)"),
            ("single_warm_ms", "warm (ms)"),
            ("range_cold_ms", "1,000 events, cold (ms)"),
            ("range_warm_ms", "warm (ms)"),
        ],
    )
}

pub(super) fn measure(table: &mut Table, dir: &DataDir, events: u64, rounds: u32) -> Result<()> {
    let mut view = LogView::open(dir)?;
    let stream = view.frontier().find(|e| e.key.lane == Lane::Normal).ok_or("the log has no stream")?;
    let last = stream.top.saturating_sub(RANGE).max(1);
    let mut figures: [Vec<f64>; 4] = Default::default();
    let mut at = 7_919 % last;
    for _ in 0..rounds.max(5) * 4 {
        for (n, count) in [(0, 1), (2, RANGE)] {
            // Somewhere else each time: a reader keeps the frame that it read last.
            at = (at * 31 + 7_919) % last + 1;
            drop_cache(dir.root())?;
            figures[n].push(read(&mut view, &stream.key, at, count)?);
            let other = (at + last / 2) % last + 1;
            read(&mut view, &stream.key, other, count)?;
            figures[n + 1].push(read(&mut view, &stream.key, at, count)?);
        }
    }
    let [a, b, c, d] = figures.map(|f| median(&f) * 1e3);
    table.row(vec![
        Cell::Count(events),
        Cell::Figure(a, 2),
        Cell::Figure(b, 3),
        Cell::Figure(c, 2),
        Cell::Figure(d, 2),
    ]);
    Ok(())
}

/// Seconds.
fn read(view: &mut LogView, key: &StreamKey, from: u64, count: u64) -> Result<f64> {
    let (begin, mut seen) = (Instant::now(), 0);
    view.read_stream(key, from, |_, _, _| {
        seen += 1;
        if seen == count { Stop::After } else { Stop::No }
    })?;
    if seen < count {
        return Err(format!("only {seen} of {count} events from {from} on").into());
    }
    Ok(begin.elapsed().as_secs_f64())
}

//! Time and memory of opening a log, in a process of its own.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use ropeway_std::{DataDir, Replica};
use serde_json::{Value, json};

use super::workload::drop_cache;
use crate::Result;
use crate::stats::median;
use crate::table::{Cell, Table};

pub(super) fn table() -> Table {
    Table::new(
        "open",
        "Opening a log to write, in a process of its own",
        &[
            ("events", "events"),
            ("log_bytes", "log (B)"),
            ("cold_ms", "cold (ms)"),
            ("warm_ms", "warm (ms)"),
            ("resident_kib", "resident (KiB)"),
            ("private_kib", "private (KiB)"),
        ],
    )
}

pub(super) fn measure(table: &mut Table, dir: &Path, events: u64, rounds: u32) -> Result<()> {
    let mut figures: [Vec<f64>; 4] = Default::default();
    let mut bytes = 0;
    for _ in 0..rounds.min(5) {
        let (cold, warm) = (child(dir, true)?, child(dir, false)?);
        figures[0].push(number(&cold, "ms")?);
        figures[1].push(number(&warm, "ms")?);
        figures[2].push(number(&warm, "resident_kib")?);
        figures[3].push(number(&warm, "private_kib")?);
        bytes = number(&warm, "log_bytes")? as u64;
    }
    let [cold, warm, resident, private] = figures.map(|f| median(&f));
    table.row(vec![
        Cell::Count(events),
        Cell::Count(bytes),
        Cell::Figure(cold, 1),
        Cell::Figure(warm, 1),
        Cell::Figure(resident, 0),
        Cell::Figure(private, 0),
    ]);
    Ok(())
}

fn child(dir: &Path, cold: bool) -> Result<Value> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("open-once").arg(dir).args(cold.then_some("--cold"));
    let out = command.output()?;
    if !out.status.success() {
        return Err(format!("opening {}: {}", dir.display(), String::from_utf8_lossy(&out.stderr)).into());
    }
    Ok(serde_json::from_slice(&out.stdout)?)
}

fn number(of: &Value, key: &str) -> Result<f64> {
    Ok(of[key].as_f64().ok_or_else(|| format!("no {key}"))?)
}

/// What the child does.
pub(crate) fn open_once(dir: &Path, cold: bool) -> Result<()> {
    if cold {
        drop_cache(dir)?;
    }
    let dir = DataDir::new(dir);
    let begin = Instant::now();
    let node = Replica::open(dir.clone(), Default::default())?;
    let ms = begin.elapsed().as_secs_f64() * 1e3;
    let mut log_bytes = 0;
    for entry in std::fs::read_dir(dir.log())? {
        log_bytes += entry?.metadata()?.len();
    }
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kib = |key: &str| -> Option<u64> {
        status.lines().find(|l| l.starts_with(key))?.split_whitespace().nth(1)?.parse().ok()
    };
    drop(node);
    println!(
        "{}",
        json!({
            "ms": ms,
            "log_bytes": log_bytes,
            "resident_kib": kib("VmHWM:").unwrap_or(0),
            "private_kib": kib("RssAnon:").unwrap_or(0),
        })
    );
    Ok(())
}

//! The whole file, nothing known before.

use ropeway_codec::Preset;

use super::rivals::{PPMD_BYTES, Packed, ZSTD_LEVELS, ppmd, zstd_whole};
use super::whole;
use crate::Result;
use crate::corpus::{Corpus, xz};
use crate::cpu::mb_per_s;
use crate::progress::bar;
use crate::table::{Cell, Table};

/// Events in a frame of zstd that somebody could read by itself.
const FRAME_EVENTS: usize = 256;

pub(super) fn measure(corpus: &Corpus) -> Result<Table> {
    let mut table = Table::new(
        "cold",
        format!(
            "{}: {} events of {:.0} B, nothing known before",
            corpus.name,
            corpus.len(),
            corpus.data.len() as f64 / corpus.len() as f64
        ),
        &[
            ("codec", "codec"),
            ("bytes_per_event", "B/event"),
            ("encode_mb_per_s", "encode (MB/s)"),
            ("decode_mb_per_s", "decode (MB/s)"),
            ("memory_kb", "memory (KB)"),
        ],
    );
    let events = corpus.len() as f64;
    let bar = bar(&format!("{}, whole", corpus.name), 9);
    for preset in Preset::ALL {
        let made = whole(corpus, preset)?;
        table.row(vec![
            Cell::Text(format!("ropeway {preset:?}").to_lowercase()),
            Cell::Figure(made.bytes as f64 / events, 2),
            Cell::Figure(made.encode_mb_per_s, 2),
            Cell::Figure(made.decode_mb_per_s, 2),
            Cell::Count(made.memory_bytes as u64 / 1024),
        ]);
        bar.inc(1);
    }
    let lines = corpus.lines(0, corpus.len());
    let mut other = |name: String, made: Packed, memory: Cell| {
        let rate = |took| Cell::Figure(mb_per_s(lines.len(), took), 1);
        let size = Cell::Figure(made.bytes as f64 / events, 2);
        table.row(vec![Cell::Text(name), size, rate(made.encoding), rate(made.decoding), memory]);
        bar.inc(1);
    };
    for level in ZSTD_LEVELS {
        other(format!("zstd -{level}, whole"), zstd_whole(level, &lines)?, Cell::Nothing);
    }
    other("PPMd order 6, 2 MB, whole".into(), ppmd(&lines)?, Cell::Count(PPMD_BYTES / 1024));
    let only_size = |name: &str, bytes: Option<usize>| {
        let size = bytes.map_or(Cell::Text("not here".into()), |n| Cell::Figure(n as f64 / events, 2));
        vec![Cell::Text(name.into()), size, Cell::Nothing, Cell::Nothing, Cell::Nothing]
    };
    table.row(only_size("xz -9e, whole", xz(&lines)));
    bar.inc(1);
    let mut frames = 0;
    for from in (0..corpus.len()).step_by(FRAME_EVENTS) {
        let lines = corpus.lines(from, (from + FRAME_EVENTS).min(corpus.len()));
        frames += zstd::bulk::compress(&lines, 3)?.len();
    }
    table.row(only_size(&format!("zstd -3, frames of {FRAME_EVENTS} events"), Some(frames)));
    bar.finish_and_clear();
    table.note(
        "MB/s of raw bytes, of one core's own time. Everything but xz was decoded and compared. The others get the events \
         as lines.",
    );
    Ok(table)
}

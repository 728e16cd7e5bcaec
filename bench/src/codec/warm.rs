//! One batch after a history of the same stream, and how long that history takes to learn.

use std::time::Duration;

use ropeway_codec::{Model, Preset};

use super::CodecArgs;
use super::rivals::{ZSTD_LEVELS, zstd_after};
use crate::Result;
use crate::corpus::Corpus;
use crate::cpu::timed;
use crate::progress::bar;
use crate::table::{Cell, Table};

const PRESETS: usize = Preset::ALL.len();
const CODECS: usize = PRESETS + ZSTD_LEVELS.len();

/// What batches of one size have cost after histories of one size.
#[derive(Clone, Copy, Default)]
struct Sum {
    events: usize,
    bytes: [usize; CODECS],
    coding: Duration,
}

/// What histories of one size have cost.
#[derive(Clone, Copy, Default)]
struct Learned {
    events: usize,
    bytes: usize,
    took: [Duration; PRESETS],
}

pub(super) fn measure(corpus: &Corpus, args: &CodecArgs) -> Result<[Table; 2]> {
    let mut warm = Table::new(
        "warm",
        format!("{}: one batch after H KB of the same stream, bytes per event", corpus.name),
        &[
            ("history_kb", "H (KB)"),
            ("batch_events", "events in the batch"),
            ("small_bytes_per_event", "ropeway small"),
            ("medium_bytes_per_event", "medium"),
            ("large_bytes_per_event", "large"),
            ("zstd3_bytes_per_event", "zstd -3 after H"),
            ("zstd9_bytes_per_event", "zstd -9"),
            ("zstd19_bytes_per_event", "zstd -19"),
            ("large_code_ms", "large: code (ms)"),
        ],
    );
    let mut learn = Table::new(
        "learn",
        format!("{}: learning a history", corpus.name),
        &[
            ("history_kb", "H (KB)"),
            ("events", "events"),
            ("bytes", "B"),
            ("small_ms", "small (ms)"),
            ("medium_ms", "medium (ms)"),
            ("large_ms", "large (ms)"),
        ],
    );
    let samples = args.samples as usize;
    let bar = bar(&format!("{}, warm", corpus.name), (args.history_kb.len() * samples) as u64);
    for &history_kb in &args.history_kb {
        let (mut sums, mut learned) = (vec![Sum::default(); args.batch.len()], Learned::default());
        for sample in 0..samples {
            one(corpus, args, (history_kb, sample), &mut sums, &mut learned)?;
            bar.inc(1);
        }
        let mean = |n: f64| n / samples.max(1) as f64;
        for (&batch, sum) in args.batch.iter().zip(&sums) {
            let each = |bytes: usize| Cell::Figure(bytes as f64 / sum.events.max(1) as f64, 1);
            let mut row = vec![Cell::Count(history_kb.into()), Cell::Count(batch.into())];
            row.extend(sum.bytes.map(each));
            row.push(Cell::Figure(mean(sum.coding.as_secs_f64() * 1e3), 2));
            warm.row(row);
        }
        let mut row = vec![Cell::Count(history_kb.into()), Cell::Figure(mean(learned.events as f64), 0)];
        row.push(Cell::Figure(mean(learned.bytes as f64), 0));
        row.extend(learned.took.map(|took| Cell::Figure(mean(took.as_secs_f64() * 1e3), 1)));
        learn.row(row);
    }
    bar.finish_and_clear();
    let note = format!("Means of {samples} places in the file; a place near the begin has less before it than H.");
    warm.note(note.clone());
    learn.note(format!("{note} Milliseconds of one core's own time."));
    Ok([warm, learn])
}

/// Tries all batches at one place.
fn one(
    corpus: &Corpus,
    args: &CodecArgs,
    (history_kb, sample): (u16, usize),
    sums: &mut [Sum],
    learned: &mut Learned,
) -> Result<()> {
    let largest = args.batch.iter().copied().max().unwrap_or(1) as usize;
    let room = corpus.len().saturating_sub(largest).max(1);
    let at = (room * (sample + 1) / (args.samples as usize + 1)).min(corpus.len() - 1);
    let mut from = at;
    while from > 0 && corpus.begin(at) - corpus.begin(from - 1) <= usize::from(history_kb) * 1024 {
        from -= 1;
    }
    learned.events += at - from;
    learned.bytes += corpus.begin(at) - corpus.begin(from);
    let before = corpus.records(from, at);
    for (p, preset) in Preset::ALL.into_iter().enumerate() {
        let mut primed = Model::new(preset);
        let ((), took) = timed(|| before.iter().for_each(|record| primed.prime(record)));
        learned.took[p] += took;
        for (&batch, sum) in args.batch.iter().zip(sums.iter_mut()) {
            let records = corpus.records(at, (at + usize::from(batch)).min(corpus.len()));
            let (mut model, mut out) = (primed.clone(), Vec::new());
            let ((), took) = timed(|| model.encode(&records, &mut out));
            sum.bytes[p] += out.len();
            if preset == Preset::Large {
                sum.coding += took;
            }
        }
    }
    let history = corpus.lines(from, at);
    for (&batch, sum) in args.batch.iter().zip(sums) {
        let to = (at + usize::from(batch)).min(corpus.len());
        let lines = corpus.lines(at, to);
        sum.events += to - at;
        for (z, level) in ZSTD_LEVELS.into_iter().enumerate() {
            sum.bytes[PRESETS + z] += zstd_after(level, &history, &lines)?;
        }
    }
    Ok(())
}

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
    let note = format!(
        "Means of {samples} places in the file; H is what precedes them, all of it where the file is long enough."
    );
    warm.note(note.clone());
    learn.note(format!("{note} Milliseconds of one core's own time."));
    Ok([warm, learn])
}

/// Where a batch is tried: evenly over the places that have the longest history before them and room for the largest
/// batch behind, so that all histories are measured at the same places.
fn place(corpus: &Corpus, args: &CodecArgs, sample: usize) -> usize {
    let longest = usize::from(args.history_kb.iter().copied().max().unwrap_or(0)) * 1024;
    let largest = usize::from(args.batch.iter().copied().max().unwrap_or(1));
    let last = corpus.len().saturating_sub(largest.max(1));
    let first = (0..last).find(|i| corpus.begin(*i) >= longest).unwrap_or(last);
    first + (last - first) * (sample + 1) / (args.samples as usize + 1)
}

/// Tries all batches at one place.
fn one(
    corpus: &Corpus,
    args: &CodecArgs,
    (history_kb, sample): (u16, usize),
    sums: &mut [Sum],
    learned: &mut Learned,
) -> Result<()> {
    let at = place(corpus, args, sample);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn args(history_kb: &[u16], batch: &[u16], samples: u32) -> CodecArgs {
        let (history_kb, batch) = (history_kb.to_vec(), batch.to_vec());
        CodecArgs {
            corpus: vec![],
            events: 400,
            only: vec![],
            ablation: false,
            history_kb,
            batch,
            samples,
            json: false,
        }
    }

    #[test]
    fn every_place_has_the_longest_history_before_it_and_the_largest_batch_behind() {
        let corpus = Corpus::generated(400);
        let args = args(&[8, 64], &[1, 100], 8);
        for sample in 0..8 {
            let at = place(&corpus, &args, sample);
            assert!(corpus.begin(at) >= 64 * 1024 && at + 100 <= corpus.len(), "event {at}");
        }
    }

    #[test]
    fn a_file_shorter_than_the_history_is_measured_at_its_end() {
        let args = args(&[64], &[1], 1);
        assert_eq!(place(&Corpus::generated(10), &args, 0), 9);
        assert_eq!(place(&Corpus::generated(1), &args, 0), 0);
    }
}

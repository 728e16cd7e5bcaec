//! What the codec makes of corpora of events: bytes, seconds, memory.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use ropeway_codec::{Model, Preset, VERSION};
use serde_json::{Map, Value};

use crate::Result;
use crate::corpus::{Corpus, xz};
use crate::progress;
use crate::table::{Cell, Table};

/// What to measure of the codec.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct CodecArgs {
    /// Files of events of one stream, one JSON object a line
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    corpus: Vec<PathBuf>,
    /// So many events of each file, from its begin
    #[arg(long, default_value_t = 5000, value_name = "N")]
    events: usize,
    /// Tables to make (ablation needs a build with the feature of that name)
    #[arg(long, value_delimiter = ',', value_enum, default_value = "cold,warm")]
    only: Vec<Part>,
    /// Histories before a batch, in KB
    #[arg(long, value_delimiter = ',', default_value = "0,8,16,32,64,128,256", value_name = "KB,KB")]
    history_kb: Vec<usize>,
    /// Events in a batch
    #[arg(long, value_delimiter = ',', default_value = "1,4,16,64,256", value_name = "N,N")]
    batch: Vec<usize>,
    /// Places in each file at which a warm batch is tried
    #[arg(long, default_value_t = 8, value_name = "N")]
    samples: usize,
    /// One JSON object instead of tables
    #[arg(long)]
    json: bool,
}

/// A table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The whole file, nothing known before
    Cold,
    /// One batch after a history
    Warm,
    /// The whole file, without one predictor each
    Ablation,
}

/// Measures, and prints.
pub(crate) fn run(args: &CodecArgs) -> Result<()> {
    let mut tables = Vec::new();
    for path in &args.corpus {
        let corpus = Corpus::read(path, args.events)?;
        for part in &args.only {
            tables.push(match part {
                Part::Cold => cold(&corpus)?,
                Part::Warm => warm(&corpus, args)?,
                Part::Ablation => ablation(&corpus)?,
            });
        }
    }
    if args.json {
        let all: Vec<Value> = tables.iter().map(|t| t.to_json().1).collect();
        let mut out = Map::new();
        out.insert("codec_version".into(), VERSION.into());
        out.insert("tables".into(), all.into());
        println!("{}", Value::Object(out));
    } else {
        tables.iter().for_each(|t| println!("{t}"));
    }
    Ok(())
}

/// The time that this thread has really run, where the system tells; other work on the machine does
/// not count.
fn cpu_time(since: Instant) -> Duration {
    let ns = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let ns = ns.and_then(|s| s.split(' ').next()?.parse::<u64>().ok());
    ns.map_or_else(|| since.elapsed(), Duration::from_nanos)
}

fn cold(corpus: &Corpus) -> Result<Table> {
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
    let records = corpus.records(0, corpus.len());
    let bar = progress::bar("whole files", 10);
    let start = Instant::now();
    for preset in Preset::ALL {
        let (mut here, mut there) = (Model::new(preset), Model::new(preset));
        let mut out = Vec::new();
        let t0 = cpu_time(start);
        here.encode(&records, &mut out);
        let t1 = cpu_time(start);
        let back = there.decode(&out, &vec![None; records.len()], corpus.data.len())?;
        let t2 = cpu_time(start);
        if !back.iter().eq(records.iter().map(|r| r.bytes)) {
            return Err("what came back is not what went in".into());
        }
        let rate = |took: Duration| corpus.data.len() as f64 / 1e6 / took.as_secs_f64().max(1e-9);
        table.row(vec![
            Cell::Text(format!("ropeway {preset:?}").to_lowercase()),
            Cell::Figure(out.len() as f64 / events, 2),
            Cell::Figure(rate(t1 - t0), 2),
            Cell::Figure(rate(t2 - t1), 2),
            Cell::Count(here.memory_bytes() as u64 / 1024),
        ]);
        bar.inc(2);
    }
    let lines = corpus.lines(0, corpus.len());
    let mut other = |name: &str, size: Option<usize>| {
        let size = size.map_or(Cell::Text("not here".into()), |n| Cell::Figure(n as f64 / events, 2));
        let none = || Cell::Text(String::new());
        table.row(vec![Cell::Text(name.into()), size, none(), none(), none()]);
        bar.inc(1);
    };
    for level in [3, 9, 19] {
        other(&format!("zstd -{level}, whole"), Some(zstd::bulk::compress(&lines, level)?.len()));
    }
    let frames = (0..corpus.len()).step_by(256).map(|from| {
        let lines = corpus.lines(from, (from + 256).min(corpus.len()));
        zstd::bulk::compress(&lines, 3).map(|z| z.len())
    });
    other("zstd -3, frames of 256 events", Some(frames.sum::<std::io::Result<usize>>()?));
    other("xz -9e, whole", xz(&lines));
    bar.finish_and_clear();
    table.note("MB/s of raw bytes, one core's own time. Every stream was decoded and compared.");
    Ok(table)
}

fn warm(corpus: &Corpus, args: &CodecArgs) -> Result<Table> {
    let mut table = Table::new(
        "warm",
        format!("{}: one batch after H KB of the same stream, bytes per event", corpus.name),
        &[
            ("history_kb", "H (KB)"),
            ("batch_events", "events in the batch"),
            ("bytes_per_event", "ropeway large"),
            ("prime_and_code_ms", "prime and code (ms)"),
            ("zstd9_bytes_per_event", "zstd -9 with H"),
            ("zstd19_bytes_per_event", "zstd -19 with H"),
        ],
    );
    let largest = args.batch.iter().copied().max().unwrap_or(1);
    let bar = progress::bar("warm batches", (args.history_kb.len() * args.samples) as u64);
    for &history_kb in &args.history_kb {
        let mut sums = vec![[0usize; 4]; args.batch.len()];
        let mut took = vec![Duration::ZERO; args.batch.len()];
        for sample in 0..args.samples {
            let room = corpus.len().saturating_sub(largest).max(1);
            let at = (room * (sample + 1) / (args.samples + 1)).max(room.min(1));
            let mut from = at;
            while from > 0 && corpus.begin(at) - corpus.begin(from - 1) <= history_kb * 1024 {
                from -= 1;
            }
            let start = Instant::now();
            let t0 = cpu_time(start);
            let mut primed = Model::new(Preset::Large);
            corpus.records(from, at).iter().for_each(|r| primed.prime(r));
            let priming = cpu_time(start) - t0;
            let history = corpus.lines(from, at);
            for (i, &batch) in args.batch.iter().enumerate() {
                let to = (at + batch).min(corpus.len());
                let (records, lines) = (corpus.records(at, to), corpus.lines(at, to));
                let mut model = primed.clone();
                let mut out = Vec::new();
                let t0 = cpu_time(start);
                model.encode(&records, &mut out);
                took[i] += priming + (cpu_time(start) - t0);
                sums[i][0] += out.len();
                sums[i][1] += to - at;
                for (sum, level) in [(2, 9), (3, 19)] {
                    sums[i][sum] += zstd::bulk::Compressor::with_dictionary(level, &history)?.compress(&lines)?.len();
                }
            }
            bar.inc(1);
        }
        for ((&batch, sum), took) in args.batch.iter().zip(&sums).zip(&took) {
            let each = |n: usize| Cell::Figure(n as f64 / sum[1].max(1) as f64, 1);
            table.row(vec![
                Cell::Count(history_kb as u64),
                Cell::Count(batch as u64),
                each(sum[0]),
                Cell::Figure(took.as_secs_f64() * 1000.0 / args.samples.max(1) as f64, 1),
                each(sum[2]),
                each(sum[3]),
            ]);
        }
    }
    bar.finish_and_clear();
    table.note(format!("Means of {} places in the file.", args.samples));
    Ok(table)
}

#[cfg(not(feature = "ablation"))]
fn ablation(_: &Corpus) -> Result<Table> {
    Err("this build cannot leave predictors out: build with --features ablation".into())
}

#[cfg(feature = "ablation")]
fn ablation(corpus: &Corpus) -> Result<Table> {
    let mut table = Table::new(
        "ablation",
        format!("{}: {} events cold, without one predictor", corpus.name, corpus.len()),
        &[("without", "without"), ("bytes_per_event", "B/event"), ("loss_percent", "loss (%)")],
    );
    let records = corpus.records(0, corpus.len());
    let cost = |off: u32| {
        let mut out = Vec::new();
        Model::without(Preset::Large, off).encode(&records, &mut out);
        out.len() as f64 / corpus.len() as f64
    };
    let bar = progress::bar("ablation", ropeway_codec::PREDICTORS.len() as u64);
    let all = cost(0);
    table.row(vec![Cell::Text("(nothing)".into()), Cell::Figure(all, 3), Cell::Figure(0.0, 2)]);
    for (name, bit) in ropeway_codec::PREDICTORS {
        let without = cost(1 << bit);
        let loss = (without / all - 1.0) * 100.0;
        table.row(vec![Cell::Text(name.into()), Cell::Figure(without, 3), Cell::Figure(loss, 2)]);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(table)
}

//! What the codec makes of corpora of events: bytes, seconds, memory; beside others.

mod ablation;
mod cold;
mod inputs;
mod rivals;
mod warm;

use std::path::PathBuf;

use clap::ValueEnum;
use ropeway_codec::{Model, Preset, VERSION};
use serde_json::{Map, Value};

use crate::Result;
use crate::corpus::Corpus;
use crate::cpu;
use crate::table::Table;

/// What to measure of the codec.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct CodecArgs {
    /// Files of events of one stream, one JSON object a line (default: invented events)
    #[arg(long, num_args = 1.., value_name = "FILE")]
    corpus: Vec<PathBuf>,
    /// So many events of each file, from its begin
    #[arg(long, default_value_t = 5000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    events: u32,
    /// Tables to make
    #[arg(long, value_delimiter = ',', value_enum, default_value = "cold,warm,inputs")]
    only: Vec<Part>,
    /// Instead: the whole file without one predictor each (needs a build with `--features ablation`)
    #[arg(long)]
    ablation: bool,
    /// Histories before a batch, in KB
    #[arg(long, value_delimiter = ',', default_value = "0,8,16,32,64,128,256", value_name = "KB,KB")]
    history_kb: Vec<u16>,
    /// Events in a batch
    #[arg(long, value_delimiter = ',', default_value = "1,4,16,64,256", value_name = "N,N")]
    batch: Vec<u16>,
    /// Places in each file at which a warm batch is tried
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    samples: u32,
    /// One JSON object instead of tables
    #[arg(long)]
    json: bool,
}

/// A part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The whole file, nothing known before
    Cold,
    /// One batch after a history, and how long that takes to learn
    Warm,
    /// Inputs that are not JSON
    Inputs,
}

/// Measures, and prints.
pub(crate) fn run(args: &CodecArgs) -> Result<()> {
    if args.ablation {
        ablation::is_possible()?;
    }
    let corpora = Corpus::all(&args.corpus, args.events)?;
    let mut tables = Vec::new();
    // It takes minutes: people see each table when it is made.
    let mut show = |table: Table| if args.json { tables.push(table) } else { println!("{table}") };
    if args.ablation {
        show(ablation::measure(&corpora)?);
    } else {
        let wanted = |part| args.only.contains(&part);
        for corpus in &corpora {
            if wanted(Part::Cold) {
                show(cold::measure(corpus)?);
            }
            if wanted(Part::Warm) {
                warm::measure(corpus, args)?.into_iter().for_each(&mut show);
            }
        }
        if wanted(Part::Inputs) {
            show(inputs::measure()?);
        }
    }
    if args.json {
        // Several tables have the same name: one for each corpus.
        let named = |t: &Table| {
            let (name, mut table) = t.to_json();
            table["name"] = name.into();
            table
        };
        let all: Vec<Value> = tables.iter().map(named).collect();
        let mut out = Map::new();
        out.insert("codec_version".into(), VERSION.into());
        out.insert("tables".into(), all.into());
        println!("{}", Value::Object(out));
    }
    Ok(())
}

/// What coding a whole corpus in one batch has cost.
struct Whole {
    bytes: usize,
    encode_mb_per_s: f64,
    decode_mb_per_s: f64,
    memory_bytes: usize,
}

/// Codes a corpus with a model that knows nothing, and fails unless what comes back is what went in.
fn whole(corpus: &Corpus, preset: Preset) -> Result<Whole> {
    let records = corpus.records(0, corpus.len());
    let (mut here, mut there) = (Model::new(preset), Model::new(preset));
    let mut out = Vec::new();
    let ((), encoding) = cpu::timed(|| here.encode(&records, &mut out));
    let (back, decoding) = cpu::timed(|| there.decode(&out, &vec![None; records.len()], corpus.data.len()));
    if !back?.iter().eq(records.iter().map(|r| r.bytes)) {
        return Err("what came back is not what went in".into());
    }
    Ok(Whole {
        bytes: out.len(),
        encode_mb_per_s: cpu::mb_per_s(corpus.data.len(), encoding),
        decode_mb_per_s: cpu::mb_per_s(corpus.data.len(), decoding),
        memory_bytes: here.memory_bytes(),
    })
}

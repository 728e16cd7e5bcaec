//! What the codec makes of files of events, and of inputs that are no JSON: bytes, and speed both ways.
//!
//! `cargo run --release -p ropeway-codec --example measure -- [FILE...] [--events N] [--runs N] [--samples N] [--no-built]`
//!
//! Each line is the best of so many runs, by the thread's own time: other work on the machine counts
//! for nothing, but still takes caches away.
#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ropeway_codec::{Model, Preset, Record};

const HELP: &str = "Usage: measure [FILE...] [--events N] [--runs N] [--samples N] [--no-built]
Codes the first N events (lines) of each FILE, and inputs that it builds itself, with the largest tables.
Example: measure events.ndjson --events 5000 --runs 5 --samples 8";

/// History before the events that are tried warm.
const HISTORY: usize = 128 * 1024;
/// The last place where a warm event is tried has so many events behind it.
const ROOM: usize = 256;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}\n{HELP}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let (mut files, mut events, mut runs, mut samples, mut built) = (Vec::new(), 5000, 3, 8, true);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || args.next().ok_or("a number is missing")?.parse::<usize>().map_err(|e| e.to_string());
        match arg.as_str() {
            "--events" => events = number()?,
            "--runs" => runs = number()?,
            "--samples" => samples = number()?,
            "--no-built" => built = false,
            "--help" => {
                println!("{HELP}");
                return Ok(());
            }
            _ if !arg.starts_with('-') => files.push(arg),
            _ => return Err(format!("{arg} is not understood").into()),
        }
    }
    println!(
        "{:>12} {:>8} {:>9} {:>8} {:>9} {:>7} {:>7}",
        "input", "raw B", "cold B", "% of raw", "warm B", "enc MB/s", "dec MB/s"
    );
    for file in files {
        let text = std::fs::read(&file).map_err(|e| format!("{file}: {e}"))?;
        let lines = text.split(|b| *b == b'\n').filter(|l| !l.is_empty()).take(events);
        let name = file.rsplit('/').next().unwrap_or_default().split('.').next().unwrap_or_default().to_owned();
        measure(&name, &lines.map(<[u8]>::to_vec).collect::<Vec<_>>(), runs, samples)?;
    }
    if built {
        for (name, records) in inputs() {
            measure(name, &records, runs, samples)?;
        }
    }
    Ok(())
}

/// The time that this thread has really run, where the system tells.
fn cpu_time(since: Instant) -> Duration {
    let ns = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let ns = ns.and_then(|s| s.split(' ').next()?.parse::<u64>().ok());
    ns.map_or_else(|| since.elapsed(), Duration::from_nanos)
}

fn measure(name: &str, records: &[Vec<u8>], runs: usize, samples: usize) -> Result<(), Box<dyn Error>> {
    let all: Vec<Record<'_>> = records.iter().map(|r| Record::from(r.as_slice())).collect();
    let raw: usize = records.iter().map(Vec::len).sum();
    let (mut size, mut encode, mut decode) = (0, 0f64, 0f64);
    let start = Instant::now();
    for _ in 0..runs.max(1) {
        let (mut here, mut there) = (Model::new(Preset::Large), Model::new(Preset::Large));
        let mut out = Vec::new();
        let t0 = cpu_time(start);
        here.encode(&all, &mut out);
        let t1 = cpu_time(start);
        let back = there.decode(&out, &vec![None; all.len()], raw)?;
        let t2 = cpu_time(start);
        if !back.iter().eq(all.iter().map(|r| r.bytes)) {
            return Err("what came back is not what went in".into());
        }
        let rate = |took: Duration| raw as f64 / 1e6 / took.as_secs_f64().max(1e-9);
        (size, encode, decode) = (out.len(), encode.max(rate(t1 - t0)), decode.max(rate(t2 - t1)));
    }
    let room = all.len().saturating_sub(ROOM).max(1);
    let mut warm = 0;
    for sample in 0..samples {
        let at = room * (sample + 1) / (samples + 1);
        let (mut from, mut history) = (at, 0);
        while from > 0 && history + records[from - 1].len() <= HISTORY {
            from -= 1;
            history += records[from].len();
        }
        let mut model = Model::new(Preset::Large);
        all[from..at].iter().for_each(|r| model.prime(r));
        let mut out = Vec::new();
        model.encode(all.get(at..=at).unwrap_or_default(), &mut out);
        warm += out.len();
    }
    let events = all.len() as f64;
    println!(
        "{name:>12} {:>8.1} {:>9.3} {:>8.2} {:>9.3} {encode:>7.2} {decode:>7.2}",
        raw as f64 / events,
        size as f64 / events,
        size as f64 * 100.0 / raw as f64,
        warm as f64 / samples.max(1) as f64,
    );
    Ok(())
}

/// Numbers that look random (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// A sensor's reading, as records of several forms tell it.
struct Reading {
    sensor: u64,
    seconds: u64,
    tenths: [i64; 3],
    flags: u8,
}

fn readings(count: usize) -> Vec<Reading> {
    let mut n = Numbers(41);
    let mut seconds = 1_770_000_000;
    let mut at = [[40i64, 520, 380]; 12];
    (0..count)
        .map(|_| {
            seconds += 5 + n.below(90);
            let sensor = n.below(12);
            let tenths = &mut at[sensor as usize];
            for (t, step) in tenths.iter_mut().zip([9, 21, 3]) {
                *t += n.below(step) as i64 - step as i64 / 2;
            }
            Reading { sensor, seconds, tenths: *tenths, flags: u8::from(n.below(20) == 0) << 3 }
        })
        .collect()
}

/// Names and records of what is no JSON: some 400 KB each.
fn inputs() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let (mut binary, mut csv, mut cbor) = (Vec::new(), Vec::new(), Vec::new());
    for (i, r) in readings(12_000).iter().enumerate() {
        let [a, b, c] = r.tenths;
        let mut fixed = (i as u32).to_le_bytes().to_vec();
        fixed.extend((r.seconds as u32).to_le_bytes());
        fixed.extend((r.sensor as u16).to_le_bytes());
        [a, b, c].iter().for_each(|t| fixed.extend((*t as i16).to_le_bytes()));
        fixed.extend((a as f32 / 10.0).to_le_bytes());
        fixed.extend((b as f64 / 7.0).to_le_bytes());
        fixed.extend([r.flags, 0, 0, 0]);
        binary.push(fixed);
        csv.push(
            format!(
                "{i},{},FR-{:03},{}.{},{},{},{}\n",
                r.seconds,
                r.sensor * 37 + 100,
                a / 10,
                a.abs() % 10,
                b,
                c,
                r.flags
            )
            .into_bytes(),
        );
        let mut map = vec![0xA6];
        let key = |map: &mut Vec<u8>, name: &str| {
            map.push(0x60 | name.len() as u8);
            map.extend(name.as_bytes());
        };
        key(&mut map, "ts");
        map.push(0x1A);
        map.extend((r.seconds as u32).to_be_bytes());
        key(&mut map, "dev");
        map.push(0x66);
        map.extend(format!("FR-{:03}", r.sensor * 37 + 100).as_bytes());
        for (name, t) in ["t", "rh", "bat"].into_iter().zip(r.tenths) {
            key(&mut map, name);
            map.push(0xFA);
            map.extend((t as f32 / 10.0).to_be_bytes());
        }
        key(&mut map, "ok");
        map.push(if r.flags == 0 { 0xF5 } else { 0xF4 });
        cbor.push(map);
    }
    let mut n = Numbers(43);
    let random = (0..1500).map(|_| (0..300).map(|_| (n.next() >> 20) as u8).collect()).collect();
    // Fixed width, and every field a number that nothing foretells: neither text nor quite random.
    let dense = (0..8000)
        .map(|i: u32| {
            let mut record = i.to_be_bytes().to_vec();
            (0..20).for_each(|k| record.extend((n.below(300 << k) as u32 >> (k / 2)).to_be_bytes()));
            record.extend([0; 12]);
            record
        })
        .collect();
    vec![("binary", binary), ("dense", dense), ("cbor", cbor), ("csv", csv), ("english", english()), ("random", random)]
}

/// Paragraphs of words of this project's own documents.
fn english() -> Vec<Vec<u8>> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let mut text = String::new();
    for file in
        ["README.md", "ARCHITECTURE.md", "SECURITY.md", "docs/PROTOCOL.md", "docs/TESTING.md", "docs/OPERATIONS.md"]
    {
        let _ = write!(text, "{}", std::fs::read_to_string(format!("{root}/{file}")).unwrap_or_default());
    }
    text.split("\n\n").filter(|p| p.len() > 40).map(|p| p.as_bytes().to_vec()).collect()
}

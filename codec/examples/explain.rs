//! Which JSON paths of a file of events (one a line) cost how much.
//!
//! `cargo run --release -p ropeway-codec --example explain -- events.ndjson [--json] [--events N] [--top N]`
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;

use ropeway_codec::{Model, Preset, Record, Way};
use serde_json::json;

const HELP: &str = "Usage: explain FILE [--json] [--events N] [--top N]
Codes the first N events (lines) of FILE and tells which JSON paths cost how many bits.
Example: explain events.ndjson --events 5000 --top 20";

const BITS: f64 = 1024.0;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}\n{HELP}");
            ExitCode::FAILURE
        }
    }
}

/// What a path has cost.
#[derive(Clone, Copy, Default)]
struct Sum {
    values: u64,
    bytes: u64,
    cost: u64,
}

fn run() -> Result<(), Box<dyn Error>> {
    let (mut file, mut as_json, mut events, mut top) = (None, false, usize::MAX, 40);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || args.next().ok_or("a number is missing")?.parse::<usize>().map_err(|e| e.to_string());
        match arg.as_str() {
            "--json" => as_json = true,
            "--events" => events = number()?,
            "--top" => top = number()?,
            "--help" => {
                println!("{HELP}");
                return Ok(());
            }
            _ if file.is_none() && !arg.starts_with('-') => file = Some(arg),
            _ => return Err(format!("{arg} is not understood").into()),
        }
    }
    let file = file.ok_or("no file is given")?;
    let data = std::fs::read(&file).map_err(|e| format!("{file}: {e}"))?;
    let mut model = Model::new(Preset::Large);
    let mut sums = BTreeMap::<String, Sum>::new();
    let mut ways = [(0u64, 0u64); 4];
    let (mut count, mut raw, mut total) = (0u64, 0u64, 0u64);
    for line in data.split(|b| *b == b'\n').filter(|l| !l.is_empty()).take(events) {
        let cost = model.explain(&Record::from(line));
        let mut walk = Walk::default();
        for (&byte, &bits) in line.iter().zip(&cost.bytes) {
            let (label, begins) = walk.step(byte);
            let sum = sums.entry(label).or_default();
            sum.values += u64::from(begins);
            sum.bytes += 1;
            sum.cost += u64::from(bits);
            total += u64::from(bits);
        }
        for (sum, way) in ways.iter_mut().zip(cost.ways) {
            *sum = (sum.0 + way.0, sum.1 + way.1);
        }
        count += 1;
        raw += line.len() as u64;
    }
    let mut sorted: Vec<(String, Sum)> = sums.into_iter().collect();
    sorted.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.cost));
    let each = |cost: u64| cost as f64 / BITS / 8.0 / count.max(1) as f64;
    if as_json {
        let paths: Vec<_> = sorted
            .iter()
            .map(|(path, s)| json!({"path": path, "values": s.values, "bytes": s.bytes, "bits": s.cost as f64 / BITS}))
            .collect();
        let ways: Vec<_> = Way::ALL
            .iter()
            .zip(ways)
            .map(|(way, (bytes, cost))| json!({"way": format!("{way:?}"), "bytes": bytes, "bits": cost as f64 / BITS}))
            .collect();
        let all = json!({"events": count, "raw_bytes": raw, "bits": total as f64 / BITS, "ways": ways, "paths": paths});
        println!("{all}");
        return Ok(());
    }
    println!("{count} events of {:.1} B, {:.3} B each\n", raw as f64 / count.max(1) as f64, each(total));
    println!("{:>10} {:>8} {:>10}  way", "bytes/ev", "B/event", "bits/byte");
    for (way, (bytes, cost)) in Way::ALL.iter().zip(ways) {
        let per_byte = cost as f64 / BITS / bytes.max(1) as f64;
        println!("{:>10.2} {:>8.3} {per_byte:>10.3}  {way:?}", bytes as f64 / count.max(1) as f64, each(cost));
    }
    println!("\n{:>10} {:>8} {:>10} {:>10}  path", "share %", "B/event", "bits/byte", "bits/value");
    for (path, s) in sorted.iter().take(top) {
        println!(
            "{:>10.1} {:>8.3} {:>10.3} {:>10.2}  {path}",
            s.cost as f64 * 100.0 / total.max(1) as f64,
            each(s.cost),
            s.cost as f64 / BITS / s.bytes as f64,
            s.cost as f64 / BITS / s.values.max(1) as f64,
        );
    }
    Ok(())
}

/// Names the path of each byte of a JSON text.
#[derive(Default)]
struct Walk {
    /// Names of the open containers; an array's is `[]`.
    open: Vec<String>,
    key: String,
    in_text: bool,
    in_key: bool,
    in_bare: bool,
    is_escaped: bool,
    wants_key: bool,
}

impl Walk {
    /// The label of a byte, and whether a value begins with it.
    fn step(&mut self, byte: u8) -> (String, bool) {
        if self.in_text {
            if self.in_key && (byte != b'"' || self.is_escaped) {
                self.key.push(char::from(byte));
            }
            let label = self.label(!self.in_key);
            let ends = byte == b'"' && !self.is_escaped;
            self.is_escaped = byte == b'\\' && !self.is_escaped;
            self.in_text = !ends;
            return (label, false);
        }
        let is_bare = !matches!(byte, b',' | b':' | b'"' | b'{' | b'}' | b'[' | b']' | b' ' | b'\t' | b'\r');
        let begins = is_bare && !self.in_bare;
        self.in_bare = is_bare;
        match byte {
            b'"' => {
                (self.in_text, self.in_key) = (true, self.wants_key);
                if self.wants_key {
                    self.key.clear();
                }
                self.wants_key = false;
                (self.label(!self.in_key), !self.in_key)
            }
            b'{' | b'[' => {
                let label = self.label(false);
                let name = if byte == b'{' { self.key.clone() } else { format!("{}[]", self.key) };
                self.open.push(name);
                self.key.clear();
                self.wants_key = byte == b'{';
                (label, false)
            }
            b'}' | b']' => {
                self.key = self.open.pop().unwrap_or_default().trim_end_matches("[]").to_owned();
                (self.label(false), false)
            }
            b',' => {
                let label = self.label(false);
                self.wants_key = self.open.last().is_some_and(|name| !name.ends_with("[]"));
                (label, false)
            }
            _ => (self.label(is_bare), begins),
        }
    }

    fn label(&self, is_value: bool) -> String {
        if !is_value {
            return "(keys and punctuation)".to_owned();
        }
        let names = self.open.iter().chain(std::iter::once(&self.key)).filter(|n| !n.is_empty());
        names.map(String::as_str).collect::<Vec<_>>().join(".")
    }
}

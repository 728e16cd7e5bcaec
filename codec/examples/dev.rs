#![allow(missing_docs, clippy::all)]
use ropeway_codec::*;
fn cpu() -> f64 { std::fs::read_to_string("/proc/thread-self/schedstat").unwrap().split(" ").next().unwrap().parse::<f64>().unwrap() / 1e9 }
fn main() {
    #[cfg(feature = "ablation")]
    if let Ok(k) = std::env::var("K") {
        for kv in k.split(',') { let (k, v) = kv.split_once('=').unwrap(); KNOBS[k.parse::<usize>().unwrap()].store(v.parse().unwrap(), std::sync::atomic::Ordering::Relaxed); }
    }
    let which: Vec<String> = std::env::args().skip(1).collect();
    let mut handles = vec![];
    let results = std::sync::Arc::new(std::sync::Mutex::new(vec![]));
    let all: Vec<(&str, usize)> = vec![("odk", 2300), ("fhir", 5000), ("epis", 5000), ("tiny", 5000)];
    let todo: Vec<_> = all.into_iter().filter(|(n, _)| which.is_empty() || which.iter().any(|w| w == n)).collect();
    let queue = std::sync::Arc::new(std::sync::Mutex::new(todo));
    for _ in 0..2 {
        let queue = queue.clone(); let results = results.clone();
        handles.push(std::thread::spawn(move || loop {
            let Some((name, n)) = ({ let mut q = queue.lock().unwrap(); if q.is_empty() { None } else { Some(q.remove(0)) } }) else { break };
            let data = std::fs::read(format!("{}/{name}.ndjson", std::env::var("CORPORA").unwrap_or("/work/shared/data".into()))).unwrap();
            let lines: Vec<&[u8]> = data.split(|b| *b == b'\n').filter(|l| !l.is_empty()).take(n).collect();
            let mut m = Model::new(Preset::Large);
            let t = cpu();
            let mut cost = 0u64;
            let mut raw = 0usize;
            for l in &lines { cost += m.explain(&Record::from(*l)).bytes.iter().map(|c| *c as u64).sum::<u64>(); raw += l.len(); }
            let s = cpu() - t;
            let cold = cost as f64 / 8192.0 / lines.len() as f64;
            // warm 128 KB, single events
            let mut sum = 0u64; let mut count = 0;
            for k in 0..6 {
                let start = lines.len() * (k + 1) / 8 + 200;
                let mut h = 0; let mut from = start;
                while h < 128 * 1024 && from > 0 { from -= 1; h += lines[from].len(); }
                let mut m = Model::new(Preset::Large);
                for l in &lines[from..start] { m.prime(&Record::from(*l)); }
                for i in 0..24 { if start + i < lines.len() { sum += m.explain(&Record::from(lines[start + i])).bytes.iter().map(|c| *c as u64).sum::<u64>(); count += 1; } }
            }
            results.lock().unwrap().push((cold, sum as f64 / 8192.0 / count as f64, raw as f64 / s / 1e6));
            println!("{name:5} cold {cold:8.3} B/event  warm {:8.3}  {:.2} MB/s  {} KB", sum as f64 / 8192.0 / count as f64, raw as f64 / s / 1e6, m.memory_bytes() / 1024);
        }));
    }
    for h in handles { h.join().unwrap(); }
    let r = results.lock().unwrap();
    let gm = |f: &dyn Fn(&(f64,f64,f64)) -> f64| (r.iter().map(|x| f(x).ln()).sum::<f64>() / r.len() as f64).exp();
    println!("  cold {:.4} warm {:.4} speed {:.2}", gm(&|x| x.0), gm(&|x| x.1), gm(&|x| x.2));
}

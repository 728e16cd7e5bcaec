#![allow(missing_docs, clippy::all)]
use ropeway_codec::*;
use std::collections::BTreeMap;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let data = std::fs::read(&a[1]).unwrap();
    let n: usize = a[2].parse().unwrap();
    let mut m = Dev::new(Preset::Large);
    let mut t: BTreeMap<String, (u64, u64, u64)> = BTreeMap::new();
    let mut total = 0u64;
    for line in data.split(|b| *b == b'\n').take(n) {
        let costs = m.costs(line, None);
        let mut stack: Vec<String> = vec![];
        let mut key = String::new(); let mut cur = String::from("$"); let mut in_str = false; let mut esc = false; let mut is_key = false; let mut want_key = false;
        let mut objs: Vec<bool> = vec![]; let mut in_value = false;
        for (&b, &c) in line.iter().zip(&costs) {
            total += c as u64;
            let label = if in_str && !is_key || in_value && !matches!(b, b','|b'}'|b']') { cur.clone() } else { format!("{} (gap)", cur) };
            let e = t.entry(label).or_default(); e.0 += c as u64; e.1 += 1;
            if in_str {
                if esc { esc = false } else if b == b'\\' { esc = true } else if b == b'"' { in_str = false; if !is_key { } } else if is_key { key.push(b as char) }
            } else { match b {
                b'"' => { in_str = true; is_key = want_key; if is_key { key.clear(); want_key = false; } else { t.entry(cur.clone()).or_default().2 += 1; } }
                b':' => { cur = format!("{}.{}", stack.join("."), key); in_value = true; }
                b'{' => { stack.push(key.clone()); objs.push(true); want_key = true; in_value = false; }
                b'[' => { stack.push(key.clone()); objs.push(false); in_value = false; }
                b'}' | b']' => { stack.pop(); objs.pop(); in_value = false; }
                b',' => { in_value = false; if *objs.last().unwrap_or(&false) { want_key = true } }
                _ => {}
            } }
        }
    }
    let mut v: Vec<_> = t.into_iter().collect();
    v.sort_by_key(|x| std::cmp::Reverse(x.1.0));
    for (k, (c, bytes, strs)) in v.into_iter().take(45) { println!("{:7.3} B/ev {:5.1}% {:9.4} bit/B {:6} {}", c as f64 / 8192.0 / n as f64, c as f64 * 100.0 / total as f64, c as f64 / 1024.0 / bytes as f64, strs, k); }
}

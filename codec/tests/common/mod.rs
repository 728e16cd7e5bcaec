//! Made-up records: no patient's, no corpus', the same on every machine.
#![allow(dead_code, clippy::unwrap_used)]

use std::fmt::Write;

/// Numbers that look random (splitmix64).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(crate) fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len() as u64) as usize]
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| (self.next() >> 20) as u8).collect()
    }
}

/// A record and its time stamp.
pub(crate) type Event = (Vec<u8>, Option<u64>);

/// Events of an imagined garden: kinds, identifiers, counters, times, phrases, nested lists.
pub(crate) fn garden(seed: u64, count: usize) -> Vec<Event> {
    let mut n = Numbers(seed);
    let mut now_ms = 1_770_000_000_000 + seed * 1000;
    let beds: Vec<String> =
        (0..12).map(|_| format!("{:08x}-{:04x}-4{:03x}", n.next() as u32, n.below(65_536), n.below(4096))).collect();
    let mut serial = 100 + n.below(900);
    (0..count)
        .map(|_| {
            now_ms += 200 + n.below(90_000);
            let bed = n.pick(&beds.iter().map(String::as_str).collect::<Vec<_>>()).to_owned();
            let mut s = String::new();
            match n.below(4) {
                0 => {
                    let litres = 10 + n.below(30);
                    write!(s, r#"{{"kind":"watering","at":{},"bed":"{bed}","litres":{litres}.{}}}"#, now_ms / 1000, n.below(10))
                }
                1 => {
                    serial += 1;
                    let crop = n.pick(&["beans", "kale", "maize \\\"early\\\"", "pumpkin"]);
                    write!(s, r#"{{"kind":"harvest","at":{now_ms},"bed":"{bed}","serial":{serial},"items":[{{"crop":"{crop}","kg":{}}}],"same":"{bed}","ok":true}}"#, n.below(90))
                }
                2 => {
                    let words: Vec<&str> = (0..3 + n.below(6)).map(|_| n.pick(&["leaf", "spots", "on", "the", "lower", "stem", "dry", "after", "rain"])).collect();
                    write!(s, r#"{{"kind":"note","at":{},"bed":"{bed}","text":"{}","by":null}}"#, now_ms / 1000, words.join(" "))
                }
                _ => write!(s, r#"{{ "kind" : "visit", "id" : "{:016x}", "tags" : [ "a", "b", {} ], "plan" : {{ "next" : {} }} }}"#, n.next(), n.below(5), n.below(300)),
            }
            .unwrap();
            (s.into_bytes(), Some(now_ms + n.below(900)))
        })
        .collect()
}

/// What is not JSON: lines of CSV, words, binary, nothing, broken JSON, random bytes.
pub(crate) fn others(seed: u64, count: usize) -> Vec<Event> {
    let mut n = Numbers(seed ^ 0x00DD);
    (0..count)
        .map(|i| {
            let bytes = match i % 8 {
                0 => format!("{i},{},{},ward {}\n", n.below(50), n.below(1000), n.below(9)).into_bytes(),
                1 => (0..n.below(40))
                    .map(|_| n.pick(&["seed ", "soil ", "sun, ", "shade. "]))
                    .collect::<String>()
                    .into_bytes(),
                2 => (0..n.below(90) as u32).flat_map(|k| [(k / 3) as u8, 0, n.below(3) as u8, 0xFF]).collect(),
                3 => Vec::new(),
                4 => b"{\"cut\":[1,2,{\"off\":\"he".to_vec(),
                5 => {
                    let len = n.below(300) as usize;
                    n.bytes(len)
                }
                6 => b"}{][\",,::\\\"{}\n{\"a\":1}{\"a\":1}".to_vec(),
                _ => [b"[".repeat(80), b"7".to_vec(), b"]".repeat(80)].concat(),
            };
            (bytes, (i % 3 == 0).then_some(n.next()))
        })
        .collect()
}

/// Binary records of one width: counting, times, steps, a fraction, what is always the same.
pub(crate) fn table(seed: u64, count: usize) -> Vec<Event> {
    let mut n = Numbers(seed ^ 0x7AB1);
    let (mut seconds, mut level) = (1_770_000_000, 400);
    (0..count as u32)
        .map(|i| {
            seconds += 5 + n.below(90) as u32;
            level = (level + n.below(9) as u16).wrapping_sub(4);
            let mut bytes = [i.to_be_bytes(), seconds.to_be_bytes(), [0, 7, 0, 1]].concat();
            bytes.extend(level.to_be_bytes());
            bytes.extend((n.next() >> 12).to_be_bytes());
            (bytes, None)
        })
        .collect()
}

/// Lines of text: made-up words, each as likely as any other.
pub(crate) fn prose(seed: u64, count: usize) -> Vec<Event> {
    let mut n = Numbers(17);
    let words: Vec<String> = (0..500)
        .map(|_| {
            let len = 2 + n.below(8) as usize;
            n.bytes(len).iter().map(|b| char::from(b'a' + b % 26)).collect()
        })
        .collect();
    let mut n = Numbers(seed ^ 0x7E87);
    (0..count)
        .map(|_| {
            let line: Vec<&str> = (0..60).map(|_| words[n.below(500) as usize].as_str()).collect();
            (line.join(" ").into_bytes(), None)
        })
        .collect()
}

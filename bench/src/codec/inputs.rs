//! Inputs that the codec was not made for: it has to know when to leave them alone.

use ropeway_codec::Preset;
use serde_json::Value;

use super::rivals::zstd_whole;
use super::whole;
use crate::Result;
use crate::corpus::Corpus;
use crate::dice::Dice;
use crate::progress::bar;
use crate::table::{Cell, Table};

/// Records of each.
const RECORDS: usize = 1_000;
const SEED: u64 = 2026;
/// What the English-like text is made of, the most frequent first.
const WORDS: &str = "the of and to a in was he that it his her with as had for she not but at on they be were so him \
    patient which all this have from when there would been one by their said could who them into then more out little \
    very some what than will time has only other before like any may now after know such well over good day came made \
    must down great much how our through still first never down long own where come might many men back see went old \
    way people house road river valley mountain winter summer village doctor nurse bridge rope goods morning evening \
    water fire bread child mother father brother sister letter answer question story light dark snow rain wind stone";

pub(super) fn measure() -> Result<Table> {
    let mut table = Table::new(
        "inputs",
        format!("{RECORDS} records that are not JSON, nothing known before: bytes per record"),
        &[
            ("input", "input"),
            ("stored_bytes", "stored"),
            ("small_bytes", "ropeway small"),
            ("medium_bytes", "medium"),
            ("large_bytes", "large"),
            ("zstd9_bytes", "zstd -9"),
            ("encode_mb_per_s", "large: encode (MB/s)"),
            ("decode_mb_per_s", "decode (MB/s)"),
        ],
    );
    let all = inputs();
    let bar = bar("other inputs", all.len() as u64);
    for corpus in &all {
        let each = |bytes: usize| Cell::Figure(bytes as f64 / corpus.len() as f64, 1);
        let mut row = vec![Cell::Text(corpus.name.clone()), each(corpus.data.len())];
        let mut speed = Vec::new();
        for preset in Preset::ALL {
            let made = whole(corpus, preset)?;
            row.push(each(made.bytes));
            speed = vec![Cell::Figure(made.encode_mb_per_s, 2), Cell::Figure(made.decode_mb_per_s, 2)];
        }
        row.push(each(zstd_whole(9, &corpus.data)?.bytes));
        row.append(&mut speed);
        table.row(row);
        bar.inc(1);
    }
    bar.finish_and_clear();
    table.note("Made from a fixed seed. zstd gets all records in one frame, without their lengths.");
    Ok(table)
}

/// All of them, the same each time.
fn inputs() -> Vec<Corpus> {
    let mut dice = Dice::new(SEED);
    let mut all = vec![cbor(), csv(&mut dice), text(&mut dice), fixed(&mut dice)];
    all.push(Corpus::of("random bytes", (0..RECORDS).map(|_| (0..200).map(|_| dice.next() as u8).collect())));
    all
}

/// The events of the demo, as CBOR (RFC 8949) instead of JSON.
fn cbor() -> Corpus {
    let json = Corpus::generated(RECORDS);
    let records = (0..RECORDS).map(|n| {
        let mut out = Vec::new();
        if let Ok(value) = serde_json::from_slice(json.event(n).1) {
            put_cbor(&value, &mut out);
        }
        out
    });
    Corpus::of("CBOR of the demo's events", records)
}

fn put_cbor(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(0xf6),
        Value::Bool(b) => out.push(0xf4 + u8::from(*b)),
        Value::Number(n) => match (n.as_u64(), n.as_i64(), n.as_f64()) {
            (Some(n), ..) => put_head(0, n, out),
            (_, Some(n), _) => put_head(1, n.unsigned_abs() - 1, out),
            (.., n) => {
                out.push(0xfb);
                out.extend(n.unwrap_or(0.0).to_be_bytes());
            }
        },
        Value::String(s) => {
            put_head(3, s.len() as u64, out);
            out.extend(s.bytes());
        }
        Value::Array(all) => {
            put_head(4, all.len() as u64, out);
            all.iter().for_each(|v| put_cbor(v, out));
        }
        Value::Object(all) => {
            put_head(5, all.len() as u64, out);
            for (key, v) in all {
                put_head(3, key.len() as u64, out);
                out.extend(key.bytes());
                put_cbor(v, out);
            }
        }
    }
}

fn put_head(major: u8, n: u64, out: &mut Vec<u8>) {
    let be = n.to_be_bytes();
    let (info, len) = match n {
        0..24 => (n as u8, 0),
        24..0x100 => (24, 1),
        0x100..0x1_0000 => (25, 2),
        0x1_0000..0x1_0000_0000 => (26, 4),
        _ => (27, 8),
    };
    out.push(major << 5 | info);
    out.extend(&be[8 - len..]);
}

/// Rows of readings.
fn csv(dice: &mut Dice) -> Corpus {
    let mut minute = 0;
    let rows = (0..RECORDS).map(|n| {
        minute += dice.below(9);
        let (day, hour) = (1 + minute / 1440, minute / 60 % 24);
        let [ward, bed, pulse] = [dice.below(4), dice.below(20), 60 + dice.below(50)];
        let temperature = 360 + dice.below(30);
        let (whole, tenth) = (temperature / 10, temperature % 10);
        let minute = minute % 60;
        format!("{n},2026-03-{day:02}T{hour:02}:{minute:02},ward {ward},{bed},{pulse},{whole}.{tenth},ok\n")
            .into_bytes()
    });
    Corpus::of("CSV rows", rows)
}

/// Sentences.
fn text(dice: &mut Dice) -> Corpus {
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let sentences = (0..RECORDS).map(|_| {
        let mut sentence: Vec<&str> = (0..8 + dice.below(20)).map(|_| words[dice.zipf(words.len())]).collect();
        if dice.below(3) == 0 {
            let middle = sentence.len() / 2;
            sentence[middle] = "and,";
        }
        format!("{}. ", sentence.join(" ")).into_bytes()
    });
    Corpus::of("English-like text", sentences)
}

/// Records of 24 bytes: a number, a time, a sensor, three readings.
fn fixed(dice: &mut Dice) -> Corpus {
    let (mut seconds, mut readings) = (1_770_000_000u64, [2_000i16; 3]);
    let records = (0..RECORDS as u32).map(|n| {
        seconds += 60 + dice.below(3) as u64;
        for reading in &mut readings {
            *reading += dice.below(21) as i16 - 10;
        }
        let mut out = n.to_le_bytes().to_vec();
        out.extend(seconds.to_le_bytes());
        out.extend((dice.below(6) as u16).to_le_bytes());
        readings.iter().for_each(|r| out.extend(r.to_le_bytes()));
        out.extend([0; 4]);
        out
    });
    Corpus::of("binary records of 24 B", records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inputs_are_the_same_each_time_and_what_they_are_called() {
        let (all, again) = (inputs(), inputs());
        assert!(all.iter().zip(&again).all(|(a, b)| a.data == b.data && a.len() == RECORDS));
        let mut out = Vec::new();
        // {"a": 1, "b": [-2, 300, "x"]}
        put_cbor(&serde_json::json!({"a": 1, "b": [-2, 300, "x"]}), &mut out);
        assert_eq!(out, [0xa2, 0x61, b'a', 1, 0x61, b'b', 0x83, 0x21, 0x19, 1, 44, 0x61, b'x']);
        assert!(all[3].data.len() == 24 * RECORDS);
    }
}

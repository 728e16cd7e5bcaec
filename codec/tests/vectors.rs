//! Golden vectors: batches that this version must write and read, to the bit, on every machine.
//!
//! `UPDATE_VECTORS=1 cargo test -p ropeway-codec --test vectors` writes them anew, for a new VERSION.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::path::PathBuf;

use common::{Event, garden, others, prose, table};
use ropeway_codec::{Model, Preset, Record, VERSION};

const BATCHES: [usize; 10] = [1, 1, 4, 16, 64, 1, 130, 51, 40, 40];

fn file(preset: Preset) -> PathBuf {
    let name = format!("v{VERSION}-{preset:?}.bin").to_lowercase();
    [env!("CARGO_MANIFEST_DIR"), "tests", "vectors", &name].iter().collect()
}

fn events() -> Vec<Event> {
    let mut events = garden(31, 180);
    events.extend(others(31, 48));
    events.extend(garden(32, 40));
    events.extend(table(33, 40));
    events.extend(prose(34, 40));
    events
}

/// Batches behind one another, each after its length.
fn encoded(preset: Preset) -> Vec<u8> {
    let events = events();
    let mut model = Model::new(preset);
    let mut out = Vec::new();
    let mut rest = events.as_slice();
    for size in BATCHES {
        let (batch, after) = rest.split_at(size.min(rest.len()));
        let records: Vec<Record<'_>> = batch.iter().map(|(bytes, hlc_ms)| Record { bytes, hlc_ms: *hlc_ms }).collect();
        let mut bytes = Vec::new();
        model.encode(&records, &mut bytes);
        out.extend((bytes.len() as u32).to_be_bytes());
        out.extend(bytes);
        rest = after;
    }
    out
}

#[test]
fn this_version_writes_and_reads_what_it_always_did() {
    for preset in Preset::ALL {
        let written = encoded(preset);
        if std::env::var_os("UPDATE_VECTORS").is_some() {
            std::fs::write(file(preset), &written).unwrap();
        }
        let golden = std::fs::read(file(preset)).expect("vectors of this VERSION: write them with UPDATE_VECTORS=1");
        assert!(
            written == golden,
            "{preset:?}: the model has changed. Peers with the old one would not understand it: raise VERSION in \
             codec/src/batch.rs, and write vectors for it with UPDATE_VECTORS=1."
        );
        let mut model = Model::new(preset);
        let (mut rest, events) = (golden.as_slice(), events());
        let mut expected = events.as_slice();
        for size in BATCHES {
            let (batch, after) = expected.split_at(size.min(expected.len()));
            let (len, bytes) = rest.split_at(4);
            let (bytes, next) = bytes.split_at(u32::from_be_bytes(len.try_into().unwrap()) as usize);
            let stamps: Vec<Option<u64>> = batch.iter().map(|e| e.1).collect();
            let got = model.decode(bytes, &stamps, 100_000).unwrap();
            assert!(got.iter().eq(batch.iter().map(|e| e.0.as_slice())), "{preset:?}");
            (rest, expected) = (next, after);
        }
        assert!(rest.is_empty() && expected.is_empty());
    }
}

#[test]
fn events_of_a_log_are_written_and_read_as_they_always_were() {
    let events = events();
    let events: Vec<ropeway_codec::Event<'_>> = (0u64..)
        .zip(&events)
        .map(|(n, (bytes, _))| {
            let three = n / 3;
            let ms = 1_770_000_000_000 + three * 1_000 + three * three / 90 * 60_000 + three % 5 / 4 * 17;
            ropeway_codec::Event { ms, counter: (n % 3) as u16, mark: n < 9, kind: (n % 2) as u16 * 300, bytes }
        })
        .collect();
    let (mut here, mut there) = (ropeway_codec::Stream::new(Preset::Large), ropeway_codec::Stream::new(Preset::Large));
    let (mut rest, mut written) = (events.as_slice(), Vec::new());
    for size in BATCHES {
        let (batch, after) = rest.split_at(size.min(rest.len()));
        let mut bytes = Vec::new();
        here.encode(batch, &mut bytes);
        let got = there.decode(&bytes, batch.len(), (batch[0].ms, batch[0].counter), 100_000).unwrap();
        assert!(got.iter().eq(batch.iter().copied()));
        written.extend((bytes.len() as u32).to_be_bytes());
        written.extend(bytes);
        rest = after;
    }
    let name = format!("v{VERSION}-events.bin");
    let file: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "vectors", &name].iter().collect();
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        std::fs::write(&file, &written).unwrap();
    }
    let golden = std::fs::read(file).expect("vectors of this VERSION: write them with UPDATE_VECTORS=1");
    assert!(written == golden, "what is written of events has changed: raise VERSION in codec/src/batch.rs");
}

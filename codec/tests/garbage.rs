//! Whatever bytes come: an error, or wrong records within the limit. Never a panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Numbers, garden, others, table};
use ropeway_codec::{DecodeError, Model, Preset, Record};

const LIMIT: usize = 4000;

fn primed() -> Model {
    let mut model = Model::new(Preset::Small);
    for (bytes, hlc_ms) in garden(21, 100) {
        model.prime(&Record { bytes: &bytes, hlc_ms });
    }
    model
}

/// Decodes, and checks the bounds.
fn decode(model: &Model, batch: &[u8], count: usize) -> Result<Vec<Vec<u8>>, DecodeError> {
    let got = model.clone().decode(batch, &vec![Some(1_770_000_000_000); count], LIMIT)?;
    assert_eq!(got.len(), count);
    let records: Vec<Vec<u8>> = got.iter().map(<[u8]>::to_vec).collect();
    assert!(records.iter().map(Vec::len).sum::<usize>() <= LIMIT);
    Ok(records)
}

#[test]
fn random_bytes_never_panic() {
    let (fresh, primed) = (Model::new(Preset::Small), primed());
    let mut n = Numbers(22);
    for i in 0..200 {
        let len = n.below(if i % 4 == 0 { 2000 } else { 40 }) as usize;
        let batch = n.bytes(len);
        let count = n.below(30) as usize;
        let _ = decode(if i % 2 == 0 { &fresh } else { &primed }, &batch, count);
    }
    for batch in [vec![], vec![0; 5000], vec![0xFF; 5000], b"{}".repeat(900)] {
        for count in [0, 1, 1000] {
            let _ = decode(&primed, &batch, count);
            let _ = decode(&fresh, &batch, count);
        }
    }
}

#[test]
fn a_damaged_batch_never_panics_and_never_exceeds_its_limit() {
    let model = primed();
    let mut events = garden(23, 6);
    events.extend(others(23, 8));
    events.extend(table(23, 8));
    let records: Vec<Record<'_>> = events.iter().map(|(bytes, hlc_ms)| Record { bytes, hlc_ms: *hlc_ms }).collect();
    let mut batch = Vec::new();
    model.clone().encode(&records, &mut batch);
    let mut n = Numbers(24);
    for _ in 0..150 {
        let mut damaged = batch.clone();
        let at = n.below(damaged.len() as u64) as usize;
        damaged[at] ^= 1 << n.below(8);
        let _ = decode(&model, &damaged, records.len());
    }
    for len in (0..batch.len()).step_by(3) {
        let _ = decode(&model, &batch[..len], records.len());
    }
}

#[test]
fn what_is_cut_or_too_long_says_so() {
    let model = primed();
    let mut n = Numbers(25);
    let noise = n.bytes(900);
    let mut batch = Vec::new();
    model.clone().encode(&[Record::from(noise.as_slice())], &mut batch);
    assert_eq!(decode(&model, &batch, 1).unwrap(), [noise]);
    assert_eq!(decode(&model, &batch[..800], 1), Err(DecodeError::Truncated));
    assert_eq!(decode(&model, &[batch.as_slice(), &[1, 2, 3, 4, 5, 6]].concat(), 1), Err(DecodeError::Trailing));
    assert_eq!(model.clone().decode(&batch, &[None], 899), Err(DecodeError::TooLong));
    let event = &garden(26, 1)[0].0;
    let mut batch = Vec::new();
    model.clone().encode(&[Record::from(event.as_slice())], &mut batch);
    assert_eq!(model.clone().decode(&batch, &[None], event.len() - 1), Err(DecodeError::TooLong));
}

//! What goes in comes out, and both ends stay alike.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Event, Numbers, garden, others, prose, table};
use ropeway_codec::{Model, Preset, Record};

fn records(events: &[Event]) -> Vec<Record<'_>> {
    events.iter().map(|(bytes, hlc_ms)| Record { bytes, hlc_ms: *hlc_ms }).collect()
}

fn stamps(events: &[Event]) -> Vec<Option<u64>> {
    events.iter().map(|e| e.1).collect()
}

fn total(events: &[Event]) -> usize {
    events.iter().map(|e| e.0.len()).sum()
}

/// Sends events in one batch; the batch's size.
fn send(here: &mut Model, there: &mut Model, events: &[Event]) -> usize {
    let mut batch = Vec::new();
    here.encode(&records(events), &mut batch);
    let got = there.decode(&batch, &stamps(events), total(events)).unwrap();
    assert_eq!(got.len(), events.len());
    assert!(got.iter().eq(events.iter().map(|e| e.0.as_slice())));
    batch.len()
}

#[test]
fn every_preset_round_trips_and_the_ends_stay_equal_after_each_event() {
    for preset in Preset::ALL {
        let (mut here, mut there) = (Model::new(preset), Model::new(preset));
        for (i, event) in garden(1, 60).iter().chain(&others(2, 48)).chain(&table(2, 40)).enumerate() {
            send(&mut here, &mut there, std::slice::from_ref(event));
            assert!(here == there, "{preset:?}: the ends differ after event {i}");
        }
    }
}

#[test]
fn batches_of_any_size_round_trip() {
    let mut events = garden(3, 500);
    events.extend(others(3, 300));
    events.extend(garden(4, 200));
    let mut n = Numbers(5);
    let (mut here, mut there) = (Model::new(Preset::Small), Model::new(Preset::Small));
    let mut rest = events.as_slice();
    while !rest.is_empty() {
        let (batch, after) = rest.split_at((n.below(40) as usize).min(rest.len()));
        send(&mut here, &mut there, batch);
        rest = after;
    }
    assert!(here == there);
    send(&mut here, &mut there, &[]);
}

#[test]
fn records_shrink_to_a_tenth_when_the_stream_is_known() {
    let events = garden(7, 3000);
    let (mut here, mut there) = (Model::new(Preset::Medium), Model::new(Preset::Medium));
    send(&mut here, &mut there, &events[..2000]);
    let size = send(&mut here, &mut there, &events[2000..]);
    assert!(size * 8 < total(&events[2000..]), "{size} of {}", total(&events[2000..]));
}

#[test]
fn a_huge_record_round_trips() {
    let huge: Vec<u8> = [
        b"{\"all\":[".to_vec(),
        garden(8, 6000).into_iter().map(|e| e.0).collect::<Vec<_>>().join(&b','),
        b"]}".to_vec(),
    ]
    .concat();
    assert!(huge.len() > 500_000);
    let (mut here, mut there) = (Model::new(Preset::Small), Model::new(Preset::Small));
    send(&mut here, &mut there, &[(huge, None), (b"{}".to_vec(), None)]);
    assert!(here == there);
}

#[test]
fn nothing_grows_by_more_than_a_hundredth_and_a_few_bytes() {
    let mut n = Numbers(9);
    for len in [0, 1, 2, 20, 47, 48, 300, 5000, 100_000] {
        let inputs = [n.bytes(len), n.bytes(len).iter().map(|b| b & 15).collect(), b"{".repeat(len), vec![b'"'; len]];
        for input in inputs {
            let (mut here, mut there) = (Model::new(Preset::Small), Model::new(Preset::Small));
            let size = send(&mut here, &mut there, &[(input, None)]);
            assert!(size <= len + len / 100 + 6, "{len} became {size}");
            send(&mut here, &mut there, &garden(10, 5));
            assert!(here == there);
        }
    }
    // Many records whose bytes say nothing, in one batch.
    let noise: Vec<Event> = (0..500).map(|_| (n.bytes(300), None)).collect();
    let (mut here, mut there) = (Model::new(Preset::Small), Model::new(Preset::Small));
    let size = send(&mut here, &mut there, &noise);
    assert!(size <= total(&noise) + total(&noise) / 100, "{size}");
}

#[test]
fn binary_records_of_one_width_shrink_by_their_columns() {
    let events = table(14, 2000);
    let (mut here, mut there) = (Model::new(Preset::Small), Model::new(Preset::Small));
    let size = send(&mut here, &mut there, &events);
    assert!(here == there);
    // Six and a half of the 22 bytes are random.
    assert!(size * 2 < total(&events), "{size} of {}", total(&events));
    let mut mixed: Vec<Event> = events[..50].to_vec();
    mixed.extend(garden(14, 10));
    mixed.extend(events[50..90].iter().map(|e| ([e.0.as_slice(), &[0; 1500]].concat(), None)));
    mixed.extend_from_slice(&events[90..120]);
    send(&mut here, &mut there, &mixed);
    assert!(here == there);
}

#[test]
fn text_between_records_round_trips_and_records_lose_little_by_it() {
    let (mut here, mut there) = (Model::new(Preset::Small), Model::new(Preset::Small));
    for event in prose(17, 80).iter().chain(&garden(17, 100)).chain(&prose(18, 20)).chain(&garden(18, 5)) {
        send(&mut here, &mut there, std::slice::from_ref(event));
    }
    assert!(here == there);
    send(&mut here, &mut there, &prose(19, 20));
    let news = garden(19, 400);
    let size = send(&mut here, &mut there, &news);
    let (mut here, mut there) = (Model::new(Preset::Small), Model::new(Preset::Small));
    send(&mut here, &mut there, &garden(17, 100));
    let alone = send(&mut here, &mut there, &news);
    assert!(size < alone + alone / 10, "{size} after text, {alone} without");
}

#[test]
fn json_with_bytes_changed_round_trips_and_the_ends_stay_equal() {
    let mut n = Numbers(15);
    let (mut here, mut there) = (Model::new(Preset::Small), Model::new(Preset::Small));
    for (i, (mut bytes, hlc_ms)) in garden(15, 250).into_iter().enumerate() {
        for _ in 0..n.below(4) {
            let at = n.below(bytes.len() as u64) as usize;
            match n.below(3) {
                0 => bytes[at] = n.next() as u8,
                1 => bytes.truncate(at + 1),
                _ => bytes.insert(at, b"{}[]\":,\\0"[n.below(9) as usize]),
            }
        }
        send(&mut here, &mut there, &[(bytes, hlc_ms)]);
        assert!(here == there, "the ends differ after event {i}");
    }
}

#[test]
fn short_noise_of_one_width_grows_by_less_than_a_hundredth() {
    let mut n = Numbers(16);
    let noise: Vec<Event> = (0..2000).map(|_| (n.bytes(40).iter().map(|b| b & 0x9F).collect(), None)).collect();
    let (mut here, mut there) = (Model::new(Preset::Small), Model::new(Preset::Small));
    let size = send(&mut here, &mut there, &noise);
    assert!(size <= total(&noise) * 7 / 8, "{size} of {}", total(&noise));
    let noise: Vec<Event> = (0..2000).map(|_| (n.bytes(40), None)).collect();
    let size = send(&mut here, &mut there, &noise);
    assert!(size <= total(&noise) + total(&noise) / 100, "{size} of {}", total(&noise));
}

#[test]
fn priming_is_encoding_to_nowhere() {
    let mut events = garden(11, 150);
    events.extend(others(11, 80));
    let (mut primed, mut encoded) = (Model::new(Preset::Small), Model::new(Preset::Small));
    for record in records(&events) {
        primed.prime(&record);
    }
    encoded.encode(&records(&events), &mut Vec::new());
    assert!(primed == encoded);
}

#[test]
fn a_clone_goes_its_own_way_and_a_reset_forgets() {
    let events = garden(12, 120);
    let mut model = Model::new(Preset::Small);
    model.encode(&records(&events[..60]), &mut Vec::new());
    let kept = model.clone();
    model.encode(&records(&events[60..]), &mut Vec::new());
    assert!(model != kept);
    let mut again = kept.clone();
    let (mut a, mut b) = (Vec::new(), Vec::new());
    again.encode(&records(&events[60..]), &mut a);
    assert!(again == model);
    model.reset();
    assert!(model == Model::new(Preset::Small));
    model.encode(&records(&events[..60]), &mut Vec::new());
    model.encode(&records(&events[60..]), &mut b);
    assert_eq!(a, b);
}

#[test]
fn the_clock_helps_where_both_ends_know_it() {
    let events = garden(13, 800);
    let blind: Vec<Event> = events.iter().map(|e| (e.0.clone(), None)).collect();
    let size = |events: &[Event]| {
        let (mut here, mut there) = (Model::new(Preset::Small), Model::new(Preset::Small));
        send(&mut here, &mut there, events)
    };
    let (with, without) = (size(&events), size(&blind));
    assert!(with + events.len() / 4 < without, "{with} with the clock, {without} without");
}

#[test]
fn memory_is_what_the_preset_says() {
    for (preset, limit_kb) in [(Preset::Small, 740), (Preset::Medium, 1540), (Preset::Large, 3072)] {
        let bytes = Model::new(preset).memory_bytes();
        assert!(bytes <= limit_kb * 1024 && bytes > limit_kb * 1024 * 3 / 4, "{preset:?}: {bytes}");
    }
}

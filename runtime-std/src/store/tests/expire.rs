//! Removing the first segments of a log takes away these events and nothing else.

use ropeway_core::code::Code;
use ropeway_core::log::sealed::{SEALED_HEADER_BYTES, TRAILER_BYTES};

use super::super::SideFile;
use super::disk::{Disk, Name};
use super::log::Writer;
use super::seal::{mixed, sealed_name};
use super::*;
use crate::retain::{Evidence, Rule, Terms, remove_some};

/// A sealed log of six segments without gaps at their ends.
fn sealed(seed: u64) -> Disk {
    sealed_by(seed).0
}

fn sealed_by(seed: u64) -> (Disk, Writer) {
    let disk = Disk::default();
    let mut w = Writer::new(&disk, seed, 2 + seed as usize % 7);
    w.groups(3);
    w.skip(0, 2);
    w.group();
    w.repair(0);
    w.until_segment(2);
    w.again(0, 2..=4);
    if seed.is_multiple_of(2) {
        w.move_to(8, 10);
        w.restart();
    }
    w.until_segment(6);
    seal_all(&mut store(&disk).unwrap());
    (disk, w)
}

fn expire(store: &mut Store<disk::Mount>, upto: u64) -> Result<usize> {
    let mut rng = Rng(upto + 99);
    store.expire(upto, &|_, _| true, &mut || rng.seed()).map(|gone| gone.len())
}

/// What the log must hold after segments were removed that held everything up to the floors in `after`.
fn check(after: &Content, before: &Content, at: &str) {
    let floors: BTreeMap<_, _> = after.streams.iter().map(|s| (s.key, s.floor)).collect();
    let mut kept = before.events.clone();
    kept.retain(|(key, seq), _| *seq > floors[key]);
    assert_eq!(after.events, kept, "{at}");
    let without = |c: &Content| {
        let mut states = c.states.clone();
        states.iter_mut().for_each(|s| s.floor = None);
        states
    };
    assert_eq!(without(after), without(before), "{at}");
    let stateless = |c: &Content| LogState { stub: None, ..c.state };
    assert_eq!((stateless(after), after.groups), (stateless(before), before.groups), "{at}");
    assert_eq!(after.losses, [], "{at}");
}

#[test]
fn a_log_without_its_first_segments_holds_the_rest_and_its_state_is_the_same() {
    for seed in 0..8 {
        let disk = sealed(seed);
        let before = content(&disk);
        let mut store = store(&disk).unwrap();
        for upto in [1, 3, 5] {
            let at = format!("seed {seed}, up to {upto}");
            assert!(expire(&mut store, upto).unwrap() > 0, "{at}");
            assert_eq!(disk.sealed(), (upto..=5).collect::<Vec<_>>(), "{at}");
            let after = content(&disk);
            check(&after, &before, &at);
            assert_eq!(content_quickly(&disk), after, "{at}");
            let (reader, index) = store.reader();
            for s in &after.streams {
                let grant = authorize(Policy::Own, Principal::Owner, &s.key).read.unwrap();
                let opened = open(&disk).unwrap();
                let n = opened.recovered.streams().find(|(_, e)| e.key == s.key).unwrap().0;
                if s.floor > 0 {
                    let gone = reader.read(index, &grant, n, s.floor, s.top, |_, _, _| Stop::No);
                    assert_eq!(gone.unwrap_err().code, Code::Expired, "{at}");
                }
            }
        }
        let after = content(&disk);
        assert!(after.streams.iter().any(|s| s.floor > 0));
        disk.remove(Name::Side(SideFile::Checkpoint(0)));
        disk.remove(Name::Side(SideFile::Checkpoint(1)));
        assert_eq!(content_quickly(&disk), after, "seed {seed}: both slots are lost");
    }
}

#[test]
fn numbers_go_on_when_everything_is_gone() {
    let disk = Disk::default();
    let mut w = Writer::new(&disk, 4, 2);
    w.until_segment(3);
    let before = content(&disk);
    seal_all(&mut store(&disk).unwrap());
    expire(&mut store(&disk).unwrap(), 2).unwrap();
    for slot in [0, 1] {
        disk.remove(Name::Side(SideFile::Checkpoint(slot)));
    }
    w.groups(4);
    let after = content(&disk);
    assert!(after.streams.iter().zip(&before.streams).all(|(a, b)| a.top >= b.top && a.gap.is_none()));
    assert_eq!((after.losses, content_quickly(&disk).losses), (vec![], vec![]));
    w.until_segment(5);
    seal_all(&mut store(&disk).unwrap());
    expire(&mut store(&disk).unwrap(), 4).unwrap();
    assert_eq!(content(&disk), content_quickly(&disk));
}

#[test]
fn a_process_that_ends_at_any_step_of_it_leaves_the_old_log_or_the_new_one() {
    let disk = sealed(2);
    let before = content(&disk);
    expire(&mut store(&disk).unwrap(), 1).unwrap();
    let old = content(&disk);
    let whole = disk.clone();
    let made = disk.calls();
    expire(&mut store(&whole).unwrap(), 4).unwrap();
    let (new, calls) = (content(&whole), whole.calls() - made);
    assert!(calls > 10 && new.events.len() < old.events.len(), "{calls}");
    let (mut olds, mut news) = (0, 0);
    for power_cut in [false, true] {
        for n in 0..=calls {
            let disk = disk.clone();
            disk.stop_after(n);
            if let Ok(mut store) = store(&disk) {
                let _ = expire(&mut store, 4);
            }
            let found = disk.after(power_cut);
            let at = format!("call {n}, power cut: {power_cut}");
            let after = content(&found);
            assert!(after == old || after == new, "{at}");
            if after == old {
                olds += 1
            } else {
                news += 1
            }
            assert_eq!(content_quickly(&found), after, "{at}");
            check(&after, &before, &at);
            let mut store = store(&found).unwrap();
            assert_eq!(content_quickly(&found), after, "opened after {at}");
            expire(&mut store, 4).ok();
            let end = content(&found);
            assert!(end == new && content_quickly(&found) == new, "{at}");
            assert_eq!(found.sealed(), whole.sealed(), "leftovers are removed: {at}");
        }
    }
    assert!(olds > 4 && news > 4, "{olds} {news}");
}

#[test]
fn what_cannot_be_read_leads_to_no_removal() {
    let disk = sealed(3);
    for segment in [1, 2, 3] {
        let disk = disk.clone();
        disk.alter(sealed_name(segment), |b| b[SEALED_HEADER_BYTES + 200] ^= 1);
        let names = disk.names();
        let mut store = store(&disk).unwrap();
        assert_eq!(expire(&mut store, 3).unwrap_err().code, Code::Corrupt);
        assert_eq!(disk.names(), names, "segment {segment}");
    }
    let refused = disk.clone();
    let mut rng = Rng(3);
    let kept = store(&refused).unwrap().expire(2, &|_, seq| seq < 3, &mut || rng.seed());
    assert_eq!(kept.unwrap_err().code, Code::Expired);
    assert_eq!(content(&refused), content(&disk));
    // A segment that is not sealed stays, and so does a place in a gap.
    assert!(expire(&mut store(&refused).unwrap(), 6).is_err());
    let gap = mixed(7);
    seal_all(&mut store(&gap).unwrap());
    let before = content(&gap);
    assert!(expire(&mut store(&gap).unwrap(), 2).unwrap_err().context.contains("gap"));
    assert_eq!(content(&gap), before);
}

#[test]
fn any_byte_of_a_stub_may_be_damaged_and_nothing_is_removed_on_the_word_of_one_that_is_not_whole() {
    let disk = sealed(5);
    let with_all = disk.clone();
    expire(&mut store(&disk).unwrap(), 3).unwrap();
    let (name, after) = (sealed_name(3), content(&disk));
    for at in (0..disk.len(name)).step_by(29) {
        let disk = disk.clone();
        disk.alter(name, |b| b[at] ^= 0x24);
        assert_eq!(content(&disk), after, "byte {at}");
        assert_eq!(content_quickly(&disk), after, "byte {at}");
    }
    // As a crash leaves it before the files are removed, and then a card that loses the middle of it.
    with_all.put(name, &disk.bytes()[&name]);
    with_all.alter(name, |b| {
        let end = b.len() - TRAILER_BYTES;
        b[SEALED_HEADER_BYTES..end].fill(0);
    });
    let mut store = store(&with_all).unwrap();
    assert_eq!(with_all.sealed(), [1, 2, 3, 4, 5]);
    let found = content(&with_all);
    assert!(found.losses.iter().any(|d| (d.code, d.segment) == (Code::SegmentHeader, 3)), "{:?}", found.losses);
    assert!(expire(&mut store, 4).is_err());
}

#[test]
fn what_was_gone_at_its_source_stays_so_when_it_is_sealed_and_removed() {
    for seed in 0..6 {
        let disk = Disk::default();
        let mut w = Writer::new(&disk, seed, 4);
        w.groups(4);
        w.skip(0, 3);
        w.pass_over(0);
        w.groups(3);
        w.skip(1, 5);
        w.until_segment(2);
        w.pass_over(1);
        w.until_segment(5);
        let before = content(&disk);
        let passed: Vec<_> = before.streams.iter().filter(|s| s.skipped).map(|s| (s.floor, s.gap)).collect();
        assert!(passed.len() == 2 && passed.iter().all(|(floor, gap)| *floor > 0 && gap.is_none()), "{passed:?}");
        seal_all(&mut store(&disk).unwrap());
        assert_eq!((content(&disk), content_quickly(&disk)), (content(&disk), content(&disk)), "seed {seed}");
        check(&content(&disk), &before, &format!("seed {seed}"));
        assert_eq!(content(&disk).events, before.events, "seed {seed}");
        for upto in [2, 4] {
            expire(&mut store(&disk).unwrap(), upto).unwrap();
            let after = content(&disk);
            assert_eq!(content_quickly(&disk), after, "seed {seed}");
            assert!(after.streams.iter().zip(&before.streams).all(|(a, b)| (a.have, a.skipped) == (b.have, b.skipped)));
        }
    }
}

#[test]
fn a_stamp_from_the_far_future_keeps_nothing_for_ever() {
    let disk = Disk::default();
    let mut w = Writer::new(&disk, 3, 4);
    w.groups(3);
    w.far_ahead(2);
    w.until_segment(3);
    for s in content(&disk).streams {
        w.acknowledge(s.key, s.top);
    }
    let mut store = store(&disk).unwrap();
    seal_all(&mut store);
    let mut rng = Rng(1);
    let rule = Rule { age_ms: Some(86_400_000), bytes: None, keep_at_least: 0 };
    let mut gone = |now_ms: u64| {
        let terms = Terms { rule: Some(rule), evidence: Evidence::Receipts, now_ms: Some(now_ms), asked: Vec::new() };
        remove_some(&mut store, name(), &terms, &mut || rng.seed()).unwrap().len()
    };
    assert_eq!(gone(w.ms() + 80_000_000), 0);
    assert!(gone(w.ms() + 90_000_000) > 0);
}

#[test]
fn whatever_the_log_nothing_goes_without_a_receipt_nor_more_than_the_rule_wants() {
    let mut removed = 0;
    for seed in 0..40 {
        let mut rng = Rng(seed + 1);
        let (disk, mut w) = sealed_by(seed);
        let before = content(&disk);
        let log_bytes = open(&disk).unwrap().log_bytes;
        let rule = Rule { age_ms: None, bytes: Some(1 + rng.below(log_bytes)), keep_at_least: rng.below(4) * 20 };
        // Some streams are acknowledged whole, some as the log happens to say.
        if rng.below(2) == 0 {
            for s in &before.streams {
                let seq = if rng.below(3) == 0 { rng.below(s.top + 1) } else { s.top };
                w.acknowledge(s.key, seq);
            }
        }
        let acked: BTreeMap<_, _> = content(&disk).streams.iter().map(|s| (s.key, s.acked)).collect();
        let terms = Terms { rule: Some(rule), evidence: Evidence::Receipts, now_ms: None, asked: Vec::new() };
        let mut store = store(&disk).unwrap();
        seal_all(&mut store);
        while !remove_some(&mut store, name(), &terms, &mut || rng.seed()).unwrap().is_empty() {}
        let after = content(&disk);
        assert_eq!(after.losses, [], "seed {seed}");
        for s in &after.streams {
            assert!(s.floor <= acked[&s.key], "seed {seed}: {s:?}, acknowledged to {}", acked[&s.key]);
            assert!(s.floor == 0 || s.top - s.floor >= rule.keep_at_least, "seed {seed}: {s:?}");
            removed += s.floor;
        }
        let kept = before.events.iter().filter(|((key, seq), _)| *seq > acked[key]);
        assert!(kept.into_iter().all(|(at, e)| after.events.get(at) == Some(e)), "seed {seed}");
    }
    assert!(removed > 1000, "{removed}");
}

#[test]
fn a_wrong_key_changes_nothing() {
    let disk = sealed(1);
    expire(&mut store(&disk).unwrap(), 2).unwrap();
    let bytes = disk.bytes();
    let wrong = [(1, DataKey::new([3; 32]))];
    let mut segments = Segments::over(disk.mount(), log::SEGMENT_BYTES);
    assert_eq!(recover_to_write(&mut segments, &wrong, name(), 4, MAX_BODY_BYTES).unwrap_err().code, Code::WrongKey);
    for slot in [0, 1] {
        disk.remove(Name::Side(SideFile::Checkpoint(slot)));
    }
    assert_eq!(recover_files(&mut disk.mount(), &wrong, name(), 4, MAX_BODY_BYTES).unwrap_err().code, Code::WrongKey);
    assert!(bytes.iter().all(|(name, b)| disk.bytes().get(name).is_none_or(|now| now == b)));
}

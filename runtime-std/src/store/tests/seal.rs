//! Sealing changes how a log is stored, and nothing else.

use ropeway_core::code::Code;
use ropeway_core::log::sealed::{SEALED_HEADER_BYTES, TRAILER_BYTES};

use super::super::SideFile;
use super::disk::{Disk, Name};
use super::log::Writer;
use super::*;

pub(super) fn sealed_name(n: u64) -> Name {
    Name::Side(SideFile::Sealed(n))
}

/// A log of four segments with everything in it.
pub(super) fn mixed(seed: u64) -> Disk {
    let disk = Disk::default();
    let mut w = Writer::new(&disk, seed, 2 + seed as usize % 9);
    w.groups(5);
    w.skip(0, 7);
    w.groups(8);
    w.restart();
    w.groups(3);
    w.repair(0);
    w.again(0, 2..=4);
    w.until_segment(2);
    if seed.is_multiple_of(2) {
        w.move_to(8, 10);
        w.groups(4);
        w.tear();
    }
    w.skip(1, 3);
    w.until_segment(4);
    w.repair(1);
    w.group();
    disk
}

#[test]
fn a_sealed_log_holds_the_same_as_before() {
    for seed in 0..12 {
        let disk = mixed(seed);
        let before = content(&disk);
        let hot = disk.hot();
        let mut store = store(&disk).unwrap();
        let sealed = seal_all(&mut store);
        assert_eq!(sealed, hot[..hot.len() - 1], "seed {seed}");
        assert_eq!((disk.hot(), disk.sealed()), (vec![*hot.last().unwrap()], sealed), "seed {seed}");
        assert_eq!(content(&disk), before, "seed {seed}");
        let opened = open(&disk).unwrap();
        assert_eq!(opened.damages, [], "a torn tail is told no more");
        assert!(opened.log_bytes < hot.len() as u64 * log::SEGMENT_BYTES);
    }
}

#[test]
fn the_node_that_seals_reads_the_same_meanwhile() {
    let disk = mixed(3);
    let before = content(&disk);
    let opened = open(&disk).unwrap();
    let mut store = store(&disk).unwrap();
    let mut rng = Rng(5);
    let mut steps = 0;
    loop {
        let done = store.seal(&mut || rng.seed());
        steps += 1;
        if steps % 7 == 0 || done == Sealing::Idle {
            let (reader, index) = store.reader();
            for (n, entry) in opened.recovered.streams() {
                let grant = authorize(Policy::Own, Principal::Owner, &entry.key).read.unwrap();
                let from = 1 + rng.below(entry.top);
                let mut next = from;
                let _ = reader.read(index, &grant, n, from, entry.top, |seq, chain, e| {
                    let known = &before.events[&(entry.key, seq)];
                    assert_eq!((seq, chain.0, e.payload), (next, known.3, &known.2[..]));
                    next += 1;
                    Stop::No
                });
                assert_eq!(next > from, before.events.contains_key(&(entry.key, from)), "{} {from}", entry.key);
            }
        }
        if done == Sealing::Idle {
            break;
        }
    }
    assert!(steps > 20, "in small steps");
}

#[test]
fn a_reader_that_came_before_finds_what_was_sealed_since() {
    let disk = mixed(4);
    let before = content(&disk);
    let opened = open(&disk).unwrap();
    seal_all(&mut store(&disk).unwrap());
    assert_eq!(content_of(&disk, &opened).events, before.events);
}

#[test]
fn a_process_that_ends_at_any_step_leaves_all_that_was_there() {
    let disk = Disk::default();
    let mut w = Writer::new(&disk, 2, 4);
    w.groups(5);
    w.skip(0, 4);
    w.groups(3);
    w.repair(0);
    w.until_segment(3);
    let before = content(&disk);
    let made = disk.calls();
    let whole = disk.clone();
    seal_all(&mut store(&whole).unwrap());
    let calls = whole.calls() - made;
    assert!(calls > 20, "{calls}");
    for power_cut in [false, true] {
        for n in 0..=calls {
            let disk = disk.clone();
            disk.stop_after(n);
            if let Ok(mut store) = store(&disk) {
                seal_all(&mut store);
            }
            let found = disk.after(power_cut);
            assert_eq!(content(&found), before, "call {n}, power cut: {power_cut}");
            assert_eq!(content_quickly(&found), before, "call {n}, power cut: {power_cut}");
            seal_all(&mut store(&found).unwrap());
            assert_eq!(content_quickly(&found), before, "sealed after call {n}, power cut: {power_cut}");
            assert_eq!(content(&found), before, "sealed after call {n}, power cut: {power_cut}");
            let left = |name: &Name| matches!(name, Name::Side(SideFile::Unfinished));
            assert!(!found.names().iter().any(left), "leftovers are tidied");
            assert_eq!((found.hot(), found.sealed()), (whole.hot(), whole.sealed()), "call {n}");
        }
    }
}

#[test]
fn a_damaged_frame_costs_itself_and_is_told() {
    let disk = mixed(6);
    let before = content(&disk);
    seal_all(&mut store(&disk).unwrap());
    let name = sealed_name(2);
    let len = disk.len(name);
    let mut lost_most = 0;
    for at in (SEALED_HEADER_BYTES..len - TRAILER_BYTES).step_by(len / 9) {
        let disk = disk.clone();
        disk.alter(name, |b| b[at] ^= 0x55);
        let after = content(&disk);
        let told = !after.losses.is_empty() || open(&disk).unwrap().damages.iter().any(|d| d.code == Code::Rotten);
        assert!(told, "byte {at}");
        assert!(after.losses.iter().all(|d| d.segment == 2 && d.code == Code::Corrupt), "{:?}", after.losses);
        let lost = before.events.len() - after.events.len();
        assert!(after.events.iter().all(|(k, e)| before.events[k] == *e));
        lost_most = lost_most.max(lost);
    }
    assert!(lost_most > 0 && lost_most * 5 < before.events.len(), "{lost_most} of {}", before.events.len());
}

#[test]
fn a_damaged_footer_index_or_trailer_costs_no_event() {
    let disk = mixed(5);
    let before = content(&disk);
    seal_all(&mut store(&disk).unwrap());
    let name = sealed_name(1);
    let len = disk.len(name);
    // The footer and the index are the last frames; behind them stands the trailer.
    for back in [4, 100, TRAILER_BYTES + 20, TRAILER_BYTES + 200, TRAILER_BYTES + 290, TRAILER_BYTES + 420] {
        let disk = disk.clone();
        disk.alter(name, |b| b[len - back] ^= 0x55);
        assert_eq!(content(&disk).events, before.events, "{back} bytes before the end");
    }
    let cut = disk.clone();
    cut.alter(name, |b| b.truncate(len - 150));
    assert_eq!(content(&cut).events, before.events);
    let headless = disk.clone();
    headless.alter(name, |b| b[..SEALED_HEADER_BYTES].fill(0));
    assert_eq!(content(&headless).events, before.events, "the header has a copy");
}

#[test]
fn what_is_missing_is_told() {
    let disk = mixed(7);
    seal_all(&mut store(&disk).unwrap());
    let (hot, middle) = (disk.hot()[0], disk.clone());
    middle.remove(sealed_name(2));
    assert_eq!(content(&middle).losses[0].code, Code::SegmentMissing);
    assert_eq!(content(&middle).losses[0].segment, 2);
    disk.remove(Name::Hot(hot));
    let last = content(&disk).losses;
    assert_eq!((last[0].code, last[0].segment), (Code::SegmentMissing, hot), "a sealed segment is never the last");
}

#[test]
fn a_wrong_key_or_a_newer_version_is_refused_and_nothing_changed() {
    let disk = mixed(1);
    seal_all(&mut store(&disk).unwrap());
    let wrong = vec![(1, DataKey::new([0x22; 32]))];
    let bytes = disk.bytes();
    let refused = |keys: &[(u32, DataKey)]| {
        let mut segments = Segments::over(disk.mount(), log::SEGMENT_BYTES);
        recover_to_write(&mut segments, keys, name(), 4, MAX_BODY_BYTES).unwrap_err().code
    };
    assert_eq!(refused(&wrong), Code::WrongKey);
    assert_eq!(refused(&[]), Code::KeyMissing);
    assert!(disk.bytes() == bytes);
    // A checkpoint would make reading it needless.
    disk.remove(Name::Side(SideFile::Checkpoint(0)));
    disk.remove(Name::Side(SideFile::Checkpoint(1)));
    disk.alter(sealed_name(2), |b| {
        b[8] = 2;
        let crc = crc32c(&b[..SEALED_HEADER_BYTES - 4]);
        b[SEALED_HEADER_BYTES - 4..SEALED_HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    });
    let bytes = disk.bytes();
    assert_eq!(refused(&keys()), Code::FormatNewer);
    assert!(disk.bytes() == bytes);
}

pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(bytes)
}

#[test]
fn a_segment_with_damage_stays_as_it_is() {
    let disk = mixed(3);
    disk.alter(Name::Hot(2), |b| b[5 * 4096 + 30] ^= 1);
    let before = content(&disk);
    assert_eq!(before.losses[0].code, Code::Corrupt);
    assert_eq!(seal_all(&mut store(&disk).unwrap()), [1, 3]);
    assert_eq!(content(&disk), before);
}

#[test]
fn a_file_that_holds_frames_of_an_earlier_life_never_shows_them() {
    // Files are filled with zeros before they are used again. Should a disk lose that, then what is
    // stale is read as no more than a torn write.
    let disk = Disk::default();
    let mut w = Writer::new(&disk, 9, 3);
    w.until_segment(3);
    let stale = disk.bytes()[&Name::Hot(1)].clone();
    let before = content(&disk);
    disk.alter(Name::Hot(3), |b| {
        let used = b.iter().rposition(|x| *x != 0).unwrap() / 4096 * 4096 + 4096;
        b[used..].copy_from_slice(&stale[used..]);
    });
    let after = content(&disk);
    assert_eq!((after.events, after.streams), (before.events, before.streams));
}

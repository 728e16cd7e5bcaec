//! The checkpoint makes opening quick, and changes nothing of what is found.

use ropeway_core::code::Code;
use ropeway_core::log::sealed::SEALED_HEADER_BYTES;

use super::super::SideFile;
use super::disk::{Disk, Name};
use super::log::Writer;
use super::seal::{crc32c, mixed, sealed_name};
use super::*;

fn slot(n: u8) -> Name {
    Name::Side(SideFile::Checkpoint(n))
}

/// A log that is sealed, with both slots in use.
fn sealed(seed: u64) -> (Disk, Content) {
    let disk = mixed(seed);
    let before = content(&disk);
    seal_all(&mut store(&disk).unwrap());
    assert!(disk.names().contains(&slot(0)) && disk.names().contains(&slot(1)));
    (disk, before)
}

fn uses_checkpoint(disk: &Disk) -> bool {
    let opened = recover_quickly(&mut disk.mount(), &keys(), name(), 4, MAX_BODY_BYTES).unwrap();
    opened.index.origin.unwrap().fits
}

#[test]
fn opening_by_the_checkpoint_finds_what_reading_everything_finds() {
    for seed in 0..12 {
        let (disk, before) = sealed(seed);
        assert!(uses_checkpoint(&disk), "seed {seed}");
        assert_eq!(content_quickly(&disk), before, "seed {seed}");
        assert_eq!(content(&disk), before, "seed {seed}");
    }
}

#[test]
fn lost_and_damaged_slots_change_nothing() {
    for seed in 0..6 {
        let (disk, before) = sealed(seed);
        for lost in [vec![0], vec![1], vec![0, 1]] {
            let (gone, rotten) = (disk.clone(), disk.clone());
            for n in lost {
                gone.remove(slot(n));
                rotten.alter(slot(n), |b| {
                    let middle = b.len() / 3;
                    b[middle] ^= 0x55;
                });
            }
            assert_eq!(content_quickly(&gone), before, "seed {seed}");
            assert_eq!(content_quickly(&rotten), before, "seed {seed}");
        }
    }
}

#[test]
fn a_random_source_that_repeats_gives_no_two_checkpoints_one_salt() {
    let mut salts = std::collections::BTreeSet::new();
    for seed in 0..4 {
        let disk = mixed(seed);
        let mut store = store(&disk).unwrap();
        while store.seal(&mut || Ok([0; 32])) != Sealing::Idle {}
        let bytes = disk.bytes();
        for n in [0, 1] {
            assert!(salts.insert(bytes[&slot(n)][40..72].to_vec()), "seed {seed}, slot {n}");
        }
    }
}

#[test]
fn any_byte_of_a_slot_may_be_damaged() {
    let (disk, before) = sealed(1);
    for at in (0..disk.len(slot(0))).step_by(37) {
        let disk = disk.clone();
        disk.alter(slot(0), |b| b[at] ^= 0x24);
        disk.alter(slot(1), |b| b.truncate(at));
        let opened = recover_quickly(&mut disk.mount(), &keys(), name(), 4, MAX_BODY_BYTES).unwrap();
        let mut states: Vec<_> = opened.recovered.states().collect();
        states.sort_by_key(|s| s.key);
        assert_eq!(states, before.states, "byte {at}");
    }
}

#[test]
fn a_checkpoint_that_is_ahead_of_the_log_is_not_believed() {
    let (disk, _) = sealed(3);
    let hot = disk.hot()[0];
    for missing in [sealed_name(1), sealed_name(hot - 1), Name::Hot(hot)] {
        let disk = disk.clone();
        disk.remove(missing);
        assert!(!uses_checkpoint(&disk));
        let found = content_quickly(&disk);
        assert_eq!(found, content(&disk));
        assert_eq!(found.losses[0].code, Code::SegmentMissing, "{missing:?}");
    }
    let cut = disk.clone();
    cut.alter(sealed_name(2), |b| b.truncate(b.len() - 5000));
    assert!(!uses_checkpoint(&cut) && !content_quickly(&cut).losses.is_empty());
    // Another log's checkpoint under the same key.
    let (other, _) = sealed(4);
    disk.remove(slot(0));
    disk.remove(slot(1));
    disk.put(slot(0), &other.bytes()[&slot(0)]);
    assert!(!uses_checkpoint(&disk));
    assert_eq!(content_quickly(&disk), content(&disk));
}

#[test]
fn opening_reads_no_more_of_a_long_log_than_of_a_short_one() {
    let disk = Disk::default();
    let mut w = Writer::new(&disk, 5, 6);
    let mut read = Vec::new();
    for segment in [4, 8, 16] {
        w.until_segment(segment);
        seal_all(&mut store(&disk).unwrap());
        let before = disk.reads();
        recover_quickly(&mut disk.mount(), &keys(), name(), 4, MAX_BODY_BYTES).unwrap();
        read.push(disk.reads() - before);
    }
    assert!(read[2] < read[0] + 4096, "{read:?}");
}

#[test]
fn a_log_goes_on_behind_its_checkpoint() {
    let disk = Disk::default();
    let mut w = Writer::new(&disk, 8, 5);
    for segment in 3..9 {
        w.until_segment(segment);
        w.groups(3);
        assert_eq!(content_quickly(&disk), content(&disk), "segment {segment}");
        seal_all(&mut store(&disk).unwrap());
        assert!(uses_checkpoint(&disk));
    }
    w.skip(0, 5);
    w.groups(4);
    w.repair(0);
    assert_eq!(content_quickly(&disk), content(&disk));
}

#[test]
fn no_checkpoint_is_made_of_a_log_that_has_lost_something() {
    let disk = mixed(3);
    disk.alter(Name::Hot(1), |b| b[5 * 4096 + 30] ^= 1);
    let before = content(&disk);
    seal_all(&mut store(&disk).unwrap());
    assert!(!disk.names().contains(&slot(0)));
    assert_eq!(content_quickly(&disk), before);
    // Lost later, while the log goes on: it is told for ever.
    let disk = Disk::default();
    let mut w = Writer::new(&disk, 5, 6);
    w.until_segment(4);
    seal_all(&mut store(&disk).unwrap());
    disk.remove(sealed_name(1));
    w.until_segment(7);
    assert_eq!(seal_all(&mut store(&disk).unwrap()), [4, 5, 6]);
    assert!(!uses_checkpoint(&disk));
    assert_eq!(content_quickly(&disk).losses[0].code, Code::SegmentMissing);
}

#[test]
fn a_node_that_cannot_read_a_sealed_event_reads_everything_at_its_next_start() {
    let (disk, before) = sealed(3);
    let mut store = store(&disk).unwrap();
    disk.alter(sealed_name(1), |b| b[SEALED_HEADER_BYTES + 200] ^= 1);
    assert_eq!(content_quickly(&disk).streams, before.streams, "nobody has read it yet");
    let (key, seq) = *before.events.keys().next().unwrap();
    let opened = recover_quickly(&mut disk.mount(), &keys(), name(), 4, MAX_BODY_BYTES).unwrap();
    let stream = opened.recovered.streams().find(|(_, e)| e.key == key).unwrap().0;
    let grant = authorize(Policy::Own, Principal::Owner, &key).read.unwrap();
    let (reader, index) = store.reader();
    let read = reader.read(index, &grant, stream, seq, seq, |_, _, _| Stop::No);
    assert_eq!(read.unwrap_err().code, Code::Corrupt);
    store.distrust();
    assert!(!uses_checkpoint(&disk));
    assert_eq!(content_quickly(&disk).losses[0].code, Code::Corrupt);
}

#[test]
fn a_wrong_key_or_a_newer_version_is_refused_and_nothing_changed() {
    let (disk, _) = sealed(1);
    for n in [0, 1] {
        disk.alter(slot(n), |b| {
            b[12] = 1;
            let crc = crc32c(&b[..SEALED_HEADER_BYTES - 4]);
            b[SEALED_HEADER_BYTES - 4..SEALED_HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        });
    }
    let bytes = disk.bytes();
    assert_eq!(store(&disk).unwrap_err().code, Code::FormatNewer);
    assert!(disk.bytes() == bytes);
    let (disk, _) = sealed(2);
    let bytes = disk.bytes();
    let mut segments = Segments::over(disk.mount(), log::SEGMENT_BYTES);
    let wrong = [(1, DataKey::new([3; 32]))];
    assert_eq!(recover_to_write(&mut segments, &wrong, name(), 4, MAX_BODY_BYTES).unwrap_err().code, Code::WrongKey);
    assert!(disk.bytes() == bytes);
}

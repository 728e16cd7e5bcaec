//! A disk with room for this many pages and no more, for every number up to a few segments.

use std::path::Path;

use ropeway_core::code::Code;
use ropeway_std::{DataDir, keygen};
use ropeway_tests::mounts::{Ballast, Ext4, Tmpfs, scratch};
use ropeway_tests::name;
use ropeway_tests::numbered::{held, open, write};

use crate::disturb::every_free_page;
use crate::errors::each;

const PAGE: u64 = 4096;

/// A node that may have written before, on a disk with `free` bytes: it takes events until there is
/// no room, and takes more when there is room again.
fn fill(disk: &Path, before: u64, free: u64) {
    let when = format!("{before} groups, then {free} bytes free");
    let dir = DataDir::new(disk.join("node"));
    keygen::init_node(&dir, name("clinic_a")).unwrap();
    let mut next = 1;
    if before > 0 {
        let mut node = open(&dir).unwrap();
        for _ in 0..before {
            write(&mut node, next, 3, 300).unwrap();
            next += 3;
        }
    }
    let mut room = Some(Ballast::fill(disk, free));
    let mut node = match open(&dir) {
        Ok(node) => node,
        // Not even the name of the process could be written into the lock.
        Err(e) => {
            assert!(e.code == Code::DiskFull && free < PAGE, "{when}: {e}");
            room.take();
            open(&dir).unwrap()
        }
    };
    let refused = loop {
        match write(&mut node, next, 3, 900) {
            Ok(()) => next += 3,
            Err(e) => break e,
        }
        if room.is_none() {
            break Code::DiskFull.into();
        }
        assert!(next < 1000, "{when}: the disk does not fill up");
    };
    assert_eq!(refused.code, Code::DiskFull, "{when}: {refused}");
    // A view needs no room.
    let seen = held(&dir).unwrap();
    assert!(seen.clean && (next - 1..next + 2).contains(&seen.count), "{when}: {next} {seen:?}");
    drop(room);
    // The same process goes on, with what it took and did not write yet.
    node.commit().unwrap_or_else(|e| panic!("{when}, then there is room: {e}"));
    let taken = held(&dir).unwrap().count;
    for i in 0..4 {
        write(&mut node, taken + 1 + i * 5, 5, 900).unwrap_or_else(|e| panic!("{when}, then there is room: {e}"));
    }
    drop(node);
    let after = held(&dir).unwrap();
    assert!(after.clean && after.count == taken + 20, "{when}: {taken} {after:?}");
    let mut node = open(&dir).unwrap();
    write(&mut node, taken + 21, 1, 900).unwrap();
    drop(node);
    std::fs::remove_dir_all(dir.root()).unwrap();
}

fn sweep(disk: &Path, pages: u64) {
    for before in [0, 1, 4] {
        for free in 0..=pages {
            fill(disk, before, free * PAGE);
        }
    }
}

#[test]
fn a_full_disk_in_memory_refuses_events_at_every_number_of_free_pages_and_goes_on_when_there_is_room() {
    let home = scratch();
    let Some(disk) = Tmpfs::mount(&home.path().join("card"), 2 << 20) else { return };
    sweep(&disk.at, 20);
}

#[test]
fn a_full_ext4_refuses_events_at_every_number_of_free_pages_and_goes_on_when_there_is_room() {
    let home = scratch();
    let Some(disk) = Ext4::make(home.path(), 12 << 20) else { return };
    sweep(&disk.at, if ropeway_tests::long() { 20 } else { 14 });
}

#[test]
fn on_a_full_disk_every_verb_ends_well_or_changes_nothing_at_every_number_of_free_pages() {
    let home = scratch();
    let Some(disk) = Tmpfs::mount(&home.path().join("card"), 48 << 20) else { return };
    let here = || tempfile::tempdir_in(&disk.at).unwrap();
    each(&here, |s| every_free_page(s, &disk.at));
}

#[test]
fn on_a_full_ext4_every_verb_ends_well_or_changes_nothing() {
    let home = scratch();
    if !ropeway_tests::long() {
        return println!("skipped: only with ROPEWAY_LONG=1");
    }
    let Some(disk) = Ext4::make(home.path(), 64 << 20) else { return };
    let here = || tempfile::tempdir_in(&disk.at).unwrap();
    each(&here, |s| every_free_page(s, &disk.at));
}

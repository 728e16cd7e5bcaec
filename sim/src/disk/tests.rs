use ropeway_core::code::Code;
use ropeway_std::store::Files;

use super::{Disk, Fate, Mount};
use crate::rng::Rng;

const PAGE: usize = 4096;

/// A disk with one segment of four pages, and a mount of it.
fn disk(sector_bytes: usize) -> (Disk, Mount) {
    let disk = Disk::new(sector_bytes);
    let mut m = disk.mount();
    m.provision(1, 4 * PAGE as u64).unwrap();
    (disk, m)
}

fn page(m: &mut Mount, page: usize) -> Vec<u8> {
    let mut buf = vec![9; PAGE];
    assert_eq!(m.read_at(1, (page * PAGE) as u64, &mut buf).unwrap(), PAGE);
    buf
}

fn write(m: &mut Mount, page: usize, byte: u8) {
    m.write_at(1, (page * PAGE) as u64, &[byte; PAGE]).unwrap();
}

fn code<T>(r: ropeway_std::Result<T>) -> Option<Code> {
    r.err().map(|e| e.code)
}

#[test]
fn a_crash_takes_only_what_was_not_synced() {
    let (mut d, mut m) = disk(512);
    write(&mut m, 0, 1);
    m.sync(1).unwrap();
    write(&mut m, 1, 2);
    assert_eq!(page(&mut m, 1), [2; PAGE]);
    d.crash(&mut Rng::new(1));
    assert_eq!(page(&mut m, 0), [1; PAGE]);
    let after = page(&mut m, 1);
    assert!(after.contains(&0) && after.contains(&2));
}

#[test]
fn what_lies_outside_of_a_segment_is_neither_read_nor_written() {
    let (d, mut m) = disk(512);
    let end = 4 * PAGE as u64;
    assert!(d.holds(1, end - 10, 10) && !d.holds(1, end - 10, 11) && !d.holds(2, 0, 1));
    assert_eq!(code(m.write_at(1, end - 10, &[1; 11])), Some(Code::Io));
    assert_eq!(code(m.write_at(2, 0, &[1])), Some(Code::Io));
    assert_eq!((m.list().unwrap(), m.len(1).unwrap(), code(m.len(2))), (vec![1], end, Some(Code::Io)));
    let mut buf = [0; 20];
    assert_eq!(m.read_at(1, end - 10, &mut buf).unwrap(), 10);
    assert_eq!(m.read_at(1, end + 10, &mut buf).unwrap(), 0);
}

#[test]
fn garbage_is_left_only_where_something_was_unsynced() {
    let (mut d, mut m) = disk(512);
    write(&mut m, 0, 1);
    m.sync(1).unwrap();
    d.leave_garbage(true);
    write(&mut m, 2, 2);
    d.crash(&mut Rng::new(3));
    assert_eq!((page(&mut m, 0), page(&mut m, 1), page(&mut m, 3)), (vec![1; PAGE], vec![0; PAGE], vec![0; PAGE]));
    assert!(page(&mut m, 2).iter().any(|b| *b != 0 && *b != 2));
}

#[test]
fn a_failed_sync_drops_pages_and_the_next_one_succeeds() {
    let (mut d, mut m) = disk(512);
    write(&mut m, 0, 1);
    d.fail_sync(&mut Rng::new(5));
    assert_eq!(code(m.sync(1)), Some(Code::Io));
    m.sync(1).unwrap();
    assert_eq!(page(&mut m, 0), [1; PAGE]);
    d.crash(&mut Rng::new(1));
    let after = page(&mut m, 0);
    assert!(after.contains(&0) && after.contains(&1));
    assert!(after.chunks(512).all(|s| s.iter().all(|b| *b == s[0])), "whole sectors");
}

#[test]
fn a_sector_that_was_dropped_is_saved_by_writing_it_again() {
    let (mut d, mut m) = disk(512);
    write(&mut m, 0, 1);
    d.fail_sync(&mut Rng::new(5));
    assert_eq!(code(m.sync(1)), Some(Code::Io));
    write(&mut m, 0, 1);
    m.sync(1).unwrap();
    d.crash(&mut Rng::new(1));
    assert_eq!(page(&mut m, 0), [1; PAGE]);
}

#[test]
fn a_lying_sync_loses_everything_since_the_last_honest_one() {
    let (mut d, mut m) = disk(4096);
    write(&mut m, 0, 1);
    m.sync(1).unwrap();
    d.lie(true);
    write(&mut m, 1, 2);
    m.sync(1).unwrap();
    write(&mut m, 2, 3);
    let mut honest = d.clone();
    d.crash(&mut Rng::new(2));
    assert_eq!((page(&mut m, 0), page(&mut m, 1), page(&mut m, 2)), (vec![1; PAGE], vec![0; PAGE], vec![0; PAGE]));
    // An honest sync makes up for the lies before it.
    honest.lie(false);
    let mut m = honest.mount();
    m.sync(1).unwrap();
    honest.crash(&mut Rng::new(2));
    assert_eq!((page(&mut m, 1), page(&mut m, 2)), (vec![2; PAGE], vec![3; PAGE]));
}

#[test]
fn a_forgotten_sector_is_gone_after_the_crash() {
    let (mut d, mut m) = disk(512);
    write(&mut m, 0, 1);
    d.forget_sector();
    m.sync(1).unwrap();
    d.crash(&mut Rng::new(1));
    assert_eq!(page(&mut m, 0), [vec![0; 512], vec![1; PAGE - 512]].concat());
}

#[test]
fn reads_fail_at_bad_sectors_as_often_as_was_said() {
    let (mut d, mut m) = disk(512);
    write(&mut m, 0, 1);
    d.fail_reads(1, 2..3, Some(2));
    d.fail_reads(1, 6..7, None);
    let mut buf = [0; PAGE];
    assert_eq!(m.read_at(1, 0, &mut buf).unwrap(), 1024);
    for _ in 0..2 {
        assert_eq!(code(m.read_at(1, 1024, &mut buf)), Some(Code::Io));
    }
    assert_eq!(m.read_at(1, 1024, &mut buf).unwrap(), 2048);
    for _ in 0..3 {
        assert_eq!(code(m.read_at(1, 3500, &mut buf)), Some(Code::Io));
    }
    assert_eq!(m.read_at(1, 3584, &mut buf).unwrap(), PAGE);
}

#[test]
fn a_misdirected_write_leaves_the_old_bytes_and_hits_others() {
    let (mut d, mut m) = disk(512);
    m.provision(2, PAGE as u64).unwrap();
    write(&mut m, 0, 1);
    m.sync(1).unwrap();
    for (segment, target) in [(1, 3), (2, 0), (7, 0)] {
        d.misdirect(segment, target);
        m.write_at(1, 0, &[5; 2 * PAGE]).unwrap();
        m.sync(1).unwrap();
        d.crash(&mut Rng::new(1));
        assert_eq!((page(&mut m, 0), page(&mut m, 1)), (vec![1; PAGE], vec![0; PAGE]));
    }
    let mut other = [0; PAGE];
    m.read_at(2, 0, &mut other).unwrap();
    assert_eq!((page(&mut m, 3), other), (vec![5; PAGE], [5; PAGE]));
    write(&mut m, 0, 6);
    assert_eq!(page(&mut m, 0), [6; PAGE], "only one write goes astray");
}

#[test]
fn rot_and_lost_pages_outlast_a_crash() {
    let (mut d, mut m) = disk(512);
    m.write_at(1, 0, &[1; 2 * PAGE]).unwrap();
    m.sync(1).unwrap();
    d.rot(1, 100);
    d.zero_page(1, 1);
    // Nothing to be found there.
    d.rot(1, 1 << 40);
    d.zero_page(9, 0);
    d.crash(&mut Rng::new(1));
    let rotten = page(&mut m, 0);
    assert_eq!((rotten[99], rotten[100], page(&mut m, 1)), (1, 0x11, vec![0; PAGE]));
}

#[test]
fn a_full_a_broken_and_a_read_only_disk_say_what_they_are() {
    let (mut d, mut m) = disk(512);
    d.segments_max = 1;
    d.measure_room();
    assert_eq!(code(m.provision(2, 10)), Some(Code::DiskFull));
    assert_eq!(code(m.provision(1, 10)), Some(Code::Storage));
    d.segments_max = 2;
    d.measure_room();
    d.make_read_only(true);
    assert_eq!((code(m.provision(2, 10)), code(m.write_at(1, 0, &[1]))), (Some(Code::ReadOnly), Some(Code::ReadOnly)));
    d.make_read_only(false);
    m.provision(2, 10).unwrap();
    d.fail_writes(1);
    assert_eq!(code(m.write_at(1, 0, &[1; 9])), Some(Code::Io));
    assert_eq!(page(&mut m, 0), [0; PAGE]);
    write(&mut m, 0, 1);
}

#[test]
fn a_snapshot_holds_what_is_durable_and_a_clone_everything() {
    let (mut d, mut m) = disk(512);
    write(&mut m, 0, 1);
    m.sync(1).unwrap();
    write(&mut m, 1, 2);
    d.make_read_only(true);
    let (backup, copy) = (d.snapshot(), d.clone());
    d.zero_page(1, 0);
    let (mut b, mut c) = (backup.mount(), copy.mount());
    assert_eq!((page(&mut b, 0), page(&mut b, 1)), (vec![1; PAGE], vec![0; PAGE]));
    assert_eq!((page(&mut c, 0), page(&mut c, 1)), (vec![1; PAGE], vec![2; PAGE]));
    assert_eq!((code(b.write_at(1, 0, &[1])), code(c.write_at(1, 0, &[1]))), (None, Some(Code::ReadOnly)));
    assert_eq!(backup.segments(), [(1, 4 * PAGE as u64)]);
}

#[test]
fn a_crash_decides_only_of_sectors_that_differ() {
    let (d, mut m) = disk(512);
    write(&mut m, 0, 1);
    m.sync(1).unwrap();
    m.write_at(1, 0, &[1; 512]).unwrap();
    m.write_at(1, 4096, &[2; 600]).unwrap();
    assert_eq!(d.dirty_sectors(), [(1, 8), (1, 9)]);
    let before = d.digest();
    let mut image = d.image_with(&[((1, 8), Fate::Lost), ((1, 9), Fate::Kept)]).mount();
    let kept = page(&mut image, 1);
    assert_eq!((kept[..512].to_vec(), &kept[512..600], kept[600]), (vec![0; 512], &[2; 88][..], 0));
    let mut image = d.image_with(&[((1, 8), Fate::Garbage)]).mount();
    let garbage = page(&mut image, 1);
    assert!(garbage[..512] != [0; 512] && garbage[..512] != [2; 512] && garbage[512..] == [0; PAGE - 512]);
    assert_eq!((page(&mut image, 0), d.digest()), (vec![1; PAGE], before));
    write(&mut m, 2, 3);
    assert_ne!(d.digest(), before);
}

#[test]
fn a_page_that_was_durable_or_torn_counts_as_used() {
    let (mut d, mut m) = disk(512);
    write(&mut m, 0, 1);
    m.sync(1).unwrap();
    let used = |d: &Disk, page: u64, pages: usize| d.used_before(1, page * PAGE as u64, pages * PAGE);
    assert_eq!((used(&d, 0, 1), used(&d, 1, 3)), (Some(0), None));
    m.write_at(1, PAGE as u64, &[2; 2 * PAGE]).unwrap();
    let torn = d.image_with(&[((1, 8), Fate::Kept)]);
    assert_eq!((used(&torn, 1, 1), used(&torn.snapshot(), 0, 1)), (Some(1), Some(0)));
    // Its first sector is zeros: nothing of it was ever durable as a whole, and it may be gone over.
    let headless = d.image_with(&[((1, 9), Fate::Kept), ((1, 16), Fate::Kept)]);
    assert_eq!(used(&headless, 1, 2), None);
    write(&mut headless.mount(), 1, 3);
    assert_eq!((used(&headless, 1, 1), used(&headless, 2, 1)), (Some(1), None));
    // What was changed behind the program's back is not its fault.
    d.zero_page(1, 0);
    assert_eq!(used(&d, 0, 1), None);
}

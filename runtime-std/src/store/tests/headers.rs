//! Headers that are lost, and found in their copies (docs/LOG.md#frame-8).

use ropeway_core::code::Code;
use ropeway_core::log::{Header, PAGE_BYTES};

use super::disk::{Disk, Name};
use super::log::Writer;
use super::*;

/// Three segments of several epochs each.
fn epochs() -> Disk {
    let disk = Disk::default();
    let mut w = Writer::new(&disk, 21, 3);
    while w.segment() < 3 {
        w.groups(9);
        w.restart();
    }
    w.groups(3);
    disk
}

/// Where headers stand: segment and page.
fn headers(disk: &Disk) -> Vec<(u64, usize)> {
    let mut all = Vec::new();
    for number in disk.hot() {
        let bytes = disk.bytes().remove(&Name::Hot(number)).unwrap();
        let pages = bytes.chunks(PAGE_BYTES).enumerate();
        all.extend(pages.filter(|(_, p)| Header::parse(p).is_ok()).map(|(page, _)| (number, page)));
    }
    all
}

#[test]
fn a_log_without_any_header_page_holds_the_same_and_can_be_sealed() {
    let disk = epochs();
    let before = content(&disk);
    let lost = headers(&disk);
    assert!(lost.len() > 6);
    for with in [0, 0xa5] {
        let disk = disk.clone();
        for &(number, page) in &lost {
            disk.alter(Name::Hot(number), |b| b[page * PAGE_BYTES..][..PAGE_BYTES].fill(with));
        }
        assert_eq!(content(&disk), before);
        let damages = open(&disk).unwrap().damages;
        let told: Vec<_> = damages.iter().map(|d| (d.code, d.segment, d.from_page as usize)).collect();
        assert_eq!(told, lost.iter().map(|(n, p)| (Code::Rotten, *n, *p)).collect::<Vec<_>>());
        assert_eq!(seal_all(&mut store(&disk).unwrap()), [1, 2]);
        assert_eq!(content(&disk), before);
        assert_eq!(content_quickly(&disk), before);
    }
}

#[test]
fn the_header_of_the_newest_group_is_put_back_at_the_next_start() {
    let disk = Disk::default();
    let mut w = Writer::new(&disk, 22, 2);
    w.groups(4);
    w.restart();
    w.groups(1);
    let before = content(&disk);
    let &(number, page) = headers(&disk).last().unwrap();
    disk.alter(Name::Hot(number), |b| b[page * PAGE_BYTES..][..PAGE_BYTES].fill(0));
    drop(store(&disk).unwrap());
    assert_eq!(open(&disk).unwrap().damages, []);
    assert_eq!(content(&disk), before);
}

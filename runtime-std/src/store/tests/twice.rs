//! Events that stand in the log twice: as a place, and as what came after all.

use super::disk::Disk;
use super::log::Writer;
use super::*;

/// All payloads of the stream as they are read from the first on.
fn read(disk: &Disk, key: &StreamKey) -> Vec<Vec<u8>> {
    let content = content(disk);
    let of = content.events.iter().filter(|((k, _), _)| k == key);
    of.map(|(_, stored)| stored.2.clone()).collect()
}

#[test]
fn an_event_counts_and_not_its_place_whichever_came_first_and_however_they_are_stored() {
    for seed in 0..16 {
        let disk = Disk::default();
        let mut w = Writer::new(&disk, seed, 3);
        w.groups(9);
        w.withhold(0, 3);
        w.groups(5);
        w.withhold(0, 1);
        w.groups(1 + seed as usize % 3);
        // Near by, or in another segment.
        if seed & 1 != 0 {
            w.until_segment(2);
        }
        if seed & 2 != 0 {
            w.restart();
        }
        w.repair(0);
        w.places(0, 2..=3);
        if seed & 4 != 0 {
            w.groups(3);
            w.again(0, 1..=4);
        }
        if seed & 8 != 0 {
            w.until_segment(3);
            w.places(0, [1, 5]);
        }
        w.until_segment(4);
        w.group();
        let (key, events) = w.payloads(0);
        assert!(events.len() > 9);
        assert_eq!(read(&disk, &key), events, "seed {seed}");
        let mut store = store(&disk).unwrap();
        assert!(seal_all(&mut store).len() >= 2);
        assert_eq!(read(&disk, &key), events, "seed {seed}, sealed");
    }
}

#[test]
fn where_nothing_else_stands_the_place_is_read() {
    let disk = Disk::default();
    let mut w = Writer::new(&disk, 1, 3);
    w.groups(3);
    w.withhold(0, 40);
    w.groups(3);
    w.places(0, 1..=1);
    w.until_segment(3);
    let (key, events) = w.payloads(0);
    for sealed in [false, true] {
        if sealed {
            seal_all(&mut store(&disk).unwrap());
        }
        let read = read(&disk, &key);
        assert_eq!(read.len(), events.len());
        let differ = read.iter().zip(&events).filter(|(a, b)| a != b);
        assert_eq!(differ.map(|(a, _)| a[0]).collect::<Vec<_>>(), [1; 40], "the form of a place");
    }
}

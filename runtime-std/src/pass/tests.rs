use std::collections::HashMap;
use std::os::unix::fs::FileExt;

use ropeway_core::id::Lane;
use ropeway_core::limits::Limits;

use super::*;
use crate::keygen::init_node;
use crate::replica::{Options, Replica};

/// What a visitor may keep: node's lane, number, kind, chain.
#[derive(Default)]
struct Keep {
    rows: Vec<(Lane, u64, u16)>,
    chains: HashMap<(Lane, u64), Chain>,
    stop_after: Option<usize>,
}

impl Visitor for Keep {
    fn event(&mut self, seen: &Seen<'_>) -> ControlFlow<()> {
        self.rows.push((seen.key.lane, seen.seq, seen.event.kind));
        self.chains.insert((seen.key.lane, seen.seq), *seen.chain);
        if Some(self.rows.len()) == self.stop_after { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

fn node() -> (tempfile::TempDir, DataDir, Replica) {
    let tmp = tempfile::tempdir().unwrap();
    let dir = DataDir::new(tmp.path().join("a"));
    init_node(&dir, NodeName::new("clinic_a").unwrap()).unwrap();
    let limits = Limits { segment_bytes: 1 << 20, ..Limits::clinic() };
    let replica = Replica::open(dir.clone(), Options { limits, ..Options::default() }).unwrap();
    (tmp, dir, replica)
}

fn append(replica: &mut Replica, lane: Lane, kind: u16, n: usize) {
    for i in 0..n {
        replica.append(lane, kind, &[i as u8; 200]).unwrap();
    }
    replica.commit().unwrap();
}

#[test]
fn events_come_in_the_order_of_the_log_and_each_once_however_often_it_runs() {
    let (_tmp, dir, mut replica) = node();
    append(&mut replica, Lane::Normal, 1, 2);
    append(&mut replica, Lane::Urgent, 2, 1);
    append(&mut replica, Lane::Normal, 3, 1);
    let (mut pass, mut keep) = (Pass::new(&dir).unwrap(), Keep::default());
    let _ = pass.run(&Filter::default(), &mut keep).unwrap();
    assert_eq!(keep.rows, [(Lane::Normal, 1, 1), (Lane::Normal, 2, 1), (Lane::Urgent, 1, 2), (Lane::Normal, 3, 3)]);
    keep.rows.clear();
    let _ = pass.run(&Filter::default(), &mut keep).unwrap();
    assert_eq!(keep.rows, []);
    // Over several segments, as the log grows.
    for round in 0..4 {
        append(&mut replica, Lane::Normal, 4, 3_000);
        let _ = pass.run(&Filter::default(), &mut keep).unwrap();
        assert_eq!(keep.rows.len(), 3_000 * (round + 1));
    }
    assert!(keep.rows.iter().map(|r| r.1).eq(4..=12_003));
    assert!(std::fs::read_dir(dir.log()).unwrap().count() >= 3 && pass.damages().is_empty(), "{:?}", pass.damages());
    assert_eq!(pass.events(), 12_004);
    // The chain is the one that the node tells its peers.
    for entry in replica.frontier() {
        let head = keep.chains[&(entry.key.lane, entry.top)];
        assert_eq!((head.tag(), pass.streams()[&entry.key].chain), (entry.tag, head));
    }
}

#[test]
fn sealed_segments_are_read_as_hot_ones_are_and_a_broken_link_behind_one_is_told() {
    let (_tmp, dir, mut replica) = node();
    let mut pass = Pass::new(&dir).unwrap();
    let mut follows = Keep::default();
    for _ in 0..5 {
        append(&mut replica, Lane::Normal, 1, 2_000);
        append(&mut replica, Lane::Bulk, 2, 1_000);
        let _ = pass.run(&Filter::default(), &mut follows).unwrap();
    }
    assert!(replica.maintain(std::time::Duration::from_secs(60)));
    let _ = pass.run(&Filter::default(), &mut follows).unwrap();
    let mut keep = Keep::default();
    let mut fresh = Pass::new(&dir).unwrap();
    let _ = fresh.run(&Filter::default(), &mut keep).unwrap();
    let sealed = |n| dir.log().join(format!("seg-{n:08}.sealed"));
    assert!(sealed(1).exists() && sealed(2).exists() && !dir.log().join("seg-00000001.log").exists());
    for rows in [&follows.rows, &keep.rows] {
        for (lane, n) in [(Lane::Normal, 10_000), (Lane::Bulk, 5_000)] {
            assert!(rows.iter().filter(|r| r.0 == lane).map(|r| r.1).eq(1..=n));
        }
    }
    assert_eq!((fresh.damages(), fresh.groups()), (&[][..], pass.groups()));
    assert_eq!(fresh.streams().values().map(|t| t.chain).collect::<Vec<_>>().len(), 2);
    assert!(fresh.streams().iter().all(|(key, t)| pass.streams()[key].chain == t.chain));
    let quick = crate::quick::quick_verify(&dir, |_, _| ()).unwrap();
    assert_eq!((quick.damages.len(), quick.unread.len()), (0, 0));
    assert!(quick.segments >= 3 && quick.log_bytes == fresh.log_bytes());

    std::fs::remove_file(sealed(2)).unwrap();
    let mut pass = Pass::new(&dir).unwrap();
    let _ = pass.run(&Filter::default(), &mut Keep::default()).unwrap();
    let damages = pass.damages().iter().map(|d| (d.code, d.segment)).collect::<Vec<_>>();
    assert_eq!(damages, [(Code::SegmentMissing, 2)]);
    assert!(pass.hit_by(&pass.damages()[0].clone()).count() >= 1);
}

#[test]
fn what_the_filter_leaves_out_is_not_shown_and_a_visitor_can_stop() {
    let (_tmp, dir, mut replica) = node();
    for kind in 0..6 {
        append(&mut replica, if kind % 2 == 0 { Lane::Normal } else { Lane::Bulk }, kind, 2);
    }
    let run = |filter: Filter, stop_after| {
        let mut keep = Keep { stop_after, ..Keep::default() };
        let flow = Pass::new(&dir).unwrap().run(&filter, &mut keep).unwrap();
        (keep.rows.iter().map(|r| r.2).collect::<Vec<_>>(), flow.is_break())
    };
    assert_eq!(run(Filter { kinds: vec![1, 4], ..Filter::default() }, None), (vec![1, 1, 4, 4], false));
    assert_eq!(run(Filter { lanes: vec![Lane::Bulk], ..Filter::default() }, None).0, [1, 1, 3, 3, 5, 5]);
    assert_eq!(run(Filter { from_seq: 5, ..Filter::default() }, None).0, [4, 4, 5, 5]);
    assert_eq!(run(Filter::default(), Some(3)), (vec![0, 0, 1], true));
}

#[test]
fn damage_names_the_streams_and_events_that_it_has_cost() {
    let (_tmp, dir, mut replica) = node();
    append(&mut replica, Lane::Normal, 0, 3);
    append(&mut replica, Lane::Urgent, 0, 2);
    append(&mut replica, Lane::Normal, 0, 4);
    append(&mut replica, Lane::Urgent, 0, 1);
    append(&mut replica, Lane::Normal, 0, 5);
    drop(replica);
    // Pages: header, normal 1..3, urgent 1..2, normal 4..7, urgent 3, normal 8..12.
    let file = std::fs::OpenOptions::new().write(true).open(dir.log().join("seg-00000001.log")).unwrap();
    file.write_all_at(&[0xee; 16], 3 * 4096 + 100).unwrap();
    let (mut pass, mut keep) = (Pass::new(&dir).unwrap(), Keep::default());
    let _ = pass.run(&Filter::default(), &mut keep).unwrap();
    let [damage] = pass.damages() else { panic!("{:?}", pass.damages()) };
    assert_eq!((damage.code, damage.from_page, damage.to_page), (Code::Corrupt, 3, 4));
    let hit: Vec<_> = pass.hit_by(damage).map(|(key, from, to)| (key.lane, from, to)).collect();
    assert_eq!(hit, [(Lane::Normal, 4, 7)]);
    assert_eq!((pass.events(), keep.rows.len()), (11, 11));
}

#[test]
fn a_log_that_is_being_written_to_never_looks_damaged() {
    let (_tmp, dir, mut replica) = node();
    let writer = std::thread::spawn(move || {
        for i in 0..500u32 {
            replica.append(Lane::Normal, 0, &vec![i as u8; 100 + (i * 37 % 9_000) as usize]).unwrap();
            replica.commit().unwrap();
        }
    });
    let (mut pass, mut keep) = (Pass::new(&dir).unwrap(), Keep::default());
    loop {
        let last = writer.is_finished();
        let _ = pass.run(&Filter::default(), &mut keep).unwrap();
        assert!(pass.damages().iter().all(|d| !d.is_loss()), "{:?}", pass.damages());
        if last {
            break;
        }
    }
    writer.join().unwrap();
    assert!(keep.rows.iter().map(|r| r.1).eq(1..=500));
}

//! What goes and what stays, on directories of real files.

use std::time::Duration;

use ropeway_core::code::Code;
use ropeway_core::id::{Lane, NodeName};
use ropeway_core::limits::Limits;
use ropeway_core::log::sealed::SEALED_HEADER_BYTES;
use ropeway_core::policy::Role;

use super::*;
use crate::dir::DataDir;
use crate::keygen::init_node;
use crate::pass::{Filter, Pass, Seen, Visitor};
use crate::quick::quick_verify;
use crate::replica::{Options, Replica};
use crate::snapshot::{RestoreOptions, SnapshotOptions, restore, snapshot};
use crate::store::Damage;
use crate::view::LogView;

const DAY_MS: u64 = 86_400_000;

fn options() -> Options {
    Options { limits: Limits { segment_bytes: 1 << 20, ..Limits::clinic() }, ..Options::default() }
}

/// A log of some sealed segments.
fn filled(role: Role, events: u32) -> (tempfile::TempDir, DataDir) {
    let tmp = tempfile::tempdir().unwrap();
    let dir = DataDir::new(tmp.path().join("a"));
    let node = init_node(&dir, NodeName::new("node_a").unwrap()).unwrap();
    crate::dir::NodeFile { role, ..node }.write(&dir).unwrap();
    let mut replica = Replica::open(dir.clone(), options()).unwrap();
    fill(&mut replica, events);
    drop(replica);
    (tmp, dir)
}

fn fill(replica: &mut Replica, events: u32) {
    for i in 0..events {
        replica.append(Lane::Normal, 0, &vec![i as u8; 9_000]).unwrap();
        replica.commit().unwrap();
    }
    assert!(replica.maintain(Duration::from_secs(60)));
}

fn sealed(dir: &DataDir) -> usize {
    let names = std::fs::read_dir(dir.log()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|n| n.ends_with(".sealed")).count()
}

struct Nobody;

impl Visitor for Nobody {
    fn event(&mut self, _: &Seen<'_>) -> std::ops::ControlFlow<()> {
        std::ops::ControlFlow::Continue(())
    }
}

fn pass(dir: &DataDir) -> Pass {
    let mut pass = Pass::new(dir).unwrap();
    let _ = pass.run(&Filter::default(), &mut Nobody).unwrap();
    pass
}

fn first_stay(dir: &DataDir) -> Stay {
    let (_, plan) = explain(dir).unwrap();
    let stays = plan.segments.into_iter().find_map(|s| match s.fate {
        Fate::Stays(stay) => Some(stay),
        Fate::Goes(_) => None,
    });
    stays.unwrap()
}

/// The smallest rule: everything that may go, goes.
fn greedy(keep_at_least: u64) -> Rule {
    Rule { age_ms: None, bytes: Some(1), keep_at_least }
}

#[test]
fn a_hub_removes_nothing_that_no_backup_holds() {
    let (tmp, dir) = filled(Role::Hub, 300);
    let open = || Replica::open(dir.clone(), options()).unwrap();
    assert_eq!(first_stay(&dir), Stay::NoRule);
    greedy(0).write(&dir).unwrap();
    assert_eq!(first_stay(&dir), Stay::NoBackup);
    let before = sealed(&dir);
    let mut replica = open();
    assert!(replica.maintain(Duration::from_secs(60)));
    assert_eq!(replica.expire().unwrap().1.going().count(), 0);
    assert_eq!((sealed(&dir), before > 1), (before, true));

    let copy = tmp.path().join("copy");
    let manifest = snapshot(&dir, &copy, &SnapshotOptions { with_key: true }, |_, _| ()).unwrap();
    fill(&mut replica, 300);
    drop(replica);
    Mark::of_snapshot(&manifest, "node_a").unwrap().set(&dir).unwrap();
    assert_eq!(Mark::of_snapshot(&manifest, "node_b").unwrap_err().code, Code::BadSnapshot);
    let (_, plan) = explain(&dir).unwrap();
    assert!(plan.going().count() > 0);
    assert!(matches!(first_stay(&dir), Stay::NotBackedUp { has: 300, .. }));
    // What is asked for once more is not removed before it has come.
    let key = LogView::open(&dir).unwrap().frontier().next().unwrap().key;
    let asked = format!(r#"{{"version":1,"ranges":[{{"stream":"{key}","from":2,"to":3}}]}}"#);
    std::fs::write(dir.asked_json(), asked).unwrap();
    let (_, kept) = explain(&dir).unwrap();
    assert_eq!((first_stay(&dir), kept.going().count()), (Stay::Asked { key }, 0));
    // Nothing of it is a place: nothing is asked for.
    let mut replica = open();
    assert!(!dir.asked_json().exists());
    let (_, done) = replica.expire().unwrap();
    assert_eq!(done.going().count(), plan.going().count());
    let entry = replica.frontier().next().unwrap();
    assert!(entry.floor > 0 && entry.floor <= 300 && entry.top == 600, "{entry:?}");
    let (mut seen, mut from) = (0, u64::MAX);
    replica.read(1, |_, seq, _| (seen, from) = (seen + 1, from.min(seq))).unwrap();
    assert_eq!((seen, from), (600 - entry.floor, entry.floor + 1));
    drop(replica);

    // Every way of reading agrees that nothing is damaged.
    let seen = pass(&dir);
    assert_eq!((seen.damages(), seen.events()), (&[][..], 600 - entry.floor));
    let track = seen.streams().values().next().unwrap();
    assert_eq!((track.floor, track.top, track.missing()), (entry.floor, 600, 0));
    assert!(quick_verify(&dir, |_, _| ()).unwrap().damages.is_empty());
    for view in [LogView::open(&dir).unwrap(), LogView::open_quickly(&dir).unwrap()] {
        assert_eq!((view.damages(), view.frontier().next().unwrap()), (&[][..], entry));
    }
    // A mark of what was removed since is still one.
    Mark::of_snapshot(&manifest, "node_a").unwrap().set(&dir).unwrap();
    assert_eq!(Mark::of_log(&dir, 5).unwrap().set(&dir).unwrap(), 1);

    // A snapshot of it can be restored, and has no mark, so that it removes nothing.
    let copy = tmp.path().join("copy_2");
    let manifest = snapshot(&dir, &copy, &SnapshotOptions { with_key: true }, |_, _| ()).unwrap();
    assert_eq!(manifest.events, 600 - entry.floor);
    let again = DataDir::new(tmp.path().join("b"));
    restore(&copy, &again, &RestoreOptions::default(), |_, _| ()).unwrap();
    let view = LogView::open(&again).unwrap();
    assert_eq!((view.damages(), view.frontier().next().unwrap().floor), (&[][..], entry.floor));
    assert!(Rule::read(&again).unwrap().is_none() && Mark::read(&again).unwrap().is_none());
}

#[test]
fn a_clinic_removes_nothing_without_a_receipt() {
    let (_tmp, dir) = filled(Role::Clinic, 300);
    for rule in [greedy(0), Rule { age_ms: Some(0), bytes: None, keep_at_least: 0 }] {
        rule.write(&dir).unwrap();
        let before = sealed(&dir);
        let mut replica = Replica::open(dir.clone(), options()).unwrap();
        std::thread::sleep(Duration::from_millis(1100));
        assert!(replica.maintain(Duration::from_secs(60)));
        replica.expire().unwrap();
        assert_eq!(sealed(&dir), before);
        assert!(matches!(first_stay(&dir), Stay::NoReceipt { has: 0, .. }));
    }
}

#[test]
fn the_rule_decides_by_age_by_size_and_by_what_must_be_left() {
    let (_tmp, dir) = filled(Role::Hub, 600);
    Mark::of_log(&dir, 0).unwrap().set(&dir).unwrap();
    let judged = |rule: Rule| {
        rule.write(&dir).unwrap();
        let (_, plan) = explain(&dir).unwrap();
        (plan.going().count(), plan)
    };
    let (all, plan) = judged(greedy(0));
    assert_eq!(all, sealed(&dir), "everything that is sealed");
    assert_eq!(plan.segments.last().unwrap().fate, Fate::Stays(Stay::NotSealed));
    let (_, some) = judged(Rule { bytes: Some(plan.log_bytes - 1), ..Rule::default() });
    assert_eq!(some.going().count(), 1, "only as many as are too many");
    assert_eq!(some.segments[1].fate, Fate::Stays(Stay::Young { until_ms: None }));
    assert_eq!(some.segments[2].fate, Fate::Stays(Stay::Behind(2)));
    let young = judged(Rule { age_ms: Some(DAY_MS), ..Rule::default() });
    assert!(young.0 == 0 && matches!(young.1.segments[0].fate, Fate::Stays(Stay::Young { until_ms: Some(_) })));
    let kept = judged(greedy(590));
    assert!(kept.0 == 0 && matches!(kept.1.segments[0].fate, Fate::Stays(Stay::Newest { left, .. }) if left < 590));
    assert!((1..all).contains(&judged(greedy(300)).0));

    // A clock that shows 1970 makes nothing old, one that is ahead does.
    let old = Rule { age_ms: Some(DAY_MS), ..Rule::default() };
    let mut replica = Replica::open(dir.clone(), options()).unwrap();
    let terms = |wall_ms: u64| {
        old.write(&dir).unwrap();
        Terms::read(&dir, Role::Hub, wall_ms).unwrap()
    };
    let at = |ms: u64, replica: &mut Replica| {
        let plan = replica.judge(&terms(ms)).unwrap();
        (plan.going().count(), plan.segments[0].fate.clone())
    };
    assert_eq!(at(5_000, &mut replica), (0, Fate::Stays(Stay::NoClock)));
    assert_eq!(at(2 * crate::tls::TIME_FLOOR_S * 1000, &mut replica).0, all);
}

#[test]
fn what_cannot_be_read_is_a_reason_to_remove_nothing() {
    let (_tmp, dir) = filled(Role::Hub, 400);
    greedy(0).write(&dir).unwrap();
    Mark::of_log(&dir, 0).unwrap().set(&dir).unwrap();
    let before = sealed(&dir);
    let nothing_goes = |what: &str| {
        let mut replica = Replica::open(dir.clone(), options()).unwrap();
        assert!(replica.maintain(Duration::from_secs(60)), "{what}");
        let tried = replica.expire();
        assert!(tried.is_err() || tried.unwrap().1.going().count() == 0, "{what}");
        assert_eq!(sealed(&dir), before, "{what}");
    };
    for path in [dir.retain_json(), dir.backup_json()] {
        let good = std::fs::read(&path).unwrap();
        for bad in [&b""[..], b"{}", b"{\"version\":9}", b"\xff"] {
            std::fs::write(&path, bad).unwrap();
            nothing_goes(&format!("{}: {bad:?}", path.display()));
        }
        std::fs::write(&path, good).unwrap();
    }
    // An event of the first segment is damaged: its index does not show that, reading it does.
    let first = dir.log().join("seg-00000001.sealed");
    let good = std::fs::read(&first).unwrap();
    let mut bad = good.clone();
    bad[SEALED_HEADER_BYTES + 40] ^= 1;
    std::fs::write(&first, &bad).unwrap();
    nothing_goes("a damaged segment");
    assert!(pass(&dir).damages().iter().any(Damage::is_loss));
    // Its index is damaged: nobody knows what is in it.
    let mut bad = good.clone();
    let end = bad.len() - 260;
    bad[end] ^= 1;
    std::fs::write(&first, &bad).unwrap();
    nothing_goes("a damaged footer");
    std::fs::write(&first, &good).unwrap();
    let mut replica = Replica::open(dir.clone(), options()).unwrap();
    assert!(replica.expire().unwrap().1.going().count() > 0);
}

#[test]
fn readers_beside_a_log_that_is_shortened_see_no_damage() {
    let (tmp, dir) = filled(Role::Hub, 200);
    greedy(0).write(&dir).unwrap();
    let writer = {
        let dir = dir.clone();
        std::thread::spawn(move || {
            let mut replica = Replica::open(dir.clone(), options()).unwrap();
            for _ in 0..12 {
                fill(&mut replica, 60);
                Mark::of_log(&dir, 0).unwrap().set(&dir).unwrap();
                replica.expire().unwrap();
            }
            replica.frontier().next().unwrap()
        })
    };
    let mut looks = 0;
    while !writer.is_finished() || looks == 0 {
        for view in [LogView::open(&dir).unwrap(), LogView::open_quickly(&dir).unwrap()] {
            let lost: Vec<_> = view.damages().iter().filter(|d| d.is_loss()).collect();
            assert!(lost.is_empty(), "look {looks}: {lost:?}");
        }
        let seen = pass(&dir);
        let lost: Vec<_> = seen.damages().iter().filter(|d| d.is_loss()).collect();
        assert!(lost.is_empty() && seen.streams().values().all(|t| t.missing() == 0), "look {looks}: {lost:?}");
        let copy = tmp.path().join(format!("copy_{looks}"));
        let manifest = snapshot(&dir, &copy, &SnapshotOptions::default(), |_, _| ()).unwrap();
        assert_eq!(manifest.damages, [""; 0], "look {looks}");
        std::fs::remove_dir_all(&copy).unwrap();
        looks += 1;
    }
    let end = writer.join().unwrap();
    assert!(end.floor > 500 && end.top == 920, "{end:?} after {looks} looks");
}

#[test]
fn a_mark_must_have_the_same_history() {
    let (_tmp, dir) = filled(Role::Hub, 200);
    let mark = Mark::of_log(&dir, 7).unwrap();
    let (key, (seq, chain)) = mark.heads.iter().map(|(k, h)| (*k, *h)).next().unwrap();
    let with = |seq: u64, chain: ropeway_core::event::Chain| Mark { taken_ms: 7, heads: [(key, (seq, chain))].into() };
    assert_eq!(with(seq + 1, chain).set(&dir).unwrap_err().code, Code::TailLost);
    assert_eq!(with(seq - 1, chain).set(&dir).unwrap_err().code, Code::Fork);
    assert_eq!(Mark::read(&dir).unwrap(), None, "a mark that does not fit is not kept");
    mark.set(&dir).unwrap();
    assert_eq!(Mark::read(&dir).unwrap(), Some(mark));
}

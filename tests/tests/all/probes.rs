//! What the closest peer of this program was seen to get wrong, each as a test that it stays right
//! here. Two more stand elsewhere: that no request evades the policy (privacy.rs) and that neither
//! order, seq nor stamp of one clinic harms others (hostile.rs).
//!
//! One is not tested: opening a log reads it from end to end today, so the time it takes grows with
//! the log.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use ropeway_core::code::Code;
use ropeway_core::id::Lane;
use ropeway_core::policy::Policy;
use ropeway_std::store::Stop;
use ropeway_std::view::Filter;
use ropeway_std::{DataDir, LogView, Options, Replica};
use ropeway_tests::{Deployment, Serving, name};

const PAGE: usize = 4096;

fn notes(from: usize, n: usize) -> Vec<Vec<u8>> {
    (from..from + n).map(|i| format!("{{\"n\":{i},\"note\":\"visit number {i}\"}}").into_bytes()).collect()
}

/// Syncs; a sync that takes longer than twenty seconds has failed.
fn sync(d: &Deployment, node: &str, hub: &Serving) -> ropeway_std::SyncReport {
    let (mut replica, hub) = (d.open(node), hub.address.to_string());
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let outcome = replica.sync(&hub, &Default::default(), |_| ());
        // The directory's lock goes first.
        drop(replica);
        drop(tell.send(outcome));
    });
    told.recv_timeout(std::time::Duration::from_secs(20)).expect("the sync does not end").unwrap()
}

/// Every file under a directory with its bytes.
fn snapshot(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for e in std::fs::read_dir(folder).unwrap() {
            let path = e.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => drop(all.insert(path.clone(), std::fs::read(path).unwrap())),
            }
        }
    }
    all
}

fn segments(d: &Deployment, node: &str) -> Vec<PathBuf> {
    let mut all: Vec<_> = std::fs::read_dir(d.dir(node).log()).unwrap().map(|e| e.unwrap().path()).collect();
    all.retain(|p| p.extension().is_some_and(|e| e == "log"));
    all.sort();
    all
}

/// Pages of a segment that hold anything.
fn used_pages(segment: &[u8]) -> usize {
    segment.chunks(PAGE).rposition(|p| p.iter().any(|b| *b != 0)).map_or(0, |n| n + 1)
}

/// The payloads that can be read, and how many are known to be missing.
fn readable(d: &Deployment, at: &str) -> (Vec<Vec<u8>>, u64) {
    let mut view = LogView::open(&d.dir(at)).unwrap();
    let mut all = Vec::new();
    let missing = view
        .read(&Filter::default(), 1, |_, _, e| {
            all.push(e.payload.to_vec());
            Stop::No
        })
        .unwrap();
    (all, missing.iter().map(|(_, from, to)| to - from + 1).sum())
}

#[test]
fn a_wrong_key_opens_nothing_and_changes_nothing() {
    let d = Deployment::new(&["clinic_a"]);
    d.push("clinic_a", notes(0, 100));
    let right = std::fs::read(d.dir("clinic_a").log_key()).unwrap();
    // Written over the old one, so the file stays private.
    std::fs::write(d.dir("clinic_a").log_key(), format!("{}\n", "5a".repeat(32))).unwrap();
    let before = snapshot(&d.path("clinic_a").join("log"));
    assert_eq!(LogView::open(&d.dir("clinic_a")).unwrap_err().code, Code::WrongKey);
    assert_eq!(Replica::open(d.dir("clinic_a"), Options::default()).unwrap_err().code, Code::WrongKey);
    assert_eq!(snapshot(&d.path("clinic_a").join("log")), before);
    std::fs::write(d.dir("clinic_a").log_key(), right).unwrap();
    assert_eq!(d.payloads("clinic_a", "clinic_a"), notes(0, 100));
}

#[test]
fn a_flipped_bit_costs_at_most_its_frame_and_reading_changes_nothing() {
    let d = Deployment::new(&["clinic_a"]);
    let mut replica = d.open("clinic_a");
    for note in notes(0, 100) {
        replica.append(Lane::Normal, 0, &note).unwrap();
        replica.commit().unwrap();
    }
    drop(replica);
    let [segment] = segments(&d, "clinic_a").try_into().unwrap();
    let good = std::fs::read(&segment).unwrap();
    let pages = used_pages(&good);
    assert!(pages >= 100);
    for page in [0, 1, 2, 17, pages / 2, pages - 1] {
        for bit in [3, 40, 8 * 60 + 5] {
            let mut bad = good.clone();
            bad[page * PAGE + bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&segment, &bad).unwrap();
            let before = snapshot(&d.path("clinic_a"));
            let (events, missing) = readable(&d, "clinic_a");
            assert_eq!(snapshot(&d.path("clinic_a")), before);
            assert!(events.len() >= 99, "page {page} bit {bit}: {} events are left", events.len());
            let view = LogView::open(&d.dir("clinic_a")).unwrap();
            if page > 0 && page < pages - 1 && events.len() < 100 {
                assert_eq!((events.len(), missing), (99, 1), "page {page} bit {bit}");
                assert!(view.damages().iter().any(|x| x.code == Code::Corrupt && x.is_loss()), "{:?}", view.damages());
            }
            assert!(events.len() == 100 || !view.damages().is_empty(), "page {page} bit {bit} is not told");
        }
    }
}

#[test]
fn a_flipped_bit_that_cost_nothing_is_told_too() {
    let d = Deployment::new(&["clinic_a"]);
    d.push("clinic_a", notes(0, 10));
    let [segment] = segments(&d, "clinic_a").try_into().unwrap();
    let good = std::fs::read(&segment).unwrap();
    // The header's magic; the checksum of the first frame.
    for at in [0, PAGE + 5] {
        let mut bad = good.clone();
        bad[at] ^= 8;
        std::fs::write(&segment, &bad).unwrap();
        assert_eq!(readable(&d, "clinic_a"), (notes(0, 10), 0));
        let view = LogView::open(&d.dir("clinic_a")).unwrap();
        assert!(!view.damages().is_empty(), "byte {at}");
    }
}

/// A hub that holds eight times ten events, of which one flipped bit took ten.
fn damaged_hub() -> Deployment {
    let d = Deployment::new(&["clinic_a"]);
    let hub = d.serve(Policy::Own);
    for i in 0..8 {
        d.push("clinic_a", notes(i * 10, 10));
        sync(&d, "clinic_a", &hub);
    }
    drop(hub);
    let [segment] = segments(&d, "hub").try_into().unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = used_pages(&bytes) / 2 * PAGE + 100;
    bytes[at] ^= 0x10;
    std::fs::write(&segment, &bytes).unwrap();
    let (events, missing) = readable(&d, "hub");
    assert_eq!((events.len(), missing), (70, 10));
    let codes: Vec<_> = LogView::open(&d.hub()).unwrap().damages().iter().map(|x| x.code).collect();
    assert_eq!(codes, [Code::Corrupt]);
    d
}

#[test]
fn what_a_flipped_bit_took_from_the_hub_comes_back_with_the_next_sync() {
    let d = damaged_hub();
    let hub = d.serve(Policy::Own);
    let report = sync(&d, "clinic_a", &hub);
    assert_eq!(d.payloads("hub", "clinic_a"), notes(0, 80), "{report:?}");
    let again = sync(&d, "clinic_a", &hub);
    assert_eq!((again.sent, again.resumed_at), (0, 80));
    drop(hub);
    // Also for a hub that was started again.
    let hub = d.serve(Policy::Own);
    assert_eq!(sync(&d, "clinic_a", &hub).sent, 0);
    assert_eq!(d.payloads("hub", "clinic_a"), notes(0, 80));
}

#[test]
fn new_events_are_stored_in_the_sync_that_repairs_the_hub() {
    let d = damaged_hub();
    let hub = d.serve(Policy::Own);
    d.push("clinic_a", notes(80, 5));
    let report = sync(&d, "clinic_a", &hub);
    assert_eq!(d.payloads("hub", "clinic_a"), notes(0, 85), "{report:?}");
}

#[test]
fn seq_goes_on_after_every_opening() {
    let d = Deployment::new(&["clinic_a"]);
    for expected in 1..=20 {
        let mut replica = d.open("clinic_a");
        assert_eq!(replica.append(Lane::Normal, 0, b"x").unwrap(), expected);
        replica.commit().unwrap();
    }
    let view = LogView::open(&d.dir("clinic_a")).unwrap();
    assert_eq!(view.frontier().count(), 1);
}

#[test]
fn events_that_were_not_committed_leave_no_hole_in_the_numbers() {
    let d = Deployment::new(&["clinic_a"]);
    d.push("clinic_a", notes(0, 3));
    let mut replica = d.open("clinic_a");
    replica.append(Lane::Normal, 0, b"never committed").unwrap();
    drop(replica);
    d.push("clinic_a", notes(3, 3));
    let (events, missing) = readable(&d, "clinic_a");
    assert_eq!(missing, 0);
    assert_eq!(events, notes(0, 6));
}

/// Lets `up` bytes through to the hub and then cuts both ways.
fn cut_after(hub: SocketAddr, up: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut near, _) = listener.accept().unwrap();
        let mut far = TcpStream::connect(hub).unwrap();
        let (mut back_from, mut back_to) = (far.try_clone().unwrap(), near.try_clone().unwrap());
        let back = std::thread::spawn(move || std::io::copy(&mut back_from, &mut back_to));
        let (mut left, mut buf) = (up, [0; 1024]);
        while left > 0 {
            let room = left.min(buf.len());
            let Ok(n @ 1..) = near.read(&mut buf[..room]) else { break };
            if far.write_all(&buf[..n]).is_err() {
                break;
            }
            left -= n;
        }
        let _ = near.shutdown(Shutdown::Both);
        let _ = far.shutdown(Shutdown::Both);
        let _ = back.join();
    });
    address
}

/// Events hard to compress, so that a cut falls among them.
fn noise(n: usize) -> Vec<Vec<u8>> {
    let mut x = 1_u64;
    let mut byte = || {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (x >> 56) as u8
    };
    (0..n).map(|_| (0..200).map(|_| byte()).collect()).collect()
}

#[test]
fn a_sync_that_was_cut_never_marks_as_acknowledged_what_the_hub_does_not_hold() {
    let d = Deployment::new(&["clinic_a"]);
    let all = noise(2000);
    d.push("clinic_a", &all);
    let hub = d.serve(Policy::Own);
    let (mut acked_before, mut partly) = (0, 0);
    for up in (500..=120_000).step_by(7919) {
        let cut = cut_after(hub.address, up).to_string();
        let Err(e) = d.open("clinic_a").sync(&cut, &Default::default(), |_| ()) else { break };
        assert_eq!(e.error.code, Code::Cut, "{e}");
        let held = LogView::open(&d.hub()).unwrap().frontier().map(|f| f.have).sum::<u64>();
        // As the clinic's log says it after a restart.
        let own = LogView::open(&d.dir("clinic_a")).unwrap().frontier().next().unwrap();
        assert!(own.acked <= held, "{} acknowledged, {held} held", own.acked);
        assert!(own.acked >= acked_before && own.have == 2000);
        assert!(own.acked >= e.report.resumed_at + e.report.acknowledged, "{e:?}: {own:?}");
        partly += usize::from(own.acked > acked_before);
        acked_before = own.acked;
    }
    assert!(partly > 3, "the cuts fell on nothing");
    sync(&d, "clinic_a", &hub);
    assert_eq!(d.payloads("hub", "clinic_a"), all);
    let own = LogView::open(&d.dir("clinic_a")).unwrap().frontier().next().unwrap();
    assert_eq!(own.acked, 2000);
}

#[test]
fn a_batch_of_64_events_costs_less_than_32_bytes_an_event_beside_the_payload() {
    let d = Deployment::new(&["clinic_a"]);
    let payload = [b'p'; 100];
    let mut replica = d.open("clinic_a");
    for _ in 0..50 {
        for _ in 0..64 {
            replica.append(Lane::Normal, 1, &payload).unwrap();
        }
        replica.commit().unwrap();
    }
    drop(replica);
    let pages: usize = segments(&d, "clinic_a").iter().map(|s| used_pages(&std::fs::read(s).unwrap())).sum();
    let per_event = (pages * PAGE) as f64 / (50.0 * 64.0) - 100.0;
    // Most of it is the rest of the last page of each commit.
    assert!(per_event < 32.0, "{per_event:.1} bytes");
    // On the wire the same bytes cost next to nothing.
    let hub = d.serve(Policy::Own);
    let report = sync(&d, "clinic_a", &hub);
    assert!(report.wire_bytes_up < 3200 * 4, "{report:?}");
}

fn copy_dir(from: &Path, to: &Path) {
    assert!(std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

#[test]
fn a_copied_card_writes_under_a_new_incarnation_and_the_hub_keeps_both() {
    let d = Deployment::new(&["clinic_a"]);
    d.push("clinic_a", notes(0, 10));
    let hub = d.serve(Policy::Own);
    sync(&d, "clinic_a", &hub);
    copy_dir(&d.path("clinic_a"), &d.path("copy"));
    // Both write without knowing of each other, and bring it, also in turns.
    d.push("clinic_a", notes(100, 5));
    d.push("copy", notes(200, 5));
    assert_eq!(sync(&d, "copy", &hub).acknowledged, 5);
    assert_eq!(sync(&d, "clinic_a", &hub).acknowledged, 5);
    d.push("copy", notes(205, 5));
    d.push("clinic_a", notes(105, 5));
    assert_eq!(sync(&d, "clinic_a", &hub).acknowledged, 5);
    assert_eq!(sync(&d, "copy", &hub).acknowledged, 5);
    let held = d.payloads("hub", "clinic_a");
    let expected = [notes(0, 10), notes(100, 10), notes(200, 10)].concat();
    assert_eq!(held, expected);
    let streams = LogView::open(&d.hub()).unwrap().frontier().count();
    assert_eq!(streams, 2);
    // Each card gets to know what the other wrote: it is the same clinic.
    sync(&d, "clinic_a", &hub);
    assert_eq!(d.payloads("clinic_a", "clinic_a").len(), 30);
}

#[test]
fn a_second_process_is_refused_the_directory() {
    const DIR: &str = "ROPEWAY_TEST_SECOND_PROCESS";
    if let Some(dir) = std::env::var_os(DIR) {
        // This is the second process.
        assert_eq!(Replica::open(DataDir::new(dir), Options::default()).unwrap_err().code, Code::Locked);
        return;
    }
    let d = Deployment::new(&["clinic_a"]);
    d.push("clinic_a", notes(0, 5));
    let mut first = d.open("clinic_a");
    let before = snapshot(&d.path("clinic_a"));
    let second = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "probes::a_second_process_is_refused_the_directory"])
        .env(DIR, d.path("clinic_a"))
        .output()
        .unwrap();
    assert!(second.status.success(), "{}", String::from_utf8_lossy(&second.stdout));
    assert!(String::from_utf8_lossy(&second.stdout).contains("1 passed"));
    let third = Replica::open(d.dir("clinic_a"), Options::default()).unwrap_err();
    assert_eq!(third.code, Code::Locked);
    assert_eq!(snapshot(&d.path("clinic_a")), before);
    assert_eq!(first.append(Lane::Normal, 0, b"x").unwrap(), 6);
    first.commit().unwrap();
    drop(first);
    assert_eq!(d.open("clinic_a").append(Lane::Normal, 0, b"y").unwrap(), 7);
    // A reader needs no lock.
    assert_eq!(LogView::open(&d.dir("clinic_a")).unwrap().node.name, name("clinic_a"));
}

//! Damage to a log on disk: found, set aside, fetched again from a peer, and told of as repaired.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ropeway_core::limits::Limits;
use ropeway_core::policy::Policy;
use ropeway_mio::daemon::DaemonOptions;
use ropeway_std::scrub::ScrubRate;
use ropeway_std::{Options, Replica};
use ropeway_tests::process::{said, verb};
use ropeway_tests::{Deployment, Serving, noise};
use serde_json::Value;

const PAGE: u64 = 4096;

fn payloads(from: usize, n: usize) -> impl Iterator<Item = String> {
    (from..from + n).map(|i| format!("visit number {i}"))
}

fn sync(d: &Deployment, clinic: &str, hub: &Serving) {
    d.open(clinic).sync(&hub.address.to_string(), &Default::default(), |_| ()).unwrap();
}

/// Files of the log with this ending, the oldest first.
fn files(d: &Deployment, node: &str, ending: &str) -> Vec<PathBuf> {
    let mut all: Vec<_> = fs::read_dir(d.dir(node).log()).unwrap().map(|e| e.unwrap().path()).collect();
    all.retain(|p| p.extension().is_some_and(|e| e == ending));
    all.sort();
    all
}

/// Writes noise over a page of a file, under whoever has it open.
fn rot(path: &Path, page: u64) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&noise(7, 1, 200)[0], page * PAGE + 100).unwrap();
}

fn verify(d: &Deployment, node: &str) -> (Option<i32>, Value) {
    let output = verb("verify", &d.path(node), &["--json"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    (output.status.code(), serde_json::from_str(&text).unwrap_or_else(|_| panic!("{}", said(&output))))
}

fn fates(told: &Value) -> Vec<String> {
    told["damages"].as_array().unwrap().iter().map(|d| d["fate"].as_str().unwrap().to_owned()).collect()
}

fn status(d: &Deployment, node: &str) -> Value {
    let output = verb("status", &d.path(node), &["--json"]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)))
}

fn quarantined(d: &Deployment, node: &str) -> usize {
    fs::read_dir(d.dir(node).quarantine()).map_or(0, Iterator::count)
}

/// Three syncs of ten events each: the hub's pages 2, 3, ... hold a batch of them each.
fn synced() -> Deployment {
    let d = Deployment::new(&["clinic_a"]);
    let hub = d.serve(Policy::Own);
    for round in 0..3 {
        d.push("clinic_a", payloads(round * 10, 10));
        sync(&d, "clinic_a", &hub);
    }
    d
}

#[test]
fn what_a_hub_has_lost_at_rest_is_fetched_again_and_told_of_as_repaired() {
    let d = synced();
    rot(&files(&d, "hub", "log")[0], 2);
    assert_eq!(verify(&d, "hub").0, Some(3));
    let hub = d.serve(Policy::Own);
    wait_for("listing", || verify(&d, "hub").1["damages"][0]["since"].is_string());
    let (code, told) = verify(&d, "hub");
    assert_eq!((code, fates(&told)), (Some(3), vec!["open".to_owned()]), "{told}");
    assert_eq!(quarantined(&d, "hub"), 1);
    sync(&d, "clinic_a", &hub);
    wait_for("repair", || verify(&d, "hub").0 == Some(0));
    drop(hub);
    let (code, told) = verify(&d, "hub");
    assert_eq!((code, fates(&told)), (Some(0), vec!["repaired".to_owned()]), "{told}");
    assert_eq!(fates(&status(&d, "hub")), ["repaired"]);
    assert_eq!(d.payloads("hub", "clinic_a").len(), 30);
    // Opened again, nothing is said or copied twice.
    let bytes = || files(&d, "hub", "log").iter().map(|f| fs::read(f).unwrap()).collect::<Vec<_>>();
    let log = bytes();
    drop(d.serve(Policy::Own));
    assert_eq!((verify(&d, "hub").0, quarantined(&d, "hub")), (Some(0), 1));
    assert!(bytes() == log);
    // New rot is damage again.
    rot(&files(&d, "hub", "log")[0], 3);
    let (code, told) = verify(&d, "hub");
    assert_eq!((code, fates(&told).contains(&"open".to_owned())), (Some(3), true), "{told}");
}

#[test]
fn what_a_clinic_has_lost_at_rest_comes_back_from_the_hub() {
    let d = synced();
    rot(&files(&d, "clinic_a", "log")[0], 1);
    assert_eq!(verify(&d, "clinic_a").0, Some(3));
    let hub = d.serve(Policy::Own);
    sync(&d, "clinic_a", &hub);
    let (code, told) = verify(&d, "clinic_a");
    assert_eq!((code, fates(&told)), (Some(0), vec!["repaired".to_owned()]), "{told}");
    assert_eq!(d.payloads("clinic_a", "clinic_a").len(), 30);
}

#[test]
fn what_nobody_else_has_stays_listed() {
    let d = synced();
    d.push("clinic_a", payloads(30, 5));
    d.push("clinic_a", payloads(35, 5));
    // The newest group but one was never sent.
    let path = &files(&d, "clinic_a", "log")[0];
    let used = fs::read(path).unwrap().chunks(PAGE as usize).rposition(|p| p.iter().any(|b| *b != 0)).unwrap() as u64;
    rot(path, used - 2);
    let hub = d.serve(Policy::Own);
    for _ in 0..2 {
        let _ = d.open("clinic_a").sync(&hub.address.to_string(), &Default::default(), |_| ());
        let (code, told) = verify(&d, "clinic_a");
        assert_eq!((code, fates(&told)), (Some(3), vec!["open".to_owned()]), "{told}");
    }
    assert_eq!(fates(&status(&d, "clinic_a")), ["open"]);
}

fn small() -> Options {
    let limits = Limits { segment_bytes: 1 << 20, ..Limits::clinic() };
    Options { limits, ..Options::default() }
}

fn fill(d: &Deployment, events: usize) {
    let mut node = Replica::open(d.dir("clinic_a"), small()).unwrap();
    for p in noise(events as u64, events, 3000) {
        node.append(ropeway_core::id::Lane::Normal, 0, &p).unwrap();
        node.commit().unwrap();
    }
    // Pending seals finish.
    assert!(node.maintain(std::time::Duration::from_secs(60)));
}

#[test]
fn a_damaged_hot_segment_is_sealed_without_what_is_lost_and_a_checkpoint_follows() {
    let d = Deployment::new(&["clinic_a"]);
    fill(&d, 100);
    let hub = d.serve(Policy::Own);
    sync(&d, "clinic_a", &hub);
    rot(&files(&d, "clinic_a", "log")[0], 40);
    // Not repaired yet: it is sealed all the same, and the loss stays listed, also by a quick look.
    fill(&d, 600);
    assert!(files(&d, "clinic_a", "log").len() <= 2 && !files(&d, "clinic_a", "sealed").is_empty());
    assert!(d.dir("clinic_a").log().join("checkpoint-a").exists());
    let gap = status(&d, "clinic_a")["streams"][0]["gap"].clone();
    assert!(gap.is_array(), "{gap}");
    let (code, told) = verify(&d, "clinic_a");
    assert_eq!((code, fates(&told)), (Some(3), vec!["open".to_owned()]), "{told}");
    assert_eq!(fates(&status(&d, "clinic_a")), ["open"]);
    sync(&d, "clinic_a", &hub);
    let (code, told) = verify(&d, "clinic_a");
    assert_eq!((code, fates(&told)), (Some(0), vec!["repaired".to_owned()]), "{told}");
    assert_eq!(d.payloads("clinic_a", "clinic_a").len(), 700);
    fill(&d, 400);
    assert_eq!(verify(&d, "clinic_a").0, Some(0));
    assert_eq!(d.payloads("clinic_a", "clinic_a").len(), 1100);
}

#[test]
fn a_damaged_sealed_segment_is_repaired_and_does_not_keep_checkpoints_away() {
    let d = Deployment::new(&["clinic_a"]);
    fill(&d, 900);
    let hub = d.serve(Policy::Own);
    sync(&d, "clinic_a", &hub);
    let sealed = files(&d, "clinic_a", "sealed");
    assert!(sealed.len() >= 2, "{sealed:?}");
    rot(&sealed[0], 30);
    // Nobody has looked so far: the check finds it, and the next start knows.
    assert_eq!(verify(&d, "clinic_a").0, Some(3));
    assert!(!d.dir("clinic_a").log().join("checkpoint-a").exists());
    sync(&d, "clinic_a", &hub);
    let (code, told) = verify(&d, "clinic_a");
    assert_eq!((code, fates(&told)), (Some(0), vec!["repaired".to_owned()]), "{told}");
    assert!(told["damages"][0]["sealed"] == true && quarantined(&d, "clinic_a") == 1, "{told}");
    fill(&d, 500);
    let log = d.dir("clinic_a").log();
    assert!(log.join("checkpoint-a").exists() || log.join("checkpoint-b").exists());
    assert_eq!(verify(&d, "clinic_a").0, Some(0));
    assert_eq!(fates(&status(&d, "clinic_a")), ["repaired"]);
    assert_eq!(d.payloads("clinic_a", "clinic_a").len(), 1400);
}

/// Serves the hub and reads its log all the time.
fn serve_scrubbing(d: &Deployment) -> Serving {
    let bind = "127.0.0.1:0".parse().unwrap();
    d.serve_as(DaemonOptions { scrub: ScrubRate::BytesPerS(64 << 20), ..DaemonOptions::new(bind) })
}

fn wait_for(what: &str, mut happens: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !happens() {
        assert!(start.elapsed().as_secs() < 30, "{what} does not happen");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn a_hub_at_work_finds_rot_by_itself_and_the_next_sync_mends_it() {
    let d = synced();
    let hub = serve_scrubbing(&d);
    let log = files(&d, "hub", "log");
    rot(&log[0], 2);
    wait_for("scrubbing", || fates(&status(&d, "hub")) == ["open"]);
    assert_eq!(quarantined(&d, "hub"), 1);
    let told = status(&d, "hub");
    assert_eq!((&told["streams"][0]["gap"], told["scrub"]["last"].is_string()), (&serde_json::json!([11, 20]), true));
    sync(&d, "clinic_a", &hub);
    wait_for("repair", || verify(&d, "hub").0 == Some(0));
    assert_eq!(fates(&status(&d, "hub")), ["repaired"]);
    assert_eq!(d.payloads("hub", "clinic_a").len(), 30);
    // Others are served meanwhile, and the newest group of all is seen as well.
    d.push("clinic_a", payloads(30, 10));
    sync(&d, "clinic_a", &hub);
    let all = fs::read(log.last().unwrap()).unwrap();
    let used = all.chunks(PAGE as usize).rposition(|p| p.iter().any(|b| *b != 0)).unwrap() as u64;
    rot(log.last().unwrap(), used);
    wait_for("scrubbing", || fates(&status(&d, "hub")).contains(&"open".to_owned()));
    sync(&d, "clinic_a", &hub);
    wait_for("repair", || verify(&d, "hub").0 == Some(0));
    assert_eq!(d.payloads("hub", "clinic_a").len(), 40);
    drop(hub);
    assert_eq!(verify(&d, "hub").0, Some(0));
}

#[test]
fn an_embedded_node_finds_rot_in_its_sealed_segments_and_asks_the_hub() {
    let d = Deployment::new(&["clinic_a"]);
    fill(&d, 900);
    let hub = d.serve(Policy::Own);
    sync(&d, "clinic_a", &hub);
    let _ = fs::remove_file(d.path("clinic_a").join("scrub.json"));
    let mut node = Replica::open(d.dir("clinic_a"), small()).unwrap();
    let sealed = files(&d, "clinic_a", "sealed");
    rot(&sealed[0], 30);
    assert!(!node.maintain(std::time::Duration::from_secs(60)), "it is due, and finds it");
    assert!(node.frontier().next().unwrap().gap.is_some());
    node.sync(&hub.address.to_string(), &Default::default(), |_| ()).unwrap();
    assert!(node.frontier().next().unwrap().gap.is_none());
    drop(node);
    let (code, told) = verify(&d, "clinic_a");
    assert_eq!((code, fates(&told)), (Some(0), vec!["repaired".to_owned()]), "{told}");
    assert_eq!(d.payloads("clinic_a", "clinic_a").len(), 900);
}

#[test]
fn what_a_session_cannot_read_is_found_out_at_once_and_the_rest_is_sent() {
    let d = synced();
    d.push("clinic_a", payloads(30, 5));
    let path = files(&d, "clinic_a", "log")[0].clone();
    let used = fs::read(&path).unwrap().chunks(PAGE as usize).rposition(|p| p.iter().any(|b| *b != 0)).unwrap() as u64;
    d.push("clinic_a", payloads(35, 5));
    let hub = d.serve(Policy::Own);
    let mut node = d.open("clinic_a");
    rot(&path, used);
    let told = node.sync(&hub.address.to_string(), &Default::default(), |_| ());
    assert!(told.is_err(), "{told:?}");
    assert!(node.frontier().any(|e| e.gap == Some((31, 35))), "{:?}", node.frontier().collect::<Vec<_>>());
    drop(node);
    let (code, told) = verify(&d, "clinic_a");
    assert_eq!((code, fates(&told)), (Some(3), vec!["open".to_owned()]), "{told}");
    assert_eq!(told["damages"][0]["lost"][0]["from"], 31);
}

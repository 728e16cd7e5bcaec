//! Old events are removed, and everybody goes on: the real command beside a real daemon.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use ropeway_core::policy::Policy;
use ropeway_core::streams::FrontierEntry;
use ropeway_std::LogView;
use ropeway_tests::process::{assert_clean, json, ropeway, run, said};
use ropeway_tests::{Deployment, Serving, name, noise};
use serde_json::Value;

/// Forty events fill a segment of a real node.
const LEN: usize = 200_000;

fn sync(d: &Deployment, clinic: &str, hub: &Serving) {
    let mut clinic = d.open(clinic);
    clinic.sync(&hub.address.to_string(), &Default::default(), |_| ()).unwrap();
    assert!(clinic.maintain(std::time::Duration::from_secs(60)));
}

/// What a node holds of clinic_a.
fn of_a(d: &Deployment, node: &str) -> FrontierEntry {
    let view = LogView::open(&d.dir(node)).unwrap();
    assert_eq!(view.damages(), [], "{node}");
    view.frontier().find(|e| e.key.node == name("clinic_a")).unwrap()
}

/// The word of the first segment that stays.
fn first_stay(plan: &Value) -> &str {
    let stays = plan["segments"].as_array().unwrap().iter().find(|s| s["goes"] == false).unwrap();
    stays["reason"].as_str().unwrap()
}

/// Everything that reads a log of which events were removed finds the rest, and no damage.
fn reads_well(dir: &Path, events: u64, expired: u64) {
    let status = json("status", dir, &[]);
    assert_eq!((&status["events"], &status["expired"]), (&events.into(), &expired.into()), "{status}");
    assert_eq!(status["damages"], Value::Array(vec![]));
    assert_clean(dir, "after removing");
    assert_eq!(run("verify", dir, &["--quick"]).status.code(), Some(0));
    let pulled = run("pull", dir, &[]);
    assert_eq!(pulled.status.code(), Some(0), "{}", said(&pulled));
    assert_eq!(pulled.stdout.iter().filter(|b| **b == b'\n').count() as u64, events);
    assert_eq!(said(&pulled).contains("R317 expired"), expired > 0);
}

#[test]
fn a_clinic_and_a_hub_remove_what_is_kept_elsewhere_and_newcomers_go_on_behind_it() {
    let d = Deployment::new(&["clinic_a", "clinic_b"]);
    let (a, hub_dir) = (d.path("clinic_a"), d.path("hub"));
    assert_eq!(json("retain", &a, &["--bytes", "1MB"])["rule"]["bytes"], 1_000_000);
    d.push("clinic_a", noise(1, 100, LEN));
    assert_eq!(first_stay(&json("expire", &a, &["--dry-run"])), "no-receipt");
    assert!(json("expire", &a, &[])["segments"].as_array().unwrap().iter().all(|s| s["goes"] == false));
    reads_well(&a, 100, 0);

    // What the hub has acknowledged goes, with the sync that brought it or by hand.
    let hub = d.serve(Policy::All);
    sync(&d, "clinic_a", &hub);
    let gone = of_a(&d, "clinic_a").floor;
    assert!(gone > 30 && gone < 100, "{gone}");
    reads_well(&a, 100 - gone, gone);
    assert_eq!(first_stay(&json("expire", &a, &["--dry-run"])), "not-sealed");
    d.push("clinic_a", noise(2, 10, 100));
    sync(&d, "clinic_a", &hub);
    assert_eq!((of_a(&d, "clinic_a").top, of_a(&d, "hub").have), (110, 110));
    let head = run("audit", &hub_dir, &["--heads"]).stdout;

    // The hub has no other copy: it removes what a backup holds, and not while it serves.
    json("retain", &hub_dir, &["--bytes", "1MB"]);
    assert_eq!(first_stay(&json("expire", &hub_dir, &["--dry-run"])), "no-backup");
    let locked = run("expire", &hub_dir, &[]);
    assert_eq!(locked.status.code(), Some(5), "{}", said(&locked));
    assert!(said(&locked).contains("--dry-run"));
    let copy = d.root().join("copy");
    let taken = ropeway(["snapshot"]).arg(&copy).arg("--data-dir").arg(&hub_dir).output().unwrap();
    assert!(said(&taken).contains("backup-mark"), "{}", said(&taken));
    assert_eq!(json("backup-mark", &hub_dir, &["--snapshot", copy.to_str().unwrap()])["streams"], 1);
    drop(hub);
    let expired = json("expire", &hub_dir, &[]);
    assert!(expired["segments"][0]["goes"] == true, "{expired}");
    let hub_gone = of_a(&d, "hub").floor;
    reads_well(&hub_dir, 110 - hub_gone, hub_gone);
    fs::write(d.root().join("head"), &head).unwrap();
    let same = run("audit", &hub_dir, &["--check-head", d.root().join("head").to_str().unwrap()]);
    assert_eq!(same.status.code(), Some(0), "{}", said(&same));

    // A clinic that comes now gets what there is, and knows what there is not.
    let hub = d.serve(Policy::All);
    for _ in 0..2 {
        sync(&d, "clinic_b", &hub);
        let b = of_a(&d, "clinic_b");
        assert_eq!((b.have, b.floor, b.skipped, b.gap), (110, hub_gone, true, None));
    }
    reads_well(&d.path("clinic_b"), 110 - hub_gone, hub_gone);
    assert_eq!(d.payloads("clinic_b", "clinic_a"), d.payloads("hub", "clinic_a"));
    d.push("clinic_a", noise(3, 1, 100));
    sync(&d, "clinic_a", &hub);
    sync(&d, "clinic_b", &hub);
    assert_eq!(of_a(&d, "clinic_b").have, 111);
    drop(hub);

    // The hub's disk is lost, and no backup is at hand: it learns what nobody can send it any more.
    fs::remove_dir_all(hub_dir.join("log")).unwrap();
    let hub = d.serve(Policy::All);
    sync(&d, "clinic_a", &hub);
    let e = of_a(&d, "hub");
    assert_eq!((e.have, e.floor, e.skipped), (111, gone, true));
    let status = json("status", &hub_dir, &[]);
    assert_eq!(status["streams"][0]["never_held"], true, "{status}");
    sync(&d, "clinic_b", &hub);
    assert_clean(&hub_dir, "after all");
}

#[test]
fn what_a_hub_has_lost_and_its_writer_has_removed_never_counts_as_repaired() {
    let d = Deployment::new(&["clinic_a"]);
    json("retain", &d.path("clinic_a"), &["--bytes", "1MB"]);
    d.push("clinic_a", noise(1, 100, LEN));
    let hub = d.serve(Policy::Own);
    sync(&d, "clinic_a", &hub);
    assert!(of_a(&d, "clinic_a").floor > 30);
    drop(hub);
    let mut files: Vec<_> = fs::read_dir(d.dir("hub").log()).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("seg-00000001."));
    let file = fs::OpenOptions::new().write(true).open(&files[0]).unwrap();
    file.write_all_at(b"rot", 1_000_000).unwrap();
    assert_eq!(run("verify", &d.path("hub"), &[]).status.code(), Some(3));
    let hub = d.serve(Policy::Own);
    for _ in 0..2 {
        sync(&d, "clinic_a", &hub);
        d.push("clinic_a", noise(2, 1, 100));
    }
    drop(hub);
    let told = run("verify", &d.path("hub"), &[]);
    assert_eq!(told.status.code(), Some(3), "{}", said(&told));
    assert!(said(&told).contains("not repaired"), "{}", said(&told));
    assert!(json("status", &d.path("hub"), &[])["damages"][0]["fate"] == "open");
}

//! Looking at a log, copying it, bringing it back: the real command beside a real daemon.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use ropeway_core::id::Lane;
use ropeway_core::policy::Role;
use ropeway_tests::process::{Hub, assert_clean, ropeway, run, said};
use ropeway_tests::{Deployment, noise};
use serde_json::Value;

fn ok(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", said(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn rows(output: &Output) -> Vec<Value> {
    String::from_utf8_lossy(&output.stdout).lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn snapshot(dir: &Path, dest: &Path, more: &[&str]) -> Value {
    let mut command = ropeway(["snapshot", "--json"]);
    let output = command.arg(dest).arg("--data-dir").arg(dir).args(more).output().unwrap();
    serde_json::from_str(&ok(&output)).unwrap()
}

fn restore(from: &Path, to: &Path, more: &[(&str, PathBuf)]) -> Output {
    let mut command = ropeway(["restore", "--json"]);
    command.arg(from).arg("--dir").arg(to);
    for (option, value) in more {
        command.arg(option).arg(value);
    }
    command.output().unwrap()
}

/// Name, incarnation, seq and payload of all events.
fn events(dir: &Path) -> BTreeSet<(String, String, u64, String)> {
    let output = run("pull", dir, &[]);
    ok(&output);
    let text = |r: &Value, k: &str| r[k].as_str().unwrap_or_default().to_owned();
    let all: Vec<_> = rows(&output)
        .iter()
        .map(|r| (text(r, "node"), text(r, "incarnation"), r["seq"].as_u64().unwrap(), text(r, "payload")))
        .collect();
    let set: BTreeSet<_> = all.iter().cloned().collect();
    assert_eq!(set.len(), all.len(), "something is there twice");
    set
}

fn push(dir: &Path, payload: &str) {
    ok(&run("push", dir, &["--payload", payload]));
}

#[test]
fn a_hub_is_copied_at_work_and_comes_back_with_nothing_lost_and_nothing_twice() {
    let d = Deployment::new(&["clinic_a", "clinic_b"]);
    let serving = Hub::start(&d.path("hub"), "before the snapshots");
    let mut taken = Vec::new();
    for round in 0..6 {
        // Two clinics bring events while the hub's log is copied.
        let syncs: Vec<_> = ["clinic_a", "clinic_b"]
            .map(|c| {
                d.push(c, (0..400).map(|i| format!("{c} {round} {i}")));
                let (mut clinic, address) = (d.open(c), serving.address.clone());
                std::thread::spawn(move || drop(clinic.sync(&address, &Default::default(), |_| ()).unwrap()))
            })
            .into();
        let dest = d.root().join(format!("snap{round}"));
        taken.push((snapshot(&d.path("hub"), &dest, &[]), dest));
        syncs.into_iter().for_each(|s| s.join().unwrap());
    }
    let all = events(&d.path("hub"));
    assert_eq!(all.len(), 2 * 6 * 400);
    let mut before = 0;
    for (told, dest) in &taken {
        let n = told["events"].as_u64().unwrap();
        assert!(n >= before, "{told}");
        before = n;
        assert!(!dest.join("keys").exists() && dest.join("manifest.json").exists());
    }
    assert!(before > 800, "the last one holds what came before it");

    // The hub's disk is lost; key, identity and the third snapshot are not.
    assert_eq!(serving.terminate(), Some(0));
    fs::rename(d.path("hub"), d.path("lost")).unwrap();
    let (told, dest) = &taken[3];
    let key = d.path("lost").join("keys/log.key");
    let restored = restore(dest, &d.path("hub"), &[("--keys", key), ("--identity", d.path("lost"))]);
    let restored: Value = serde_json::from_str(&ok(&restored)).unwrap();
    assert_eq!((&restored["signed"], &restored["role"]), (&true.into(), &"hub".into()));
    assert_eq!(restored["events"], told["events"]);
    assert_clean(&d.path("hub"), "restored");
    let serving = Hub::start(&d.path("hub"), "restored");
    for c in ["clinic_a", "clinic_b"] {
        let held = d.payloads("hub", c).len() as u64;
        let report = d.open(c).sync(&serving.address, &Default::default(), |_| ()).unwrap();
        assert_eq!((report.sent, report.received), (2_400 - held, 0), "{c}: the difference only");
    }
    assert!(events(&d.path("hub")) == all);
    assert_eq!(serving.terminate(), Some(0));
    assert_clean(&d.path("hub"), "at the end");
}

#[test]
fn a_clinic_is_copied_while_it_is_pushed_to_and_comes_back_in_a_new_incarnation() {
    let d = Deployment::new(&["clinic_a"]);
    let dir = d.path("clinic_a");
    push(&dir, "first");
    let pusher = {
        let dir = dir.clone();
        std::thread::spawn(move || (0..25).for_each(|i| push(&dir, &format!("event {i}"))))
    };
    let mut tops = Vec::new();
    while !pusher.is_finished() {
        let dest = d.root().join(format!("snap{}", tops.len()));
        tops.push((snapshot(&dir, &dest, &["--with-key"])["events"].as_u64().unwrap(), dest));
    }
    pusher.join().unwrap();
    assert!(tops.len() > 1 && tops.is_sorted_by_key(|t| t.0), "{tops:?}");
    let (top, dest) = &tops[tops.len() / 2];
    let serving = Hub::start(&d.path("hub"), "a clinic syncs");
    ok(&run("sync", &dir, &["--hub", &serving.address]));
    let all = events(&dir);
    let before: BTreeSet<_> = all.iter().map(|e| e.1.clone()).collect();
    assert_eq!((all.len(), before.len()), (26, 1));

    // Its card breaks. What it wrote after the snapshot comes from the hub, and only that.
    let old = d.root().join("broken");
    fs::rename(&dir, &old).unwrap();
    ok(&restore(dest, &dir, &[("--identity", old)]));
    assert_eq!(events(&dir).len() as u64, *top);
    push(&dir, "after the accident");
    let synced: Value = serde_json::from_str(&ok(&run("sync", &dir, &["--hub", &serving.address, "--json"]))).unwrap();
    assert_eq!((&synced["sent"], &synced["received"]), (&1.into(), &(26 - top).into()));
    let now = events(&dir);
    assert_eq!(now, events(&d.path("hub")));
    assert!(now.is_superset(&all) && now.len() == 27);
    let new = now.iter().find(|e| e.3 == "after the accident").unwrap();
    assert!(!before.contains(&new.1) && new.2 == 1, "{new:?}");
    assert_clean(&dir, "at the end");
}

#[test]
fn a_second_hub_begins_with_a_snapshot_of_the_first() {
    let d = Deployment::new(&["clinic_a"]);
    d.enroll("hub_2", Role::Hub);
    d.push("clinic_a", noise(1, 60, 100));
    let first = Hub::start(&d.path("hub"), "the first");
    d.open("clinic_a").sync(&first.address, &Default::default(), |_| ()).unwrap();
    let dest = d.root().join("snap");
    snapshot(&d.path("hub"), &dest, &[]);
    let key = d.path("hub").join("keys/log.key");
    ok(&restore(&dest, &d.path("hub_2"), &[("--keys", key.clone())]));
    // What it begins with it need not be sent.
    d.push("clinic_a", [b"one more"]);
    d.open("clinic_a").sync(&first.address, &Default::default(), |_| ()).unwrap();
    let report = d.open("hub_2").sync(&first.address, &Default::default(), |_| ()).unwrap();
    assert_eq!((report.sent, report.received), (0, 1));
    push(&d.path("hub_2"), "a word of its own");
    ok(&run("sync", &d.path("hub_2"), &["--hub", &first.address]));
    assert_eq!(events(&d.path("hub_2")), events(&d.path("hub")));
    assert_eq!(d.payloads("hub", "hub_2"), [b"a word of its own"]);

    // Never over a log.
    let refused = restore(&dest, &d.path("hub_2"), &[("--keys", key)]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("R104"), "{}", said(&refused));
}

#[test]
fn a_snapshot_that_is_killed_is_marked_and_refused() {
    let d = Deployment::new(&["clinic_a"]);
    d.push("clinic_a", noise(2, 40_000, 500));
    let dest = d.root().join("snap");
    let mut command = ropeway(["snapshot"]);
    let mut child = command.arg(&dest).arg("--data-dir").arg(d.path("clinic_a")).spawn().unwrap();
    while fs::read_dir(dest.join("log")).map_or(true, |mut d| d.next().is_none()) {
        assert!(child.try_wait().unwrap().is_none(), "it ended too early");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(dest.join("INCOMPLETE").exists());
    let to = d.root().join("new");
    let refused = restore(&dest, &to, &[("--keys", d.path("clinic_a").join("keys/log.key"))]);
    assert!(said(&refused).contains("R106") && !to.exists(), "{}", said(&refused));
    let mut again = ropeway(["snapshot"]);
    let again = again.arg(&dest).arg("--data-dir").arg(d.path("clinic_a")).output().unwrap();
    assert!(said(&again).contains("R102") && said(&again).contains("not empty"), "{}", said(&again));
}

#[test]
fn filters_choose_events_and_an_audit_lists_them_with_their_heads() {
    let d = Deployment::new(&["clinic_a", "clinic_b"]);
    let serving = Hub::start(&d.path("hub"), "filters");
    for (c, kinds) in [("clinic_a", [1, 2]), ("clinic_b", [2, 3])] {
        let mut clinic = d.open(c);
        for (i, kind) in kinds.iter().cycle().take(6).enumerate() {
            clinic
                .append(if i < 4 { Lane::Normal } else { Lane::Urgent }, *kind, format!("{c} {i}").as_bytes())
                .unwrap();
        }
        clinic.commit().unwrap();
        clinic.sync(&serving.address, &Default::default(), |_| ()).unwrap();
    }
    let hub = d.path("hub");
    let count = |more: &[&str]| ok(&run("pull", &hub, more)).lines().count();
    assert_eq!(count(&[]), 12);
    assert_eq!(count(&["--kind", "2"]), 6);
    assert_eq!(count(&["--kind", "1,3", "--lane", "urgent"]), 2);
    assert_eq!(count(&["--node", "clinic_b", "--kind", "2", "--kind", "3"]), 6);
    assert_eq!(count(&["--node", "clinic_a,clinic_b", "--from", "3"]), 4);
    assert_eq!((count(&["--since", "1h"]), count(&["--until", "1h"])), (12, 0));
    assert_eq!((count(&["--since", "2099-01-01"]), count(&["--until", "2099-01-01T00:00:00Z"])), (0, 12));
    assert_eq!(
        ok(&run("pull", &hub, &["--raw", "--node", "clinic_a", "--kind", "1", "--lane", "normal"])),
        "clinic_a 0\nclinic_a 2\n"
    );

    let audit = run("audit", &hub, &["--json", "--kind", "2"]);
    ok(&audit);
    let all = rows(&audit);
    assert_eq!((all.len(), all.iter().filter(|r| r["head"].is_null()).count()), (6 + 4, 6));
    assert_eq!(all[0]["chain"].as_str().unwrap().len(), 64);
    // The chain of the last event of a stream is its head.
    let last = all.iter().rfind(|r| r["head"].is_null() && r["lane"] == "normal" && r["node"] == "clinic_a").unwrap();
    let head = all.iter().find(|r| !r["head"].is_null() && r["lane"] == "normal" && r["node"] == "clinic_a").unwrap();
    assert_eq!((&last["seq"], &last["chain"]), (&head["seq"], &head["chain"]));
    let text = ok(&run("audit", &hub, &[]));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 1 + 12 + 1 + 4, "{text}");
    assert!(lines[0].starts_with("time ") && lines[14].starts_with("head  clinic_a/"), "{text}");
    let column = lines[0].find("lane").unwrap();
    assert!(lines[1..13].iter().all(|l| ["normal", "urgent"].contains(&&l[column..column + 6])), "{text}");
}

/// Puts the log back to what it was, in the same files: as one who has the disk would.
fn rewind(dir: &Path, before: &[u8]) {
    let file = fs::OpenOptions::new().write(true).open(dir.join("log/seg-00000001.log")).unwrap();
    file.write_all_at(before, 0).unwrap();
}

#[test]
fn history_that_was_cut_off_or_rewritten_no_longer_holds_the_head_that_was_kept() {
    let d = Deployment::new(&["clinic_a"]);
    let dir = d.path("clinic_a");
    push(&dir, "one");
    let early = ok(&run("audit", &dir, &["--heads"])).trim().to_owned();
    let before = fs::read(dir.join("log/seg-00000001.log")).unwrap();
    push(&dir, "two");
    let heads = d.root().join("heads");
    fs::write(&heads, ok(&run("audit", &dir, &["--heads"]))).unwrap();
    let heads = heads.to_str().unwrap();
    push(&dir, "three");
    let told = ok(&run("audit", &dir, &["--check-head", heads, "--check-head", &early]));
    assert!(told.contains("2 heads are in the log"), "{told}");

    let gone = |argument: &str, code: &str| {
        let o = run("audit", &dir, &["--check-head", argument, "--json"]);
        assert_eq!(o.status.code(), Some(3), "{}", said(&o));
        let [row] = &rows(&o)[..] else { panic!("{}", said(&o)) };
        assert_eq!((&row["ok"], &row["code"]), (&false.into(), &code.into()), "{}", said(&o));
    };
    rewind(&dir, &before);
    gone(heads, "R314");
    ok(&run("audit", &dir, &["--check-head", &early]));
    push(&dir, "another two");
    assert_eq!(events(&dir).iter().map(|e| &e.1).collect::<BTreeSet<_>>().len(), 1, "the same incarnation");
    gone(heads, "R406");
    assert_clean(&dir, "and verify sees nothing, since who did it has the key");
    ok(&run("audit", &dir, &["--check-head", &early]));
    // A log that was begun anew.
    fs::remove_file(dir.join("log/seg-00000001.log")).unwrap();
    push(&dir, "one");
    gone(heads, "R314");
    let o = run("audit", &dir, &["--check-head", "nonsense"]);
    assert!(o.status.code() == Some(1) && said(&o).contains("R102"), "{}", said(&o));
}

#[test]
fn damage_is_told_with_what_it_cost_and_quickly_even_without_the_key() {
    let d = Deployment::new(&["clinic_a"]);
    let dir = d.path("clinic_a");
    for i in 0..6 {
        push(&dir, &format!("event {i}"));
    }
    let quick = |code: i32| {
        let o = run("verify", &dir, &["--quick", "--json"]);
        assert_eq!(o.status.code(), Some(code), "{}", said(&o));
        rows(&o).remove(0)
    };
    fs::rename(dir.join("keys"), dir.join("away")).unwrap();
    let clean = quick(0);
    assert_eq!((&clean["clean"], &clean["frames"]), (&true.into(), &6.into()));
    assert!(clean["cannot_tell"].as_array().unwrap().len() == 4);
    assert!(said(&run("verify", &dir, &[])).contains("R201"));

    // Each push begins an epoch: a header page and a frame. This is the frame of the third.
    let file = fs::OpenOptions::new().write(true).open(dir.join("log/seg-00000001.log")).unwrap();
    file.write_all_at(b"rot", 5 * 4096 + 20).unwrap();
    let damaged = quick(3);
    let damage = &damaged["damages"][0];
    assert_eq!((&damage["code"], &damage["segment"], &damage["from_page"]), (&"R302".into(), &1.into(), &5.into()));
    assert!(said(&run("verify", &dir, &["--quick"])).contains("not told without the key"));
    fs::rename(dir.join("away"), dir.join("keys")).unwrap();

    for v in ["status", "verify"] {
        let o = run(v, &dir, &["--json"]);
        let lost = &rows(&o)[0]["damages"][0]["lost"][0];
        assert_eq!((&lost["node"], &lost["from"], &lost["to"]), (&"clinic_a".into(), &3.into(), &3.into()), "{v}");
        let text = said(&run(v, &dir, &[]));
        assert!(
            text.contains("R302 corrupt: segment 1, page 5\n") && text.contains("it has cost event 3 of clinic_a/"),
            "{text}"
        );
    }
    // An audit and a pull leave it out and say so.
    for v in ["audit", "pull"] {
        let o = run(v, &dir, &[]);
        assert_eq!(o.status.code(), Some(3), "{v}");
        assert!(said(&o).contains("R302 corrupt: event 3 of clinic_a/"), "{v}: {}", said(&o));
    }
    // Heads behind it hold, with a word about what was not checked.
    let heads = d.root().join("heads");
    fs::write(&heads, ok_or_damage(&run("audit", &dir, &["--heads"]))).unwrap();
    let o = run("audit", &dir, &["--check-head", heads.to_str().unwrap()]);
    assert!(said(&o).contains("but for 1 event before it") && said(&o).contains("is not checked"), "{}", said(&o));
    // Who only writes hears of it, too.
    let o = run("push", &dir, &["--payload", "more"]);
    assert!(ok(&o).contains("pushed 1 event"));
    assert!(
        said(&o).contains("R302 corrupt: segment 1, page 5") && said(&o).contains("ropeway status"),
        "{}",
        said(&o)
    );
    let o = run("sync", &dir, &["--hub", "127.0.0.1:1"]);
    assert!(said(&o).contains("R302 corrupt: segment 1, page 5"), "{}", said(&o));
}

fn ok_or_damage(output: &Output) -> &[u8] {
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}", said(output));
    &output.stdout
}

#[test]
fn without_a_data_key_the_rest_of_the_log_is_read() {
    let d = Deployment::new(&["clinic_a"]);
    let dir = d.path("clinic_a");
    push(&dir, "kept");
    let older = fs::read(dir.join("keys/keyring")).unwrap();
    ok(&run("rekey", &dir, &["--data"]));
    push(&dir, "lost");
    fs::write(dir.join("keys/keyring"), older).unwrap();
    for v in ["pull", "audit", "verify"] {
        let o = run(v, &dir, &[]);
        assert_eq!(o.status.code(), Some(3), "{v}: {}", said(&o));
        assert!(said(&o).contains("R201 key missing: segment 1"), "{v}: {}", said(&o));
    }
    let o = run("pull", &dir, &["--json"]);
    assert_eq!(rows(&o)[0]["payload"], "kept");
    assert!(ok(&run("status", &dir, &[])).contains("R201 key missing: segment 1"));
    // Nothing is written behind what cannot be read.
    let o = run("push", &dir, &["--payload", "more"]);
    assert!(o.status.code() == Some(1) && said(&o).contains("R201"), "{}", said(&o));
}

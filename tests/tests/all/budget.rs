//! Syncs that may cost only so much: bytes of a session and of a day, bytes a second, hours.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use ropeway_core::code::Code;
use ropeway_core::id::Lane;
use ropeway_core::policy::Policy;
use ropeway_mio::demo::link::{Link, LinkOptions};
use ropeway_mio::demo::profile::Profile;
use ropeway_std::budget::{Account, Budget, forecast};
use ropeway_std::{SyncOptions, SyncReport};
use ropeway_tests::process::{assert_clean, program, said, verb};
use ropeway_tests::{Deployment, noise};
use serde_json::Value;

fn json(dir: &Path, of: &str, more: &[&str]) -> (Option<i32>, Value) {
    let output = verb(of, dir, &[more, &["--json"]].concat()).output().unwrap();
    let value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(&output)));
    (output.status.code(), value)
}

fn wire(report: &Value) -> u64 {
    report["wire_bytes_up"].as_u64().unwrap() + report["wire_bytes_down"].as_u64().unwrap()
}

#[test]
fn a_backlog_that_is_larger_than_a_syncs_bytes_arrives_in_several_syncs_each_within_them() {
    for (limit, payloads) in [(30_000, noise(1, 120, 900)), (12 << 10, noise(2, 90, 400))] {
        let d = Deployment::new(&["clinic_a"]);
        d.push("clinic_a", &payloads);
        let hub = d.serve(Policy::Own);
        let (mut acknowledged, mut syncs) = (0, 0);
        loop {
            let more = ["--hub", &hub.address.to_string(), "--max-bytes", &limit.to_string()];
            let (exit, report) = json(&d.path("clinic_a"), "sync", &more);
            println!("{report}");
            assert!(wire(&report) <= limit, "{report}");
            // What went is acknowledged, and nothing goes twice.
            assert_eq!(report["sent"], report["acknowledged"], "{report}");
            assert_eq!(report["resumed_at"], acknowledged);
            acknowledged += report["acknowledged"].as_u64().unwrap();
            syncs += 1;
            if exit == Some(0) {
                break;
            }
            assert_eq!((exit, &report["error"]["code"]), (Some(4), &Value::from("R508")), "{report}");
            assert!(wire(&report) > limit - limit / 6, "not much of it is left unused: {report}");
        }
        assert!(syncs >= 4, "{syncs}");
        assert_eq!(d.payloads("hub", "clinic_a"), payloads);
        assert_clean(&d.path("hub"), "after it");
    }
}

#[test]
fn on_a_2g_link_all_that_went_is_acknowledged_when_the_budget_ends() {
    let d = Deployment::new(&["clinic_a"]);
    let payloads = noise(10, 60, 900);
    d.push("clinic_a", &payloads);
    let hub = d.serve(Policy::Own);
    let profile: Profile = "bhutan-2g".parse().unwrap();
    let link = Link::start(hub.address, &profile, LinkOptions { speed: 10.0, seed: 1, cut: None }).unwrap();
    let budget = Budget { session_bytes: Some(24_000), ..Budget::default() };
    let options = SyncOptions { budget, ..SyncOptions::default() };
    let mut acknowledged = 0;
    for _ in 0..2 {
        let e = d.open("clinic_a").sync(&link.address().to_string(), &options, |_| ()).unwrap_err();
        let r = &e.report;
        println!("{e}: {r:?}");
        assert_eq!((e.error.code, r.sent, r.resumed_at), (Code::Budget, r.acknowledged, acknowledged));
        assert!((20_000..=24_000).contains(&(r.wire_bytes_up + r.wire_bytes_down)), "{r:?}");
        acknowledged += r.acknowledged;
    }
    let told = forecast(&d.dir("clinic_a"), &budget).unwrap();
    println!("{told:?}");
    assert_eq!(told.lanes[1].events, 60 - acknowledged);
    assert!(told.fits() && told.link.bytes_per_s.is_some_and(|rate| rate < 40_000), "{told:?}");
    d.open("clinic_a").sync(&link.address().to_string(), &options, |_| ()).unwrap();
    assert_eq!(d.payloads("hub", "clinic_a"), payloads);
}

#[test]
fn what_the_hub_has_comes_in_several_syncs_too() {
    let d = Deployment::new(&["clinic_a", "clinic_b"]);
    let payloads = noise(3, 150, 900);
    d.push("clinic_a", &payloads);
    let hub = d.serve(Policy::All);
    let address = hub.address.to_string();
    d.open("clinic_a").sync(&address, &SyncOptions::default(), |_| ()).unwrap();
    let (mut received, mut syncs) = (0, 0);
    loop {
        let (exit, report) = json(&d.path("clinic_b"), "sync", &["--hub", &address, "--max-bytes", "40K"]);
        println!("{report}");
        assert!(wire(&report) <= 40 << 10, "{report}");
        let new = report["received"].as_u64().unwrap();
        assert!(new > 0, "{report}");
        (received, syncs) = (received + new, syncs + 1);
        if exit == Some(0) {
            break;
        }
        assert_eq!((exit, &report["error"]["code"]), (Some(4), &Value::from("R508")), "{report}");
    }
    assert!(syncs > 3, "{syncs}");
    assert_eq!(received, 150, "nothing comes twice");
    assert_eq!(d.payloads("clinic_b", "clinic_a"), payloads);
}

#[test]
fn an_event_that_is_larger_than_what_is_left_is_named_and_nothing_of_it_is_sent() {
    let d = Deployment::new(&["clinic_a"]);
    d.push("clinic_a", noise(4, 1, 50_000));
    let hub = d.serve(Policy::Own);
    let address = hub.address.to_string();
    let (exit, report) = json(&d.path("clinic_a"), "sync", &["--hub", &address, "--max-bytes", "20K"]);
    assert_eq!((exit, &report["sent"]), (Some(4), &Value::from(0)), "{report}");
    assert!(wire(&report) < 4000, "{report}");
    assert!(report["error"]["message"].as_str().unwrap().contains("may need 50032 bytes"), "{report}");
    let (exit, report) = json(&d.path("clinic_a"), "sync", &["--hub", &address, "--max-bytes", "60K"]);
    assert_eq!((exit, &report["acknowledged"]), (Some(0), &Value::from(1)), "{report}");
}

/// Nobody has knocked.
fn assert_not_called(listener: &TcpListener) {
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn once_the_days_budget_is_used_no_sync_connects_before_the_next_day() {
    let d = Deployment::new(&["clinic_a"]);
    d.push("clinic_a", noise(5, 100, 900));
    let hub = d.serve(Policy::Own);
    let (dir, address) = (d.path("clinic_a"), hub.address.to_string());
    let with = ["--hub", &address, "--budget", "30K", "--max-bytes", "20K"];
    let mut used = 0;
    for _ in 0..2 {
        let (exit, report) = json(&dir, "sync", &with);
        assert_eq!((exit, &report["sent"]), (Some(4), &report["acknowledged"]), "{report}");
        used += wire(&report);
    }
    assert!((27 << 10..=30 << 10).contains(&used), "{used}");
    let (_, status) = json(&dir, "status", &[]);
    assert_eq!(
        (&status["traffic"]["today_bytes"], &status["traffic"]["day_bytes"]),
        (&used.into(), &(30 << 10).into())
    );
    let text = said(&verb("status", &dir, &[]).output().unwrap());
    assert!(text.contains("of 31 kB used today"), "{text}");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let (exit, report) = json(&dir, "sync", &["--hub", &nobody.local_addr().unwrap().to_string(), "--budget", "30K"]);
    assert_eq!((exit, &report["error"]["code"]), (Some(4), &Value::from("R508")), "{report}");
    assert!(report["error"]["message"].as_str().unwrap().contains("the next day begins in"), "{report}");
    assert_not_called(&nobody);
    let (exit, report) = json(&dir, "sync", &["--hub", &address]);
    assert_eq!(exit, Some(0), "without a budget it goes on: {report}");
    assert_eq!(d.payloads("hub", "clinic_a").len(), 100);
}

#[test]
fn outside_of_its_window_a_sync_does_not_connect() {
    let d = Deployment::new(&["clinic_a"]);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let now_min = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() / 60;
    let at = |min: u64| format!("{:02}:{:02}", (now_min + min) / 60 % 24, (now_min + min) % 60);
    let shut = format!("{}-{}", at(120), at(180));
    let (exit, report) =
        json(&d.path("clinic_a"), "sync", &["--hub", &nobody.local_addr().unwrap().to_string(), "--window", &shut]);
    assert_eq!((exit, &report["error"]["code"]), (Some(4), &Value::from("R509")), "{report}");
    assert_not_called(&nobody);
    let hub = d.serve(Policy::Own);
    let open = format!("{}-{}", at(1440 - 60), at(60));
    let (exit, report) =
        json(&d.path("clinic_a"), "sync", &["--hub", &hub.address.to_string(), "--window", &shut, "--window", &open]);
    assert_eq!(exit, Some(0), "{report}");
}

#[test]
fn a_dry_run_connects_nowhere_and_tells_what_a_sync_then_costs() {
    let d = Deployment::new(&["clinic_a"]);
    let dir = d.path("clinic_a");
    let mut clinic = d.open("clinic_a");
    for i in 0..400 {
        let note =
            format!("{{\"patient_id\":\"BT-{i:04}\",\"note\":\"seen by the nurse, number {}\"}}", i * 7919 % 1000);
        clinic.append(Lane::Normal, 1, note.as_bytes()).unwrap();
    }
    clinic.append(Lane::Urgent, 2, b"cholera").unwrap();
    for picture in noise(8, 6, 900) {
        clinic.append(Lane::Bulk, 0, &picture).unwrap();
    }
    clinic.commit().unwrap();
    // It needs no lock.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = nobody.local_addr().unwrap().to_string();
    let files = |dir: &Path| std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
    let before = files(&dir);
    let (exit, told) = json(&dir, "sync", &["--hub", &nowhere, "--dry-run"]);
    assert_not_called(&nobody);
    assert_eq!(files(&dir), before);
    assert_eq!((exit, &told["fits"], &told["seconds"]), (Some(0), &Value::Bool(true), &Value::Null), "{told}");
    let lanes: Vec<_> = told["lanes"].as_array().unwrap().iter().map(|l| l["events"].as_u64().unwrap()).collect();
    assert_eq!((lanes, &told["events"]), (vec![1, 400, 6], &407.into()), "{told}");
    assert_eq!(told["lanes"][0]["payload_bytes"], 7);
    let (exit, small) = json(&dir, "sync", &["--hub", &nowhere, "--dry-run", "--max-bytes", "4K", "--budget", "1M"]);
    assert_eq!((exit, &small["fits"], &small["left_bytes"]), (Some(4), &Value::Bool(false), &4096.into()), "{small}");
    let text = said(&verb("sync", &dir, &["--hub", &nowhere, "--dry-run", "--max-bytes", "4K"]).output().unwrap());
    assert!(text.contains("urgent      1 event, 7 B") && text.contains("all of it takes"), "{text}");
    drop(clinic);

    let hub = d.serve(Policy::Own);
    let (exit, report) = json(&dir, "sync", &["--hub", &hub.address.to_string()]);
    assert_eq!(exit, Some(0), "{report}");
    let (cost, estimate) = (wire(&report), told["wire_bytes"].as_u64().unwrap());
    println!("{estimate} told, {cost} used");
    assert!((cost * 8 / 10..=cost * 13 / 10).contains(&estimate), "{estimate} told, {cost} used");
    d.push("clinic_a", ["one more"]);
    let (_, told) = json(&dir, "sync", &["--hub", &nowhere, "--dry-run"]);
    assert_eq!(told["events"], 1);
    assert!(told["seconds"].as_f64().is_some_and(|s| s > 0.0) && told["rtt_ms"].as_u64().is_some(), "{told}");
}

#[test]
fn a_rate_is_kept_over_the_session() {
    let d = Deployment::new(&["clinic_a"]);
    d.push("clinic_a", noise(6, 10, 900));
    let hub = d.serve(Policy::Own);
    let budget = Budget { bytes_per_s: Some(4096), ..Budget::default() };
    let options = SyncOptions { budget, ..SyncOptions::default() };
    let most = |r: &SyncReport| 4096.0 * (r.seconds + 1.0) + 1.0;
    let report = d.open("clinic_a").sync(&hub.address.to_string(), &options, |_| ()).unwrap();
    assert_eq!(report.acknowledged, 10);
    assert!(report.wire_bytes_up as f64 <= most(&report), "{report:?}");
    assert!(report.seconds > 1.0, "{report:?}");
}

#[test]
fn an_urgent_event_may_overdraw_the_days_budget_if_it_is_allowed_to() {
    let d = Deployment::new(&["clinic_a"]);
    d.push("clinic_a", noise(9, 60, 900));
    let hub = d.serve(Policy::Own);
    let (dir, address) = (d.path("clinic_a"), hub.address.to_string());
    let plain = ["--hub", &address, "--budget", "20K"];
    let overdraft = [&plain[..], &["--urgent-overdraft", "8K"]].concat();
    let (exit, before) = json(&dir, "sync", &plain);
    assert_eq!(exit, Some(4), "{before}");
    let (exit, report) = json(&dir, "sync", &overdraft);
    assert_eq!((exit, wire(&report)), (Some(4), 0), "nothing urgent waits: {report}");
    let pushed = verb("push", &dir, &["--payload", "cholera", "--lane", "urgent"]).output().unwrap();
    assert!(pushed.status.success(), "{}", said(&pushed));
    let (exit, report) = json(&dir, "sync", &plain);
    assert_eq!((exit, wire(&report)), (Some(4), 0), "{report}");
    let (exit, report) = json(&dir, "sync", &overdraft);
    assert_eq!((exit, &report["acknowledged"], &report["sent"]), (Some(4), &1.into(), &1.into()), "{report}");
    assert!(wire(&report) < 3000, "{report}");
    assert!(d.payloads("hub", "clinic_a").contains(&b"cholera".to_vec()));
}

/// Passes one connection on to `hub` and counts its bytes; ends with it.
fn relay(hub: SocketAddr) -> (SocketAddr, Arc<AtomicU64>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, passed) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
    let counter = Arc::clone(&passed);
    let thread = std::thread::spawn(move || {
        let (clinic, hub) = (listener.accept().unwrap().0, TcpStream::connect(hub).unwrap());
        let pass = |mut from: TcpStream, mut to: TcpStream, counter: Arc<AtomicU64>| {
            let mut piece = [0; 4096];
            while let Ok(n @ 1..) = from.read(&mut piece) {
                counter.fetch_add(n as u64, Ordering::Relaxed);
                if to.write_all(&piece[..n]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Write);
        };
        let (clinic_too, hub_too, counter_too) =
            (clinic.try_clone().unwrap(), hub.try_clone().unwrap(), counter.clone());
        let down = std::thread::spawn(move || pass(hub_too, clinic_too, counter_too));
        pass(clinic, hub, counter);
        down.join().unwrap();
    });
    (address, passed, thread)
}

#[test]
fn a_sync_that_is_killed_has_forgotten_nothing_and_leaves_a_slice_counted_at_most() {
    let d = Deployment::new(&["clinic_a"]);
    let payloads = noise(7, 100, 900);
    d.push("clinic_a", &payloads);
    let (hub, dir) = (d.serve(Policy::Own), d.path("clinic_a"));
    let _built = program();
    let (mut all, mut rounds) = (0, 0);
    for until in [3_000, 12_000, 19_000] {
        let (address, passed, thread) = relay(hub.address);
        let more = ["--hub", &address.to_string(), "--budget", "1G", "--rate", "8K"];
        let mut child = verb("sync", &dir, &more).spawn().unwrap();
        while passed.load(Ordering::Relaxed) < until {
            assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        thread.join().unwrap();
        (all, rounds) = (all + passed.load(Ordering::Relaxed), rounds + 1);
        let used = Account::read(&d.dir("clinic_a")).unwrap().used_today();
        println!("{all} passed, {used} counted");
        // What it had not read yet when it was killed is a few acknowledgements.
        assert!((all - rounds * 1024..=all + rounds * (17 << 10)).contains(&used), "{all} passed, {used} counted");
    }
    let (exit, report) = json(&dir, "sync", &["--hub", &hub.address.to_string(), "--budget", "1G"]);
    assert_eq!(exit, Some(0), "{report}");
    assert_eq!(d.payloads("hub", "clinic_a"), payloads);
    assert_clean(&dir, "after three kills");
}

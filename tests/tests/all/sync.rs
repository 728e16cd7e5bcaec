//! The main job: events reach the hub, once, unaltered, and a cut costs nothing that was
//! acknowledged.

use ropeway_core::policy::Policy;
use ropeway_mio::demo::link::{Link, LinkOptions};
use ropeway_mio::demo::profile::Profile;
use ropeway_mio::demo::workload::Workload;
use ropeway_std::SyncReport;
use ropeway_tests::Deployment;
use ropeway_tests::process::{json, program, said, verb};

fn events(n: usize) -> Vec<Vec<u8>> {
    (0..n).map(|i| format!("{{\"n\":{i},\"note\":\"event number {i} of the clinic\"}}").into_bytes()).collect()
}

#[test]
fn everything_pushed_is_at_the_hub_once_and_in_order() {
    let d = Deployment::new(&["clinic_a"]);
    d.push("clinic_a", events(5000));
    let hub = d.serve(Policy::Own);
    let report = d.open("clinic_a").sync(&hub.address.to_string(), &Default::default(), |_| ()).unwrap();
    assert_eq!((report.sent, report.acknowledged, report.received), (5000, 5000, 0));
    assert_eq!(d.payloads("hub", "clinic_a"), events(5000));
    let again = d.open("clinic_a").sync(&hub.address.to_string(), &Default::default(), |_| ()).unwrap();
    assert_eq!((again.sent, again.resumed_at), (0, 5000));
}

#[test]
fn a_patient_can_be_registered_while_a_slow_sync_holds_the_log() {
    let d = Deployment::new(&["clinic_a"]);
    let mut workload = Workload::new(1, 0);
    d.push("clinic_a", (0..4000).map(|_| workload.next_event().1));
    let _built = program();
    let hub = d.serve(Policy::Own);
    let profile: Profile = "bhutan-2g".parse().unwrap();
    let link = Link::start(hub.address, &profile, LinkOptions { speed: 4.0, seed: 1, cut: None }).unwrap();
    let (mut clinic, address) = (d.open("clinic_a"), link.address().to_string());
    let (tell, told) = std::sync::mpsc::channel();
    let syncing = std::thread::spawn(move || {
        let tell = |r: &SyncReport| {
            let _ = tell.send(r.acknowledged);
        };
        clinic.sync(&address, &Default::default(), tell).unwrap()
    });
    // In the middle of it.
    while told.recv().unwrap() == 0 {}
    let dir = d.path("clinic_a");
    let pushed = verb("push", &dir, &["--payload", "late", "--json"]).output().unwrap();
    assert!(pushed.status.success(), "{}", said(&pushed));
    assert!(!syncing.is_finished());
    let report = syncing.join().unwrap();
    assert_eq!((report.sent, report.acknowledged), (4001, 4001));
    assert_eq!(d.payloads("hub", "clinic_a").last().unwrap(), b"late");
    assert!(!dir.join("ropeway.sock").exists());
}

#[test]
fn a_clinic_of_little_memory_may_do_without_the_model_for_more_bytes() {
    let d = Deployment::new(&["clinic_a", "clinic_b"]);
    let hub = d.serve(Policy::Own);
    let address = hub.address.to_string();
    let up = |clinic: &str, more: &[&str]| {
        d.push(clinic, events(200));
        let report = json("sync", &d.path(clinic), &[&["--hub", address.as_str()], more].concat());
        assert_eq!(d.payloads("hub", clinic), events(200));
        report["wire_bytes_up"].as_u64().unwrap()
    };
    let (with, without) = (up("clinic_a", &[]), up("clinic_b", &["--model-states", "0"]));
    assert!(without > with + 200, "{with} with, {without} without");
}

//! A hub that does not take large events: they stop nothing, both ends know of them, and none is lost.

use std::path::Path;

use ropeway_core::id::Lane;
use ropeway_core::policy::Policy;
use ropeway_core::streams::FrontierEntry;
use ropeway_mio::daemon::DaemonOptions;
use ropeway_std::accept::all_but_kinds;
use ropeway_std::{LogView, SyncReport};
use ropeway_tests::hostile::Hostile;
use ropeway_tests::process::{Hub, assert_clean, json, run, said};
use ropeway_tests::spec::{Batch, Event, NORMAL, Whose, entry, frame, varint, vector};
use ropeway_tests::{Deployment, Serving, name, noise};
use serde_json::Value;

use crate::scene::{MINE, Scene, now_ms, scene, start};

/// Eighty events fill a segment of a real node.
const LEN: usize = 100_000;
/// The hub takes no more.
const MOST: usize = 150_000;

fn picky(d: &Deployment) -> Serving {
    let bind = "127.0.0.1:0".parse().unwrap();
    d.serve_as(DaemonOptions { policy: Policy::All, accept_bytes: MOST, ..DaemonOptions::new(bind) })
}

fn sync(d: &Deployment, clinic: &str, hub: &Serving) -> SyncReport {
    let mut clinic = d.open(clinic);
    let report = clinic.sync(&hub.address.to_string(), &Default::default(), |_| ()).unwrap();
    assert!(clinic.maintain(std::time::Duration::from_secs(60)));
    report
}

fn of_a(d: &Deployment, node: &str) -> FrontierEntry {
    LogView::open(&d.dir(node)).unwrap().frontier().find(|e| e.key.node == name("clinic_a")).unwrap()
}

#[test]
fn an_event_that_the_hub_refuses_stops_nothing_is_told_at_both_ends_and_stays_where_it_was_written() {
    let d = Deployment::new(&["clinic_a", "clinic_b"]);
    let (a, b, hub_dir) = (d.path("clinic_a"), d.path("clinic_b"), d.path("hub"));
    json("retain", &a, &["--bytes", "1MB"]);
    d.push("clinic_a", noise(1, 5, 100));
    d.push("clinic_a", noise(2, 1, 2 * LEN));
    d.push("clinic_a", noise(3, 94, LEN));
    let hub = picky(&d);
    let report = sync(&d, "clinic_a", &hub);
    assert_eq!((report.withheld, report.acknowledged), (1, 100));
    let e = of_a(&d, "hub");
    assert_eq!((e.have, e.gap, e.withheld, e.lacks), (100, None, Some((6, 6)), None));
    let e = of_a(&d, "clinic_a");
    assert_eq!((e.have, e.acked, e.withheld, e.lacks), (100, 100, None, Some((6, 6))));

    // Whoever reads there gets everything else, and hears of it.
    sync(&d, "clinic_b", &hub);
    assert_eq!(sync(&d, "clinic_a", &hub).withheld, 0, "it was told");
    drop(hub);
    for dir in [&hub_dir, &b] {
        assert_clean(dir, "a place is no damage");
        let verified = json("verify", dir, &[]);
        let place = &verified["withheld"][0];
        assert_eq!((&place["from"], &place["bytes"], &place["code"]), (&6.into(), &(2 * LEN).into(), &"R311".into()));
        assert_eq!(verified["events"], 99, "{verified}");
        let pulled = run("pull", dir, &[]);
        assert_eq!(pulled.stdout.iter().filter(|b| **b == b'\n').count(), 99);
        assert!(said(&pulled).contains("R318 withheld"), "{}", said(&pulled));
        assert_eq!(json("status", dir, &[])["streams"][0]["withheld"], Value::from(vec![6, 6]));
    }
    assert_eq!(d.payloads("clinic_b", "clinic_a"), d.payloads("hub", "clinic_a"));
    assert_eq!(json("verify", &a, &[])["not_at_hub"][0]["from"], 6);
    assert_eq!(json("status", &a, &[])["streams"][0]["not_at_hub"], Value::from(vec![6, 6]));

    // A segment is full and sealed, and all of it is acknowledged; yet nobody else has that event.
    let plan = json("expire", &a, &["--dry-run"]);
    assert_eq!(plan["segments"][0]["reason"], "no-receipt", "{plan}");
    assert_eq!((of_a(&d, "clinic_a").floor, d.payloads("clinic_a", "clinic_a").len()), (0, 100));

    // A hub that has lost its log is sent it all again, and refuses it again.
    std::fs::remove_dir_all(hub_dir.join("log")).unwrap();
    let hub = picky(&d);
    assert_eq!(sync(&d, "clinic_a", &hub).withheld, 1);
    assert_eq!((of_a(&d, "hub").have, of_a(&d, "hub").withheld), (100, Some((6, 6))));
    drop(hub);
    // One that takes it gets it, and then it may go.
    std::fs::remove_dir_all(hub_dir.join("log")).unwrap();
    let hub = d.serve(Policy::All);
    assert_eq!(sync(&d, "clinic_a", &hub).withheld, 0);
    assert_eq!((of_a(&d, "hub").have, of_a(&d, "hub").withheld), (100, None));
    sync(&d, "clinic_a", &hub);
    let e = of_a(&d, "clinic_a");
    assert!(e.lacks.is_none() && e.floor > 6, "{e:?}");
    drop(hub);
    assert_clean(&hub_dir, "after all");
}

/// What a node's status tells of the stream of clinic_a: what is withheld, what the hub lacks, what is asked for.
fn told(dir: &Path) -> [Value; 3] {
    let status = json("status", dir, &[]);
    let streams = status["streams"].as_array().unwrap();
    let of_a = streams.iter().find(|s| s["node"] == "clinic_a").unwrap();
    ["withheld", "not_at_hub", "asked"].map(|field| of_a[field].clone())
}

fn range(from: u64, to: u64) -> Value {
    Value::from(vec![from, to])
}

#[test]
fn events_that_the_hub_refused_come_when_it_asks_for_them_once_more_and_nobody_waits_for_them_meanwhile() {
    let d = Deployment::new(&["clinic_a", "clinic_b", "clinic_c"]);
    let (a, b, hub_dir) = (d.path("clinic_a"), d.path("clinic_b"), d.path("hub"));
    for (seed, count, len) in [(1, 5, 100), (2, 1, 2 * LEN), (3, 3, LEN), (4, 1, 2 * LEN), (5, 2, 100)] {
        d.push("clinic_a", noise(seed, count, len));
    }
    let syncs = |dir: &Path, hub: &Hub| json("sync", dir, &["--hub", &hub.address]);
    let picky = ["--policy", "all", "--max-event", "150000"];
    let hub = Hub::start_with(&hub_dir, &picky, "it refuses");
    syncs(&a, &hub);
    syncs(&b, &hub);
    // Not beside a process that works there.
    let output = run("fetch", &hub_dir, &[]);
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    assert!(said(&output).contains("R301") && said(&output).contains("start it again"), "{}", said(&output));
    assert_eq!(hub.terminate(), Some(0));
    let lacked = [range(6, 10), Value::Null, Value::Null];
    assert_eq!(told(&hub_dir), lacked);

    let found = json("fetch", &hub_dir, &["--dry-run"])["asked"][0].clone();
    let numbers = ["from", "to", "events", "bytes", "again", "again_bytes"].map(|f| found[f].as_u64().unwrap());
    assert_eq!(numbers, [6, 10, 2, 4 * LEN as u64, 3, 3 * LEN as u64]);
    assert_eq!(json("fetch", &hub_dir, &["--node", "clinic_b"])["asked"], Value::from(Vec::<Value>::new()));
    assert_eq!(told(&hub_dir), lacked, "nothing was asked for");
    let asked = [range(6, 10), Value::Null, range(6, 10)];
    for _ in 0..2 {
        json("fetch", &hub_dir, &[]);
        assert_eq!(told(&hub_dir), asked);
    }
    assert_eq!(json("fetch", &hub_dir, &["--cancel"])["cancelled"][0]["to"], 10);
    assert_eq!(told(&hub_dir), lacked);

    // It still refuses them: they are withheld again, and nothing is asked for any more.
    json("fetch", &hub_dir, &[]);
    let hub = Hub::start_with(&hub_dir, &picky, "it refuses again");
    syncs(&a, &hub);
    assert_eq!(hub.terminate(), Some(0));
    assert_eq!((told(&hub_dir), told(&a)), (lacked, [Value::Null, range(6, 10), Value::Null]));

    // Until the writer comes, whoever reads there gets all that is there; a kill forgets nothing.
    json("fetch", &hub_dir, &[]);
    drop(Hub::start_with(&hub_dir, &picky[..2], "killed"));
    assert_eq!(told(&hub_dir), asked);
    assert_clean(&hub_dir, "asked for");
    let hub = Hub::start_with(&hub_dir, &picky[..2], "it takes them");
    syncs(&d.path("clinic_c"), &hub);
    assert_eq!((of_a(&d, "clinic_c").have, of_a(&d, "clinic_c").withheld), (12, Some((6, 10))));
    syncs(&a, &hub);
    // What the hub acknowledged may have been places; how it opens the next session tells.
    syncs(&a, &hub);
    let clean = [Value::Null, Value::Null, Value::Null];
    assert_eq!(told(&a), clean);
    // The reader's turn.
    json("fetch", &b, &[]);
    syncs(&b, &hub);
    assert_eq!(told(&b), clean);
    assert_eq!(hub.terminate(), Some(0));
    assert_eq!(told(&hub_dir), clean);
    for node in ["hub", "clinic_b"] {
        assert_eq!(d.payloads(node, "clinic_a"), d.payloads("clinic_a", "clinic_a"));
        assert_clean(&d.path(node), "after all");
    }
    let output = run("fetch", &hub_dir, &[]);
    assert!(output.status.success() && said(&output).contains("nothing is withheld here"), "{}", said(&output));
}

#[test]
fn a_hub_that_refuses_kinds_takes_everything_else_and_both_ends_name_what_it_refused() {
    let d = Deployment::new(&["clinic_a", "clinic_b"]);
    let (a, b, hub_dir) = (d.path("clinic_a"), d.path("clinic_b"), d.path("hub"));
    let mut clinic = d.open("clinic_a");
    let kinds = [0, 7, 0, 9, 9, 3, 7, 0];
    for (n, kind) in kinds.into_iter().enumerate() {
        clinic.append(Lane::Normal, kind, format!("{n}").as_bytes()).unwrap();
    }
    // Smaller than their places, and more of them than a group has room for places.
    for n in 0..12_000u32 {
        clinic.append(Lane::Normal, if n % 2 == 0 { 7 } else { 0 }, &[n as u8]).unwrap();
    }
    clinic.commit().unwrap();
    drop(clinic);
    let hub =
        Hub::start_with(&hub_dir, &["--refuse-kind", "7", "--refuse-kind", "9,11", "--policy", "all"], "with a rule");
    let synced = json("sync", &a, &["--hub", &hub.address]);
    assert_eq!((&synced["acknowledged"], &synced["withheld"]), (&12_008.into(), &6_004.into()), "{synced}");
    let again = json("sync", &a, &["--hub", &hub.address]);
    assert_eq!((&again["sent"], &again["withheld"]), (&0.into(), &0.into()), "{again}");
    // Whoever reads there may have a rule as well.
    let mut reader = d.open("clinic_b");
    reader.accept_by(all_but_kinds([3]));
    reader.sync(&hub.address, &Default::default(), |_| ()).unwrap();
    drop(reader);
    assert_eq!(hub.terminate(), Some(0));
    let mut held = d.payloads("hub", "clinic_a");
    assert_eq!(held.remove(2), b"5");
    assert_eq!(d.payloads("clinic_b", "clinic_a"), held);
    let place = json("verify", &b, &[])["withheld"].as_array().unwrap().iter().find(|x| x["from"] == 6).cloned();
    assert_eq!(place.map(|x| x["code"].clone()), Some("R604".into()));

    let taken: Vec<_> = d.payloads("clinic_a", "clinic_a").into_iter().enumerate().collect();
    let taken = taken.into_iter().filter(|(n, _)| kinds.get(*n).map_or(n % 2 == 1, |kind| [0, 3].contains(kind)));
    assert_eq!(d.payloads("hub", "clinic_a"), taken.map(|(_, payload)| payload).collect::<Vec<_>>());
    assert_clean(&hub_dir, "a place is no damage");
    let verified = json("verify", &hub_dir, &[]);
    let place = &verified["withheld"][0];
    assert_eq!((&place["from"], &place["bytes"], &place["code"]), (&2.into(), &1.into(), &"R604".into()), "{place}");
    assert_eq!(verified["events"], 6_004);
    let printed = said(&run("verify", &hub_dir, &[]));
    assert!(printed.contains("R604 refused by a rule"), "{}", &printed[..2000.min(printed.len())]);
    assert_eq!(json("verify", &a, &[])["not_at_hub"][0]["from"], 2);
    assert_eq!(json("status", &hub_dir, &[])["streams"][0]["withheld"][0], 2);
    assert_eq!(json("status", &a, &[])["streams"][0]["not_at_hub"][0], 2);
}

#[test]
fn what_is_asked_for_goes_on_behind_what_has_come_also_where_nothing_was_known_of_it() {
    let Scene { d, hub, .. } = scene(Policy::Own);
    let mut chain = start();
    let batches = [1, 2, 3].map(|n| Batch::new(0, n, &mut chain, &[Event::at(now_ms() + n, format!("b{n}"))]));
    let mut peer = Hostile::greeted(&d, "clinic_b", hub.address);
    peer.say(&vector(&[entry(Whose::Mine, NORMAL, MINE, 0, [0; 8])]));
    // WITHHELD: handle 0, events 1 to 3, no stamp, kind or flags; of the last the chain, the code is 302.
    let place = [&[0, 1, 3][..], &[0; 10], &[2], &chain, &[0], &varint(302)].concat();
    peer.say(&frame(0x20 | 0x40 | 19, &place));
    peer.acknowledged(0, 3);
    drop((peer, hub));
    let hub_dir = d.path("hub");
    json("fetch", &hub_dir, &[]);
    let asks = |seq: u64, tag: [u8; 8]| {
        let hub = d.serve(Policy::Own);
        let mut peer = Hostile::greeted(&d, "clinic_b", hub.address);
        peer.say(&vector(&[entry(Whose::Mine, NORMAL, MINE, 3, batches[2].tag)]));
        let said = peer.wait(2).body;
        let asked = entry(Whose::Yours, NORMAL, MINE, seq, tag);
        assert!(said.windows(asked.len()).any(|w| w == asked), "{seq}: {said:02x?}");
        (hub, peer)
    };
    let (hub, mut peer) = asks(0, [0; 8]);
    peer.say(&batches[0].frame());
    peer.acknowledged(0, 1);
    drop((peer, hub));
    let (_hub, mut peer) = asks(1, batches[0].tag);
    batches[1..].iter().for_each(|b| peer.say(&b.frame()));
    peer.acknowledged(0, 3);
    assert_eq!(d.payloads("hub", "clinic_b"), [b"b1", b"b2", b"b3"]);
}

//! What carriers' networks do to connections that live long: no hang, no false success, bounded tries.
//! Times are a twentieth of those in the field.

use std::time::Duration;

use ropeway_core::code::Code;
use ropeway_core::id::Lane;
use ropeway_core::limits::Timing;
use ropeway_core::policy::Policy;
use ropeway_mio::demo::link::{CutMode, CutPlan, Link, LinkOptions};
use ropeway_mio::demo::profile::Profile;
use ropeway_std::local::LocalPush;
use ropeway_std::{KeepOptions, Options, Replica, SyncOptions};
use ropeway_tests::middlebox::{Habit, Middlebox};
use ropeway_tests::process::verb;
use ropeway_tests::{Deployment, Serving, noise};

use crate::keep::{Keeping, Told, hasty, is_level};

/// PING after a second, the end after three.
fn twentieth() -> Timing {
    Timing { ack_delay_ms: 5, frame_time_ms: 25, ..Timing::default().divided_by(20) }
}

fn keep(d: &Deployment, at: &impl ToString) -> Keeping {
    let sync = SyncOptions { connect_timeout_ms: 3000, handshake_timeout_ms: 3000, ..SyncOptions::default() };
    let options = KeepOptions { sync, ..hasty() };
    Keeping::start(d, "clinic_a", &at.to_string(), twentieth(), options)
}

fn serve(d: &Deployment) -> Serving {
    d.serve_with(Policy::Own, twentieth())
}

fn push(d: &Deployment, lane: Lane, payload: &[u8]) {
    let mut push = LocalPush::connect(&d.dir("clinic_a")).unwrap();
    push.push(lane, 0, payload).unwrap();
    assert_eq!(push.finish().unwrap().error, None);
}

/// Pushes one event after the other, each when the last is acknowledged, and ends; all that was told.
fn push_one_by_one(d: &Deployment, k: Keeping, count: u8) -> Vec<Told> {
    let mut told = k.until(is_level);
    for n in 0..count {
        push(d, Lane::Normal, &[n; 700]);
        told.extend(k.until(|t| matches!(t, Told::Level { acknowledged } if *acknowledged > 0)));
    }
    k.stop.stop();
    let (rest, outcome) = k.join();
    outcome.unwrap();
    told.extend(rest);
    assert_eq!(d.payloads("hub", "clinic_a").len(), usize::from(count), "{told:?}");
    told
}

#[test]
fn a_peer_that_is_gone_without_a_word_is_noticed_and_called_again() {
    let d = Deployment::new(&["clinic_a"]);
    let hub = serve(&d);
    let all = noise(3, 500, 100);
    d.push("clinic_a", &all);
    let lan: Profile = "lan".parse().unwrap();
    let cut = CutPlan { mode: CutMode::Blackhole, after_bytes_up: 15_000, down_ms: 10, times: 2 };
    let link = Link::start(hub.address, &lan, LinkOptions { speed: 1.0, seed: 1, cut: Some(cut) }).unwrap();
    let k = keep(&d, &link.address());
    let told = k.until(is_level);
    k.stop.stop();
    let (_, outcome) = k.join();
    let total = outcome.unwrap();
    let losses = told.iter().filter(|t| **t == Told::Ended(Some(Code::Timeout))).count();
    assert_eq!((link.counters().read().cuts, losses), (2, 2), "{told:?}");
    assert!(total.sessions + total.failed <= 4, "{total:?}");
    assert_eq!(d.payloads("hub", "clinic_a"), all);
}

#[test]
fn a_nat_that_forgets_what_is_idle_does_not_forget_a_session_that_asks() {
    let d = Deployment::new(&["clinic_a"]);
    let hub = serve(&d);
    // Two minutes; there is a PING after twenty seconds.
    let nat = Middlebox::start(hub.address, Habit::Forgets(Duration::from_secs(6)));
    let k = keep(&d, &nat.address);
    k.until(is_level);
    // Longer than the NAT's memory: nothing is told meanwhile.
    std::thread::sleep(Duration::from_secs(8));
    push(&d, Lane::Normal, b"after two minutes and a half");
    let told = k.until(|t| *t != Told::Level { acknowledged: 0 });
    assert_eq!(told.last(), Some(&Told::Level { acknowledged: 1 }));
    k.stop.stop();
    assert_eq!((k.join().1.unwrap().sessions, nat.connections(), nat.struck()), (1, 1, 0));
}

#[test]
fn a_nat_that_forgets_sooner_than_that_costs_a_call_and_no_event() {
    let d = Deployment::new(&["clinic_a"]);
    let hub = serve(&d);
    let nat = Middlebox::start(hub.address, Habit::Forgets(Duration::from_millis(400)));
    let k = keep(&d, &nat.address);
    k.until(is_level);
    // The first PING goes nowhere, and three seconds later the session is given up.
    let told = k.until(|t| matches!(t, Told::Ended(_)));
    assert_eq!(told.last(), Some(&Told::Ended(Some(Code::Timeout))));
    push(&d, Lane::Normal, b"taken while nobody answers");
    let told = k.until(|t| matches!(t, Told::Level { acknowledged: 1 }));
    assert!(told.len() < 20, "{told:?}");
    k.stop.stop();
    k.join().1.unwrap();
    assert_eq!(d.payloads("hub", "clinic_a").len(), 1);
    assert!(nat.struck() >= 1);
}

#[test]
fn a_middlebox_that_takes_everything_and_closes_in_good_order_is_never_a_success() {
    let d = Deployment::new(&["clinic_a"]);
    let hub = serve(&d);
    let all = noise(4, 300, 100);
    d.push("clinic_a", &all);
    for after in [1, 700, 2_000, 9_000, 20_000] {
        let box_ = Middlebox::start(hub.address, Habit::SwallowsThenCloses(after, 1));
        let options = SyncOptions { handshake_timeout_ms: 3000, ..SyncOptions::default() };
        let mut clinic =
            Replica::open(d.dir("clinic_a"), Options { timing: twentieth(), ..Options::default() }).unwrap();
        let e = clinic.sync(&box_.address.to_string(), &options, |_| ()).unwrap_err();
        assert_eq!((e.error.code, box_.struck()), (Code::Cut, 1), "after {after} bytes: {e}");
        let at_hub = d.payloads("hub", "clinic_a").len() as u64;
        assert!(e.report.resumed_at + e.report.acknowledged <= at_hub, "{:?}, {at_hub}", e.report);
    }
    let box_ = Middlebox::start(hub.address, Habit::SwallowsThenCloses(3_000, 3));
    let k = keep(&d, &box_.address);
    k.until(is_level);
    k.stop.stop();
    let total = k.join().1.unwrap();
    assert!(box_.connections() <= 4 && total.sessions + total.failed <= 4, "{total:?}");
    assert_eq!(d.payloads("hub", "clinic_a"), all);
}

#[test]
fn half_a_minute_of_silence_in_the_middle_ends_nothing() {
    let d = Deployment::new(&["clinic_a"]);
    let hub = serve(&d);
    let all = noise(5, 600, 100);
    d.push("clinic_a", &all);
    let tower = Middlebox::start(hub.address, Habit::PausesOnce(20_000, Duration::from_millis(1500)));
    let mut clinic = Replica::open(d.dir("clinic_a"), Options { timing: twentieth(), ..Options::default() }).unwrap();
    let report = clinic.sync(&tower.address.to_string(), &SyncOptions::default(), |_| ()).unwrap();
    assert_eq!((report.acknowledged, tower.struck(), tower.connections()), (600, 1, 1));
    assert_eq!(d.payloads("hub", "clinic_a"), all);
}

#[test]
fn a_radio_that_takes_seconds_to_wake_up_costs_no_session() {
    let d = Deployment::new(&["clinic_a"]);
    let hub = serve(&d);
    let radio = Habit::Wakes { after: Duration::from_millis(100), delay: Duration::from_millis(150) };
    let radio = Middlebox::start(hub.address, radio);
    let k = keep(&d, &radio.address);
    let told = push_one_by_one(&d, k, 5);
    assert_eq!(told.iter().filter(|t| matches!(t, Told::Connected { .. })).count(), 1, "{told:?}");
}

#[test]
fn a_link_of_a_byte_now_and_then_is_given_up() {
    let d = Deployment::new(&["clinic_a"]);
    let hub = serve(&d);
    d.push("clinic_a", ["one"]);
    let link = Middlebox::start(hub.address, Habit::Trickles(Duration::from_millis(50)));
    let options = SyncOptions { handshake_timeout_ms: 3000, ..SyncOptions::default() };
    let e = d.open("clinic_a").sync(&link.address.to_string(), &options, |_| ()).unwrap_err();
    assert!(matches!(e.error.code, Code::Timeout | Code::Cut), "{e}");
    assert!(d.payloads("hub", "clinic_a").is_empty());
}

#[test]
fn an_event_that_is_longer_under_way_than_silence_may_last_arrives() {
    let d = Deployment::new(&["clinic_a"]);
    let hub = serve(&d);
    // Four seconds at this rate; nothing comes back before it is there as a whole.
    let image = noise(6, 1, 240_000);
    d.push("clinic_a", &image);
    let thin: Profile = "bhutan-2g".parse().unwrap();
    let link = Link::start(hub.address, &thin, LinkOptions { speed: 20.0, seed: 1, cut: None }).unwrap();
    let mut clinic = Replica::open(d.dir("clinic_a"), Options { timing: twentieth(), ..Options::default() }).unwrap();
    let report = clinic.sync(&link.address().to_string(), &SyncOptions::default(), |_| ()).unwrap();
    assert_eq!((report.acknowledged, link.counters().read().connections), (1, 1));
    assert_eq!(d.payloads("hub", "clinic_a"), image);
}

#[test]
fn an_urgent_event_overtakes_what_waits_in_line() {
    let d = Deployment::new(&["clinic_a"]);
    let hub = serve(&d);
    let bulk = noise(7, 600, 400);
    d.push("clinic_a", &bulk);
    let thin: Profile = "bhutan-2g".parse().unwrap();
    let link = Link::start(hub.address, &thin, LinkOptions { speed: 20.0, seed: 1, cut: None }).unwrap();
    let k = keep(&d, &link.address());
    while link.counters().read().bytes_up < 60_000 {
        std::thread::sleep(Duration::from_millis(5));
    }
    push(&d, Lane::Urgent, b"cholera");
    let left = link.counters().read().bytes_up;
    k.until(is_level);
    k.stop.stop();
    k.join().1.unwrap();
    // The order in which the hub took them.
    let pulled = verb("pull", &d.path("hub"), &[]).output().unwrap();
    let lines = String::from_utf8(pulled.stdout).unwrap();
    let before = lines.lines().take_while(|l| !l.contains(r#""lane":"urgent""#)).count() as u64 * 400;
    let waited = before.saturating_sub(left);
    println!("{left} bytes had left when it was pushed; {waited} more went before it, of {}", bulk.len() * 400);
    // The window of a thin link is 8 KiB, and a batch may be on its way into it; without them it would be all.
    assert!(waited < 24_000, "{waited} bytes went before it");
}

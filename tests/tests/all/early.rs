//! Early data between a clinic that stays connected and a hub, with somebody between them who records it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ropeway_core::id::Lane;
use ropeway_core::limits::Timing;
use ropeway_mio::daemon::DaemonOptions;
use ropeway_std::local::LocalPush;
use ropeway_std::{KeepOptions, KeepReport, SyncOptions};
use ropeway_tests::recorder::{Mode, Recorder};
use ropeway_tests::{Deployment, Serving};

use crate::keep::{Keeping, Told, hasty, is_level};

/// A hub that lets nobody wait for long who does not end the handshake.
fn serve(d: &Deployment, early_data: bool) -> Serving {
    let handshake_timeout = Duration::from_secs(2);
    d.serve_as(DaemonOptions { early_data, handshake_timeout, ..DaemonOptions::new("127.0.0.1:0".parse().unwrap()) })
}

/// A clinic that stays connected over the recorder, and has a ticket.
fn connected(d: &Deployment, recorder: &Recorder, early_data: bool) -> Keeping {
    let sync = SyncOptions { connect_timeout_ms: 20_000, handshake_timeout_ms: 20_000, ..SyncOptions::default() };
    // Long enough for a push before the next call.
    let options = KeepOptions { sync, early_data, pause_min_ms: 2000, pause_max_ms: 2000, ..hasty() };
    let k = Keeping::start(d, "clinic_a", &recorder.address.to_string(), Timing::default(), options);
    push(d, "first");
    k.until(|t| *t == Told::Level { acknowledged: 1 });
    k
}

/// A hub, and a clinic that stays connected over the recorder.
fn scene(early_data: bool) -> (Deployment, Serving, Recorder, Keeping) {
    let d = Deployment::new(&["clinic_a"]);
    let hub = serve(&d, true);
    let recorder = Recorder::start(hub.address);
    let k = connected(&d, &recorder, early_data);
    (d, hub, recorder, k)
}

/// The link breaks, and an event is pushed before the clinic calls again.
fn cut_then_push(d: &Deployment, k: &Keeping, recorder: &Recorder) {
    recorder.cut();
    k.until(|t| matches!(t, Told::Waiting(_)));
    push(d, "second");
}

fn push(d: &Deployment, payload: &str) {
    let mut push = loop {
        // It listens a little later than its thread starts.
        match LocalPush::connect(&d.dir("clinic_a")) {
            Some(push) => break push,
            None => std::thread::yield_now(),
        }
    };
    push.push(Lane::Normal, 0, payload.as_bytes()).unwrap();
    assert_eq!(push.finish().unwrap().error, None);
}

/// Sends a recording, and waits until the hub has had enough of it: what it answers.
fn replay(hub: SocketAddr, recording: &[u8]) -> Vec<u8> {
    let (mut socket, mut answer) = (TcpStream::connect(hub).unwrap(), Vec::new());
    socket.write_all(recording).unwrap();
    let _ = socket.read_to_end(&mut answer);
    answer
}

/// The clinic has ended in good order; what it told since it was last asked, and in all.
fn end(k: Keeping) -> (Vec<Told>, KeepReport) {
    k.stop.stop();
    let (told, outcome) = k.join();
    (told, outcome.unwrap())
}

#[test]
fn after_a_loss_the_first_events_go_with_the_first_packet_and_a_recording_of_it_changes_nothing() {
    let (d, hub, recorder, k) = scene(true);
    cut_then_push(&d, &k, &recorder);
    k.until(is_level);
    let recording = recorder.said_on(2);
    for _ in 0..2 {
        assert!(!replay(hub.address, &recording).is_empty());
    }
    push(&d, "third");
    k.until(|t| *t == Told::Level { acknowledged: 2 });
    let (_, total) = end(k);
    assert_eq!((total.sessions, total.resumed, total.early, total.failed), (2, 1, 1, 0));
    assert_eq!(d.payloads("hub", "clinic_a"), [&b"first"[..], b"second", b"third"]);
}

#[test]
fn where_the_hub_has_not_learned_of_the_loss_what_was_said_early_waits_for_the_end_of_the_handshake() {
    let (d, _hub, recorder, k) = scene(true);
    recorder.forget();
    k.until(|t| matches!(t, Told::Waiting(_)));
    push(&d, "second");
    k.until(is_level);
    let (_, total) = end(k);
    assert_eq!((total.sessions, total.resumed, total.early, total.failed), (2, 1, 1, 0));
    assert_eq!(d.payloads("hub", "clinic_a"), [&b"first"[..], b"second"]);
}

#[test]
fn a_recording_that_was_held_up_does_not_end_the_session_that_the_clinic_has_since() {
    let (d, hub, recorder, k) = scene(true);
    recorder.set(Mode::Swallow);
    cut_then_push(&d, &k, &recorder);
    let recording = recorder.said_on(2);
    recorder.set(Mode::Forward);
    k.until(is_level);
    replay(hub.address, &recording);
    push(&d, "third");
    k.until(|t| *t == Told::Level { acknowledged: 2 });
    let (told, total) = end(k);
    assert_eq!(told, [Told::Ended(None)], "nobody has superseded it");
    assert_eq!((total.sessions, total.resumed, total.early), (2, 0, 0));
    assert_eq!(d.payloads("hub", "clinic_a"), [&b"first"[..], b"second", b"third"]);
}

#[test]
fn a_recording_that_comes_while_the_clinic_is_away_brings_its_events_once_and_hinders_it_in_nothing() {
    let (d, hub, recorder, k) = scene(true);
    recorder.set(Mode::Hold);
    cut_then_push(&d, &k, &recorder);
    let recording = recorder.said_on(2);
    recorder.set(Mode::Swallow);
    let (_, total) = end(k);
    assert_eq!((total.sessions, total.early), (1, 0));
    // Its session stays until the handshake is overdue; the clinic does not wait for that.
    let mut thief = TcpStream::connect(hub.address).unwrap();
    thief.write_all(&recording).unwrap();
    let came = (0..1000).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        d.payloads("hub", "clinic_a").len() == 2
    });
    assert!(came);
    let report = d.open("clinic_a").sync(&hub.address.to_string(), &SyncOptions::default(), |_| ()).unwrap();
    assert_eq!(report.resumed_at, 2, "the hub has it already");
    assert_eq!(d.payloads("hub", "clinic_a"), [&b"first"[..], b"second"]);
    let _ = thief.read_to_end(&mut Vec::new());
}

#[test]
fn a_hub_that_was_restarted_gets_what_was_said_early_after_the_handshake() {
    // With the option it takes it, but as one that may have been said before; without, it is sent again.
    for (again, early) in [(true, 1), (false, 0)] {
        let (d, hub, recorder, k) = scene(true);
        recorder.set(Mode::Hold);
        cut_then_push(&d, &k, &recorder);
        let _ = recorder.said_on(2);
        drop(hub);
        let hub = serve(&d, again);
        recorder.lead_to(hub.address);
        recorder.set(Mode::Forward);
        k.until(is_level);
        let (_, total) = end(k);
        assert_eq!((total.sessions, total.resumed, total.early, total.failed), (2, 1, early, 0));
        assert_eq!(d.payloads("hub", "clinic_a"), [&b"first"[..], b"second"]);
    }
}

#[test]
fn a_clinic_that_was_not_told_to_says_nothing_early() {
    let (d, _hub, recorder, k) = scene(false);
    cut_then_push(&d, &k, &recorder);
    k.until(is_level);
    let (_, total) = end(k);
    assert_eq!((total.sessions, total.resumed, total.early), (2, 1, 0));
    assert_eq!(d.payloads("hub", "clinic_a"), [&b"first"[..], b"second"]);
}

//! Links that break: at any byte, in any way, again and again. What was acknowledged is never sent
//! again, nothing is lost and nothing comes twice.

use std::net::SocketAddr;

use ropeway_core::code::Code;
use ropeway_core::limits::Timing;
use ropeway_core::policy::Policy;
use ropeway_mio::demo::link::{CutMode, CutPlan, Link, LinkOptions};
use ropeway_mio::demo::profile::Profile;
use ropeway_std::{Options, Replica, SyncOptions};
use ropeway_tests::{Deployment, Random, noise};

const MODES: [CutMode; 3] = [CutMode::Reset, CutMode::Fin, CutMode::Blackhole];

/// A clinic that notices a dead link within half a second.
fn impatient(d: &Deployment) -> Replica {
    let timing = Timing { hello_timeout_ms: 400, ping_after_ms: 100, silence_timeout_ms: 400, ..Timing::default() };
    Replica::open(d.dir("clinic_a"), Options { timing, ..Options::default() }).unwrap()
}

fn impatience() -> SyncOptions {
    SyncOptions { connect_timeout_ms: 200, handshake_timeout_ms: 200, ..SyncOptions::default() }
}

/// A fast link that breaks once, after this many bytes from the clinic.
fn breaking(hub: SocketAddr, after_bytes_up: u64, mode: CutMode) -> Link {
    let lan: Profile = "lan".parse().unwrap();
    let cut = CutPlan { mode, ..CutPlan::once(after_bytes_up, 1) };
    Link::start(hub, &lan, LinkOptions { speed: 1.0, seed: after_bytes_up, cut: Some(cut) }).unwrap()
}

fn is_of_the_link(code: Code) -> bool {
    matches!(code, Code::Unreachable | Code::Cut | Code::Timeout | Code::Tls)
}

#[test]
fn twenty_cuts_in_a_row_lose_nothing_double_nothing_and_never_send_again_what_was_acknowledged() {
    const EVENTS: u64 = 5000;
    let d = Deployment::new(&["clinic_a"]);
    let all = noise(1, EVENTS as usize, 100);
    d.push("clinic_a", &all);
    let hub = d.serve(Policy::Own);
    let mut random = Random::new(20);
    let (mut acknowledged, mut clinic, mut links) = (0, impatient(&d), Vec::new());
    for n in 0..20 {
        let (at, mode) = (1 + random.below(20_000), MODES[n % 3]);
        let link = breaking(hub.address, at, mode);
        let e = clinic.sync(&link.address().to_string(), &impatience(), |_| ()).unwrap_err();
        assert!(is_of_the_link(e.error.code), "cut {n}, {mode:?} at byte {at}: {e}");
        assert_eq!(link.counters().read().cuts, 1, "{mode:?} at byte {at}: {e}");
        let r = e.report;
        // A cut may end the sync before the hub said what it has; a first flight may be out by then.
        if r.resumed_at > 0 || r.acknowledged > 0 {
            assert!(r.resumed_at >= acknowledged, "cut {n}: resumed at {}, had {acknowledged}", r.resumed_at);
            assert!(r.acknowledged <= r.sent, "{r:?}");
            acknowledged = r.resumed_at + r.acknowledged;
        }
        let at_hub = d.payloads("hub", "clinic_a");
        assert!(at_hub.len() as u64 >= acknowledged && all.starts_with(&at_hub), "cut {n}: {}", at_hub.len());
        // The hub is not told of a link that went silent: the old session stays while the new begins.
        links.push(link);
        if n % 2 == 1 {
            drop(clinic);
            clinic = impatient(&d);
        }
    }
    assert!(acknowledged > 0 && acknowledged < EVENTS, "{acknowledged}");
    drop(clinic);
    let r = d.open("clinic_a").sync(&hub.address.to_string(), &SyncOptions::default(), |_| ()).unwrap();
    assert!(r.resumed_at >= acknowledged);
    // A new process does not know what was under way when the last one stopped: its first flight of 4 KiB may hold
    // events that are there.
    let again = r.sent - (EVENTS - r.resumed_at);
    assert!(again <= 4096 / 100, "{again}");
    assert_eq!(d.payloads("hub", "clinic_a"), all);
}

/// Cuts at one byte after the other of an exchange of one event.
fn cut_everywhere(mode: CutMode, step: usize) {
    let d = Deployment::new(&["clinic_a"]);
    let hub = d.serve(Policy::Own);
    let address = hub.address.to_string();
    let all = noise(2, 1000, 60);
    d.push("clinic_a", &all[..1]);
    let whole = d.open("clinic_a").sync(&address, &SyncOptions::default(), |_| ()).unwrap();
    // Signatures and acknowledgements make it a little shorter or longer every time, and when only
    // the goodbye is lost the sync may rightly succeed.
    let sure = whole.wire_bytes_up - 150;
    let mut pushed = 1;
    for at in (1..sure).step_by(step) {
        d.push("clinic_a", &all[pushed..=pushed]);
        pushed += 1;
        let link = breaking(hub.address, at, mode);
        let outcome = impatient(&d).sync(&link.address().to_string(), &impatience(), |_| ());
        let Err(e) = outcome else { panic!("{mode:?} at byte {at} of {}: {outcome:?}", whole.wire_bytes_up) };
        assert!(is_of_the_link(e.error.code), "{mode:?} at byte {at}: {e}");
        let next = d.open("clinic_a").sync(&address, &SyncOptions::default(), |_| ()).unwrap();
        assert!(next.resumed_at >= e.report.resumed_at + e.report.acknowledged);
        assert_eq!(next.sent, pushed as u64 - next.resumed_at, "{mode:?} at byte {at}");
    }
    assert_eq!(d.payloads("hub", "clinic_a"), all[..pushed]);
}

#[test]
fn a_reset_at_any_byte_is_an_error_and_the_next_sync_completes() {
    cut_everywhere(CutMode::Reset, 23);
}

#[test]
fn an_end_of_stream_at_any_byte_is_an_error_and_the_next_sync_completes() {
    cut_everywhere(CutMode::Fin, 29);
}

#[test]
fn silence_from_any_byte_on_is_an_error_and_the_next_sync_completes() {
    cut_everywhere(CutMode::Blackhole, 211);
}

#[test]
fn an_event_larger_than_what_any_connection_carries_arrives_in_parts() {
    let d = Deployment::new(&["clinic_a"]);
    let hub = d.serve(Policy::Own);
    let all = noise(3, 1, 200_000);
    d.push("clinic_a", &all);
    let mut arrived = 0;
    for n in 1..=15 {
        let link = breaking(hub.address, 60_000, CutMode::Fin);
        // A process of its own each time: only the hub remembers how far it came.
        match d.open("clinic_a").sync(&link.address().to_string(), &SyncOptions::default(), |_| ()) {
            Ok(report) => {
                assert_eq!(report.acknowledged, 1);
                arrived = n;
                break;
            }
            Err(e) => assert!(is_of_the_link(e.error.code), "connection {n}: {e}"),
        }
    }
    assert!(arrived > 3, "{arrived}");
    assert_eq!(d.payloads("hub", "clinic_a"), all);
}

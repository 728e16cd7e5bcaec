//! A fortnight of monsoon at a health post: forty patients a day, a power cut each evening, a link
//! that is there for minutes and then gone for days. The real node, log and protocol, in a second.
//!
//!     cargo run --release -p ropeway-sim --example monsoon
//!
//! Change the numbers to those of your own application. Every check of the simulator is at work.

use ropeway_core::id::Lane;
use ropeway_core::limits::Limits;
use ropeway_core::policy::Role;
use ropeway_sim::{Profile, World};

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

fn main() {
    let mut w = World::new(7);
    w.profile = Profile::MONSOON;
    w.auto_dial = true;
    let hub = w.add("hub", Role::Hub, Limits::hub(8));
    let post = w.add("post_1", Role::Clinic, Limits::clinic());
    for day in 1..=14u64 {
        for patient in 1..=40u64 {
            let event = format!("{{\"day\":{day},\"patient\":{patient},\"event\":\"registration\"}}");
            w.write(post, Lane::Normal, event.as_bytes());
            w.run_for(12 * MINUTE_MS);
        }
        w.write(post, Lane::Bulk, &vec![b'x'; 60_000]);
        w.run_for(MINUTE_MS);
        w.crash(post);
        w.run_for(9 * MINUTE_MS);
        w.start(post, true);
        w.run_for(day * DAY_MS - w.now_ms());
        let (there, written) = (w.durable_events(hub, post), w.durable_events(post, post));
        println!("day {day:2}: {there} of {written} events are safe at the hub");
    }
    let all = w.run_until(60 * DAY_MS, |w| w.holds_all_of(hub, post));
    if let Some(failure) = w.failed() {
        eprintln!("{failure}");
        std::process::exit(1);
    }
    let (events, days) = (w.verify(hub), w.now_ms() / DAY_MS);
    println!(
        "{} after {days} days: {events} events at the hub, each as it was written",
        if all { "all" } else { "not all" }
    );
    println!(
        "{} bytes up, {} down, {} sessions, {} cuts",
        w.counts.bytes_up, w.counts.bytes_down, w.counts.sessions, w.counts.cuts
    );
}

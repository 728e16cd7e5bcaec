//! The real client and the real daemon over sockets, with the demo's link between them, in real time: beside what
//! virtual time says of the same.

use std::thread::JoinHandle;
use std::time::Instant;

use ropeway_core::id::Lane;
use ropeway_mio::daemon::{Daemon, DaemonOptions, Stopper};
use ropeway_mio::demo::link::{Link, LinkOptions};
use ropeway_std::tls::Clock;
use ropeway_std::{DataDir, Options, Replica, SyncOptions};

use super::air::Air;
use super::host::{Packing, make_clinic, make_hub};
use super::{NAME, append, home, pair};
use crate::Result;
use crate::corpus::Corpus;
use crate::progress::bar;
use crate::table::{Cell, Table};

/// What is synced, one after the other: so many events.
const STEPS: [(&str, usize); 4] =
    [("first sync, 1 event", 1), ("1 event", 1), ("nothing new", 0), ("a backlog of 400 events, over 2G", 400)];

/// Far away in real time, without letting people wait.
const FAR: Air = Air { rate_bytes_per_s: 10_000_000, latency_us: 150_000 };

#[derive(Clone, Copy)]
struct Step {
    bytes: [u64; 2],
    /// Until all was acknowledged.
    seconds: f64,
}

pub(super) fn measure() -> Result<Table> {
    let mut table = Table::new(
        "runtimes",
        "The real client and daemon over a modelled link, beside the same in virtual time",
        &[
            ("sync", "sync"),
            ("up_bytes", "up (B)"),
            ("down_bytes", "down (B)"),
            ("virtual_up_bytes", "virtual up"),
            ("virtual_down_bytes", "virtual down"),
            ("seconds", "acknowledged (s)"),
            ("virtual_seconds", "virtual"),
            ("round_trips", "round trips"),
        ],
    );
    let corpus = Corpus::generated(STEPS.iter().map(|(_, n)| n).sum());
    let steps = STEPS.map(|(_, events)| (events, if events > 1 { Air::thin() } else { FAR }));
    let (real, modelled) = (real(&corpus, &steps)?, modelled(&corpus, &steps)?);
    for (((what, _), (_, air)), (real, modelled)) in STEPS.iter().zip(steps).zip(real.into_iter().zip(modelled)) {
        let trips = (air == FAR).then_some(real.seconds * 1e6 / FAR.round_trip_us() as f64);
        table.row(vec![
            Cell::Text((*what).into()),
            Cell::Count(real.bytes[0]),
            Cell::Count(real.bytes[1]),
            Cell::Count(modelled.bytes[0]),
            Cell::Count(modelled.bytes[1]),
            Cell::Figure(real.seconds, 2),
            Cell::Figure(modelled.seconds, 2),
            Cell::maybe(trips, 2),
        ]);
    }
    table.note(
        "The embedded node's sync against the daemon, each on a connection of its own; 300 ms there and back where not \
         2G. Where the bytes differ by more than a few, the model of the other tables has fallen behind the runtimes.",
    );
    Ok(table)
}

struct Serving {
    stopper: Stopper,
    thread: Option<JoinHandle<ropeway_std::Result<()>>>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Syncs so many events over such a link, one after the other: the embedded node with the daemon.
fn real(corpus: &Corpus, sizes: &[(usize, Air)]) -> Result<Vec<Step>> {
    let home = home()?;
    let hub = make_hub(home.path(), Clock::System)?;
    let clinic = make_clinic(home.path(), &hub, NAME, Clock::System)?;
    let daemon = Daemon::bind(DataDir::new(hub.root()), DaemonOptions::new(([127, 0, 0, 1], 0).into()))?;
    let (address, stopper) = (daemon.local_addr(), daemon.stopper());
    let _serving = Serving { stopper, thread: Some(std::thread::spawn(move || daemon.run())) };
    let mut node = Replica::open(clinic, Options::default())?;
    let (mut steps, mut at) = (Vec::new(), 0);
    let bar = bar("syncs in real time", sizes.len() as u64);
    for &(events, air) in sizes {
        for n in at..at + events {
            let (kind, payload) = corpus.event(n);
            node.append(Lane::Normal, kind, payload)?;
        }
        node.commit()?;
        at += events;
        let link = Link::start(address, &air.profile(), LinkOptions { speed: 1.0, seed: 1, cut: None })?;
        let (begun, mut done) = (Instant::now(), None);
        let report = node.sync(&link.address().to_string(), &SyncOptions::default(), |report| {
            if events > 0 && report.acknowledged == events as u64 {
                done.get_or_insert(begun.elapsed());
            }
        })?;
        let seconds = done.map_or(report.seconds, |d| d.as_secs_f64());
        steps.push(Step { bytes: [report.wire_bytes_up, report.wire_bytes_down], seconds });
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(steps)
}

/// The same in virtual time.
fn modelled(corpus: &Corpus, sizes: &[(usize, Air)]) -> Result<Vec<Step>> {
    let home = home()?;
    let mut pair = pair(&home, Packing::Model)?;
    let (mut steps, mut at) = (Vec::new(), 0);
    for &(events, air) in sizes {
        append(&mut pair, corpus, at..at + events, Lane::Normal, 0)?;
        at += events;
        // As the embedded node does: each sync has a client of its own.
        pair.forget_tickets()?;
        let mut call = pair.dial(air)?;
        let mut done_us = None;
        if events > 0 {
            call.until_caught_up()?;
            done_us = Some(call.pair.now_us);
        }
        call.finish()?;
        let seconds = (done_us.unwrap_or(call.pair.now_us) - call.begun_us) as f64 / 1e6;
        steps.push(Step { bytes: call.bytes(), seconds });
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A few TLS records more or less: who writes when is up to the machine.
    const SLACK_BYTES: u64 = 100;

    #[test]
    fn the_real_client_and_daemon_spend_what_virtual_time_says() {
        let corpus = Corpus::generated(2);
        let sizes = [1, 1, 0].map(|events| (events, Air::cable()));
        let (real, modelled) = (real(&corpus, &sizes).unwrap(), modelled(&corpus, &sizes).unwrap());
        for (real, modelled) in real.iter().zip(&modelled) {
            for (real, modelled) in real.bytes.iter().zip(modelled.bytes) {
                assert!(
                    real.abs_diff(modelled) <= SLACK_BYTES,
                    "{real} bytes, and {modelled} in virtual time: bench/src/wire/call.rs no longer does what the \
                     client and the daemon do"
                );
            }
        }
    }
}

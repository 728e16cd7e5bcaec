//! The real client and the real hub as processes, over the kernel's TCP, through a link that carries, delays, loses
//! and drops IP packets: two network namespaces with a TUN device each, and a thread between them.
//!
//! It shows what virtual time hides: headers, acknowledgements, slow start, lost packets and what TCP makes of them,
//! send buffers, and how long it takes to notice that a connection is dead. It works in real time: seeds are fixed,
//! figures vary all the same. Everything that it makes goes with it.

mod backlog;
mod dying;
mod relay;
mod scene;
mod seen;
mod short;
mod space;
mod urgent;
mod way;

use std::sync::Arc;

use clap::ValueEnum;
use signal_hook::consts::{SIGINT, SIGTERM};

use self::relay::Plan;
use self::scene::Asked;
use self::way::Profile;
use super::{Scene, WireArgs};
use crate::Result;
use crate::corpus::Corpus;
use crate::progress::bar;
use crate::table::{Cell, Table};

/// Of the links' luck.
const SEED: u64 = 2026;
/// How much of a corpus a taste is.
const TASTE_EVENTS: usize = 400;

/// Makes the tables; none, and a sentence, where there can be no such link.
pub(super) fn measure(corpora: &[Corpus], args: &WireArgs) -> Result<Vec<Table>> {
    let control = match space::try_out() {
        Ok(control) => control,
        Err(why) => {
            eprintln!("{why}");
            return Ok(Vec::new());
        }
    };
    let asked = Asked::default();
    let handlers = [SIGINT, SIGTERM].map(|signal| signal_hook::flag::register(signal, Arc::clone(&asked)));
    let made =
        if args.quick { taste(&asked, args.gap_s).map(|t| vec![t]) } else { all(&asked, corpora, args, control) };
    handlers.into_iter().flatten().for_each(|id| _ = signal_hook::low_level::unregister(id));
    made
}

fn all(asked: &Asked, corpora: &[Corpus], args: &WireArgs, control: &str) -> Result<Vec<Table>> {
    let (profile, gap_s) = (Profile::thin(0), args.gap_s);
    let measure = |scene| match scene {
        Scene::Backlog => backlog::measure(asked, corpora, gap_s, profile, control),
        Scene::Dying => dying::measure(asked, gap_s, profile),
        Scene::Urgent => urgent::measure(asked, profile),
        Scene::Session => short::measure(asked, profile),
    };
    // None of them needs more than a little of the machine: side by side.
    let wanted = |scene: &&Scene| args.packets.is_empty() || args.packets.contains(scene);
    let scenes = Scene::value_variants().iter().filter(wanted);
    together("packets", scenes.map(|&scene| move || measure(scene)).collect())
}

/// A few seconds: a short backlog over a link ten times as quick, with losses.
fn taste(asked: &Asked, gap_s: u32) -> Result<Table> {
    let corpus = Corpus::generated(TASTE_EVENTS);
    let thin = Profile::thin(20_000);
    let profile = Profile {
        rate_bytes_per_s: 10 * thin.rate_bytes_per_s,
        delay_us: thin.delay_us / 10,
        jitter_us: 5_000,
        loss_ppm: 50_000,
        burst: 2,
        ..thin
    };
    let run = backlog::run(asked, &corpus, gap_s, profile, Plan::never())?;
    let mut table = Table::new(
        "packets_taste",
        "A short backlog over real TCP: 230 kbit/s, 60 ms there and back, 5 % loss",
        &[
            ("events", "events"),
            ("seconds", "time (s)"),
            ("packets", "packets"),
            ("lost_packets", "lost"),
            ("ip_bytes", "IP (B)"),
            ("tcp_repeated_bytes", "TCP sent again (B)"),
        ],
    );
    table.row(vec![
        Cell::Count(corpus.len() as u64),
        Cell::Figure(run.seconds, 1),
        Cell::Count(run.count.packets()),
        Cell::Count(run.count.0.iter().map(|w| w.lost).sum()),
        Cell::Count(run.count.bytes()),
        Cell::Count(run.count.repeated()),
    ]);
    Ok(table)
}

/// Does all of these at once; the outcomes in their order.
fn together<T: Send, F: FnOnce() -> Result<T> + Send>(what: &str, jobs: Vec<F>) -> Result<Vec<T>> {
    let bar = bar(what, jobs.len() as u64);
    let outcomes = std::thread::scope(|scope| {
        let threads: Vec<_> = jobs.into_iter().map(|job| scope.spawn(|| job().inspect(|_| bar.inc(1)))).collect();
        threads.into_iter().map(|t| t.join().map_err(|_| "a measurement panicked")?).collect()
    });
    bar.finish_and_clear();
    outcomes
}

//! What a sync costs on the wire: bytes, round trips, and how well a thin link is used.
//!
//! Nodes, logs and TLS are the real ones. All but the parts `runtimes` and `packets` work in virtual time: exact, the
//! same each time, and quick.

pub(crate) mod air;
#[cfg(test)]
mod budget;
pub(crate) mod call;
pub(crate) mod host;
mod large;
mod link;
#[cfg(target_os = "linux")]
mod packets;
mod runtimes;
pub(crate) mod session;
mod sync;

use std::path::PathBuf;

use clap::ValueEnum;
use ropeway_core::id::Lane;
use ropeway_std::DataDir;
use tempfile::TempDir;

use call::{CLINIC, Pair};
use host::{CLOCK, Host, Packing, make_clinic, make_hub};

use crate::Result;
use crate::corpus::Corpus;
use crate::table::{Table, print};

/// What to measure of the wire.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct WireArgs {
    /// Files of events of one clinic, one JSON object a line (default: invented events)
    #[arg(long, num_args = 1.., value_name = "FILE")]
    corpus: Vec<PathBuf>,
    /// So many events of each file, from its begin
    #[arg(long, default_value_t = 5000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    events: u32,
    /// Mean seconds between two events of a backlog, which their stamps tell
    #[arg(long, default_value_t = 120, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=86_400))]
    gap_s: u32,
    /// Clinics that the large hub knows
    #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    clinics: u32,
    /// Tables to make
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Part>,
    /// Of the part `packets` only these tables
    #[arg(long, value_delimiter = ',', value_enum, value_name = "TABLE")]
    packets: Vec<Scene>,
    /// Of the part `packets` only a taste, on a quicker link, in a few seconds
    #[arg(long)]
    quick: bool,
    /// One JSON object instead of tables
    #[arg(long)]
    json: bool,
}

/// A part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// A backlog, cold, in bytes per event
    Sync,
    /// Small sessions, in bytes and round trips
    Session,
    /// A 2G link: how well it is used, what a cut costs, how fast urgent events are
    Link,
    /// The real client and the real daemon over a modelled link, beside the same in virtual time (half a minute)
    Runtimes,
    /// The same as processes over the kernel's TCP, through a link that loses packets and breaks (many minutes; root)
    Packets,
}

/// A table of the part `packets`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scene {
    /// Backlogs, whole and cut
    Backlog,
    /// Links that die all the time
    Dying,
    /// Urgent events behind bulk
    Urgent,
    /// Short syncs
    Session,
}

/// Makes the tables that are asked for, and prints them.
pub(crate) fn run(args: &WireArgs) -> Result<()> {
    let wanted = |part| args.only.is_empty() || args.only.contains(&part);
    let corpora = Corpus::all(&args.corpus, args.events)?;
    let mut tables = Vec::new();
    if wanted(Part::Sync) {
        tables.push(sync::measure(&corpora, args.gap_s)?);
    }
    if wanted(Part::Session) {
        tables.push(session::measure(&corpora, args.clinics)?);
    }
    if wanted(Part::Link) {
        tables.push(link::measure(&corpora, args.gap_s)?);
    }
    if wanted(Part::Runtimes) {
        tables.push(runtimes::measure()?);
    }
    if wanted(Part::Packets) {
        tables.append(&mut packets(&corpora, args)?);
    }
    print(&tables, args.json);
    Ok(())
}

#[cfg(target_os = "linux")]
fn packets(corpora: &[Corpus], args: &WireArgs) -> Result<Vec<Table>> {
    packets::measure(corpora, args)
}

#[cfg(not(target_os = "linux"))]
fn packets(_: &[Corpus], _: &WireArgs) -> Result<Vec<Table>> {
    eprintln!("the part `packets` is skipped: it needs Linux");
    Ok(Vec::new())
}

/// A folder for the nodes' directories: in memory where there is one, since the disk is not measured here.
pub(crate) fn home() -> Result<TempDir> {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).map_err(Into::into)
}

/// The clinic whose sessions are measured.
const NAME: &str = "clinic_a";

/// A hub and a clinic, both new, with fresh certificates.
pub(crate) fn pair(home: &TempDir, packing: Packing) -> Result<Pair> {
    let (clinic, hub) = dirs(home)?;
    Pair::open(&clinic, &hub, packing)
}

/// Their directories.
fn dirs(home: &TempDir) -> Result<(DataDir, DataDir)> {
    let hub = make_hub(home.path(), CLOCK)?;
    Ok((make_clinic(home.path(), &hub, NAME, CLOCK)?, hub))
}

/// Events that are appended together before they are made durable.
const GROUP: usize = 64;

/// The clinic takes events `range` of a corpus, one after the other in virtual time.
pub(crate) fn append(
    pair: &mut Pair,
    corpus: &Corpus,
    range: std::ops::Range<usize>,
    lane: Lane,
    gap_s: u32,
) -> Result<()> {
    pair.now_us = fill(&mut pair.hosts[CLINIC], pair.now_us, corpus, range, lane, gap_s)?;
    Ok(())
}

/// As [`append`], for any host, from a moment on; the moment of the last event.
pub(crate) fn fill(
    host: &mut Host,
    from_us: u64,
    corpus: &Corpus,
    range: std::ops::Range<usize>,
    lane: Lane,
    gap_s: u32,
) -> Result<u64> {
    let mut us = from_us;
    for n in range {
        // Between half and one and a half of the mean, spread evenly and without a pattern (a step of the golden
        // ratio).
        let share = (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44;
        us += u64::from(gap_s) * (500_000 + ((share * 1_000_000) >> 20));
        let (kind, payload) = corpus.event(n);
        host.append(us, lane, kind, payload)?;
        if n % GROUP == GROUP - 1 {
            host.drive(us)?;
        }
    }
    host.drive(us)?;
    Ok(us)
}

//! What clinics cost their hub: processor, memory, and the model's states.
//!
//! | part | how |
//! |---|---|
//! | `sessions`, `backlog` | two real nodes with logs and TLS in virtual time; the hub's share of this thread's own time |
//! | `sessions`, the rows of `serve`; `memory` | the real programs as processes, over sockets |
//! | `pool`, `burst` | a hub and many clinics in virtual time, without TLS; codecs that count |

mod backlog;
mod burst;
mod fleet;
mod memory;
mod pool;
mod process;
mod sessions;
mod visit;
mod watch;

use std::path::PathBuf;

use clap::ValueEnum;

use crate::Result;
use crate::corpus::Corpus;
use crate::table::{Table, print};

/// What to measure of the hub.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct HubArgs {
    /// Files of events, one JSON object a line (default: invented events)
    #[arg(long, num_args = 1.., value_name = "FILE")]
    corpus: Vec<PathBuf>,
    /// So many events of each file, from its begin
    #[arg(long, default_value_t = 5000, value_name = "N", value_parser = clap::value_parser!(u32).range(1000..=1_000_000))]
    events: u32,
    /// Tables to make; `pool`, `burst` and `memory` are of the first file
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Part>,
    /// Short sessions of each kind
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=700))]
    sessions: u32,
    /// Clinics that share a pool of states
    #[arg(long, value_delimiter = ',', default_value = "5,50,500", value_name = "N,N", value_parser = clap::value_parser!(u16).range(1..=999))]
    clinics: Vec<u16>,
    /// Sizes of the pool, in states of 3 MB
    #[arg(long, value_delimiter = ',', default_value = "1,5,20,80", value_name = "N,N", value_parser = clap::value_parser!(u16).range(1..=999))]
    states: Vec<u16>,
    /// Sessions that each pool sees
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    visits: u32,
    /// Clinics that reconnect together
    #[arg(long, value_delimiter = ',', default_value = "20,100,200", value_name = "N,N", value_parser = clap::value_parser!(u16).range(1..=256))]
    burst: Vec<u16>,
    /// One JSON object instead of tables
    #[arg(long)]
    json: bool,
}

/// A part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Short sessions: processor time of the hub
    Sessions,
    /// Backlogs: processor time of the hub
    Backlog,
    /// How often a state is there that is wanted, and what it costs if not
    Pool,
    /// Many clinics that reconnect at once
    Burst,
    /// Resident memory of the real programs
    Memory,
}

/// Makes the tables that are asked for, and prints them.
pub(crate) fn run(args: &HubArgs) -> Result<()> {
    let wanted = |part| args.only.is_empty() || args.only.contains(&part);
    let corpora = Corpus::all(&args.corpus, args.events)?;
    let first = &corpora[0];
    let mut tables = Vec::new();
    // It takes minutes: people see each table when it is made.
    let mut show = |table: Table| if args.json { tables.push(table) } else { println!("{table}") };
    if wanted(Part::Sessions) {
        show(sessions::measure(first, args.sessions as usize)?);
    }
    if wanted(Part::Backlog) {
        show(backlog::measure(&corpora)?);
    }
    if wanted(Part::Pool) {
        show(pool::measure(first, args)?);
    }
    if wanted(Part::Burst) {
        show(burst::measure(first, &args.burst)?);
    }
    if wanted(Part::Memory) {
        memory::measure(first)?.into_iter().for_each(&mut show);
    }
    if args.json {
        print(&tables, true);
    }
    Ok(())
}

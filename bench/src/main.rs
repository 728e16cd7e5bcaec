//! `ropeway-bench`: what Ropeway costs, measured on this machine and printed in tables.
//!
//! Nothing here is a test: machines are noisy, and figures are for people. What is compared is
//! measured in turns within one run; of several rounds the median is shown.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ropeway_mio::cli::{self, Output};

mod codec;
mod corpus;
mod cpu;
mod dice;
mod hub;
mod log;
mod progress;
mod stats;
mod table;
mod wire;

/// Why a measurement could not be made.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Parser)]
#[command(version, about = "Measures Ropeway and prints tables", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  ropeway-bench log                          all tables, in a temporary folder
  ropeway-bench log --dir /media/card        on the card that is to be measured
  ropeway-bench log --only rate --json       one table, for a program
  ropeway-bench codec --corpus events.ndjson what the codec makes of events
  ropeway-bench wire --corpus events.ndjson  what a sync costs on the wire
  ropeway-bench hub --corpus events.ndjson   what clinics cost their hub";

#[derive(Subcommand)]
enum Command {
    /// The log: bytes per event, durable appends, opening, reading
    Log(LogArgs),
    /// The codec: bytes per event with different histories, beside others; speed; memory
    Codec(codec::CodecArgs),
    /// The wire: bytes per event, small sessions, round trips, a 2G link
    Wire(wire::WireArgs),
    /// The hub: processor and memory that clinics cost it, its pool of the model's states, many of them at once
    Hub(hub::HubArgs),
    /// Opens a log and prints what that took: a process of its own, for its memory
    #[command(hide = true)]
    OpenOnce {
        /// The data directory
        dir: PathBuf,
        /// Drop what the system has cached of it before
        #[arg(long)]
        cold: bool,
    },
    /// The `ropeway` command, which is measured in processes of its own
    #[command(hide = true, disable_help_flag = true)]
    Ropeway {
        /// Its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

/// What to measure of the log.
#[derive(clap::Args, Clone, Debug)]
struct LogArgs {
    /// Folder on the storage to be measured; what is made there is removed again
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Tables to make
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<log::Part>,
    /// Sizes of the logs that are opened and read, in events
    #[arg(long, value_delimiter = ',', default_value = "10000,1000000,5000000", value_name = "N,N")]
    events: Vec<u64>,
    /// Rounds of each timed measurement
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// One JSON object instead of tables
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Log(args) => log::run(&args),
        Command::Codec(args) => codec::run(&args),
        Command::Wire(args) => wire::run(&args),
        Command::Hub(args) => hub::run(&args),
        Command::OpenOnce { dir, cold } => log::open_once(&dir, cold),
        Command::Ropeway { args } => return ropeway(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Does what the `ropeway` command does, for as long as whoever has started this is there.
fn ropeway(args: Vec<OsString>) -> ExitCode {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let cli = match cli::args::parse(std::iter::once("ropeway".into()).chain(args)) {
        Ok(cli) => cli,
        Err(usage) => return usage.show(),
    };
    let mut out = Output::standard(&cli.global);
    let result = cli::dispatch(&cli, &mut out);
    cli::finish(result, &mut out).into()
}

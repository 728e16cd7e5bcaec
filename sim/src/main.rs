//! `ropeway-sim`: runs simulated deployments from the command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ropeway_sim::{Faults, Options, Profile, Report, plot, run, run_traced};

/// Runs whole Ropeway deployments in virtual time. The same seed gives the same run.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// One deployment, with a report.
    Run {
        /// Where all chance comes from.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Number of clinics.
        #[arg(long, default_value_t = 5)]
        clinics: usize,
        /// Number of events, over all clinics.
        #[arg(long, default_value_t = 5000)]
        events: usize,
        /// The link: bhutan-2g, edge or lan.
        #[arg(long, default_value = "bhutan-2g", value_parser = profile)]
        profile: Profile,
        /// What may go wrong: all, none, or names parted by commas.
        #[arg(long, value_parser = Faults::parse, default_value = "cut,chunks,late-word")]
        faults: Faults,
        /// What carries the frames: stream, or full (TLS over TCP over packets).
        #[arg(long)]
        full: bool,
        /// Let the seed choose everything else.
        #[arg(long)]
        swarm: bool,
        /// Print the last lines of the trace.
        #[arg(long)]
        trace: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Draw the run into an SVG file.
        #[arg(long, value_name = "FILE")]
        plot: Option<PathBuf>,
    },
    /// Many small deployments of which the seeds choose everything.
    Campaign {
        /// How many.
        #[arg(long, default_value_t = 1000)]
        seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        from: u64,
    },
}

fn profile(name: &str) -> Result<Profile, String> {
    name.parse()
}

fn draw(report: &Report, file: &Path) -> Result<(), String> {
    let (title, subtitle) = report.titles();
    let svg = plot(&report.timeline, &title, &subtitle).map_err(|e| e.to_string())?;
    std::fs::write(file, svg).map_err(|e| format!("the plot cannot be written to {}: {e}", file.display()))
}

fn main() -> ExitCode {
    match Cli::parse().verb {
        Verb::Run { seed, clinics, events, profile, faults, full, swarm, trace, json, plot } => {
            let chosen = Options { seed, clinics, events, profile, faults, ..Options::default() };
            let mut options = if swarm { Options::swarm(seed) } else { chosen };
            if full {
                options.stack = ropeway_sim::Stack::Full;
            }
            let report = if trace { run_traced(&options) } else { run(&options) };
            if json {
                println!("{}", report.to_json());
            } else {
                report.tail.iter().for_each(|line| println!("{line}"));
                println!("{report}");
            }
            if let Some(Err(why)) = plot.map(|file| draw(&report, &file)) {
                eprintln!("ropeway-sim: {why}");
                return ExitCode::from(2);
            }
            if report.failed.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Verb::Campaign { seeds, from } => {
            let mut failed = 0u64;
            for seed in from..from.saturating_add(seeds) {
                let report = run(&Options::swarm(seed));
                if let Some(why) = &report.failed {
                    failed += 1;
                    println!("seed {seed}: {why}\n  {}", report.repro());
                }
            }
            println!("{} of {seeds} runs held every check", seeds - failed);
            if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
    }
}

//! `run`: one deployment.

use std::path::PathBuf;

use clap::Args;

use super::shape::Shape;
use super::{Outcome, say, show};
use ropeway_sim::{Repro, plot, run_guarded};

/// One deployment, with a report.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ropeway-sim run                                          # a bad day in Bhutan
  ropeway-sim run --profile monsoon --clinics 20 --seed 3
  ropeway-sim run --profile swarm --seed 4711 --trace      # what a campaign ran, line by line
  ropeway-sim run --profile monsoon --plot monsoon.svg
  ropeway-sim run --stack full --profile edge --json       # TLS and TCP too
  ropeway-sim run --profile lan --faults crash,rot --small --json
  ropeway-sim run --mutant ack_before_durable --events 100 # must fail")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    shape: Shape,
    /// Print the last lines of the trace.
    #[arg(long)]
    trace: bool,
    /// Draw the run as SVG: what was durable when, cuts, crashes, bytes on the links.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Write the run to a file, for `replay` and `shrink`.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl RunArgs {
    pub(super) fn run(&self) -> Outcome {
        let options = self.shape.options()?;
        let report = run_guarded(&options, options.tape(), self.trace);
        if let Some(path) = &self.save {
            Repro::of(&report).save(path)?;
        }
        if let Some(path) = &self.plot {
            let (title, subtitle) = report.titles();
            let svg = plot(&report.timeline, &title, &subtitle).map_err(|e| e.to_string())?;
            std::fs::write(path, svg).map_err(|e| format!("the plot cannot be written to {}: {e}", path.display()))?;
        }
        if self.trace && !self.json {
            report.tail.iter().for_each(say);
        }
        show(self.json, || report.to_json(), &report);
        Ok(report.failed.is_none())
    }
}

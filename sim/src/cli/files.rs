//! `replay` and `shrink`: runs that were saved.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::shape::{Shape, checks};
use super::{Outcome, complain, say, show};
use ropeway_sim::{Check, Report, Repro, repro, shrink_repro};

/// A run from a file, and whether the same check fails as when it was saved.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ropeway-sim replay found/seed-7-durable.json
  ropeway-sim replay small.json --trace")]
pub(crate) struct ReplayArgs {
    /// A file that `run --save`, `campaign --out` or `shrink --out` wrote.
    file: PathBuf,
    /// Print the last lines of the trace.
    #[arg(long)]
    trace: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl ReplayArgs {
    pub(super) fn run(&self) -> Outcome {
        let saved = Repro::load(&self.file)?;
        let report = saved.run(self.trace);
        let now = report.failed.as_ref().map(|f| f.check);
        let verdict = verdict(saved.check, now);
        let value = || {
            let mut value = report.to_json();
            value["saved_check"] = saved.check.map(Check::name).into();
            value["same"] = (saved.check == now).into();
            value
        };
        show(self.json, value, &report);
        if !self.json {
            say(verdict);
        }
        Ok(now.is_none())
    }
}

fn verdict(saved: Option<Check>, now: Option<Check>) -> String {
    match (saved, now) {
        (Some(a), Some(b)) if a == b => format!("{a} fails, as when it was saved"),
        (Some(a), Some(b)) => format!("{b} fails; when it was saved {a} did"),
        (Some(a), None) => format!("every check holds; when it was saved {a} failed"),
        (None, Some(b)) => format!("{b} fails; when it was saved every check held"),
        (None, None) => "every check holds, as when it was saved".into(),
    }
}

/// The smallest run in which the same check fails.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ropeway-sim shrink --profile swarm --seed 7 --out small.json
  ropeway-sim shrink found/seed-7-durable.json --budget 5000
  ropeway-sim shrink --swarm --seed 3 --mutant ack_before_durable --check acknowledged")]
pub(crate) struct ShrinkArgs {
    /// A file that `run --save` or `campaign --out` wrote; without it the run that the options say.
    #[arg(conflicts_with_all = ["profile", "swarm", "seed"])]
    file: Option<PathBuf>,
    #[command(flatten)]
    shape: Shape,
    /// The check that must fail; the one that does if it is not given.
    #[arg(long, value_parser = checks(), hide_possible_values = true)]
    check: Option<Check>,
    /// Most runs to be made.
    #[arg(long, default_value_t = 2000, value_name = "RUNS")]
    budget: u32,
    /// Write the small run to this file.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl ShrinkArgs {
    pub(super) fn run(&self) -> Outcome {
        let start = match &self.file {
            Some(path) => Repro::load(path)?,
            None => Repro { options: self.shape.options()?, tape: None, check: None, what: String::new() },
        };
        let check = match self.check.or(start.check) {
            Some(check) => check,
            None => start.run(false).failed.map(|f| f.check).ok_or("every check holds: there is nothing to shrink")?,
        };
        let found = shrink_repro(&start, check, self.budget, &mut complain);
        let Some(small) = found else { return Err(format!("{check} does not fail in this run")) };
        let saved = small.repro();
        if let Some(path) = &self.out {
            saved.save(path)?;
        }
        if self.json {
            let command = small.seeded.as_ref().map(repro);
            say(json!({ "runs": small.runs, "repro": command, "file": saved.to_json() }));
            return Ok(false);
        }
        let report: Report = saved.run(false);
        say(format!(
            "[{check}] {}\n  from {}\n  to   {}\n  in   {} runs",
            small.what, small.from, small.to, small.runs
        ));
        let virtual_ms = report.virtual_ms;
        say(format!("  it fails after {virtual_ms} ms of virtual time and {} steps", report.counts.steps));
        match (&self.out, &small.seeded) {
            (Some(path), _) => say(format!("see it again: ropeway-sim replay {} --trace", path.display())),
            (None, Some(seeded)) => say(format!("see one like it: {} --trace", repro(seeded))),
            (None, None) => say("write it to a file with --out"),
        }
        Ok(false)
    }
}

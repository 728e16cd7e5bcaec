//! `campaign`: many deployments.

use std::path::{Path, PathBuf};

use clap::Args;

use super::shape::{checks, count, mutant_names, profiles, stacks};
use super::{Outcome, bar, now_ms, show};
use ropeway_sim::{CampaignOptions, CampaignReport, Check, Mutant, Outside, Repro, Stack, campaign};

/// Many small deployments of which the seeds choose everything.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ropeway-sim campaign --seeds 500
  ropeway-sim campaign --seconds 3600 --shrink --out found  # an hour; what fails is made small and saved
  ropeway-sim campaign --profile hostile-disk --seeds 50 --json")]
pub(crate) struct CampaignArgs {
    /// How many seeds; 1000, or as many as fit into the seconds if those are given.
    #[arg(long)]
    seeds: Option<u64>,
    /// End after so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Number of threads; as many as there are cores if it is not given.
    #[arg(long, value_parser = count(1, 1024))]
    jobs: Option<usize>,
    /// What is run with each seed.
    #[arg(long, default_value = "swarm", value_parser = profiles())]
    profile: String,
    /// What carries the frames.
    #[arg(long, value_parser = stacks())]
    stack: Option<Stack>,
    /// Plant a bug.
    #[arg(long, value_parser = mutant_names(), hide_possible_values = true)]
    mutant: Option<Mutant>,
    /// Switch a check off.
    #[arg(long, value_parser = checks(), hide_possible_values = true, value_name = "CHECK")]
    blind: Option<Check>,
    /// Make the first failure of each check small, with at most so many runs.
    #[arg(long, num_args = 0..=1, default_missing_value = "1000", value_name = "RUNS")]
    shrink: Option<u32>,
    /// Write each failure to a file in this directory, for `replay` and `shrink`.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl CampaignArgs {
    pub(super) fn run(&self) -> Outcome {
        let default = CampaignOptions::default();
        let seeds = self.seeds.unwrap_or(if self.seconds.is_some() { u64::MAX } else { default.seeds });
        let options = CampaignOptions {
            from: self.from,
            seeds,
            seconds: self.seconds,
            jobs: self.jobs.unwrap_or(default.jobs),
            profile: self.profile.clone(),
            stack: self.stack,
            mutant: self.mutant.unwrap_or_default(),
            blind: self.blind,
            shrink: self.shrink.unwrap_or(0),
        };
        if let Some(dir) = &self.out {
            std::fs::create_dir_all(dir).map_err(|e| format!("{}: cannot be made: {e}", dir.display()))?;
        }
        let bar = bar(self.seeds.or(self.seconds.is_none().then_some(seeds)));
        let progress = |runs, failed| {
            bar.set_position(runs);
            bar.set_message(format!("{failed} failed"));
        };
        let report = campaign(&options, &Outside { now_ms: &now_ms, progress: &progress })?;
        bar.finish_and_clear();
        if let Some(dir) = &self.out {
            save(&report, dir)?;
        }
        show(self.json, || report.to_json(), &report);
        Ok(report.failed.is_empty())
    }
}

fn save(report: &CampaignReport, dir: &Path) -> Result<(), String> {
    for failed in &report.failed {
        let check = failed.failure.check;
        let whole =
            Repro { options: failed.options, tape: None, check: Some(check), what: failed.failure.what.clone() };
        let repro = failed.shrunk.as_ref().map_or(whole, ropeway_sim::Shrunk::repro);
        repro.save(&dir.join(format!("seed-{}-{check}.json", failed.options.seed)))?;
    }
    Ok(())
}

//! `mutants`: whether the checks would notice.

use clap::Args;

use super::shape::{checks, count, mutant_names};
use super::{Outcome, bar, say, show};
use ropeway_sim::{Check, Mutant, MutantsOptions, mutants};

/// Plants bugs, one at a time: each must fail a check, or the checks are blind.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ropeway-sim mutants
  ropeway-sim mutants --list
  ropeway-sim mutants --only ack_before_durable,nonce_repeats --seeds 1000
  ropeway-sim mutants --blind acknowledged                  # what only this check would catch")]
pub(crate) struct MutantsArgs {
    /// Most seeds to try for each.
    #[arg(long, default_value_t = 300)]
    seeds: u64,
    /// Only these, parted by commas.
    #[arg(long, value_parser = mutant_names(), hide_possible_values = true, value_delimiter = ',', value_name = "NAME")]
    only: Vec<Mutant>,
    /// Switch a check off.
    #[arg(long, value_parser = checks(), hide_possible_values = true, value_name = "CHECK")]
    blind: Option<Check>,
    /// Number of threads; as many as there are cores if it is not given.
    #[arg(long, value_parser = count(1, 1024))]
    jobs: Option<usize>,
    /// Leave out the same runs without a bug, none of which may fail.
    #[arg(long)]
    no_control: bool,
    /// Only list them.
    #[arg(long)]
    list: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl MutantsArgs {
    pub(super) fn run(&self) -> Outcome {
        if self.list {
            let named = |m: Mutant| (m.name(), m.about());
            let unseen = Mutant::unseen().map(|(m, why)| (m.name(), why));
            super::lists::list(self.json, Mutant::all().map(named).chain(unseen));
            return Ok(true);
        }
        let default = MutantsOptions::default();
        let options = MutantsOptions {
            seeds: self.seeds,
            only: self.only.clone(),
            blind: self.blind,
            jobs: self.jobs.unwrap_or(default.jobs),
            control: !self.no_control,
        };
        // A bug may well make the engine panic; that is caught and told in the table.
        std::panic::set_hook(Box::new(|_| {}));
        let all = if self.only.is_empty() { Mutant::all().count() } else { self.only.len() };
        let bar = bar(Some(all as u64));
        let report = mutants(&options, &|killed| {
            bar.set_message(killed.mutant.name());
            bar.inc(1);
        });
        bar.finish_and_clear();
        show(self.json, || report.to_json(), &report);
        if !self.json && self.blind.is_some() {
            say("(a check was switched off: what survives is what it alone would have caught)");
        }
        Ok(report.survivors().next().is_none() && report.control_failed.is_empty())
    }
}

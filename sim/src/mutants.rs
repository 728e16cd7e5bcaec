//! Whether the checks would notice: every planted bug must fail one of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::check::{Check, Failure};
use crate::crew::on_threads;
use crate::exhaustive::exhaustive;
use crate::guard::run_guarded;
use crate::mutant::Mutant;
use crate::options::Options;
use crate::replay::repro;

mod recipes;

pub use recipes::recipe;

/// What [`mutants`] runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MutantsOptions {
    /// Seeds 1 to this one are tried for each mutant.
    pub seeds: u64,
    /// Only these; all if it is empty.
    pub only: Vec<Mutant>,
    /// A check that is switched off, to see what it alone would have caught.
    pub blind: Option<Check>,
    /// Number of threads.
    pub jobs: usize,
    /// Whether the same runs are made without a planted bug too.
    pub control: bool,
}

impl Default for MutantsOptions {
    fn default() -> Self {
        let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { seeds: 300, only: Vec::new(), blind: None, jobs, control: true }
    }
}

/// A mutant, and what noticed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Killed {
    /// Which.
    pub mutant: Mutant,
    /// The run that failed, and why; `None` if it survived. The same run without the bug holds.
    pub by: Option<(Options, Failure)>,
    /// Seeds that were tried.
    pub tried: u64,
    /// It was not a seed but the exhaustive crash test that failed.
    pub exhaustive: bool,
    /// Seeds that failed with the bug, but without it too: they say nothing.
    pub moot: u64,
}

/// What became of the mutants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MutantsReport {
    /// All of them, in their order.
    pub killed: Vec<Killed>,
    /// Runs of the control: the same seeds and recipes without a planted bug.
    pub control: u64,
    /// Those of them that failed.
    pub control_failed: Vec<(Options, Failure)>,
}

/// The run of a mutant with a seed: by its recipe, or the swarm's.
fn options_of(mutant: Mutant, seed: u64, blind: Option<Check>) -> Options {
    let shape = recipe(mutant).map_or_else(|| Options::swarm(seed), |o| Options { seed, ..o });
    Options { mutant, blind, ..shape }
}

fn failure(options: &Options) -> Option<Failure> {
    run_guarded(options, options.tape(), false).failed
}

/// Runs each mutant over seeds until it fails where it would not fail without the bug. `tell` hears
/// of each.
#[must_use]
pub fn mutants(options: &MutantsOptions, tell: &(dyn Fn(&Killed) + Sync)) -> MutantsReport {
    let wanted: Vec<Mutant> = if options.only.is_empty() { Mutant::all().collect() } else { options.only.clone() };
    let mut killed = each(options.jobs, &wanted, |m| {
        let done = hunt(*m, options);
        tell(&done);
        done
    });
    killed.sort_by_key(|k| wanted.iter().position(|m| *m == k.mutant));
    let mut report = MutantsReport { killed, ..MutantsReport::default() };
    if options.control {
        // Each shape once: the swarm's as far as the longest hunt went, each recipe as far as its own.
        let mut longest: BTreeMap<Option<Mutant>, u64> = BTreeMap::new();
        for k in &report.killed {
            let of = longest.entry(recipe(k.mutant).map(|_| k.mutant)).or_default();
            *of = (*of).max(k.tried);
        }
        let runs = longest.into_iter().flat_map(|(of, tried)| (1..=tried).map(move |seed| (of, seed)));
        let runs: Vec<Options> = runs
            .map(|(of, seed)| Options { mutant: Mutant::None, ..options_of(of.unwrap_or_default(), seed, None) })
            .collect();
        report.control = runs.len() as u64;
        report.control_failed = each(options.jobs, &runs, |o| Some((*o, failure(o)?))).into_iter().flatten().collect();
        report.control_failed.sort_by_key(|(o, _)| o.seed);
    }
    report
}

/// What `work` makes of each item, in no order.
fn each<I: Sync, O: Send>(jobs: usize, items: &[I], work: impl Fn(&I) -> O + Sync) -> Vec<O> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            let out = work(item);
            done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(out);
        }
    };
    on_threads(jobs, work);
    done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn hunt(mutant: Mutant, options: &MutantsOptions) -> Killed {
    let mut done = Killed { mutant, by: None, tried: 0, moot: 0, exhaustive: false };
    let seeds = if recipes::is_exhaustive(mutant) { 0 } else { options.seeds };
    for seed in 1..=seeds {
        done.tried = seed;
        let chosen = options_of(mutant, seed, options.blind);
        let Some(failed) = failure(&chosen) else { continue };
        if failure(&Options { mutant: Mutant::None, ..chosen }).is_some() {
            done.moot += 1;
            continue;
        }
        done.by = Some((chosen, failed));
        return done;
    }
    // What shows only in one crash of many: all of them, in a small scenario.
    if let Some(failed) = exhaustive(mutant, u64::MAX).failed.filter(|f| options.blind != Some(f.check)) {
        done.by = Some((Options { mutant, ..Options::default() }, failed));
        done.exhaustive = true;
    }
    done
}

impl MutantsReport {
    /// Those that no check has noticed.
    pub fn survivors(&self) -> impl Iterator<Item = &Killed> {
        self.killed.iter().filter(|k| k.by.is_none())
    }

    /// For programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let one = |k: &Killed| {
            json!({
                "mutant": k.mutant.name(),
                "about": k.mutant.about(),
                "check": k.by.as_ref().map(|(_, f)| f.check.name()),
                "what": k.by.as_ref().map(|(_, f)| f.what.clone()),
                "repro": k.by.as_ref().map(|(o, _)| repro(o)),
                "seeds": k.tried,
                "exhaustive": k.exhaustive,
                "moot": k.moot,
            })
        };
        let control =
            |(o, f): &(Options, Failure)| json!({ "check": f.check.name(), "what": f.what, "repro": repro(o) });
        json!({
            "ok": self.survivors().next().is_none() && self.control_failed.is_empty(),
            "mutants": self.killed.iter().map(one).collect::<Vec<_>>(),
            "survivors": self.survivors().map(|k| k.mutant.name()).collect::<Vec<_>>(),
            "control_runs": self.control,
            "control_failed": self.control_failed.iter().map(control).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for MutantsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<28} {:<16} {:>5}  what is wrong", "mutant", "caught by", "seeds")?;
        for k in &self.killed {
            let check = k.by.as_ref().map_or("-", |(_, f)| f.check.name());
            let seeds = if k.exhaustive { "all".to_owned() } else { k.tried.to_string() };
            writeln!(f, "{:<28} {check:<16} {seeds:>5}  {}", k.mutant, k.mutant.about())?;
        }
        if self.control > 0 {
            let held = self.control - self.control_failed.len() as u64;
            writeln!(f, "\ncontrol: {held} of {} runs without a planted bug held every check", self.control)?;
        }
        for (o, failed) in &self.control_failed {
            writeln!(f, "  {failed}\n    {} --trace", repro(o))?;
        }
        let all = self.killed.len();
        let survivors: Vec<&Killed> = self.survivors().collect();
        writeln!(f, "\n{} of {all} mutants were caught", all - survivors.len())?;
        for k in survivors {
            let o = options_of(k.mutant, 1, None);
            writeln!(f, "  survived: {:<28} {} seeds, such as {}", k.mutant, k.tried, repro(&o))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mutant_is_caught_by_a_run_that_holds_without_it() {
        let only = vec![Mutant::DurableWithoutSync, Mutant::ReaderAltersPayload];
        let options = MutantsOptions { seeds: 20, only, jobs: 2, ..MutantsOptions::default() };
        let report = mutants(&options, &|_| {});
        assert_eq!(report.survivors().count(), 0, "{report}");
        for k in &report.killed {
            let (o, failed) = k.by.clone().unwrap();
            assert_eq!(failure(&o), Some(failed));
            assert_eq!(failure(&Options { mutant: Mutant::None, ..o }), None);
        }
        assert_eq!(report.killed[0].mutant, Mutant::DurableWithoutSync);
    }

    #[test]
    fn a_mutant_that_does_nothing_survives() {
        let options =
            MutantsOptions { seeds: 3, only: vec![Mutant::None], control: false, ..MutantsOptions::default() };
        let report = mutants(&options, &|_| {});
        assert_eq!(report.survivors().count(), 1);
        assert!(report.to_string().contains("survived: none"));
        assert_eq!(report.to_json()["ok"], false);
    }
}

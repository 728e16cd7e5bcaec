//! Many runs over many threads, and what they have shown together.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ropeway_core::planted::{MARKS, take_marks};
use serde_json::{Value, json};

use crate::check::{Check, Failure};
use crate::crew::on_threads;
use crate::fault::Fault;
use crate::guard::run_guarded;
use crate::mutant::Mutant;
use crate::options::{Options, Stack};
use crate::replay::repro;
use crate::report::Report;
use crate::shrink::{Shrunk, shrink};

/// One run in so many is made twice.
const TWICE_EVERY: u64 = 20;
/// So many of the slowest runs are told.
const SLOWEST: usize = 5;
/// Marks with this beginning are for a peer that says anything.
const HOSTILE_MARKS: &str = "hostile.";

/// What a campaign runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CampaignOptions {
    /// The first seed.
    pub from: u64,
    /// How many seeds.
    pub seeds: u64,
    /// It ends after so many seconds, if not before.
    pub seconds: Option<u64>,
    /// Number of threads; each run stays in one of them.
    pub jobs: usize,
    /// The name of the profile, as for [`Options::named`].
    pub profile: String,
    /// What carries the frames, if not what the profile says.
    pub stack: Option<Stack>,
    /// A planted bug.
    pub mutant: Mutant,
    /// A check that is switched off.
    pub blind: Option<Check>,
    /// Runs to spend on shrinking the first failure of each check; 0 for no shrinking.
    pub shrink: u32,
}

impl Default for CampaignOptions {
    fn default() -> Self {
        Self {
            from: 1,
            seeds: 1000,
            seconds: None,
            jobs: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            profile: "swarm".into(),
            stack: None,
            mutant: Mutant::None,
            blind: None,
            shrink: 0,
        }
    }
}

impl CampaignOptions {
    /// The run of a seed.
    ///
    /// # Errors
    /// A sentence that lists the profiles.
    pub fn options(&self, seed: u64) -> Result<Options, String> {
        let named = Options::named(&self.profile, seed)?;
        Ok(Options { stack: self.stack.unwrap_or(named.stack), mutant: self.mutant, blind: self.blind, ..named })
    }
}

/// What a campaign needs of the world outside. Runs know nothing of it.
pub struct Outside<'a> {
    /// Milliseconds of real time since any instant.
    pub now_ms: &'a (dyn Fn() -> u64 + Sync),
    /// Hears after each run how many were made, and how many of them failed.
    pub progress: &'a (dyn Fn(u64, u64) + Sync),
}

impl fmt::Debug for Outside<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outside")
    }
}

/// A run that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// What was run.
    pub options: Options,
    /// What failed.
    pub failure: Failure,
    /// The smallest run that fails likewise, if it was looked for.
    pub shrunk: Option<Shrunk>,
}

/// What became of a class of faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultUse {
    /// Runs in which it was on.
    pub runs: u64,
    /// How often it struck at an instant. Those that go on all the time are not counted.
    pub struck: u64,
}

/// What became of a mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MarkUse {
    /// How often it was hit. One for hostile peers counts where there was such a peer.
    pub hits: u64,
    /// Runs in which it was hit.
    pub runs: u64,
    /// The first seed that hit it.
    pub first: Option<u64>,
}

/// What the runs have shown together. But for the times it does not depend on the number of threads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CampaignReport {
    /// Runs that were made.
    pub runs: u64,
    /// Runs that were made a second time.
    pub twice: u64,
    /// Those that failed, by seed.
    pub failed: Vec<Failed>,
    /// Milliseconds of virtual time, over all runs.
    pub virtual_ms: u64,
    /// Events that were durable at the hubs.
    pub events: u64,
    /// Milliseconds of real time.
    pub elapsed_ms: u64,
    /// Milliseconds of real time within runs, over all threads.
    pub busy_ms: u64,
    /// The slowest runs: milliseconds and seed.
    pub slowest: Vec<(u64, u64)>,
    /// Classes of faults.
    pub faults: BTreeMap<Fault, FaultUse>,
    /// How often each check was made.
    pub made: BTreeMap<Check, u64>,
    /// Marks that were hit.
    pub marks: BTreeMap<&'static str, MarkUse>,
    /// Marks for hostile peers that were hit where everybody is honest: an honest node was taken for
    /// a liar, or a fault looks like one.
    pub accused: BTreeMap<&'static str, MarkUse>,
}

/// Runs a campaign.
///
/// # Errors
/// A sentence, if there is no such profile.
pub fn campaign(options: &CampaignOptions, outside: &Outside<'_>) -> Result<CampaignReport, String> {
    options.options(options.from)?;
    let begin_ms = (outside.now_ms)();
    let (next, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let total = Mutex::new(CampaignReport::default());
    let work = || {
        while !over.load(Ordering::Relaxed) {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let Some(seed) = options.from.checked_add(n).filter(|_| n < options.seeds) else { return };
            let Ok(chosen) = options.options(seed) else { return };
            let one = one_run(&chosen, outside);
            let mut total = total.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            total.add(&chosen, one);
            (outside.progress)(total.runs, total.failed.len() as u64);
            let late = options.seconds.is_some_and(|s| (outside.now_ms)().saturating_sub(begin_ms) >= s * 1000);
            over.fetch_or(late, Ordering::Relaxed);
        }
    };
    on_threads(options.jobs, work);
    let mut total = total.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    total.failed.sort_by_key(|f| f.options.seed);
    total.elapsed_ms = (outside.now_ms)().saturating_sub(begin_ms);
    if options.shrink > 0 {
        total.shrink(options.shrink);
    }
    Ok(total)
}

struct OneRun {
    report: Report,
    marks: BTreeMap<&'static str, u64>,
    ms: u64,
    twice: bool,
}

fn one_run(options: &Options, outside: &Outside<'_>) -> OneRun {
    let begin_ms = (outside.now_ms)();
    drop(take_marks());
    let mut report = run_guarded(options, options.tape(), false);
    let (marks, ms) = (take_marks(), (outside.now_ms)().saturating_sub(begin_ms));
    let twice = options.seed.is_multiple_of(TWICE_EVERY);
    if twice && report.failed.is_none() && options.blind != Some(Check::Deterministic) {
        *report.made.entry(Check::Deterministic).or_default() += 1;
        let mut again = run_guarded(options, options.tape(), false);
        again.made.insert(Check::Deterministic, 1);
        if again != report {
            report.failed = Some(Failure { check: Check::Deterministic, what: difference(options) });
        }
    }
    OneRun { report, marks, ms, twice }
}

/// Where two runs of the same options part.
fn difference(options: &Options) -> String {
    let (a, b) = (run_guarded(options, options.tape(), true), run_guarded(options, options.tape(), true));
    first_difference(&a.tail, &b.tail)
        .unwrap_or_else(|| "two runs differ, but two more with a trace have the same lines".into())
}

fn first_difference(a: &[String], b: &[String]) -> Option<String> {
    let n = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let line = |of: &[String]| of.get(n).map_or("(the end)".to_owned(), |l| format!("\"{l}\""));
    (a.len() != b.len() || n < a.len()).then(|| format!("line {}: first {}, then {}", n + 1, line(a), line(b)))
}

impl CampaignReport {
    fn add(&mut self, options: &Options, one: OneRun) {
        let OneRun { report, marks, ms, twice } = one;
        self.runs += 1;
        self.twice += u64::from(twice);
        self.virtual_ms += report.virtual_ms;
        self.events += report.events;
        self.busy_ms += ms;
        self.slowest.push((ms, options.seed));
        self.slowest.sort_by_key(|(ms, seed)| (std::cmp::Reverse(*ms), *seed));
        self.slowest.truncate(SLOWEST);
        for fault in options.faults.iter() {
            self.faults.entry(fault).or_default().runs += 1;
        }
        for (fault, n) in &report.faults {
            self.faults.entry(*fault).or_default().struck += n;
        }
        for (check, n) in &report.made {
            *self.made.entry(*check).or_default() += n;
        }
        for (mark, n) in marks {
            let honest = mark.starts_with(HOSTILE_MARKS) && !options.faults.has(Fault::Hostile);
            let table = if honest { &mut self.accused } else { &mut self.marks };
            let used = table.entry(mark).or_default();
            used.hits += n;
            used.runs += 1;
            used.first = Some(used.first.map_or(options.seed, |first| first.min(options.seed)));
        }
        if let Some(failure) = report.failed {
            self.failed.push(Failed { options: *options, failure, shrunk: None });
        }
    }

    /// Shrinks the first failure of each check.
    fn shrink(&mut self, budget: u32) {
        let mut seen = Vec::new();
        for failed in &mut self.failed {
            let check = failed.failure.check;
            if check != Check::Deterministic && !seen.contains(&check) {
                seen.push(check);
                failed.shrunk = shrink(&failed.options, check, budget);
            }
        }
    }

    /// Marks that no run has hit. Those for hostile peers are left out if no run had such a peer.
    pub fn never_hit(&self) -> impl Iterator<Item = &'static str> {
        let hostile = self.faults.get(&Fault::Hostile).is_some_and(|f| f.runs > 0);
        let wanted = move |mark: &str| hostile || !mark.starts_with(HOSTILE_MARKS);
        MARKS.iter().copied().filter(move |mark| wanted(mark) && !self.marks.contains_key(mark))
    }

    /// Runs that failed, by check.
    #[must_use]
    pub fn failures(&self) -> BTreeMap<Check, u64> {
        let mut by_check = BTreeMap::new();
        for failed in &self.failed {
            *by_check.entry(failed.failure.check).or_default() += 1;
        }
        by_check
    }

    fn runs_per_second(&self) -> f64 {
        self.runs as f64 * 1000.0 / self.elapsed_ms.max(1) as f64
    }

    /// Hours of virtual time in an hour of one core.
    fn speed(&self) -> f64 {
        self.virtual_ms as f64 / self.busy_ms.max(1) as f64
    }

    /// For programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let failed = |f: &Failed| {
            json!({
                "seed": f.options.seed,
                "check": f.failure.check.name(),
                "what": f.failure.what,
                "repro": repro(&f.options),
                "shrunk": f.shrunk.as_ref().map(|s| s.repro().to_json()),
            })
        };
        let faults = Fault::ALL.into_iter().filter_map(|f| Some((f, self.faults.get(&f)?)));
        let marks = |table: &BTreeMap<&'static str, MarkUse>| -> serde_json::Map<String, Value> {
            let value = |m: &MarkUse| json!({ "hits": m.hits, "runs": m.runs, "first_seed": m.first });
            table.iter().map(|(name, m)| ((*name).to_owned(), value(m))).collect()
        };
        json!({
            "ok": self.failed.is_empty(),
            "runs": self.runs,
            "twice": self.twice,
            "failed": self.failed.iter().map(failed).collect::<Vec<_>>(),
            "elapsed_ms": self.elapsed_ms,
            "busy_ms": self.busy_ms,
            "runs_per_second": self.runs_per_second(),
            "virtual_hours": self.virtual_ms as f64 / 3_600_000.0,
            "virtual_hours_per_core_hour": self.speed(),
            "events": self.events,
            "slowest": self.slowest.iter().map(|(ms, seed)| json!({ "seed": seed, "ms": ms })).collect::<Vec<_>>(),
            "faults": faults
                .map(|(f, u)| (f.name().to_owned(), json!({ "runs": u.runs, "struck": u.struck })))
                .collect::<serde_json::Map<_, _>>(),
            "checks": self.made.iter().map(|(c, n)| (c.name().to_owned(), (*n).into())).collect::<serde_json::Map<_, _>>(),
            "marks": marks(&self.marks),
            "marks_never_hit": self.never_hit().collect::<Vec<_>>(),
            "marks_hostile_without_a_hostile_peer": marks(&self.accused),
        })
    }
}

impl fmt::Display for CampaignReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for failed in &self.failed {
            writeln!(f, "seed {}: {}\n  {} --trace", failed.options.seed, failed.failure, repro(&failed.options))?;
            if let Some(small) = &failed.shrunk {
                writeln!(f, "  shrunk to {} in {} runs: {}", small.to, small.runs, small.what)?;
                if let Some(seeded) = &small.seeded {
                    writeln!(f, "  {} --trace", repro(seeded))?;
                }
            }
        }
        let hours = self.virtual_ms as f64 / 3_600_000.0;
        let (rate, speed) = (self.runs_per_second(), self.speed());
        let held = self.runs - self.failed.len() as u64;
        writeln!(f, "{held} of {} runs held every check; {} were made twice and were the same", self.runs, self.twice)?;
        for (check, n) in self.failures() {
            writeln!(f, "  failed       {check:<16} {n:>9} runs")?;
        }
        writeln!(f, "  time         {:.1} s, {rate:.1} runs a second", self.elapsed_ms as f64 / 1000.0)?;
        writeln!(f, "  simulated    {hours:.0} hours, {speed:.0} in an hour of one core; {} events", self.events)?;
        let slow: Vec<String> =
            self.slowest.iter().map(|(ms, seed)| format!("seed {seed} {:.1} s", *ms as f64 / 1000.0)).collect();
        writeln!(f, "  slowest      {}", slow.join(", "))?;
        writeln!(f, "\n  {:<34} {:>9} {:>12}", "fault", "runs", "struck")?;
        for (fault, used) in &self.faults {
            let struck = if used.struck > 0 { used.struck.to_string() } else { "-".into() };
            writeln!(f, "  {:<34} {:>9} {struck:>12}", fault.name(), used.runs)?;
        }
        writeln!(f, "\n  {:<34} {:>9} {:>12}", "check", "", "made")?;
        for check in Check::ALL {
            let made = self.made.get(&check).map_or("-".into(), u64::to_string);
            writeln!(f, "  {:<34} {:>9} {made:>12}", check.name(), "")?;
        }
        writeln!(f, "\n  {:<34} {:>9} {:>12}", "mark", "runs", "hits")?;
        for (mark, used) in &self.marks {
            writeln!(f, "  {mark:<34} {:>9} {:>12}", used.runs, used.hits)?;
        }
        let never: Vec<&str> = self.never_hit().collect();
        if !never.is_empty() {
            writeln!(f, "\n  marks that were never hit: {}", never.join(", "))?;
        }
        for (mark, used) in &self.accused {
            let first = used.first.unwrap_or_default();
            writeln!(f, "  {mark} was hit in {} runs without a hostile peer, first seed {first}", used.runs)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn still(options: &CampaignOptions) -> CampaignReport {
        let outside = Outside { now_ms: &|| 0, progress: &|_, _| {} };
        campaign(options, &outside).unwrap()
    }

    #[test]
    fn the_result_does_not_depend_on_the_number_of_threads() {
        let options = CampaignOptions { seeds: 12, jobs: 1, ..CampaignOptions::default() };
        let one = still(&options);
        assert_eq!((one.runs, one.twice), (12, 0));
        assert!(one.made.len() > 10 && one.marks.len() > 5);
        assert_eq!(still(&CampaignOptions { jobs: 3, ..options }), one);
    }

    #[test]
    fn one_run_in_twenty_is_made_twice() {
        let options = CampaignOptions { from: 19, seeds: 3, ..CampaignOptions::default() };
        let report = still(&options);
        assert_eq!((report.runs, report.twice), (3, 1));
    }

    #[test]
    fn a_failure_comes_with_its_seed_its_check_and_a_command() {
        let mutant = Mutant::DurableWithoutSync;
        let options = CampaignOptions { seeds: 6, mutant, shrink: 40, ..CampaignOptions::default() };
        let report = still(&options);
        let first = report.failed.iter().find(|f| f.shrunk.is_some()).unwrap();
        assert_eq!(report.to_json()["failed"][0]["repro"], repro(&report.failed[0].options));
        assert!(report.to_string().contains(&repro(&first.options)));
    }

    #[test]
    fn the_clock_ends_a_campaign() {
        let clock = AtomicU64::new(0);
        let now_ms = || clock.fetch_add(500, Ordering::Relaxed);
        let outside = Outside { now_ms: &now_ms, progress: &|_, _| {} };
        let options = CampaignOptions { seconds: Some(3), jobs: 1, ..CampaignOptions::default() };
        let report = campaign(&options, &outside).unwrap();
        assert!(report.runs < 5 && report.elapsed_ms >= 3000, "{}", report.runs);
    }

    #[test]
    fn the_first_line_that_differs_is_found() {
        let lines = |t: &str| t.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let differ = |a, b| first_difference(&lines(a), &lines(b));
        assert_eq!(differ("a b c", "a b c"), None);
        assert_eq!(differ("a b c", "a x c").unwrap(), "line 2: first \"b\", then \"x\"");
        assert_eq!(differ("a b", "a b c").unwrap(), "line 3: first (the end), then \"c\"");
    }

    #[test]
    fn marks_for_hostile_peers_are_not_asked_for_where_nobody_is_hostile() {
        let mut report = CampaignReport::default();
        assert!(!report.never_hit().any(|m| m.starts_with(HOSTILE_MARKS)));
        report.faults.insert(Fault::Hostile, FaultUse { runs: 1, struck: 0 });
        assert!(report.never_hit().any(|m| m.starts_with(HOSTILE_MARKS)));
    }
}

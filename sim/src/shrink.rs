//! The smallest run in which the same check fails.
//!
//! First the shape: fewer faults, clinics and events. A tape means something else as soon as the
//! shape changes, so fresh seeds are tried as well. Then the tape: shorter, then zeroes (the quietest
//! choice) in place of what does not matter, then pieces left out.

use crate::check::Check;
use crate::fault::{Fault, Faults};
use crate::guard::run_guarded;
use crate::options::{Options, Stack};
use crate::profile::Profile;
use crate::replay::Repro;
use crate::report::Report;
use crate::rng::Rng;

/// Fresh seeds that are tried at each shape, at most.
const SEEDS_MAX: u64 = 20;
/// Tapes longer than this are not shortened: such a run takes too long to be made hundreds of times.
const TAPE_MAX: u64 = 16 << 20;

/// How large a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Number of events, over all clinics.
    pub events: usize,
    /// Number of clinics.
    pub clinics: usize,
    /// Classes of faults that are on.
    pub faults: usize,
    /// Bytes of the tape that were drawn.
    pub tape_bytes: u64,
}

impl std::fmt::Display for Extent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Extent { events, clinics, faults, tape_bytes } = self;
        write!(f, "{events} events, {clinics} clinics, {faults} classes of faults, {tape_bytes} bytes of tape")
    }
}

/// What a run was shrunk to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shrunk {
    /// What is run.
    pub options: Options,
    /// From this tape.
    pub tape: Vec<u8>,
    /// What fails, in a sentence.
    pub what: String,
    /// The check.
    pub check: Check,
    /// Runs that were made.
    pub runs: u32,
    /// How large the run was.
    pub from: Extent,
    /// How large it is.
    pub to: Extent,
    /// The smallest shape that was seen to fail with the whole tape of its seed: it fits on a command
    /// line. `None` if there was none, since the run came with a tape of its own.
    pub seeded: Option<Options>,
}

impl Shrunk {
    /// For a file.
    #[must_use]
    pub fn repro(&self) -> Repro {
        Repro { options: self.options, tape: Some(self.tape.clone()), check: Some(self.check), what: self.what.clone() }
    }
}

/// Looks for the smallest run in which `check` fails, starting from one in which it does, with at
/// most `budget` runs. The same arguments give the same result. `None` if it does not fail there.
#[must_use]
pub fn shrink(options: &Options, check: Check, budget: u32) -> Option<Shrunk> {
    let repro = Repro { options: *options, tape: None, check: Some(check), what: String::new() };
    shrink_repro(&repro, check, budget, &mut |_| {})
}

/// As [`shrink`], from a run that may have a tape of its own. `tell` hears how it goes.
pub fn shrink_repro(repro: &Repro, check: Check, budget: u32, tell: &mut dyn FnMut(&str)) -> Option<Shrunk> {
    let report = repro.run(false);
    let what = report.failed.as_ref().filter(|f| f.check == check)?.what.clone();
    let size = extent(&report);
    let seeded = repro.tape.is_none().then_some(repro.options);
    let tape = repro.tape().head(report.drawn.min(TAPE_MAX)).into_owned();
    let mut s = Shrinker {
        check,
        budget: budget.max(1),
        best: Shrunk { options: repro.options, tape, what, check, runs: 1, from: size, to: size, seeded },
        tell,
    };
    // Shape and tape are about as dear; what the shape leaves over the tape gets.
    let shape_budget = s.budget * 3 / 5;
    s.tell(&format!("from {size}"));
    while s.best.runs < shape_budget && s.shape(shape_budget) {}
    s.tape();
    Some(s.best)
}

fn extent(report: &Report) -> Extent {
    let o = &report.options;
    Extent {
        events: o.events,
        clinics: o.clinics,
        faults: o.faults.iter().count(),
        tape_bytes: report.drawn.min(report.options.tape_bytes),
    }
}

struct Shrinker<'a> {
    check: Check,
    budget: u32,
    best: Shrunk,
    tell: &'a mut dyn FnMut(&str),
}

impl Shrinker<'_> {
    fn tell(&mut self, what: &str) {
        let runs = self.best.runs;
        (self.tell)(&format!("{runs:>5} runs: {what}"));
    }

    /// Runs it, and keeps it if the check fails.
    fn attempt(&mut self, mut options: Options, tape: Option<&[u8]>) -> bool {
        self.best.runs += 1;
        options.tape_bytes = tape.map_or(options.tape_bytes, |t| t.len() as u64);
        let source = tape.map_or_else(|| options.tape(), Rng::from_bytes);
        let report = run_guarded(&options, source.clone(), false);
        let Some(failed) = report.failed.as_ref().filter(|f| f.check == self.check) else { return false };
        if report.drawn > TAPE_MAX {
            return false;
        }
        self.best.what.clone_from(&failed.what);
        self.best.to = extent(&report);
        self.best.options = options;
        match tape {
            Some(bytes) => self.best.tape = bytes.to_vec(),
            None => {
                self.best.tape = source.head(report.drawn).into_owned();
                self.best.seeded = Some(options);
            }
        }
        true
    }

    /// Tries a shape: with the tape at hand, then with fresh seeds.
    fn reshape(&mut self, limit: u32, change: impl FnOnce(&mut Options)) -> bool {
        let mut options = self.best.options;
        change(&mut options);
        if options == self.best.options || self.best.runs >= limit {
            return false;
        }
        let tape = self.best.tape.clone();
        let mut found = self.attempt(options, Some(&tape));
        let seeds = SEEDS_MAX.min(u64::from(self.budget / 15));
        for seed in 1..=seeds {
            if found || self.best.runs >= limit {
                break;
            }
            found = self.attempt(Options { seed, tape_bytes: crate::rng::TAPE_BYTES, ..options }, None);
        }
        if found {
            let to = self.best.to;
            self.tell(&to.to_string());
        }
        found
    }

    /// One round over everything that makes a run large; whether something helped.
    fn shape(&mut self, limit: u32) -> bool {
        let mut helped = self.reshape(limit, |o| o.faults = Faults::NONE);
        let events = self.best.options.events;
        // A quarter of the events first: the runs after it are cheaper.
        helped |= events > 8 && self.reshape(limit, |o| o.events = events / 4);
        let mut chunk = self.best.options.faults.iter().count() / 2;
        while chunk > 0 {
            let on: Vec<Fault> = self.best.options.faults.iter().collect();
            for some in on.chunks(chunk) {
                helped |= self.reshape(limit, |o| o.faults = some.iter().fold(o.faults, |set, f| set.without(*f)));
            }
            chunk /= 2;
        }
        helped |= self.reshape(limit, |o| o.relay = false);
        helped |= self.reshape(limit, |o| o.all = false);
        helped |= self.reshape(limit, |o| o.profile = Profile::LAN);
        helped |= self.reshape(limit, |o| o.stack = Stack::Stream);
        let clinics = self.best.options.clinics;
        for fewer in [1, clinics / 2, clinics.saturating_sub(1)] {
            if fewer > 0 && fewer < self.best.options.clinics {
                helped |= self.reshape(limit, |o| o.clinics = fewer);
            }
        }
        // Halves as long as they fail, then smaller steps.
        for (part, of) in [(1, 2), (3, 4), (7, 8)] {
            while self.best.options.events > 1 {
                let fewer = self.best.options.events * part / of;
                if !self.reshape(limit, |o| o.events = fewer) {
                    break;
                }
                helped = true;
            }
        }
        helped |= self.reshape(limit, |o| o.size = 0);
        helped |= self.reshape(limit, |o| o.small = false);
        helped
    }

    /// Tries a tape of its own.
    fn retape(&mut self, tape: &[u8]) -> bool {
        if self.best.runs >= self.budget {
            return false;
        }
        self.attempt(self.best.options, Some(tape))
    }

    /// Makes the tape small.
    fn tape(&mut self) {
        let (mut low, mut high) = (0, self.best.tape.len());
        let whole = self.best.tape.clone();
        // The run as it is, but with the tape that it drew: from here on the tape is explicit.
        if !self.retape(&whole) {
            self.best.options.tape_bytes = whole.len() as u64;
        }
        if self.retape(&[]) {
            high = 0;
        }
        while low < high && self.best.runs < self.budget {
            let middle = usize::midpoint(low, high);
            if self.retape(&whole[..middle]) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        let to = self.best.to;
        self.tell(&to.to_string());
        let mut helped = true;
        while helped && self.best.runs < self.budget {
            helped = self.pass(|tape, at, n| {
                let piece = &mut tape[at..at + n];
                let any = piece.iter().any(|b| *b != 0);
                piece.fill(0);
                any
            });
            helped |= self.pass(|tape, at, n| {
                tape.drain(at..at + n);
                true
            });
            let to = self.best.to;
            self.tell(&to.to_string());
        }
    }

    /// Changes piece by piece, halves first, single bytes last; whether something helped. `change`
    /// says whether it made a difference.
    fn pass(&mut self, change: impl Fn(&mut Vec<u8>, usize, usize) -> bool) -> bool {
        let mut helped = false;
        let mut n = self.best.tape.len().div_ceil(2);
        while n > 0 {
            let mut at = 0;
            while at < self.best.tape.len() && self.best.runs < self.budget {
                let mut tape = self.best.tape.clone();
                let (piece, before) = (n.min(tape.len() - at), tape.len());
                let took = change(&mut tape, at, piece) && self.retape(&tape);
                helped |= took;
                // Where a piece was left out the next one stands now.
                if !took || tape.len() == before {
                    at += piece;
                }
            }
            n /= 2;
        }
        helped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutant::Mutant;
    use crate::run::run;

    fn large_failure() -> (Options, Check) {
        let with = |seed| Options { mutant: Mutant::DurableWithoutSync, ..Options::swarm(seed) };
        let failed = |o: Options| Some((o, run(&o).failed?.check));
        (1..).map(with).filter(|o| o.events > 100).find_map(failed).unwrap()
    }

    #[test]
    fn a_failure_shrinks_to_a_small_one_of_the_same_check() {
        let (options, check) = large_failure();
        let small = shrink(&options, check, 300).unwrap();
        assert!(small.runs <= 300 && small.check == check);
        assert!(small.to.events * 4 < small.from.events, "{} to {}", small.from, small.to);
        assert!(small.tape.len() as u64 * 4 < small.from.tape_bytes, "{} to {}", small.from, small.to);
        let again = small.repro().run(false);
        assert_eq!(again.failed.map(|f| (f.check, f.what)), Some((check, small.what.clone())));
        assert_eq!(run(&small.seeded.unwrap()).failed.map(|f| f.check), Some(check));
        assert_eq!(shrink(&options, check, 300), Some(small));
    }

    #[test]
    fn a_run_that_holds_is_not_shrunk() {
        let options = Options { events: 3, clinics: 1, faults: Faults::NONE, ..Options::swarm(1) };
        assert_eq!(shrink(&options, Check::Durable, 10), None);
    }
}

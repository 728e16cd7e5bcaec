//! `ropeway demo`.

use super::args::DemoArgs;
use super::{Outcome, Output, Result};
use crate::demo::progress::{Progress, Show};
use crate::demo::report::Verdict;
use crate::demo::run::{Plan, run as play};

/// Shows everything at once: [`play`] with what was asked for, then the table and the verdict.
///
/// # Errors
/// Those of [`play`]; a run that failed is no error but [`Outcome::Failed`].
pub fn run(args: &DemoArgs, verbose: bool, out: &mut Output) -> Result<Outcome> {
    let plan = Plan {
        clinics: args.clinics,
        events: args.events,
        profile: args.profile,
        cut: args.cut(),
        speed: args.speed,
        seed: args.seed,
        keep: args.keep.clone(),
    };
    out.say(format_args!("{}\n", plan.announce()))?;
    let show = if out.quiet() { Show::Nothing } else { Show::choose(out.json()) };
    let report = play(&plan, &Progress::new(show), |path| {
        if verbose {
            out.note(format_args!("the nodes are in {}", path.display()));
        }
    })?;
    out.line(format_args!("\n{}", report.to_text(out.colour()).trim_end()))?;
    if let Some(path) = &plan.keep {
        out.say(format_args!("the nodes are kept in {}", path.display()))?;
    }
    out.object(&report)?;
    match report.verdict {
        Verdict::Passed => Ok(Outcome::Done),
        Verdict::Failed => Ok(Outcome::Failed),
    }
}

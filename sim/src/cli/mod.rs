//! The commands. Each one returns whether every check held, or a sentence about what is wrong with
//! what it was asked.

mod campaign;
mod files;
mod lists;
mod mutants;
mod run;
mod shape;

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Whether every check held; else what is wrong with what was asked.
type Outcome = Result<bool, String>;

/// Runs whole Ropeway deployments in virtual time. The same seed gives the same run.
#[derive(Debug, Parser)]
#[command(version, after_help = "Exit codes: 0 every check held, 1 a check failed, 2 the command is wrong.")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Run(run::RunArgs),
    Campaign(campaign::CampaignArgs),
    Replay(files::ReplayArgs),
    Shrink(files::ShrinkArgs),
    Mutants(mutants::MutantsArgs),
    Profiles(lists::ProfilesArgs),
    Faults(lists::FaultsArgs),
    Checks(lists::ChecksArgs),
}

pub(crate) fn main() -> ExitCode {
    let outcome = match Cli::parse().verb {
        Verb::Run(args) => args.run(),
        Verb::Campaign(args) => args.run(),
        Verb::Replay(args) => args.run(),
        Verb::Shrink(args) => args.run(),
        Verb::Mutants(args) => args.run(),
        Verb::Profiles(args) => args.run(),
        Verb::Faults(args) => args.run(),
        Verb::Checks(args) => args.run(),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(what) => {
            complain(&format!("error: {what}"));
            ExitCode::from(2)
        }
    }
}

/// Prints a line. Who reads may have gone (`| head`): that is no error.
fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints a line for a person, apart from the result.
fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints a result for a person or a program.
fn show(json: bool, value: impl FnOnce() -> serde_json::Value, text: impl Display) {
    if json { say(value()) } else { say(text.to_string().trim_end()) }
}

/// Milliseconds of real time since the program first asked. Only the commands know it, no run does.
#[allow(clippy::disallowed_methods, reason = "how long a campaign takes is a question about the real world")]
fn now_ms() -> u64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let ms = START.get_or_init(std::time::Instant::now).elapsed().as_millis();
    u64::try_from(ms).unwrap_or(u64::MAX)
}

/// A bar on a terminal, nothing elsewhere. `total`: `None` if nobody knows.
fn bar(total: Option<u64>) -> ProgressBar {
    // indicatif draws on stderr, and nothing if that is no terminal.
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
    let template = match total {
        Some(_) => "{bar:30} {pos} of {len}, {msg}",
        None => "{spinner} {pos}, {msg}",
    };
    ProgressStyle::with_template(template).map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_commands_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn each_example_in_the_help_is_understood() {
        let mut tried = 0;
        for verb in Cli::command().get_subcommands() {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in help.lines().filter_map(|l| l.trim().strip_prefix("ropeway-sim ")) {
                let words = line.split(" #").next().unwrap_or_default().split_whitespace();
                let parsed = Cli::try_parse_from(["ropeway-sim"].into_iter().chain(words));
                assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
                tried += 1;
            }
        }
        assert!(tried >= 12, "{tried}");
    }
}

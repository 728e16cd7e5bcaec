//! What is run, as it is said on the command line.

use clap::Args;
use clap::builder::{PossibleValuesParser, RangedU64ValueParser, TypedValueParser};

use ropeway_sim::{CLINICS_MAX, Check, EVENTS_MAX, FIGURE_MAX, Faults, Mutant, Options, Profile, SIZE_MAX, Stack};

/// What is run: a profile, and what differs from it.
#[derive(Debug, Args)]
pub(crate) struct Shape {
    /// A link with a deployment of five clinics and 5,000 events; `swarm`, where the seed chooses
    /// everything; or `hostile-disk`.
    #[arg(long, default_value = "bhutan-2g", value_parser = profiles())]
    pub(crate) profile: String,
    /// The same as `--profile swarm`.
    #[arg(long, conflicts_with = "profile")]
    pub(crate) swarm: bool,
    /// Where all chance comes from.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Number of clinics.
    #[arg(long, value_parser = count(1, CLINICS_MAX))]
    clinics: Option<usize>,
    /// Number of events, over all clinics.
    #[arg(long, value_parser = count(0, EVENTS_MAX))]
    events: Option<usize>,
    /// Mean bytes of a payload; 0 for the usual mix of small ones and a few large.
    #[arg(long, value_parser = count(0, SIZE_MAX))]
    size: Option<usize>,
    /// What may go wrong: all, none, or names parted by commas (see `ropeway-sim faults`).
    #[arg(long, value_parser = Faults::parse)]
    faults: Option<Faults>,
    /// What carries the frames: a byte stream, or TLS over TCP over packets that get lost.
    #[arg(long, value_parser = stacks())]
    stack: Option<Stack>,
    /// Small segments, groups and credit, so that everything turns over often.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    small: Option<bool>,
    /// Clinics may read every stream.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    all: Option<bool>,
    /// A second hub that dials the first.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    relay: Option<bool>,
    /// Disks may lose events for good: only "detected, never falsely acknowledged" is asked then.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    hostile_disk: Option<bool>,
    /// Length of the tape from which all chance is drawn; once it is over nothing goes wrong any more.
    #[arg(long)]
    tape_bytes: Option<u64>,
    /// Plant a bug (see `ropeway-sim mutants --list`).
    #[arg(long, value_parser = mutant_names(), hide_possible_values = true)]
    mutant: Option<Mutant>,
    /// Switch a check off (see `ropeway-sim checks`).
    #[arg(long, value_parser = checks(), hide_possible_values = true, value_name = "CHECK")]
    blind: Option<Check>,
    #[command(flatten)]
    link: Link,
}

/// The link, figure by figure.
#[derive(Debug, Args)]
#[command(next_help_heading = "Link (each in place of what the profile says)")]
struct Link {
    /// The link of another profile.
    #[arg(long, value_parser = links())]
    link: Option<Profile>,
    /// Milliseconds one way.
    #[arg(long, value_parser = figure())]
    latency_ms: Option<u64>,
    /// Up to so many milliseconds more.
    #[arg(long, value_parser = figure())]
    jitter_ms: Option<u64>,
    /// Bytes per second from the clinic to the hub.
    #[arg(long, value_parser = figure())]
    up_rate: Option<u64>,
    /// Bytes per second from the hub to the clinic.
    #[arg(long, value_parser = figure())]
    down_rate: Option<u64>,
    /// Mean time between cuts in milliseconds, 0 for none.
    #[arg(long, value_parser = figure())]
    cut_every_ms: Option<u64>,
    /// Mean time in milliseconds that the link stays dead after a cut.
    #[arg(long, value_parser = figure())]
    dark_ms: Option<u64>,
    /// An idle connection is dead after so many milliseconds; 0 for never.
    #[arg(long, value_parser = figure())]
    idle_kill_ms: Option<u64>,
    /// Packets lost in a thousand.
    #[arg(long, value_parser = figure())]
    loss_per_mille: Option<u64>,
}

impl Shape {
    /// What is run.
    pub(crate) fn options(&self) -> Result<Options, String> {
        let name = if self.swarm { "swarm" } else { &self.profile };
        let base = Options::named(name, self.seed)?;
        Ok(Options {
            tape_bytes: self.tape_bytes.unwrap_or(base.tape_bytes),
            clinics: self.clinics.unwrap_or(base.clinics),
            events: self.events.unwrap_or(base.events),
            size: self.size.unwrap_or(base.size),
            profile: self.link.of(base.profile),
            stack: self.stack.unwrap_or(base.stack),
            faults: self.faults.unwrap_or(base.faults),
            small: self.small.unwrap_or(base.small),
            all: self.all.unwrap_or(base.all),
            relay: self.relay.unwrap_or(base.relay),
            hostile_disk: self.hostile_disk.unwrap_or(base.hostile_disk),
            mutant: self.mutant.unwrap_or(base.mutant),
            blind: self.blind.or(base.blind),
            ..base
        })
    }
}

impl Link {
    fn of(&self, base: Profile) -> Profile {
        let base = self.link.unwrap_or(base);
        Profile {
            latency_ms: self.latency_ms.unwrap_or(base.latency_ms),
            jitter_ms: self.jitter_ms.unwrap_or(base.jitter_ms),
            up_rate: self.up_rate.unwrap_or(base.up_rate),
            down_rate: self.down_rate.unwrap_or(base.down_rate),
            cut_every_ms: self.cut_every_ms.unwrap_or(base.cut_every_ms),
            dark_ms: self.dark_ms.unwrap_or(base.dark_ms),
            idle_kill_ms: self.idle_kill_ms.unwrap_or(base.idle_kill_ms),
            loss_per_mille: self.loss_per_mille.unwrap_or(base.loss_per_mille),
            ..base
        }
    }
}

/// The names that a profile can have.
pub(crate) fn profiles() -> PossibleValuesParser {
    PossibleValuesParser::new(Profile::ALL.map(|p| p.name).into_iter().chain(["swarm", "hostile-disk"]))
}

fn links() -> impl TypedValueParser<Value = Profile> {
    PossibleValuesParser::new(Profile::ALL.map(|p| p.name)).try_map(|name| name.parse::<Profile>())
}

/// The names of what carries the frames.
pub(crate) fn stacks() -> impl TypedValueParser<Value = Stack> {
    PossibleValuesParser::new([Stack::Stream, Stack::Full].map(Stack::name)).try_map(|name| name.parse::<Stack>())
}

/// The names of planted bugs.
pub(crate) fn mutant_names() -> impl TypedValueParser<Value = Mutant> {
    let names = [Mutant::None].into_iter().chain(Mutant::all()).map(Mutant::name);
    PossibleValuesParser::new(names).try_map(|name| Mutant::by_name(&name))
}

/// The names of checks.
pub(crate) fn checks() -> impl TypedValueParser<Value = Check> {
    let missing = "no such check";
    PossibleValuesParser::new(Check::ALL.map(Check::name)).try_map(move |name| Check::by_name(&name).ok_or(missing))
}

/// A number of things.
pub(crate) fn count(least: usize, most: usize) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(least as u64..=most as u64)
}

fn figure() -> RangedU64ValueParser<u64> {
    RangedU64ValueParser::new().range(0..=FIGURE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use ropeway_sim::{Fault, Rng, repro};

    #[derive(Parser)]
    struct Just {
        #[command(flatten)]
        shape: Shape,
    }

    fn parse(line: &str) -> Result<Options, String> {
        // The second word is the command.
        let words = line.split_whitespace().take(1).chain(line.split_whitespace().skip(2));
        Just::try_parse_from(words).map_err(|e| e.to_string())?.shape.options()
    }

    #[test]
    fn the_command_of_a_run_makes_the_same_run() {
        let mut chance = Rng::new(5);
        for seed in 0..300 {
            let mut o = Options::named(["swarm", "hostile-disk", "monsoon"][chance.below(3) as usize], seed).unwrap();
            for _ in 0..chance.below(4) {
                match chance.below(12) {
                    0 => o.clinics = 9,
                    1 => o.events = 0,
                    2 => o.size = 77,
                    3 => o.profile = Profile::ALL[chance.below(5) as usize],
                    4 => o.profile.cut_every_ms = chance.below(1000),
                    5 => o.stack = Stack::Full,
                    6 => o.faults = o.faults.without(Fault::Cut),
                    7 => (o.small, o.all) = (!o.small, !o.all),
                    8 => (o.relay, o.hostile_disk) = (!o.relay, !o.hostile_disk),
                    9 => o.mutant = Mutant::PieceLost,
                    10 => o.blind = Some(Check::Bytes),
                    _ => o.tape_bytes = 12,
                }
            }
            assert_eq!(parse(&repro(&o)), Ok(o), "{}", repro(&o));
        }
    }

    #[test]
    fn a_wrong_name_is_refused_with_those_that_are_right() {
        for (line, words) in [
            ("x run --profile 5g", "bhutan-2g"),
            ("x run --link swarm", "satellite"),
            ("x run --stack udp", "full"),
            ("x run --faults flood", "late-word"),
            ("x run --mutant x", "ack_before_durable"),
            ("x run --blind x", "wire-durable"),
            ("x run --clinics 0", "1..=10000"),
        ] {
            let said = parse(line).unwrap_err();
            assert!(said.contains(words), "{said}");
        }
    }
}

//! `profiles`, `faults`, `checks`: what there is to choose from.

use clap::Args;
use serde_json::{Value, json};

use super::{Outcome, say};
use ropeway_sim::{Check, Fault, Options, Profile};

/// The profiles and their figures.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  ropeway-sim profiles\n  ropeway-sim profiles --json")]
pub(crate) struct ProfilesArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What can go wrong.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ropeway-sim faults")]
pub(crate) struct FaultsArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What is checked.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ropeway-sim checks")]
pub(crate) struct ChecksArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Those that are more than a link.
const OTHERS: [(&str, &str); 2] = [
    ("swarm", "the seed chooses everything: one to four clinics, a link, half of the faults"),
    ("hostile-disk", "disks that lose, lie and rot; only \"detected, never falsely acknowledged\" is asked"),
];

impl ProfilesArgs {
    pub(super) fn run(&self) -> Outcome {
        if self.json {
            let of = |p: &Profile| {
                let figures: serde_json::Map<String, Value> =
                    p.figures().into_iter().map(|(key, n)| (key.to_owned(), n.into())).collect();
                json!({ "name": p.name, "about": p.about, "figures": figures })
            };
            let others = OTHERS.map(|(name, about)| json!({ "name": name, "about": about }));
            say(Value::Array(Profile::ALL.iter().map(of).chain(others).collect()));
            return Ok(true);
        }
        say(format!(
            "{:<13} {:>9} {:>9} {:>10} {:>10} {:>9} {:>9} {:>9} {:>6}",
            "profile", "latency", "jitter", "up", "down", "cut every", "dark", "idle kill", "loss"
        ));
        for p in Profile::ALL {
            let rate = |bytes: u64| format!("{} kbit/s", bytes * 8 / 1000);
            say(format!(
                "{:<13} {:>9} {:>9} {:>10} {:>10} {:>9} {:>9} {:>9} {:>6}",
                p.name,
                time(p.latency_ms),
                time(p.jitter_ms),
                rate(p.up_rate),
                rate(p.down_rate),
                time(p.cut_every_ms),
                time(p.dark_ms),
                time(p.idle_kill_ms),
                format!("{}.{} %", p.loss_per_mille / 10, p.loss_per_mille % 10),
            ));
        }
        let default = Options::default();
        say(format!("\nEach of them with {} clinics and {} events. And:", default.clinics, default.events));
        list(false, OTHERS.into_iter());
        Ok(true)
    }
}

/// A time as a person would say it, `-` for none.
fn time(ms: u64) -> String {
    match ms {
        0 => "-".into(),
        1..1000 => format!("{ms} ms"),
        1000..120_000 => format!("{} s", ms / 1000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} days", ms / 86_400_000),
    }
}

impl FaultsArgs {
    pub(super) fn run(&self) -> Outcome {
        list(self.json, Fault::ALL.into_iter().map(|f| (f.name(), f.about())));
        Ok(true)
    }
}

impl ChecksArgs {
    pub(super) fn run(&self) -> Outcome {
        list(self.json, Check::ALL.into_iter().map(|c| (c.name(), c.about())));
        Ok(true)
    }
}

/// Names and what they stand for.
pub(super) fn list(json: bool, named: impl Iterator<Item = (&'static str, &'static str)>) {
    if json {
        say(Value::Array(named.map(|(name, about)| json!({ "name": name, "about": about })).collect()));
    } else {
        let rows: Vec<(&str, &str)> = named.collect();
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        rows.iter().for_each(|(name, about)| say(format!("{name:<width$}  {about}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_said_in_the_unit_that_fits() {
        let said = [0, 300, 15_000, 240_000, 7_200_000, 2 * 86_400_000].map(time);
        assert_eq!(said, ["-", "300 ms", "15 s", "4 min", "2 h", "2 days"]);
    }
}

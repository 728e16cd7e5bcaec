//! A run in a sentence, and its trace in words.

use crate::fault::Fault;
use crate::figures::{many, span, thousands};
use crate::report::Report;

/// Lines of the trace that a report shows.
pub(super) const TAIL_SHOWN: usize = 25;

fn times(n: u64) -> String {
    match n {
        1 => "once".into(),
        2 => "twice".into(),
        n => format!("{} times", thousands(n)),
    }
}

/// What happened to whom, in one sentence.
pub(super) fn sentence(r: &Report) -> String {
    let mut parts = Vec::new();
    let clinics = r.nodes.get(1..).unwrap_or_default();
    let busiest = |of: fn(&super::NodeReport) -> u64| {
        let hit = clinics.iter().filter(|n| of(n) > 0).count();
        // The first of those that were hit most.
        clinics.iter().rev().max_by_key(|n| of(n)).filter(|n| of(n) > 0).map(|n| (n, of(n), hit))
    };
    if let Some((who, most, hit)) = busiest(|n| n.cuts) {
        let all: u64 = clinics.iter().map(|n| n.cuts).sum();
        parts.push(match hit {
            1 => format!("{} was cut {}", who.name, times(most)),
            _ => format!("{hit} nodes were cut {} ({} {})", times(all), who.name, times(most)),
        });
    }
    if let Some((who, most, hit)) = busiest(|n| n.dark_ms) {
        parts.push(match hit {
            1 => format!("its link was dead for {}", span(most))
                .replace("its link", &format!("the link of {}", who.name)),
            _ => format!("{hit} links were dead, that of {} for {}", who.name, span(most)),
        });
    }
    if let Some(hub) = r.nodes.first().filter(|n| n.crashes > 0) {
        parts.push(format!("the hub lost power {}", times(hub.crashes)));
    }
    if let Some((who, most, hit)) = busiest(|n| n.crashes) {
        let all: u64 = clinics.iter().map(|n| n.crashes).sum();
        parts.push(match hit {
            1 => format!("{} lost power {}", who.name, times(most)),
            _ => format!("{hit} other nodes lost power {}", times(all)),
        });
    }
    let told = [Fault::Cut, Fault::Crash, Fault::Blackout];
    let more: u64 = r.faults.iter().filter(|(f, _)| !told.contains(f)).map(|(_, n)| n).sum();
    if more > 0 {
        parts.push(format!("faults of other kinds struck {}", times(more)));
    }
    if parts.is_empty() {
        parts.push("nothing went wrong with links and nodes".into());
    }
    let at_hub: u64 = r.nodes.iter().map(|n| n.at_hub).sum();
    let end = match &r.failed {
        None => format!("{} became durable at the hub", many(at_hub, "event")),
        Some(_) => format!(
            "{} of {} durable at the hub when the run failed",
            thousands(at_hub),
            many(r.timeline.events, "event")
        ),
    };
    format!("{}; {end}", parts.join(", "))
}

/// The last lines of the trace, in words.
pub(super) fn tail(r: &Report) -> Vec<String> {
    let names: Vec<&str> = r.nodes.iter().map(|n| n.name.as_str()).collect();
    let from = r.tail.len().saturating_sub(TAIL_SHOWN);
    r.tail[from..].iter().map(|line| annotate(line, &names)).collect()
}

/// One line of the trace with names for numbers. What is not known is left as it is.
fn annotate(line: &str, names: &[&str]) -> String {
    let Some((us, rest)) = line.split_once(' ').and_then(|(us, rest)| Some((us.parse::<u64>().ok()?, rest))) else {
        // What was said on the wire stands below the frame that carried it.
        return format!("{:>16}  {}", "", line.trim_start());
    };
    let words: Vec<&str> = rest.split(' ').collect();
    let name =
        |n: &str| n.parse().ok().and_then(|h: usize| names.get(h)).map_or_else(|| n.to_owned(), |n| (*n).to_owned());
    let side = |e: &str| if e == "0" { "the clinic" } else { "the hub" };
    let text = match words[..] {
        ["append", h, lane, seq] => format!("{} appends event {seq} to its {lane} stream", name(h)),
        ["write", h, "group", g, at, n] => format!("{} writes group {g} at {at}, {n} bytes", name(h)),
        ["synced", h, upto] => format!("{} has synced up to group {upto}", name(h)),
        ["crash", h] => format!("{} loses power", name(h)),
        ["dark", h, ms] => format!("the link of {} is dead for {}", name(h), ms.parse().map_or(ms.into(), span)),
        ["connect", a, b] => format!("{} connects to {}", name(a), name(b)),
        ["cut", c, noticed] => {
            format!(
                "connection {c} is cut, {}",
                if noticed == "true" { "both sides hear of it" } else { "perhaps nobody hears of it" }
            )
        }
        ["idle-kill", c] => format!("connection {c} was idle for too long and is dead"),
        ["send", c, e, n] => format!("connection {c}: {} sends {n} bytes", side(e)),
        ["land", c, e, n] => format!("connection {c}: {n} bytes of {} arrive", side(e)),
        ["mend", fault, h] => format!("{}: {fault} is over", name(h)),
        ["closed", h, ref how @ ..] => format!("{}: a session is closed, {}", name(h), how.join(" ")),
        ["settle"] => "the bad times are over".into(),
        [fault, h] if Fault::ALL.iter().any(|f| f.name() == fault) => format!("{fault} strikes {}", name(h)),
        _ => rest.to_owned(),
    };
    format!("{:>8}.{:06} s  {text}", us / 1_000_000, us % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_trace_are_put_in_words() {
        let names = ["hub", "clinic_000"];
        for (line, words) in [
            ("1500000 crash 0", "       1.500000 s  hub loses power"),
            ("7 connect 1 0", "       0.000007 s  clinic_000 connects to hub"),
            ("7 land 3 1 40", "       0.000007 s  connection 3: 40 bytes of the hub arrive"),
            ("7 dark 1 61000", "       0.000007 s  the link of clinic_000 is dead for 1 min 1 s"),
            ("7 rot 1", "       0.000007 s  rot strikes clinic_000"),
            ("7 crash 9", "       0.000007 s  9 loses power"),
            ("7 something else", "       0.000007 s  something else"),
            ("    hub -> clinic_000 Hello", "                  hub -> clinic_000 Hello"),
            ("", "                  "),
        ] {
            assert_eq!(annotate(line, &names), words);
        }
    }
}

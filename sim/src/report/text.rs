//! One screen for a person, to be read or pasted into a report of a bug.

use std::fmt;

use ropeway_core::node::Ending;

use super::Report;
use super::story::{sentence, tail};
use crate::fault::Fault;
use crate::figures::{many, percent, span, thousands};
use crate::profile::Profile;

/// Lines of the table: more nodes than these would not fit on a screen.
const NODES_SHOWN: usize = 24;
const WIDTH: usize = 100;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.failed {
            None => writeln!(f, "ok: every check held")?,
            Some(why) => writeln!(f, "FAILED the check {}\n  {}", why.check, why.what)?,
        }
        entry(f, "happened", &sentence(self))?;
        // Never broken: it is there to be copied.
        writeln!(f, "  {:<14}{}", "see it again", self.repro())?;
        entry(f, "link", &link(&self.options.profile))?;
        entry(f, "knobs", &self.knobs())?;
        entry(f, "faults", &self.fault_counts())?;
        entry(f, "time", &self.times())?;
        entry(f, "wire", &self.wire())?;
        if self.air.connections > 0 {
            entry(f, "air", &self.air())?;
        }
        if let Some(goodput) = self.goodput() {
            entry(f, "goodput", &goodput)?;
        }
        entry(f, "checks", &self.checks())?;
        let (drawn, all) = (thousands(self.drawn), thousands(self.options.tape_bytes));
        entry(f, "tape", &format!("{drawn} of {all} bytes drawn"))?;
        entry(f, "trace", &format!("{:016x}, {}", self.trace, many(self.counts.steps, "step")))?;
        self.table(f)?;
        let tail = tail(self);
        if !tail.is_empty() {
            write!(f, "\n\n  the last of {} of the trace", many(self.tail.len() as u64, "line"))?;
            for line in tail {
                write!(f, "\n{line}")?;
            }
        }
        Ok(())
    }
}

/// A name and what is to be said of it, in lines that fit.
fn entry(f: &mut fmt::Formatter<'_>, name: &str, text: &str) -> fmt::Result {
    let (mut line, mut name) = (String::new(), name);
    for word in text.split(' ') {
        if !line.is_empty() && line.chars().count() + word.chars().count() + 17 > WIDTH {
            writeln!(f, "  {name:<14}{line}")?;
            (line, name) = (String::new(), "");
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    writeln!(f, "  {name:<14}{line}")
}

fn link(p: &Profile) -> String {
    let delay = match p.jitter_ms {
        0 => p.latency_ms.to_string(),
        more => format!("{} to {}", p.latency_ms, p.latency_ms + more),
    };
    let (up, down) = (thousands(p.up_rate), thousands(p.down_rate));
    let mut out = format!("{}: {up} B/s up, {down} B/s down, {delay} ms one way", p.name);
    if p.cut_every_ms > 0 {
        out += &format!(", cut every {} on average", span(p.cut_every_ms));
    }
    if p.dark_ms > 0 {
        out += &format!(", then perhaps dead for {}", span(p.dark_ms));
    }
    if p.idle_kill_ms > 0 {
        out += &format!(", dead when idle for {}", span(p.idle_kill_ms));
    }
    if p.loss_per_mille > 0 {
        out += &format!(", {} of 1,000 packets lost", p.loss_per_mille);
    }
    out
}

/// How a session ended, in words.
pub(super) fn ending(e: &Option<Ending>) -> String {
    match e {
        None => "no session".into(),
        Some(e) => e.code.map_or_else(|| "clean".into(), |code| code.to_string()),
    }
}

impl Report {
    fn knobs(&self) -> String {
        let o = &self.options;
        let mut out = format!("{}, {}", many(o.clinics as u64, "clinic"), many(o.events as u64, "event"));
        for extra in self.extras() {
            out += ", ";
            out += &extra;
        }
        out
    }

    fn fault_counts(&self) -> String {
        // These have no count: they are at work in every step.
        let always: Vec<&str> = [Fault::Chunks, Fault::LateWord]
            .into_iter()
            .filter(|f| self.options.faults.has(*f))
            .map(Fault::name)
            .collect();
        let counted: Vec<String> = self.faults.iter().map(|(f, n)| format!("{} {}", f.name(), thousands(*n))).collect();
        let idle = |f: &Fault| !self.faults.contains_key(f) && !always.contains(&f.name());
        let idle: Vec<&str> = self.options.faults.iter().filter(idle).map(Fault::name).collect();
        let mut parts = Vec::new();
        if !counted.is_empty() {
            parts.push(counted.join(", "));
        }
        if !always.is_empty() {
            parts.push(format!("all the time {}", always.join(", ")));
        }
        if !idle.is_empty() {
            parts.push(format!("allowed, did not strike: {}", idle.join(", ")));
        }
        if parts.is_empty() { "none".into() } else { parts.join("; ") }
    }

    fn times(&self) -> String {
        let all = span(self.virtual_ms);
        let settled = self.timeline.settled_ms;
        match (&self.failed, settled) {
            (None, 0) => format!("converged after {all}"),
            (None, bad) => {
                format!("bad times for {}, converged {} later", span(bad), span(self.virtual_ms.saturating_sub(bad)))
            }
            (Some(_), 0) => format!("failed after {all}"),
            (Some(_), bad) => format!("failed after {all}, bad times were over after {}", span(bad)),
        }
    }

    fn wire(&self) -> String {
        let c = &self.counts;
        format!(
            "{} bytes up, {} down, {} an event; {} sent, {} of them again; {}",
            thousands(c.bytes_up),
            thousands(c.bytes_down),
            thousands(self.bytes_per_event()),
            many(c.sent, "event"),
            thousands(self.sent_again()),
            many(c.sessions, "session"),
        )
    }

    /// With the full stack: what TLS and TCP made of the frames.
    fn air(&self) -> String {
        let a = &self.air;
        let all = a.bytes[0] + a.bytes[1];
        format!(
            "{} bytes of IP packets up, {} down ({:.2} for each byte of frames; TLS alone {:.2}); {} and {}, {} lost, {} \
             segments sent again; {}, {} resumed",
            thousands(a.bytes[0]),
            thousands(a.bytes[1]),
            all as f64 / a.plain_bytes.max(1) as f64,
            a.tls_bytes as f64 / a.plain_bytes.max(1) as f64,
            many(a.packets[0], "packet"),
            thousands(a.packets[1]),
            thousands(a.lost),
            thousands(a.repeated),
            many(a.connections, "connection"),
            thousands(a.resumed)
        )
    }

    fn goodput(&self) -> Option<String> {
        let (good, used, rate) = self.speeds()?;
        Some(format!(
            "{} B/s of payload up, {} of what the links carry ({} B/s); {} was used, over {}",
            thousands(good as u64),
            percent(good, rate),
            thousands(rate as u64),
            percent(used, rate),
            span(self.timeline.durable.last().map_or(0, |d| d.0)),
        ))
    }

    fn checks(&self) -> String {
        let all: u64 = self.made.values().sum();
        let each: Vec<String> = self.made.iter().map(|(c, n)| format!("{c} {}", thousands(*n))).collect();
        format!("{} made: {}", thousands(all), each.join(", "))
    }

    fn table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wide = self.nodes.iter().map(|n| n.name.len()).max().unwrap_or(0).max(4);
        write!(
            f,
            "\n  {:<wide$} {:>10} {:>10} {:>7} {:>8} {:>14}  last ending",
            "node", "appended", "at the hub", "cuts", "crashes", "link dead"
        )?;
        for n in self.nodes.iter().take(NODES_SHOWN) {
            let dark = if n.dark_ms > 0 { span(n.dark_ms) } else { "-".into() };
            write!(
                f,
                "\n  {:<wide$} {:>10} {:>10} {:>7} {:>8} {dark:>14}  {}",
                n.name,
                thousands(n.appended),
                thousands(n.at_hub),
                thousands(n.cuts),
                thousands(n.crashes),
                ending(&n.ending),
            )?;
        }
        match self.nodes.len().saturating_sub(NODES_SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::Check;
    use crate::mutant::Mutant;
    use crate::options::Options;
    use crate::run::{run, run_traced};

    /// Without the breaks between lines.
    fn words(text: &str) -> String {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_run_that_held_tells_what_it_was_and_what_it_did() {
        let options = Options { clinics: 2, events: 1200, ..Options::default() };
        let report = run(&options);
        let text = report.to_string();
        let words = words(&text);
        for wanted in [
            "ok: every check held",
            "ropeway-sim run --profile bhutan-2g --seed 1 --clinics 2 --events 1200",
            "bhutan-2g: 2,875 B/s up, 2,875 B/s down, 300 to 400 ms one way, cut every 15 s on average",
            "2 clinics, 1,200 events",
            "1,200 events became durable at the hub",
            "all the time chunks, late-word",
            "% of what the links carry (5,750 B/s)",
            "converged after",
            "clinic_001 600 600",
            &format!("{:016x}", report.trace),
        ] {
            assert!(words.contains(wanted), "{wanted} is missing in\n{text}");
        }
        assert!(text.lines().all(|l| l.chars().count() <= 120) && text.lines().count() < 40, "{text}");
        let json = report.to_json();
        assert_eq!((&json["ok"], &json["nodes"][2]["at_hub"]), (&true.into(), &600.into()));
        assert_eq!(json["faults_applied"]["cut"].as_u64(), report.faults.get(&crate::fault::Fault::Cut).copied());
    }

    #[test]
    fn a_run_that_failed_tells_the_check_how_to_see_it_again_and_the_end_of_the_trace() {
        let options = Options { mutant: Mutant::DurableWithoutSync, ..Options::swarm(1) };
        let report = run_traced(&options);
        let text = report.to_string();
        let words = words(&text);
        let check = report.failed.as_ref().map(|f| f.check);
        assert!(matches!(check, Some(Check::WireDurable | Check::Durable | Check::Acknowledged)), "{check:?}");
        for wanted in [
            "FAILED the check ",
            "ropeway-sim run --profile swarm --seed 1 --mutant durable_without_sync",
            "of the trace",
        ] {
            assert!(words.contains(wanted), "{wanted} is missing in\n{text}");
        }
        assert!(text.lines().count() < 75, "{text}");
        assert!(!run(&options).to_string().contains("of the trace"));
    }
}

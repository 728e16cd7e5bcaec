//! What a run has shown.

use std::collections::BTreeMap;
use std::fmt;

use crate::check::{Check, Failure};
use crate::figures::{many, span};
use crate::options::Options;
use crate::timeline::Timeline;
use crate::world::{Counts, World};

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What was run.
    pub options: Options,
    /// The check that failed, `None` if all held.
    pub failed: Option<Failure>,
    /// Events durable at the hub.
    pub events: u64,
    /// Virtual milliseconds until everything was there.
    pub virtual_ms: u64,
    /// Bytes of payload appended.
    pub payload_bytes: u64,
    /// Counts.
    pub counts: Counts,
    /// Hash over everything that happened: the same seed gives the same.
    pub trace: u64,
    /// The last lines of the trace, if they were kept.
    pub tail: Vec<String>,
    /// Bytes of the tape that were drawn.
    pub drawn: u64,
    /// How often each check was made.
    pub made: BTreeMap<Check, u64>,
    /// What happened when.
    pub timeline: Timeline,
}

impl Report {
    pub(crate) fn new(options: &Options, w: &mut World, events: u64, virtual_ms: u64, payload_bytes: u64) -> Self {
        w.timeline.end_at(virtual_ms);
        Self {
            options: *options,
            failed: w.failed().cloned(),
            events,
            virtual_ms,
            payload_bytes,
            counts: w.counts,
            trace: w.trace(),
            tail: w.tail().iter().cloned().collect(),
            drawn: w.rng.drawn(),
            made: std::mem::take(&mut w.truth.made),
            timeline: std::mem::take(&mut w.timeline),
        }
    }

    /// For programs.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let (o, c) = (&self.options, &self.counts);
        serde_json::json!({
            "ok": self.failed.is_none(),
            "check": self.failed.as_ref().map(|f| f.check.name()),
            "failed": self.failed.as_ref().map(|f| f.what.clone()),
            "seed": o.seed,
            "clinics": o.clinics,
            "events": self.events,
            "profile": o.profile.name,
            "faults": o.faults.to_string(),
            "virtual_ms": self.virtual_ms,
            "payload_bytes": self.payload_bytes,
            "bytes_up": c.bytes_up,
            "bytes_down": c.bytes_down,
            "sessions": c.sessions,
            "cuts": c.cuts,
            "crashes": c.crashes,
            "events_sent": c.sent,
            "steps": c.steps,
            "trace": format!("{:016x}", self.trace),
        })
    }

    /// Title and second line of a plot.
    #[must_use]
    pub fn titles(&self) -> (String, String) {
        let o = &self.options;
        let title = format!(
            "{}, seed {}: {}, {}",
            o.profile.name,
            o.seed,
            many(o.clinics as u64, "clinic"),
            many(self.timeline.events, "event")
        );
        let end = match &self.failed {
            None => format!("every check held after {}", span(self.virtual_ms)),
            Some(why) => format!("FAILED the check {} after {}", why.check, span(self.virtual_ms)),
        };
        (title, format!("{end}; faults: {}", o.faults))
    }

    /// How to see the run again.
    #[must_use]
    pub fn repro(&self) -> String {
        let o = &self.options;
        if *o == Options::swarm(o.seed) {
            return format!("ropeway-sim run --seed {} --swarm --trace", o.seed);
        }
        format!(
            "ropeway-sim run --seed {} --clinics {} --events {} --profile {} --faults {} --trace",
            o.seed, o.clinics, o.events, o.profile.name, o.faults
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (o, c) = (&self.options, &self.counts);
        for line in &self.tail {
            writeln!(f, "{line}")?;
        }
        match &self.failed {
            None => writeln!(f, "ok: every check held")?,
            Some(why) => writeln!(f, "FAILED: {why}\nsee it again: {}", self.repro())?,
        }
        let (faults, seconds) = (o.faults, self.virtual_ms as f64 / 1000.0);
        writeln!(f, "  seed         {}  {} clinics, {}, faults: {faults}", o.seed, o.clinics, o.profile.name)?;
        writeln!(f, "  events       {} durable at the hub, {} bytes of payload", self.events, self.payload_bytes)?;
        writeln!(f, "  time         {seconds:.1} s of virtual time, {} steps", c.steps)?;
        writeln!(f, "  wire         {} bytes up, {} bytes down, {} events sent", c.bytes_up, c.bytes_down, c.sent)?;
        writeln!(f, "  trouble      {} sessions, {} cuts, {} crashes", c.sessions, c.cuts, c.crashes)?;
        write!(f, "  trace        {:016x}", self.trace)
    }
}

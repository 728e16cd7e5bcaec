//! What a run has shown.

mod json;
mod node;
mod story;
mod text;

use std::collections::BTreeMap;

use crate::carrier::AirTotals;
use crate::check::{Check, Failure};
use crate::fault::Fault;
use crate::figures::{many, span};
use crate::mutant::Mutant;
use crate::options::{Options, Stack};
use crate::replay::repro;
use crate::timeline::Timeline;
use crate::world::{Counts, World};
pub use node::NodeReport;

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
    /// How often each class of fault struck; for [`Fault::Drift`] the nodes that it struck.
    pub faults: BTreeMap<Fault, u64>,
    /// What the run was for each node. The first is the hub.
    pub nodes: Vec<NodeReport>,
    /// Events that had to be sent: each once to each node that lacked it.
    pub needed: u64,
    /// What went over the air, with the full stack.
    pub air: AirTotals,
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
            faults: node::faults(w),
            nodes: node::nodes(w),
            needed: node::needed(w),
            air: w.air,
            trace: w.trace(),
            tail: w.tail().iter().cloned().collect(),
            drawn: w.rng.drawn(),
            made: std::mem::take(&mut w.truth.made),
            timeline: std::mem::take(&mut w.timeline),
        }
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
        repro(&self.options)
    }

    /// The lesser knobs that are not as usual.
    fn extras(&self) -> Vec<String> {
        let o = &self.options;
        let mut out = Vec::new();
        let mut say = |when: bool, what: &str| {
            if when {
                out.push(what.to_owned());
            }
        };
        say(o.stack == Stack::Full, "mutual TLS over TCP");
        say(o.size > 0, &format!("payloads of {} bytes", o.size));
        say(o.small, "small segments and groups");
        say(o.all, "clinics read every stream");
        say(o.relay, "a second hub");
        say(o.hostile_disk, "disks that lose what was durable");
        say(o.mutant != Mutant::None, &format!("planted bug {}", o.mutant.name()));
        say(o.blind.is_some(), &format!("without the check {}", o.blind.map_or("", Check::name)));
        out
    }

    /// Events that were sent although their receiver had them, or lost on the way.
    #[must_use]
    pub fn sent_again(&self) -> u64 {
        self.counts.sent.saturating_sub(self.needed)
    }

    /// Bytes on the wire, both ways, for each event that had to be sent.
    #[must_use]
    pub fn bytes_per_event(&self) -> u64 {
        (self.counts.bytes_up + self.counts.bytes_down) / self.needed.max(1)
    }

    /// Bytes per second until the last event was durable at the hub: payload that arrived, bytes that
    /// were sent up, and what all links can carry up. Nothing if not everything arrived.
    #[must_use]
    pub fn speeds(&self) -> Option<(f64, f64, f64)> {
        let ms = self.timeline.durable.last().filter(|_| self.failed.is_none())?.0.max(1);
        let rate = self.options.profile.up_rate as f64 * self.options.clinics as f64;
        let up: u64 = self.timeline.wire.iter().filter(|w| w.0 <= ms).map(|w| w.2).sum();
        Some((self.payload_bytes as f64 * 1000.0 / ms as f64, up as f64 * 1000.0 / ms as f64, rate))
    }
}

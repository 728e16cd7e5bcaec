//! What a plot of a run is drawn from.

use crate::fault::Fault;

/// Something that happened to a node, to be marked in a plot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A connection of this clinic was cut.
    Cut,
    /// Its link is dead until then (milliseconds).
    Dark(u64),
    /// It lost power.
    Crash,
    /// It started again.
    Start,
    /// Something else went wrong.
    Fault(Fault),
}

/// Traffic of a link is summed up over so many milliseconds.
pub(crate) const SLOT_MS: u64 = 100;

/// How the name of a host ends that runs on a copied card.
pub(crate) const COPY: &str = " (copy)";

/// The story of a run. All times are milliseconds of virtual time, all hosts numbers of the world:
/// 0 is the hub.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// Names of the hosts.
    pub names: Vec<String>,
    /// From then on so many events of this clinic were durable at the hub: (time, clinic, events).
    pub durable: Vec<(u64, usize, u64)>,
    /// Bytes that the link of this clinic carried in the 100 ms that begin there: (time, clinic,
    /// bytes up, bytes down).
    pub wire: Vec<(u64, usize, u64, u64)>,
    /// What happened to whom: (time, host, what).
    pub moments: Vec<(u64, usize, Moment)>,
    /// Bytes per second that a link carries, up and down.
    pub rate: (u64, u64),
    /// Events that were appended in all.
    pub events: u64,
    /// When the bad times were over: dark links are back, and every node has power. 0 if there were
    /// none.
    pub settled_ms: u64,
}

impl Timeline {
    /// Notes what the link of a clinic carries, up (`end` 0) or down.
    pub(crate) fn sent(&mut self, us: u64, clinic: usize, end: usize, bytes: usize) {
        let slot = us / 1000 / SLOT_MS * SLOT_MS;
        let (up, down) = if end == 0 { (bytes as u64, 0) } else { (0, bytes as u64) };
        match self.wire.iter_mut().rev().take(64).find(|(ms, c, ..)| *ms == slot && *c == clinic) {
            Some((_, _, u, d)) => (*u, *d) = (*u + up, *d + down),
            None => self.wire.push((slot, clinic, up, down)),
        }
    }

    /// Forgets what comes after the run: connections that are closed to end it are not cut.
    pub(crate) fn end_at(&mut self, end_ms: u64) {
        self.moments.retain(|(ms, _, what)| *ms < end_ms || *ms == end_ms && *what != Moment::Cut);
        self.wire.retain(|(ms, ..)| *ms <= end_ms);
    }

    /// The last time that anything is known of (milliseconds).
    #[must_use]
    pub fn end_ms(&self) -> u64 {
        let times = self.durable.iter().map(|d| d.0);
        let times = times.chain(self.wire.iter().map(|w| w.0)).chain(self.moments.iter().map(|m| m.0));
        times.max().unwrap_or(0)
    }

    /// Spans of one host (from, to) in which its link was dead.
    pub(crate) fn dark(&self, host: usize) -> Vec<(u64, u64)> {
        let spans = self.moments.iter().filter(|m| m.1 == host).filter_map(|m| match m.2 {
            Moment::Dark(until) if m.0 < self.settled_ms => Some((m.0, until.min(self.settled_ms))),
            Moment::Dark(until) => Some((m.0, until)),
            _ => None,
        });
        spans.collect()
    }

    /// Spans of one host (from, to) in which it had no power.
    pub(crate) fn off(&self, host: usize) -> Vec<(u64, u64)> {
        let (mut spans, mut since) = (Vec::new(), None);
        for (ms, _, what) in self.moments.iter().filter(|m| m.1 == host) {
            match what {
                Moment::Crash => since = since.or(Some(*ms)),
                Moment::Start => spans.extend(since.take().map(|from| (from, *ms))),
                _ => {}
            }
        }
        spans.extend(since.map(|from| (from, self.end_ms())));
        spans
    }

    /// How often this happened to a host.
    pub(crate) fn count(&self, host: usize, what: Moment) -> u64 {
        self.moments.iter().filter(|m| m.1 == host && m.2 == what).count() as u64
    }
}

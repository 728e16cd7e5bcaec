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

/// The story of a run. All times are milliseconds of virtual time, all hosts numbers of the world:
/// 0 is the hub.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// Names of the hosts.
    pub names: Vec<String>,
    /// From then on so many events of this clinic were durable at the hub: (time, clinic, events).
    pub durable: Vec<(u64, usize, u64)>,
    /// Bytes that were put on the link of this clinic, both ways, in the second that begins there:
    /// (time, clinic, bytes).
    pub wire: Vec<(u64, usize, u64)>,
    /// What happened to whom: (time, host, what).
    pub moments: Vec<(u64, usize, Moment)>,
    /// Bytes per second that a link carries, up and down.
    pub rate: (u64, u64),
    /// Events that were appended in all.
    pub events: u64,
}

impl Timeline {
    pub(crate) fn sent(&mut self, us: u64, clinic: usize, bytes: usize) {
        let second = us / 1_000_000 * 1000;
        let recent = self.wire.iter_mut().rev().take(64).find(|(ms, c, _)| *ms == second && *c == clinic);
        match recent {
            Some((.., n)) => *n += bytes as u64,
            None => self.wire.push((second, clinic, bytes as u64)),
        }
    }
}

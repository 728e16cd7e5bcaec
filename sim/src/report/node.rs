//! What a run was for each node, and what went wrong in it.

use std::collections::BTreeMap;

use ropeway_core::node::Ending;

use crate::fault::Fault;
use crate::timeline::Moment;
use crate::world::World;

/// What a run was for one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReport {
    /// Its name.
    pub name: String,
    /// Events that its application appended. A copied card counts for nothing here: it has the name
    /// of another.
    pub appended: u64,
    /// Events of it that are durable at the hub.
    pub at_hub: u64,
    /// Connections of it that were cut.
    pub cuts: u64,
    /// How often it lost power.
    pub crashes: u64,
    /// Milliseconds that its link was dead.
    pub dark_ms: u64,
    /// How its last session ended, `None` if it had none.
    pub ending: Option<Ending>,
}

/// Every node in the order of the world: the hub is the first.
pub(super) fn nodes(w: &World) -> Vec<NodeReport> {
    let one = |(h, host): (usize, &crate::host::Host)| {
        let name = host.config.name;
        let own = w.truth.events.iter().filter(|(k, _)| k.node == name && host.clone_of.is_none());
        let dark = w.timeline.dark(h).iter().map(|(from, to)| to.saturating_sub(*from)).sum();
        NodeReport {
            name: w.timeline.names.get(h).cloned().unwrap_or_else(|| name.to_string()),
            appended: own.map(|(_, events)| events.len() as u64).sum(),
            at_hub: if host.clone_of.is_some() { 0 } else { w.durable_events(0, h) },
            cuts: w.timeline.count(h, Moment::Cut),
            crashes: w.timeline.count(h, Moment::Crash),
            dark_ms: dark,
            ending: host.endings.last().copied(),
        }
    };
    w.hosts.iter().enumerate().map(one).collect()
}

/// How often each class of fault struck.
pub(super) fn faults(w: &World) -> BTreeMap<Fault, u64> {
    let moments = |wanted: fn(&Moment) -> bool| w.timeline.moments.iter().filter(|m| wanted(&m.2)).count() as u64;
    let mut applied = w.applied.clone();
    // These have more than one cause: what happened is counted, and not what was planned.
    applied.insert(Fault::Cut, moments(|m| *m == Moment::Cut));
    applied.insert(Fault::Crash, moments(|m| *m == Moment::Crash));
    applied.insert(Fault::Blackout, moments(|m| matches!(m, Moment::Dark(_))));
    applied.insert(Fault::Drift, w.hosts.iter().filter(|x| x.drift_ppm != 0).count() as u64);
    applied.insert(Fault::Stall, w.conns.iter().flat_map(|c| &c.ends).map(|e| e.stalls).sum());
    applied.retain(|_, n| *n > 0);
    applied
}

/// Events that each node holds and has not written itself: so many had to be sent.
pub(super) fn needed(w: &World) -> u64 {
    let others = |x: &crate::host::Host| -> u64 {
        x.synced.iter().filter(|(k, _)| k.node != x.config.name).map(|(_, n)| *n).sum()
    };
    w.hosts.iter().map(others).sum()
}

//! What scenarios and reports ask of a world.

use std::collections::VecDeque;

use ropeway_core::id::StreamKey;
use ropeway_core::policy::{Policy, Role};

use crate::check::Failure;
use crate::host::Stored;
use crate::world::World;

impl World {
    /// Milliseconds since the start.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.now_us / 1000
    }

    /// The first check that failed.
    #[must_use]
    pub fn failed(&self) -> Option<&Failure> {
        self.truth.failed.as_ref()
    }

    /// Hash over everything that happened.
    #[must_use]
    pub fn trace(&self) -> u64 {
        self.truth.trace.0
    }

    /// The last lines of the trace.
    #[must_use]
    pub fn tail(&self) -> &VecDeque<String> {
        &self.truth.tail
    }

    /// Whether host `b` durably holds all that host `a` has durably written itself.
    #[must_use]
    pub fn holds_all_of(&self, b: usize, a: usize) -> bool {
        let (name, b) = (self.hosts[a].config.name, &self.hosts[b]);
        self.hosts[a].synced.iter().filter(|(k, _)| k.node == name).all(|(k, seq)| b.has_synced(k) >= *seq)
    }

    /// Whether host `h` and the first one hold the same of what both may hold.
    #[must_use]
    pub fn is_level_with_hub(&self, h: usize) -> bool {
        let (hub, host) = (&self.hosts[0], &self.hosts[h]);
        let hears_all = host.config.role == Role::Hub || self.policy == Policy::All;
        let own = |key: &StreamKey| key.node == host.config.name;
        let gives = |key: &StreamKey| own(key) || host.config.role == Role::Hub;
        let up = host.synced.iter().filter(|(k, _)| gives(k)).all(|(k, seq)| hub.has_synced(k) >= *seq);
        let down = hub.synced.iter().filter(|(k, _)| hears_all || own(k)).all(|(k, seq)| host.has_synced(k) >= *seq);
        let whole = |x: &crate::host::Host| {
            !x.damaged
                || x.node.as_ref().is_some_and(|n| n.frontier().all(|e| e.gap.is_none() || !(hears_all || own(&e.key))))
        };
        up && down && whole(hub) && whole(host)
    }

    /// Number of durable events of node `of` at host `h`.
    #[must_use]
    pub fn durable_events(&self, h: usize, of: usize) -> u64 {
        let name = self.hosts[of].config.name;
        self.hosts[h].synced.iter().filter(|(k, _)| k.node == name).map(|(_, n)| n).sum()
    }

    /// Reads a host's log again and checks every event in it; their number.
    pub fn verify(&mut self, h: usize) -> u64 {
        self.truth.damaged |= self.hosts.iter().any(|x| x.damaged);
        self.hosts[h].verify(&mut self.truth)
    }

    /// The events of a stream as they stand in a host's log.
    #[must_use]
    pub fn stored(&self, h: usize, key: &StreamKey) -> Vec<Stored> {
        self.hosts[h].read_all(key)
    }

    /// A stream's origin has lost its tail: the oracles expect other events from `seq` + 1 on. What
    /// other hosts hold of it is not checked any more.
    pub fn forget_truth_after(&mut self, key: &StreamKey, seq: usize) {
        self.truth.forked = true;
        if let Some(events) = self.truth.events.get_mut(key) {
            events.truncate(seq);
        }
    }

    /// Asks for a clean end of every session of a host.
    pub fn finish(&mut self, h: usize) {
        let host = &mut self.hosts[h];
        let now = host.now(self.now_us);
        for id in host.sessions.keys() {
            if let Some(n) = &mut host.node {
                n.finish(now, *id);
            }
        }
        self.wake(h, 0);
    }

    /// Sessions still open at a host.
    #[must_use]
    pub fn sessions(&self, h: usize) -> usize {
        self.hosts[h].sessions.len()
    }
}

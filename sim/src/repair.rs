//! What a runtime does about damage: it reads its log when there is time, tells the node what is lost, and
//! lets the log tell when all of it is back.

use ropeway_core::log::LostRange;
use ropeway_core::planted::spared;
use ropeway_std::repair::{Book, Note};
use ropeway_std::scrub::Scrubbed;
use ropeway_std::store::{Damage, Opened};

use crate::check::Check;
use crate::host::Host;
use crate::world::World;

/// Bytes that are scrubbed after each commit.
const PIECE_BYTES: usize = 64 << 10;

impl Host {
    /// The damages of a log that was opened.
    pub(crate) fn open_book(&mut self, log: &Opened) {
        let found: Vec<_> = log.damages.iter().map(|d| (d.clone(), [0; 32])).collect();
        self.lost_live.clear();
        self.book = Book::new(&log.recovered, log.index.ledger(), &found);
    }

    /// Reads a little more of the log, if this host does that.
    pub(crate) fn scrub(&mut self, us: u64) {
        let found = match &mut self.store {
            Some(store) if self.seals => store.scrub(PIECE_BYTES, us / 1000 + 1),
            _ => return,
        };
        if let Scrubbed::Found(found) = found {
            self.lose(us, &found);
        }
    }

    /// Reads all of the log once, if this host does that.
    pub(crate) fn scrub_all(&mut self, us: u64) {
        // Each segment is read twice at most.
        for _ in 0..10_000 {
            let done = match &mut self.store {
                Some(store) if self.seals => store.scrub(PIECE_BYTES, us / 1000 + 1),
                _ => return,
            };
            match done {
                Scrubbed::Found(found) => self.lose(us, &found),
                Scrubbed::Idle => return,
                Scrubbed::Through(p) if p.read == 0 && !self.store.as_ref().is_some_and(|s| s.is_suspicious()) => {
                    return;
                }
                Scrubbed::Through(_) | Scrubbed::Read(_) => {}
            }
        }
    }

    /// What this host's log has lost while it was open.
    fn lose(&mut self, us: u64, found: &[Damage]) {
        let now = self.now(us);
        let (Some(store), Some(node)) = (&mut self.store, &mut self.node) else { return };
        let streams: Vec<_> = node.streams().collect();
        for damage in found {
            let cost = store.cost_of(damage, &streams);
            self.lost_live.extend(cost.iter().flatten().map(|loss| (damage.clone(), loss.range)));
            self.book.found(node, now, (damage, [0; 32]), cost.as_deref());
        }
    }
}

impl World {
    /// Does what there is to do about damage; true if anything was.
    pub(crate) fn repair(&mut self, h: usize) -> bool {
        let us = self.now_us;
        let host = &mut self.hosts[h];
        let suspicious = host.store.as_ref().is_some_and(ropeway_std::store::Store::is_suspicious);
        if suspicious && let Some(Scrubbed::Found(found)) = host.store.as_mut().map(|s| s.scrub(0, us / 1000 + 1)) {
            host.lose(us, &found);
        }
        let now = host.now(us);
        let mut repaired = Vec::new();
        let mut moved = false;
        if let (Some(store), Some(node)) = (&mut host.store, &mut host.node) {
            while let Some(note) = host.book.poll(node, now) {
                moved = true;
                repaired.extend(Some(note.clone()).filter(|n| n.head.repaired));
                store.learn(note);
            }
        }
        for note in repaired {
            self.check_repaired(h, &note);
        }
        moved
    }

    /// What the log calls repaired the node holds.
    fn check_repaired(&mut self, h: usize, note: &Note) {
        let host = &self.hosts[h];
        let Some(node) = &host.node else { return };
        for lost in &note.lost {
            // Another damage may have taken them again before the REPAIR was durable: that one is open then.
            let again =
                |(damage, r): &(Damage, LostRange)| *damage != note.damage() && r.key == lost.key && r.from <= lost.to;
            let held = node.entry_of(&lost.key).is_some_and(|e| e.have >= lost.to);
            let held = held || host.lost_live.iter().any(again);
            self.truth.hold(Check::Repaired, held, || {
                format!("host {h}: {} to {} of {} count as repaired and are not held", lost.from, lost.to, lost.key)
            });
        }
    }

    /// At the end: each damage that can be found is one that the log tells of.
    pub(crate) fn check_listed(&mut self) {
        for h in 0..self.hosts.len() {
            let host = &self.hosts[h];
            if host.node.is_none() || host.disk_failed {
                continue;
            }
            let Ok(log) = spared(|| host.open_log()) else { continue };
            let untold = log.damages.iter().find(|d| d.is_loss() && log.index.ledger().about(d).is_none()).cloned();
            // What was not looked at since the damage was done nobody can know.
            let known = untold.filter(|d| host.findings.contains(d));
            self.truth.hold(Check::Repaired, known.is_none(), || format!("host {h}: {known:?} is told of nowhere"));
        }
    }
}

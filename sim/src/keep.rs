//! Removing old events, and what is held against it: nothing goes that no hub has synced, or, at a hub, that
//! is not in its backup.
//!
//! The atlas holds here too ([`plan`](crate::plan)): where the hub's disk suffers the clinics keep what
//! they have, since nobody else can bring it back.

use std::collections::{BTreeMap, BTreeSet};

use ropeway_core::event::Chain;
use ropeway_core::id::{NodeName, StreamKey};
use ropeway_core::planted::spared;
use ropeway_core::policy::Role;
use ropeway_std::retain::{Evidence, Mark, Rule, Terms, remove_some};

use crate::check::Check;
use crate::mutant::Mutant;
use crate::world::World;

/// How often a host is asked, in syncs.
const EVERY: u64 = 8;

impl World {
    /// The rule of host `h` is followed, if it is time.
    pub(crate) fn keep(&mut self, h: usize) {
        let suffers = self.hub_suffers;
        let host = &mut self.hosts[h];
        host.asked += 1;
        let role = host.config.role;
        if !self.retains || role == Role::Clinic && suffers || !host.asked.is_multiple_of(EVERY) {
            return;
        }
        let Some(node) = &host.node else { return };
        let held: BTreeMap<StreamKey, u64> = node.frontier().map(|e| (e.key, e.have)).collect();
        // A backup is taken now and then, and holds what was synced by then.
        if host.asked.is_multiple_of(3 * EVERY) {
            host.backed_up = held.iter().map(|(key, have)| (*key, (*have).min(host.has_synced(key)))).collect();
        }
        let mark = |upto: &BTreeMap<StreamKey, u64>| Mark {
            taken_ms: 0,
            heads: upto.iter().map(|(key, seq)| (*key, (*seq, Chain([0; 32])))).collect(),
        };
        let evidence = match role {
            _ if self.mutant == Mutant::ExpiresUnseen => Evidence::Backup(Some(mark(&held))),
            Role::Clinic => Evidence::Receipts,
            Role::Hub => Evidence::Backup(Some(mark(&host.backed_up))),
        };
        let bytes = host.limits.segment_bytes as u64;
        let rule = Rule { age_ms: None, bytes: Some(bytes), keep_at_least: host.asked / EVERY % 3 };
        let terms = Terms { rule: Some(rule), evidence, now_ms: None, asked: Vec::new() };
        let (us, boot, name) = (self.now_us, host.boot, host.config.name);
        let Some(store) = &mut host.store else { return };
        // What fails is tried again; what was removed by halves shows at the next start.
        let random = &mut || {
            let mut salt = [0x6b; 32];
            salt[..8].copy_from_slice(&us.to_le_bytes());
            salt[8..12].copy_from_slice(&boot.to_le_bytes());
            Ok(salt)
        };
        let Ok(gone) = remove_some(store, name, &terms, random) else { return };
        if gone.is_empty() {
            return;
        }
        self.counts.expired += 1;
        self.truth.note(format_args!("{us} expired {h} {}", gone.len()));
        for (key, seq, chain) in gone {
            if let Some(node) = &mut self.hosts[h].node {
                node.expired(&key, seq, chain);
            }
            let host = &self.hosts[h];
            let kept = match role {
                Role::Hub => host.backed_up.get(&key).copied().unwrap_or(0),
                Role::Clinic => {
                    let hubs = self.hosts.iter().filter(|x| x.config.role == Role::Hub);
                    hubs.map(|x| x.ever_synced.get(&key).copied().unwrap_or(0)).max().unwrap_or(0)
                }
            };
            if role == Role::Clinic && key.node == name {
                self.check_not_placed(&name, &key, seq);
            }
            self.truth.hold(Check::Expired, seq <= kept, || {
                format!("{name} has removed {key} up to {seq}, and only {kept} are kept elsewhere")
            });
        }
        self.crash_point("a removal");
    }

    /// What a clinic removes of its own stands in the log of some hub, and not only its place.
    fn check_not_placed(&mut self, name: &NodeName, key: &StreamKey, upto: u64) {
        let places: Vec<BTreeSet<u64>> =
            self.hosts.iter().filter(|x| x.config.role == Role::Hub).map(|x| x.places(key)).collect();
        let nowhere = places.first().and_then(|first| first.iter().find(|seq| places.iter().all(|p| p.contains(seq))));
        let lost = nowhere.copied().filter(|seq| *seq <= upto);
        self.truth.hold(Check::Expired, lost.is_none(), || {
            format!("{name} has removed {key} up to {upto}, and {lost:?} is kept nowhere else")
        });
    }

    /// Where a hub holds the place of an event only, its writer knows it.
    pub(crate) fn check_withheld(&mut self) {
        for h in 0..self.hosts.len() {
            for (key, seq) in self.hosts[h].placed.take() {
                let writer = self.hosts.iter().find(|x| x.config.name == key.node && x.clone_of.is_none());
                let Some(writer) = writer.filter(|_| h == 0) else { continue };
                // By its log, which is all that is asked when something is to be removed.
                let Ok(log) = spared(|| writer.open_log()) else { continue };
                let entry = log.recovered.frontier().find(|e| e.key == key && e.acked >= seq);
                let within = |(from, to): (u64, u64)| (from..=to).contains(&seq);
                let known = entry.is_none_or(|e| e.lacks.into_iter().chain(e.withheld).any(within));
                let who = writer.config.name;
                self.truth
                    .hold(Check::Withheld, known, || format!("{who} does not know that the hub lacks {key} {seq}"));
            }
        }
    }
}

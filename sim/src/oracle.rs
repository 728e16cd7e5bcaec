//! What is held against the truth while a run goes on.

use ropeway_core::code::Code;
use ropeway_core::id::StreamKey;
use ropeway_core::node::{Ending, SessionId};
use ropeway_core::planted::spared;
use ropeway_core::policy::{Policy, Role};

use crate::check::Check;
use crate::tap::Said;
use crate::world::World;

impl World {
    /// Holds what a node sends against the truth.
    pub(crate) fn check_sent(&mut self, c: usize, e: usize, bytes: &[u8]) {
        let (from, to) = (self.conns[c].ends[e].host, self.conns[c].ends[1 - e].host);
        let (a, b) = (self.hosts[from].config.name, self.hosts[to].config.name);
        if self.hosts[from].config.role == Role::Hub {
            self.counts.bytes_down += bytes.len() as u64;
        } else {
            self.counts.bytes_up += bytes.len() as u64;
            self.overhear(bytes);
        }
        self.truth.note(format_args!("{} send {c} {e} {}", self.now_us, bytes.len()));
        let own_only = self.policy == Policy::Own && self.hosts[to].config.role == Role::Clinic;
        if own_only {
            self.check_names(bytes, b.as_str());
        }
        for said in spared(|| self.conns[c].ends[e].tap.hear(bytes, (&a, &b), &mut self.parcels)) {
            let told = |key: &StreamKey, seq: u64, what: &str| {
                let have = self.hosts[from].contiguous(key);
                (seq > have).then(|| (Check::WireDurable, format!("{a} {what} {key} up to {seq}, synced is {have}")))
            };
            let wrong = match &said {
                Said::Entry(key, _) if own_only && key.node != b => {
                    Some((Check::Policy, format!("{b} was told of the stream {key}")))
                }
                Said::Entry(key, seq) => told(key, *seq, "tells of"),
                Said::Batch { key, first, events } => {
                    self.truth.compare(a.as_str(), key, *first, events);
                    let last = first + events.len() as u64 - 1;
                    let synced = self.hosts[from].has_synced(key);
                    let what = || format!("{a} sends {key} up to {last}, synced is {synced}");
                    (last > synced).then(|| (Check::WireDurable, what()))
                }
                Said::Withheld(key, _, last) => {
                    let synced = self.hosts[from].has_synced(key);
                    let what = || format!("{a} withholds {key} up to {last}, synced is {synced}");
                    (*last > synced).then(|| (Check::WireDurable, what()))
                }
                Said::Part { key, first, .. } => {
                    let synced = self.hosts[from].has_synced(key);
                    let what = || format!("{a} sends a part of {key} {first}, synced is {synced}");
                    (*first > synced).then(|| (Check::WireDurable, what()))
                }
                Said::Ack(handle, seq) => match self.conns[c].ends[1 - e].tap.handles.get(*handle as usize) {
                    Some(key) => told(key, *seq, "acknowledges"),
                    None => Some((Check::WireForm, format!("{a} acknowledges a stream that it was not told of"))),
                },
                Said::Nonsense(why) => Some((Check::WireForm, format!("{a} sends nonsense: {why}"))),
                Said::Error(_) | Said::Control(_) => None,
            };
            for check in [Check::WireDurable, Check::WireForm, Check::Policy] {
                self.truth.hold(check, true, String::new);
            }
            if let Some((check, wrong)) = wrong {
                self.truth.fail(check, wrong);
            }
            if self.listening {
                self.truth.remark(format_args!("    {a} -> {b} {}", short(&said)));
                self.said.push((from, to, said));
            }
        }
    }

    /// No name of another clinic may be among what clinic `to` is sent.
    pub(crate) fn check_names(&mut self, bytes: &[u8], to: &str) {
        for other in self.hosts.iter().filter(|x| x.config.name.as_str() != to && x.config.role == Role::Clinic) {
            let name = other.config.name.as_str().as_bytes();
            if bytes.windows(name.len()).any(|w| w == name) {
                let what = format!("{to} was sent the name of {}", other.config.name);
                return self.truth.fail(Check::Policy, what);
            }
        }
    }

    /// Between honest peers a session ends because of the link or a disk, and for no other reason.
    pub(crate) fn check_ending(&mut self, h: usize, session: SessionId, ending: &Ending) {
        if !self.hosts[h].sessions.contains_key(&session) {
            return;
        }
        let fair = match ending.code {
            None | Some(Code::Cut | Code::Timeout | Code::Superseded | Code::Overloaded) => true,
            Some(Code::DiskFull | Code::Storage | Code::ReadOnly) => true,
            // One that finds damage at work ends its sessions, so that the next ones ask for what is lost; one that removes
            // what a session was to send ends that, so that the next one tells.
            Some(Code::Stopping) => self.hosts.iter().any(|h| h.damaged) || self.counts.expired > 0,
            // Two histories of a stream are there to be noticed.
            Some(Code::Fork) => self.truth.forked,
            Some(_) => false,
        };
        let who = self.hosts[h].config.name;
        self.truth.hold(Check::HonestPeers, fair, || format!("{who}: a session ended with {ending:?}"));
    }

    /// What a node counts as acknowledged is, or was, on a synced disk of a hub.
    pub(crate) fn check_acked(&mut self, h: usize) {
        let host = &self.hosts[h];
        if host.config.role != Role::Clinic {
            return;
        }
        let Some(node) = &host.node else { return };
        for e in node.frontier().filter(|e| e.own && e.acked > 0) {
            let hubs = self.hosts.iter().filter(|x| x.config.role == Role::Hub);
            let held = hubs.map(|x| x.ever_synced.get(&e.key).copied().unwrap_or(0)).max().unwrap_or(0);
            let name = host.config.name;
            self.truth.hold(Check::Acknowledged, e.acked <= held, || {
                format!("{name}: {} counts as acknowledged to {}, the hub has synced {held}", e.key, e.acked)
            });
        }
    }
}

fn short(said: &Said) -> String {
    match said {
        Said::Batch { key, first, events } => format!("batch {key} {first} +{}", events.len()),
        other => format!("{other:?}"),
    }
}

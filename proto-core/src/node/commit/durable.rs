//! What becomes of a group that was written: durable, or not.

use super::{Completion, Flight, WriteFault};
use crate::code::Code;
use crate::fifo::Fifo;
use crate::node::Node;
use crate::planted::{Bug, has, mark};
use crate::recovery::RunAt;
use crate::session::EndedBy;
use crate::streams::{StreamSlot, StreamTable};
use crate::time::Now;

impl Node<'_> {
    /// The runs of the group that is being written, for the index of a log reader. Call it between
    /// the group's `Append` and its completion.
    pub fn runs_in_flight(&self) -> impl Iterator<Item = RunAt> + '_ {
        let group = match self.commit.flight {
            Flight::None => None,
            Flight::Written(g) | Flight::Syncing(g) => Some(g),
        };
        self.streams.all().filter_map(move |(n, s)| {
            let parity = ((group? + u64::from(has(Bug::WrongParity))) % 2) as usize;
            let member = self.streams.slots[n as usize].group[parity].is_queued();
            member.then(|| RunAt { stream: n, first_seq: s.group_first[parity], last_seq: s.sealed.top.seq })
        })
    }

    /// Says what the disk has done. Completions of what was not asked for, and late or repeated
    /// ones, are harmless.
    pub fn complete(&mut self, now: Now, completion: Completion) {
        self.at(now);
        match completion {
            Completion::Durable { upto } => match self.commit.flight {
                Flight::Written(group) | Flight::Syncing(group)
                    if (group <= upto || has(Bug::LateWordBelieved)) && self.commit.failed.is_none() =>
                {
                    self.commit.flight = Flight::None;
                    self.commit.durable = group;
                    self.made_durable((group % 2) as usize);
                    self.retry_waiting();
                }
                _ => {
                    mark!("commit.late_word");
                }
            },
            Completion::Provisioned { segment } => {
                if self.commit.provisioning && segment == self.commit.segment + 1 {
                    self.commit.provisioning = false;
                    self.commit.provisioned = segment;
                    self.retry_waiting();
                }
            }
            Completion::WriteFailed {
                fault: fault @ (WriteFault::Full | WriteFault::ReadOnly),
                provisioning: true,
            } => {
                mark!("commit.provision_failed");
                self.commit.provisioning = false;
                self.commit.provision_fault = Some(fault);
                self.retry_waiting();
            }
            Completion::WriteFailed { .. } if has(Bug::FailedSyncRetried) => {
                self.commit.flight = match self.commit.flight {
                    Flight::Syncing(group) => Flight::Written(group),
                    other => other,
                };
            }
            Completion::WriteFailed { .. } if has(Bug::FailedSyncForgotten) => self.commit.flight = Flight::None,
            Completion::WriteFailed { fault, .. } => self.fail(match fault {
                WriteFault::Full => Code::DiskFull,
                WriteFault::ReadOnly => Code::ReadOnly,
                WriteFault::Failed => Code::Storage,
            }),
        }
    }

    pub(super) fn fail(&mut self, code: Code) {
        mark!("commit.failed");
        self.commit.failed.get_or_insert(code);
        self.commit.flight = Flight::None;
        // Whoever waits for room, or for an acknowledgement, waits in vain.
        self.retry_waiting();
        for i in 0..self.sessions.len() as u32 {
            let waits = |l: u32| {
                let link = &self.links[l as usize].0;
                link.write.is_some() && link.peer_top() > link.acked
            };
            if self.links_of(i).any(waits) {
                self.end(i, code, EndedBy::Us);
            }
        }
    }

    /// Everything in the group of this parity is durable: peers may be told, and may be sent it.
    fn made_durable(&mut self, parity: usize) {
        let hook = StreamSlot::group_hook(parity);
        // Asked once for a group, not for each of its streams: there may be ten thousand sessions.
        let digests = self.has_digests();
        while let Some(n) = self.commit.members[parity].pop(&mut self.streams.slots, hook) {
            let Some(s) = self.streams.at_mut(n) else { continue };
            // Peers were told of no stream without a first event, nor of one whose first events were damaged.
            let unheard = s.durable.have.seq == 0;
            if s.now.top != s.sealed.top {
                mark!("commit.grew_during_sync");
            }
            s.durable = if has(Bug::DurableFromNow) { s.now } else { s.sealed };
            let born = unheard && s.durable.have.seq > 0;
            let mut l = s.links;
            while let Some(link) = self.links.get(l as usize) {
                let next = link.0.next_of_stream;
                self.queue_ack(l);
                self.queue_link(l);
                l = next;
            }
            if digests {
                self.announce_growth(n);
            }
            if born && !has(Bug::BirthUnannounced) {
                self.announce_birth(n);
            }
        }
        for i in 0..self.sessions.len() as u32 {
            if self.sessions[i as usize].0.state == crate::session::State::Live
                && self.sessions[i as usize].0.peer_vector_done
            {
                self.check_caught_up(i);
            }
        }
    }
}

/// What the streams of a group hold at the moment it is sealed: what will be durable with it.
pub(super) fn snapshot(streams: &mut StreamTable<'_>, members: &mut Fifo, parity: usize) {
    let hook = StreamSlot::group_hook(parity);
    let mut kept = Fifo::EMPTY;
    while let Some(n) = members.pop(&mut streams.slots, hook) {
        if let Some(s) = streams.at_mut(n) {
            s.sealed = s.now;
        }
        kept.push(&mut streams.slots, n, hook);
    }
    *members = kept;
}

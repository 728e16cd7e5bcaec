//! Events that damage has taken from the log: they become a gap like any other, peers are asked for
//! them, and the log tells what became of them (docs/LOG.md#repair-1).

use super::append::LEFT_AFTER_ROLLBACK;
use super::{AppendError, Node};
use crate::code::Code;
use crate::event::Chain;
use crate::id::{Lane, StreamKey};
use crate::log::{LostRange, REPAIR_MAX_BYTES, Repair};
use crate::planted::{Bug, has, mark};
use crate::policy::Role;
use crate::session::{EndedBy, State};
use crate::streams::FrontierEntry;
use crate::time::Now;

/// Events that cannot be read any more, between two that can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The events.
    pub range: LostRange,
    /// The stream's chain hash before the first of them; `None` if that cannot be read either.
    pub before: Option<Chain>,
    /// The chain hash up to the last of them, as what follows says.
    pub last: Option<Chain>,
}

impl Node<'_> {
    /// Says that durable events cannot be read any more: from now on they are missing. Sessions with peers
    /// that may have them end with [`Code::Stopping`], so that the next ones ask for them. False if they
    /// were not held, or a chain hash is wanting.
    pub fn lose(&mut self, now: Now, loss: &Loss) -> bool {
        self.miss(now, loss, false)
    }

    /// Asks once more for events of which only places are here, with what lies between them: they count as missing
    /// until a peer sends them or withholds them again (docs/PROTOCOL.md#withheld-9). The log keeps what it has, and
    /// readers are sent that. Sessions end as with [`Node::lose`]. It is forgotten when the node is opened again.
    /// False if they were not held, something else of the stream is missing, or a chain hash is wanting.
    pub fn ask(&mut self, now: Now, loss: &Loss) -> bool {
        self.miss(now, loss, true)
    }

    /// Takes [`Node::ask`] back: what has not come stays a place, and what follows it is acknowledged.
    pub fn unask(&mut self, now: Now, key: &StreamKey) {
        self.at(now);
        let Some(s) = self.streams.find(key).and_then(|n| self.streams.at_mut(n)) else { return };
        s.unask();
        let mut l = s.links;
        while let Some(link) = self.links.get(l as usize) {
            let next = link.0.next_of_stream;
            self.queue_ack(l);
            l = next;
        }
    }

    fn miss(&mut self, now: Now, loss: &Loss, asked: bool) -> bool {
        self.at(now);
        let lost = &loss.range;
        let Some(n) = self.streams.find(&lost.key) else { return false };
        let Some(s) = self.streams.at_mut(n) else { return false };
        let d = s.durable;
        if asked && (s.now.gap_end.is_some() || lost.from <= s.floor.seq) {
            return false;
        }
        if lost.from == 0 || lost.from > lost.to || lost.to > d.top.seq {
            return false;
        }
        // Beside or within a gap the hashes are those of its ends.
        let in_gap = |seq: u64| d.gap_end.is_some_and(|end| d.have.seq < seq && seq <= end.seq);
        let before = loss.before.or(in_gap(lost.from).then_some(d.have.chain));
        let ends = [Some(d.top), d.gap_end].into_iter().flatten().find(|end| end.seq == lost.to);
        let last = loss.last.or(ends.map(|end| end.chain)).or(in_gap(lost.to).then_some(d.have.chain));
        let (Some(before), Some(last)) = (before, last) else { return false };
        if !asked {
            mark!("repair.lost");
        }
        if has(Bug::LossUntold) {
            return true;
        }
        s.lose((lost.from, before), (lost.to, last));
        s.asked = asked;
        let (own, at_end) = (s.own, lost.to == s.durable.top.seq);
        if own && at_end && !asked {
            // Once the pages are gone nothing would show that these numbers were given out.
            self.leave_incarnation(lost.key, lost.from - 1, LEFT_AFTER_ROLLBACK);
        }
        for i in 0..self.sessions.len() as u32 {
            let live = self.sessions[i as usize].0.state == State::Live;
            let writes = |l: u32| {
                let link = &self.links[l as usize].0;
                link.stream == n && link.write.is_some()
            };
            if live && (self.links_of(i).any(writes) || self.may_give_untold(i, n)) {
                self.end(i, Code::Stopping, EndedBy::Us);
            }
        }
        true
    }

    /// Puts a REPAIR into the group that fills; the number of the group, which is durable when
    /// [`Node::durable_group`] has reached it.
    ///
    /// # Errors
    /// As [`Node::append`]; nothing was noted then.
    pub fn note_repair(&mut self, now: Now, repair: &Repair<'_>) -> Result<u64, AppendError> {
        self.at(now);
        self.reserve(REPAIR_MAX_BYTES)?;
        if !repair.head.repaired && self.own.iter().all(Option::is_none) && self.end_was_lost() {
            // The damaged pages may be sealed away before the next event is appended.
            let new = self.own_stream(Lane::Normal)?;
            self.declare(new)?;
        }
        self.put_repair(repair)?;
        mark!("repair.noted");
        Ok(self.commit.group())
    }

    /// Whether this node writes in a new incarnation because of damage to its last one.
    fn end_was_lost(&self) -> bool {
        self.streams.of_node(self.config.name).any(|(_, s)| s.own && s.end_at_risk)
    }

    /// Whether all these events are durable here, with everything before them. What its source had removed
    /// (docs/PROTOCOL.md#floor-1) closes a gap and brings nothing back.
    pub fn holds(&self, lost: &LostRange) -> bool {
        let placed = |e: &FrontierEntry| e.withheld.is_some_and(|(from, to)| from <= lost.to && lost.from <= to);
        let holds = |e: FrontierEntry| e.have >= lost.to && !(e.skipped && lost.from <= e.floor) && !placed(&e);
        has(Bug::RepairRecordedEarly) || self.entry_of(&lost.key).is_some_and(holds)
    }

    /// What is durable of a stream; `None` if it was never heard of.
    #[must_use]
    pub fn entry_of(&self, key: &StreamKey) -> Option<FrontierEntry> {
        self.streams.at(self.streams.find(key)?).map(crate::streams::Stream::entry)
    }

    /// Peer `i` has told everything that it holds, and all of it is here. What it is the writer of has
    /// no later end than that; at a clinic a hub knows all others' streams.
    pub(super) fn settle_doubts(&mut self, i: u32) {
        let Ok(peer) = self.peer(i) else { return };
        let knows_all = peer.role == Role::Hub && self.config.role == Role::Clinic;
        for slot in &mut *self.streams.slots {
            if let Some(s) = slot.stream.as_mut()
                && s.end_at_risk
                && !s.own
                && (knows_all || s.key.node == peer.name)
            {
                mark!("repair.doubt_settled");
                s.end_at_risk = false;
            }
        }
    }
}

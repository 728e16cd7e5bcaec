//! What was removed from logs on purpose: from this one (docs/LOG.md#stub-1), and from a peer's
//! (docs/PROTOCOL.md#floor-1).

use super::Node;
use super::commit::NoRoom;
use super::receive::Refused;
use crate::code::Code;
use crate::event::Chain;
use crate::fifo::NONE;
use crate::id::StreamKey;
use crate::log::Expired;
use crate::planted::mark;
use crate::session::{EndedBy, Link, LinkSlot, Session, State};
use crate::streams::{Position, Stream};
use crate::wire::control::FLOORS;
use crate::wire::floor::Floor;
use crate::wire::frame::{FrameType, OPTIONAL, emit};

impl Node<'_> {
    /// Says that the log no longer holds the events of `key` up to `seq`, whose chain hash is `chain`. They
    /// are not sent any more; numbers go on, and so does what peers acknowledge. A stream that is not held
    /// so far is left alone.
    pub fn expired(&mut self, key: &StreamKey, seq: u64, chain: Chain) {
        let Some(n) = self.streams.find(key) else { return };
        let Some(s) = self.streams.at_mut(n) else { return };
        s.raise_floor(Position { seq, chain });
        let mut l = s.links;
        while let Some(LinkSlot(link)) = self.links.get(l as usize) {
            let (at, next) = (l, link.next_of_stream);
            if self.waits_for_gone(at) {
                mark!("floor.raised_in_session");
                self.queue_again(at);
            }
            l = next;
        }
    }

    /// Puts a link in line whose next events may be gone: its peer hears of that in this session, or the session ends so
    /// that the next one tells. It would wait for ever.
    pub(super) fn queue_again(&mut self, l: u32) {
        self.queue_link(l);
        if self.is_stranded(l) {
            mark!("floor.session_ended");
            self.end(self.links[l as usize].0.session, Code::Stopping, EndedBy::Us);
        }
    }

    /// Whether link `l` was to send events that are gone, and its peer was not told of the stream so far: a FLOOR would
    /// make no sense to it.
    fn is_stranded(&self, l: u32) -> bool {
        let link = &self.links[l as usize].0;
        self.waits_for_gone(l) && self.streams.at(link.stream).is_some_and(|s| s.floor.seq > link.acked)
    }

    /// Whether link `l`, of which both vectors tell, was to send events that are gone.
    fn waits_for_gone(&self, l: u32) -> bool {
        let link = &self.links[l as usize].0;
        let session = self.sessions.get(link.session as usize).map(|s| &s.0);
        let Some((stream, s)) = self.streams.at(link.stream).zip(session) else { return false };
        // What an entry has yet to tell of is told with it.
        let told = link.handle != NONE && link.peer_handle != NONE;
        s.state == State::Live && s.vector_done && s.peer_vector_done && told && self.lacks_gone(link, stream, s)
    }

    /// Whether the peer lacks events that are gone here, and knows what a FLOOR means.
    fn lacks_gone(&self, link: &Link, stream: &Stream, s: &Session) -> bool {
        let knows = s.hello.is_some_and(|hello| hello.features & FLOORS != 0);
        knows && link.sent < stream.floor.seq && !link.blocked && self.sends(link, stream)
    }

    /// Whether the peer lacks events that are gone here, and is to be told: once of each floor, and only if it knows what
    /// that means.
    pub(super) fn owes_floor(&self, link: &Link, stream: &Stream) -> bool {
        let floor = stream.floor.seq;
        let Some(s) = self.sessions.get(link.session as usize).map(|s| &s.0) else { return false };
        // Not beyond what the peer was told of, or will be told with the opening vector.
        let told = !s.vector_done || floor <= link.acked;
        let due = floor <= stream.durable.have.seq && floor > link.floor_told;
        told && due && self.lacks_gone(link, stream, s)
    }

    /// One FLOOR frame, if there is one to be sent.
    pub(super) fn put_floor(&mut self, i: u32, out: &mut [u8]) -> Option<usize> {
        let s = &self.sessions[i as usize].0;
        if !s.vector_done || !s.peer_vector_done || s.goodbye_sent {
            return None;
        }
        let owed = self.links_of(i).find_map(|l| {
            let link = &self.links[l as usize].0;
            let stream = self.streams.at(link.stream)?;
            self.owes_floor(link, stream).then_some((l, link.handle, stream.floor))
        });
        let Some((l, handle, Position { seq, chain })) = owed else {
            self.s(i).owes_floors = false;
            return None;
        };
        let n = emit(out, FrameType::Floor, false, |body| Floor { handle, seq, chain }.emit(body))?;
        out[0] |= OPTIONAL;
        mark!("floor.sent");
        let link = &mut self.links[l as usize].0;
        (link.sent, link.floor_told) = (seq, seq);
        self.queue_link(l);
        Some(n)
    }

    /// The peer's log no longer holds the first events of a stream. If they are not here, they never will
    /// be: that is noted in the log, and what follows them is taken.
    pub(super) fn take_floor(&mut self, i: u32, body: &[u8]) -> Result<(), Refused> {
        if !self.s(i).peer_vector_done || self.s(i).peer_goodbye {
            return Err(Code::State.into());
        }
        if let Some(code) = self.commit.failed() {
            return Err(code.into());
        }
        let floor = Floor::parse(body)?;
        let l = self.link_of(i, floor.handle)?;
        let link = &self.links[l as usize].0;
        // Beyond what it told of there is nothing that could be gone.
        if floor.seq > link.peer_have || floor.seq <= link.floor_came {
            return Err(Code::State.into());
        }
        let n = link.stream;
        let at = Position { seq: floor.seq, chain: floor.chain };
        if let Some(s) = self.streams.at_mut(n).filter(|s| s.asked && s.now.have.seq < at.seq) {
            // What lies between stays here: only what was withheld does not come.
            s.unask_upto(at);
            self.queue_ack(l);
        }
        let mut tried = self.streams.at(n).ok_or(Code::State)?.clone();
        if tried.skip_to(at).is_err() {
            return Err(self.fork_at(n).into());
        }
        if tried.now != self.streams.at(n).ok_or(Code::State)?.now {
            match self.reserve(Expired::MAX_BYTES) {
                Ok(()) => {}
                Err(NoRoom::Busy) => return Err(Refused::NoRoom),
                Err(NoRoom::DiskFull) => return Err(Code::DiskFull.into()),
                Err(NoRoom::Failed(code)) => return Err(code.into()),
            }
            self.put_expired(n, at).map_err(|_| Refused::Bad(Code::Storage))?;
            mark!("floor.taken");
        }
        let link = &mut self.links[l as usize].0;
        // What it said of an earlier place cannot be compared any more.
        (link.floor_came, link.peer_tag) = (floor.seq, None);
        link.sent = link.sent.max(floor.seq);
        self.s(i).ack_soon = true;
        self.mark_ready(i);
        Ok(())
    }
}

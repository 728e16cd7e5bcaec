//! Sessions begin and end.

use super::Node;
use super::rest::is_third;
use crate::code::Code;
use crate::fifo::NONE;
use crate::id::NodeName;
use crate::planted::{Bug, has, mark};
use crate::policy::{Grants, PeerIdentity, Principal, Role, authorize, reads_everything};
use crate::session::{EndedBy, Ending, LastFrame, Link, LinkSlot, Session, SessionId, SessionSlot, State};
use crate::time::{Instant, Now};

/// Why a session could not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum OpenError {
    /// All session slots are in use.
    Full,
    /// The peer's name is this node's own name.
    Myself,
}

impl OpenError {
    /// The code to tell the peer.
    #[must_use]
    pub fn code(self) -> Code {
        match self {
            OpenError::Full => Code::Overloaded,
            OpenError::Myself => Code::BadCertificate,
        }
    }
}

impl Node<'_> {
    /// Begins a session over a connection whose peer has been identified. Both sides may speak at
    /// once. An older session with the same peer is closed: the newest wins, since the older one
    /// is most often a connection that the peer has long lost.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&mut self, now: Now, peer: PeerIdentity) -> Result<SessionId, OpenError> {
        self.at(now);
        if peer.name == self.config.name {
            return Err(OpenError::Myself);
        }
        if let Some(old) = self.live_with(&peer.name)
            && !has(Bug::NotSuperseded)
        {
            mark!("session.superseded");
            self.end(old, Code::Superseded, EndedBy::Us);
        }
        self.begin(peer)
    }

    /// As [`Node::open`], for a connection whose handshake has not ended: what came by it was said by the peer, but it
    /// may be a recording that somebody else sends (docs/PROTOCOL.md#tls-8). `None` where that could do harm: for a
    /// peer that has a live session, which would be superseded; for a hub, whose word counts as a receipt; and where
    /// there is no room. Wait for the end of the handshake then, and `open`.
    ///
    /// Until [`Node::prove`], no events are sent in such a session.
    pub fn open_early(&mut self, now: Now, peer: PeerIdentity) -> Option<SessionId> {
        self.at(now);
        let is_safe = peer.role == Role::Clinic && peer.name != self.config.name;
        if !is_safe || self.live_with(&peer.name).is_some() {
            return None;
        }
        let id = self.begin(peer).ok()?;
        self.s(id.index).unproven = true;
        Some(id)
    }

    /// The handshake of a connection whose session was opened early has ended: it is a session like any other.
    pub fn prove(&mut self, now: Now, id: SessionId) {
        self.at(now);
        if let Ok(i) = self.session(id) {
            self.s(i).unproven = false;
            self.mark_ready(i);
        }
    }

    /// The live session with this peer.
    fn live_with(&self, peer: &NodeName) -> Option<u32> {
        let live = |s: &Session| s.state == State::Live && s.peer.is_some_and(|p| p.name == *peer);
        self.sessions.iter().position(|s| live(&s.0)).map(|i| i as u32)
    }

    fn begin(&mut self, peer: PeerIdentity) -> Result<SessionId, OpenError> {
        let free = (0..self.sessions.len()).find(|&i| self.sessions[i].0.state == State::Free);
        let free = free.or_else(|| self.sessions.put(SessionSlot::EMPTY));
        if free.is_none() {
            mark!("session.no_slot");
        }
        let i = free.ok_or(OpenError::Full)? as u32;
        let (at, credit) = (self.now.at, self.limits.credit_bytes);
        let offers = self.codecs.bits(at);
        let s = self.s(i);
        *s = Session {
            state: State::Live,
            peer: Some(peer),
            opened: at,
            offers,
            last_rx: at,
            rx_credit: credit,
            ..Session::new(s.generation)
        };
        self.adopt_parcels(i, &peer.name);
        self.link_known_streams(i, &peer);
        self.set_timer(i);
        self.mark_ready(i);
        Ok(self.id(i))
    }

    /// Asks for a clean end: when everything is done in both directions the session says GOODBYE,
    /// waits for the peer's and closes without a code. A clinic says it to a hub as soon as it has nothing left to
    /// send (docs/PROTOCOL.md#goodbye-4): events that are appended after that wait for the next session. See
    /// [`Node::has_nothing_to_send`].
    pub fn finish(&mut self, now: Now, id: SessionId) {
        self.at(now);
        if let Ok(i) = self.session(id) {
            self.s(i).finishing = true;
            self.mark_ready(i);
        }
    }

    /// Whether [`Node::finish`] would make a clinic say GOODBYE at once: all that is here for the hub is on its way.
    #[must_use]
    pub fn has_nothing_to_send(&self, id: SessionId) -> bool {
        self.session(id).is_ok_and(|i| self.sessions[i as usize].0.state == State::Live && self.has_sent_all(i))
    }

    /// Says that the connection is gone. Harmless for a session that has ended.
    pub fn close(&mut self, now: Now, id: SessionId) {
        self.at(now);
        let Ok(i) = self.session(id) else { return };
        if self.s(i).state == State::Live {
            self.end(i, Code::Cut, EndedBy::Transport);
        }
        let s = self.s(i);
        (s.state, s.released) = (State::Closing, true);
        self.recycle(i);
        self.retry_parcels();
    }

    /// Ends a session with an ERROR to the peer, for example [`Code::Stopping`].
    pub fn abort(&mut self, now: Now, id: SessionId, code: Code) {
        self.at(now);
        if let Ok(i) = self.session(id) {
            self.end(i, code, EndedBy::Us);
        }
    }

    /// Ends session `i` with a code. If the peer can still be told, it is.
    pub(super) fn end(&mut self, i: u32, code: Code, by: EndedBy) {
        self.end_with(i, Ending { code: Some(code), by });
    }

    pub(super) fn end_with(&mut self, i: u32, ending: Ending) {
        if self.s(i).state != State::Live {
            return;
        }
        let s = self.s(i);
        s.ended = Some(ending);
        s.state = match (ending.by, ending.code) {
            (EndedBy::Us, Some(code)) => State::Ending(LastFrame::Error(code)),
            (EndedBy::Peer, None) if !s.goodbye_sent => State::Ending(LastFrame::Goodbye),
            _ => State::Closing,
        };
        let mut rx = core::mem::replace(&mut s.rx, crate::arena::Chain::EMPTY);
        (s.read, s.lacking) = (None, None);
        s.paused = false;
        if rx.len() > 0 {
            mark!("session.ended_within_frame");
        }
        if !has(Bug::ArenaLeaks) {
            self.arena.clear(&mut rx);
        }
        self.waiting.remove(&mut self.sessions, i, |s| &mut s.0.waiting);
        self.resumed.remove(&mut self.sessions, i, |s| &mut s.0.resumed);
        self.readers.remove(&mut self.sessions, i, |s| &mut s.0.reader);
        self.leave_parcels(i);
        self.wake_starved();
        self.drop_links(i);
        self.return_extra(i);
        self.timers.set(i, Instant::FAR);
        self.commit.flush_receipts |= !self.receipts.is_empty();
        self.mark_ready(i);
        if !(has(Bug::ClosedUntold) && ending.by == EndedBy::Transport) {
            self.mark_event(i);
        }
    }

    /// Gives a slot back when both have happened: the runtime has heard `Closed`, and it has heard
    /// `Transmit::Close` or said `close`.
    pub(super) fn recycle(&mut self, i: u32) {
        let s = self.s(i);
        if s.state == State::Closing && s.told && s.released {
            // Out of the queue first: a slot that is wiped in it takes those behind it along.
            self.ready.remove(&mut self.sessions, i, |s| &mut s.0.ready);
            let s = self.s(i);
            *s = Session::new(s.generation.wrapping_add(1));
        }
    }

    /// Links the streams that the peer may know of, so that they are announced.
    fn link_known_streams(&mut self, i: u32, peer: &PeerIdentity) {
        let everything = reads_everything(self.config.policy, peer);
        let digest = everything && self.digest_rest(i, peer);
        let mut at = 0;
        loop {
            // One at a time: linking borrows what listing borrows.
            let next = if everything {
                (at < self.streams.slots.len() as u32).then_some(at)
            } else {
                self.streams.of_node(peer.name).map(|(n, _)| n).filter(|&n| n >= at).min()
            };
            let Some(n) = next else { break };
            at = n + 1;
            let Some(stream) = self.streams.at(n) else { continue };
            let grants = authorize(self.config.policy, Principal::Peer(peer), &stream.key);
            let third = is_third(&stream.key, &self.config.name, &peer.name);
            if stream.durable.have.seq == 0 && !stream.own && !stream.asked || digest && third {
                continue;
            }
            if self.add_link(i, n, grants).is_err() {
                self.end(i, Code::Limit, EndedBy::Us);
                return;
            }
        }
        let first = self.s(i).links;
        self.s(i).announce = first;
        self.owe_lacks(i);
    }

    /// Adds a link to the end of session `i`'s list and gives it the next handle if the peer may
    /// read the stream.
    pub(super) fn add_link(&mut self, i: u32, stream: u32, grants: Grants) -> Result<u32, Code> {
        if self.free_links == NONE {
            self.free_links = self.links.put(LinkSlot::EMPTY).ok_or(Code::Limit)? as u32;
        }
        let l = self.free_links;
        let slot = self.links.get_mut(l as usize).ok_or(Code::Limit)?;
        self.free_links = slot.0.next;
        let of_stream = self.streams.at_mut(stream).map_or(NONE, |s| core::mem::replace(&mut s.links, l));
        let s = &mut self.sessions[i as usize].0;
        let handle = if grants.read.is_some() {
            s.next_handle += 1;
            s.next_handle - 1
        } else {
            NONE
        };
        slot.0 = Link {
            session: i,
            stream,
            next_of_stream: of_stream,
            read: grants.read,
            write: grants.write,
            handle,
            ..Link::FREE
        };
        if s.links_tail == NONE {
            s.links = l;
        } else {
            self.links[s.links_tail as usize].0.next = l;
        }
        s.links_tail = l;
        if s.announce == NONE && handle != NONE {
            s.announce = l;
        }
        Ok(l)
    }

    fn drop_links(&mut self, i: u32) {
        let mut l = core::mem::replace(&mut self.s(i).links, NONE);
        self.s(i).links_tail = NONE;
        self.s(i).announce = NONE;
        while l != NONE {
            let link = core::mem::replace(&mut self.links[l as usize].0, Link::FREE);
            if let Some(stream) = self.streams.at_mut(link.stream) {
                stream.in_doubt |= stream.own && link.sent > link.peer_have;
            }
            self.unlink_stream(link.stream, l, link.next_of_stream);
            if self.streams.forget_if_empty(link.stream) {
                self.histories.forget(link.stream);
                self.outbox.forget(link.stream);
                self.codecs.forget(link.stream);
            }
            if !has(Bug::LinksLeak) {
                self.links[l as usize].0.next = core::mem::replace(&mut self.free_links, l);
            }
            l = link.next;
        }
    }

    fn unlink_stream(&mut self, stream: u32, l: u32, after: u32) {
        let Some(s) = self.streams.at_mut(stream) else { return };
        if s.links == l {
            s.links = after;
            return;
        }
        let mut at = s.links;
        while let Some(link) = self.links.get_mut(at as usize) {
            if link.0.next_of_stream == l {
                link.0.next_of_stream = after;
                return;
            }
            at = link.0.next_of_stream;
        }
    }

    /// A stream was born while sessions are live: they learn of it if they may.
    pub(super) fn announce_birth(&mut self, stream: u32) {
        let Some(key) = self.streams.at(stream).map(|s| s.key) else { return };
        for i in 0..self.sessions.len() as u32 {
            let s = &self.sessions[i as usize].0;
            let (State::Live, Some(peer)) = (s.state, s.peer) else { continue };
            // After our GOODBYE the peer would wait for events that do not come in this session.
            if s.goodbye_sent {
                continue;
            }
            let grants = authorize(self.config.policy, Principal::Peer(&peer), &key);
            if grants.read.is_none() || self.links_of(i).any(|l| self.links[l as usize].0.stream == stream) {
                continue;
            }
            match self.add_link(i, stream, grants) {
                Ok(l) => {
                    mark!("session.birth_announced");
                    self.queue_link(l);
                    self.mark_ready(i);
                }
                Err(code) => self.end(i, code, EndedBy::Us),
            }
        }
    }
}

//! Frames for a peer, made when its socket has room for them.

use super::Node;
use crate::code::Code;
use crate::event::ChainTag;
use crate::fifo::NONE;
use crate::limits::CREDIT_MIN_BYTES;
use crate::planted::{Bug, has, mark};
use crate::policy::ReadGrant;
use crate::session::{EndedBy, Ending, LastFrame, SessionId, State};
use crate::time::{Instant, Now};
use crate::varint::Writer;
use crate::wire::control::{ErrorBody, FLOORS, Hello, PARTS, WITHHOLDS, emit_number};
use crate::wire::frame::{CONTROL_BODY_MAX_BYTES, FRAME_HEAD_MAX_BYTES, FrameType, OPTIONAL, emit};
use crate::wire::vector::{ENTRY_MAX_BYTES, Entry};

/// The id names no session: it has ended and its end was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct UnknownSession;

/// What to do with a writable socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// Nothing now; [`Node::poll_ready`] will name the session.
    Idle,
    /// Send this many bytes of the buffer.
    Bytes(usize),
    /// Read events from the log and hand them to [`Node::complete_read`]; nothing else is sent
    /// meanwhile except what is urgent.
    Read(ReadRequest),
    /// Everything was sent: close the connection.
    Close,
}

/// Events wanted from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRequest {
    /// To be given back with the answer.
    pub token: u64,
    /// For whom.
    pub session: SessionId,
    /// The permission, and which stream.
    pub grant: ReadGrant,
    /// Number of the stream at this node.
    pub stream: u32,
    /// First event wanted.
    pub from_seq: u64,
    /// Last event that may be given: what lies beyond is not durable.
    pub upto_seq: u64,
    /// About how many bytes of payload are wanted; at least one event is.
    pub bytes: usize,
}

/// Why events could not be read. The stream is not sent on; the rest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadFault(pub Code);

impl Node<'_> {
    /// Fills `out` with frames for the peer. `out` should hold
    /// [`Limits::frame_bytes`](crate::limits::Limits::frame_bytes) and a little; smaller buffers
    /// (down to about 128 bytes) work and get smaller frames.
    ///
    /// # Errors
    /// [`UnknownSession`]: close the connection.
    pub fn poll_transmit(&mut self, now: Now, id: SessionId, out: &mut [u8]) -> Result<Transmit, UnknownSession> {
        self.at(now);
        let i = self.session(id)?;
        if self.s(i).state != State::Live {
            return Ok(self.put_last(i, out));
        }
        let n = self.put_control(i, out);
        if n > 0 {
            self.mark_ready(i);
            return Ok(self.count(i, n));
        }
        if let Some(events) = self.next_events(i, out) {
            return Ok(events);
        }
        self.check_caught_up(i);
        let s = self.s(i);
        if s.forked && s.caught_up_told {
            mark!("fork.told");
            self.end(i, Code::Fork, EndedBy::Us);
            return Ok(self.put_last(i, out));
        }
        let done = s.caught_up_told || has(Bug::GoodbyeTooEarly) && s.vector_done && s.peer_vector_done;
        let (may, peer_goodbye) = (s.finishing && !s.goodbye_sent, s.peer_goodbye);
        if may && (done || !peer_goodbye && self.has_sent_all(i)) {
            if peer_goodbye {
                mark!("goodbye.answered");
                self.end_with(i, Ending { code: None, by: EndedBy::Peer });
                return Ok(self.put_last(i, out));
            }
            if let Some(n) = emit(out, FrameType::Goodbye, false, |_| Some(0)) {
                if !done {
                    mark!("goodbye.said_early");
                    out[0] |= OPTIONAL;
                }
                self.s(i).goodbye_sent = true;
                return Ok(self.count(i, n));
            }
        }
        Ok(Transmit::Idle)
    }

    /// The last frame of a session that has ended, then `Close`.
    fn put_last(&mut self, i: u32, out: &mut [u8]) -> Transmit {
        let s = self.s(i);
        let last = match core::mem::replace(&mut s.state, State::Closing) {
            State::Ending(last) => last,
            _ => {
                s.released = true;
                self.recycle(i);
                return Transmit::Close;
            }
        };
        let frame = match last {
            LastFrame::Error(code) => {
                let body = ErrorBody { code: code.as_u16(), retry_after_s: retry_after_s(code) };
                emit(out, FrameType::Error, false, |b| body.emit(b))
            }
            LastFrame::Goodbye => emit(out, FrameType::Goodbye, false, |_| Some(0)),
        };
        self.mark_ready(i);
        match frame {
            Some(n) => self.count(i, n),
            None => self.put_last(i, out),
        }
    }

    pub(super) fn count(&mut self, i: u32, n: usize) -> Transmit {
        self.s(i).stats.bytes_out += n as u64;
        Transmit::Bytes(n)
    }

    /// All control frames that are due and fit.
    fn put_control(&mut self, i: u32, out: &mut [u8]) -> usize {
        let mut at = 0;
        let mut put = |frame: &mut dyn FnMut(&mut [u8]) -> Option<usize>| {
            let n = frame(&mut out[at..]).unwrap_or(0);
            at += n;
            n > 0
        };
        if self.s(i).hello_due {
            let hello = self.hello(self.sessions[i as usize].0.offers);
            if !put(&mut |o| emit(o, FrameType::Hello, false, |b| hello.emit(b))) {
                return 0;
            }
            self.s(i).hello_due = false;
        }
        while self.haves_are_due(i) && put(&mut |o| self.put_have(i, o)) {}
        // Before an acknowledgement, or a vector, that reaches over them.
        while self.s(i).owes_lacks && put(&mut |o| self.put_lacks(i, o)) {}
        if (self.s(i).owes_have || self.s(i).owes_lacks) && !self.s(i).vector_done {
            return at;
        }
        while self.rest_is_due(i) && put(&mut |o| self.put_rest(i, o)) {}
        if self.rest_is_due(i) {
            return at;
        }
        while !self.s(i).vector_done || self.s(i).announce != NONE || self.last_of_rest_is_due(i) {
            if !put(&mut |o| self.put_vector(i, o)) {
                break;
            }
        }
        if let Some(n) =
            self.s(i).pong_due.filter(|&n| put(&mut |o| emit(o, FrameType::Pong, false, |b| emit_number(b, n))))
        {
            let _ = n;
            self.s(i).pong_due = None;
        }
        while self.s(i).owes_no_history && put(&mut |o| self.put_no_history(i, o)) {}
        while self.s(i).owes_floors && put(&mut |o| self.put_floor(i, o)) {}
        while self.s(i).owes_gaps && put(&mut |o| self.put_gap(i, o)) {}
        if self.acks_are_due(i) && !self.s(i).owes_lacks {
            put(&mut |o| self.put_acks(i, o));
        }
        // Credit goes in portions worth their frame, or when the peer says that it waits.
        let (owed, share) = (self.s(i).credit_owed, self.limits.credit_bytes);
        let worth = owed >= (share / 2).max(CREDIT_MIN_BYTES) || self.s(i).credit_soon && owed > 0;
        if worth && put(&mut |o| emit(o, FrameType::Credit, false, |b| emit_number(b, owed as u64))) {
            let s = self.s(i);
            (s.credit_owed, s.credit_soon) = (0, false);
            s.rx_credit += owed;
        }
        if let Some(need) = self.s(i).blocked_due
            && put(&mut |o| emit(o, FrameType::Blocked, false, |b| emit_number(b, need as u64)))
        {
            self.s(i).blocked_due = None;
        }
        if self.s(i).ping_due && put(&mut |o| emit(o, FrameType::Ping, false, |b| emit_number(b, 0))) {
            self.s(i).ping_due = false;
        }
        at
    }

    pub(super) fn hello(&self, codecs: u32) -> Hello {
        Hello {
            features: FLOORS | WITHHOLDS | if self.limits.parcels > 0 { PARTS } else { 0 },
            codecs,
            frame_kib: (self.limits.frame_bytes >> 10) as u32,
            batch_kib: (self.limits.batch_bytes >> 10) as u32,
            credit_kib: (self.limits.credit_bytes >> 10) as u32,
            deployment: Hello::deployment(self.config.deployment),
            history_kib: (self.histories.share() >> 10) as u32,
            wall_s: self.now.wall_ms / 1000,
            sample: self.sample.unwrap_or(0),
        }
    }

    /// One VECTOR frame with as many entries as fit.
    fn put_vector(&mut self, i: u32, out: &mut [u8]) -> Option<usize> {
        let (me, peer) = (self.config.name, self.peer(i).ok()?);
        let (mut l, mut entries) = (self.s(i).announce, 0);
        let room = out.len().min(FRAME_HEAD_MAX_BYTES + CONTROL_BODY_MAX_BYTES);
        let (links, streams) = (&mut self.links, &self.streams);
        let n = emit(&mut out[..room], FrameType::Vector, false, |body| {
            let mut w = Writer::new(body);
            while let Some(link) = links.get_mut(l as usize) {
                // Only streams that the peer may read have a handle and are told.
                if let (Some(grant), Some(s)) = (super::granted(link), streams.at(link.0.stream)) {
                    if w.room() < ENTRY_MAX_BYTES {
                        break;
                    }
                    if s.durable.gap_end.is_some() {
                        mark!("vector.below_gap");
                    }
                    let have = match () {
                        () if has(Bug::VectorOverHole) => s.durable.top,
                        () if has(Bug::VectorBeforeDurable) => s.now.have,
                        () => s.durable.have,
                    };
                    let tag: ChainTag = if have.seq > 0 { have.chain.tag() } else { [0; 8] };
                    let entry = Entry { key: *grant.stream(), seq: have.seq, tag };
                    entry.emit(&mut w, &me, &peer.name).ok()?;
                    // As good as an acknowledgement.
                    link.0.acked = link.0.acked.max(have.seq);
                    entries += 1;
                }
                l = link.0.next;
            }
            Some(w.len())
        })?;
        let last = l == NONE;
        if !last {
            mark!("vector.several_frames");
        }
        let s = self.s(i);
        if entries == 0 && !last {
            return None;
        }
        s.announce = l;
        if last && !s.vector_done {
            s.vector_done = true;
            out[0] |= crate::wire::frame::FLAG;
            self.begin_early(i);
        } else if last && self.last_of_rest_is_due(i) {
            out[0] |= crate::wire::frame::FLAG;
            self.told_rest(i);
        } else if entries == 0 {
            return None;
        }
        Some(n)
    }

    fn acks_are_due(&mut self, i: u32) -> bool {
        let now = self.now.at;
        let s = self.s(i);
        !s.acks.is_empty() && s.ack_at <= now
    }

    /// One ACK frame for the streams that became durable (docs/PROTOCOL.md#ack-2): only `durable` is
    /// ever looked at here.
    fn put_acks(&mut self, i: u32, out: &mut [u8]) -> Option<usize> {
        let room = out.len().min(FRAME_HEAD_MAX_BYTES + CONTROL_BODY_MAX_BYTES);
        let (sessions, links, streams) = (&mut self.sessions, &mut self.links, &self.streams);
        let s = &mut sessions[i as usize].0;
        let n = emit(&mut out[..room], FrameType::Ack, false, |body| {
            let mut w = Writer::new(body);
            while w.room() >= 2 * crate::varint::VARINT_MAX_BYTES {
                let Some(l) = s.acks.pop(links, |l| &mut l.0.ack) else { break };
                let link = &mut links[l as usize].0;
                let durable = streams.at(link.stream).map_or(0, crate::streams::Stream::ackable).min(link.peer_top());
                link.acked = durable;
                w.varint(u64::from(link.peer_handle)).ok()?;
                w.varint(durable).ok()?;
            }
            Some(w.len()).filter(|n| *n > 0)
        });
        if s.acks.is_empty() {
            s.ack_at = Instant::FAR;
        } else {
            mark!("ack.several_frames");
        }
        self.set_timer(i);
        self.check_caught_up(i);
        n
    }

    /// The peer has said GOODBYE. If we had said it before, that is the end. Else the peer sends no
    /// more events, and hears GOODBYE when it has all of ours.
    pub(super) fn goodbye(&mut self, i: u32, early: bool) {
        if self.s(i).goodbye_sent {
            // It has every acknowledgement that it needs: one that is still due is of what came twice.
            let s = &mut self.sessions[i as usize].0;
            while s.acks.pop(&mut self.links, |l| &mut l.0.ack).is_some() {}
            self.check_caught_up(i);
            // It was the answer only if nothing of ours is open: it may have been said at the same time.
            let code = match () {
                () if self.s(i).forked => Some(Code::Fork),
                () if !self.is_caught_up(i) && !has(Bug::GoodbyeTooEarly) => Some(Code::Cut),
                () => None,
            };
            mark!("goodbye.came_back");
            return match code {
                Some(code) => self.end(i, code, EndedBy::Us),
                None => self.end_with(i, Ending { code: None, by: EndedBy::Us }),
            };
        }
        let mut dropped = false;
        let mut l = self.s(i).links;
        while l != NONE {
            let link = &mut self.links[l as usize].0;
            dropped |= core::mem::take(&mut link.dropped);
            l = link.next;
        }
        let kept_back = self.links_of(i).any(|l| {
            let link = &self.links[l as usize].0;
            link.write.is_some() && self.streams.at(link.stream).is_some_and(|s| s.now.have.seq < link.peer_have)
        });
        if early && (kept_back || dropped) {
            // It was said before its sender knew that it has to send something again.
            mark!("goodbye.void");
            return;
        }
        if kept_back || !self.s(i).peer_vector_done {
            // It told of events that it did not send.
            mark!("goodbye.kept_back");
            return self.end(i, Code::Cut, EndedBy::Peer);
        }
        let s = self.s(i);
        (s.peer_goodbye, s.goodbye_open, s.finishing) = (true, early, true);
        self.mark_ready(i);
    }
}

/// The frame that turns a peer away before it has a session, for example after
/// [`OpenError`](super::OpenError): bytes written to `out`, 0 if they do not fit in it.
#[must_use]
pub fn refusal(code: Code, out: &mut [u8]) -> usize {
    let body = ErrorBody { code: code.as_u16(), retry_after_s: retry_after_s(code) };
    emit(out, FrameType::Error, false, |b| body.emit(b)).unwrap_or(0)
}

/// How long a refused peer should stay away.
fn retry_after_s(code: Code) -> u16 {
    match code {
        Code::Overloaded | Code::Stopping => 30,
        Code::Storage | Code::DiskFull | Code::ReadOnly => 300,
        _ => 0,
    }
}

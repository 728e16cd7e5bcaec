//! Bytes from a peer become frames.

use super::{Node, UnknownSession};
use crate::code::Code;
use crate::planted::{Bug, has, mark};
use crate::session::{EndedBy, SessionId, State};
use crate::time::Now;
use crate::wire::frame::{FRAME_HEAD_MAX_BYTES, FrameHead, FrameType};

/// What [`Node::receive`] did with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Received {
    /// How many bytes were taken, from the front. Offer the rest again later.
    pub consumed: usize,
    /// Whether to go on.
    pub flow: Flow,
}

/// Whether a session takes more bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Flow {
    /// Yes.
    Open,
    /// Not before [`Node::poll_resumed`] names it.
    Paused,
    /// Never again; there may be a last frame to send.
    Closed,
}

impl Node<'_> {
    /// Takes bytes that the peer has sent, in any portions.
    ///
    /// # Errors
    /// [`UnknownSession`]. A peer's misbehaviour is no error here: it closes the session, which
    /// tells why in [`Event::Closed`](super::Event::Closed).
    pub fn receive(&mut self, now: Now, id: SessionId, bytes: &[u8]) -> Result<Received, UnknownSession> {
        self.at(now);
        let i = self.session(id)?;
        let before = self.s(i).stats.bytes_in;
        let flow = self.take_bytes(i, bytes);
        let consumed = (self.s(i).stats.bytes_in - before) as usize;
        if consumed > 0 && self.s(i).state == State::Live {
            let at = self.now.at;
            let s = self.s(i);
            s.last_rx = at;
            s.pinged = None;
            self.set_timer(i);
        }
        self.retry_parcels();
        Ok(Received { consumed, flow })
    }

    fn take_bytes(&mut self, i: u32, mut bytes: &[u8]) -> Flow {
        loop {
            let s = &self.sessions[i as usize].0;
            if s.state != State::Live {
                return Flow::Closed;
            }
            if s.stalled {
                return self.pause(i);
            }
            // A frame that lies whole in the input is used where it lies.
            if s.rx.len() == 0 {
                match FrameHead::parse(bytes, self.limits.frame_bytes) {
                    Ok(Some(head)) if bytes.len() >= head.head_bytes + head.body_bytes => {
                        let (frame, rest) = bytes.split_at(head.head_bytes + head.body_bytes);
                        if !self.charge(i, &head) {
                            return Flow::Closed;
                        }
                        let outcome = self.take_frame(i, &head, &frame[head.head_bytes..]);
                        self.s(i).stats.bytes_in += frame.len() as u64;
                        match outcome {
                            Ok(()) => {}
                            Err(Refused::NoRoom) if has(Bug::StalledBatchForgotten) => {}
                            Err(wait @ (Refused::NoRoom | Refused::NoParcel | Refused::Reading)) => {
                                let mut rx = self.s(i).rx;
                                let kept = self.arena.push(&mut rx, frame);
                                self.s(i).rx = rx;
                                if kept < frame.len() {
                                    // Within its credit a peer always finds room.
                                    self.end(i, Code::Limit, EndedBy::Us);
                                    return Flow::Closed;
                                }
                                let s = self.s(i);
                                (s.rx_head, s.stalled) = (Some(head), true);
                                self.wait_for(i, &wait);
                            }
                            Err(Refused::Bad(code)) => self.end(i, code, EndedBy::Us),
                        }
                        bytes = rest;
                        continue;
                    }
                    Ok(None) if bytes.is_empty() => return Flow::Open,
                    Ok(_) => {}
                    Err(code) => {
                        self.end(i, code, EndedBy::Us);
                        return Flow::Closed;
                    }
                }
            }
            if bytes.is_empty() {
                return Flow::Open;
            }
            match self.collect(i, bytes) {
                Ok(0) => return self.pause(i),
                Ok(n) => bytes = &bytes[n..],
                Err(code) => {
                    self.end(i, code, EndedBy::Us);
                    return Flow::Closed;
                }
            }
        }
    }

    fn pause(&mut self, i: u32) -> Flow {
        let s = self.s(i);
        s.paused = true;
        if s.stalled {
            mark!("receive.paused_by_log");
        } else {
            mark!("receive.paused_by_arena");
            // Out of blocks: whoever frees some wakes all that wait.
            self.waiting.push(&mut self.sessions, i, |s| &mut s.0.waiting);
        }
        Flow::Paused
    }

    /// Adds bytes to the session's unfinished frame; takes the frame when it is whole. The number
    /// of bytes used, 0 if there is no memory for them now.
    fn collect(&mut self, i: u32, bytes: &[u8]) -> Result<usize, Code> {
        let s = &mut self.sessions[i as usize].0;
        let have = s.rx.len();
        let want = match s.rx_head {
            Some(h) => h.head_bytes + h.body_bytes,
            None => have + 1,
        };
        let take = bytes.len().min(want - have);
        let n = self.arena.push(&mut s.rx, &bytes[..take]);
        s.stats.bytes_in += n as u64;
        if n > 0 && s.rx_head.is_some_and(|h| uses_credit(&h)) {
            s.loan_used = self.now.at;
        }
        if s.rx_head.is_none() && n > 0 {
            let mut start = [0; FRAME_HEAD_MAX_BYTES];
            let got = self.arena.peek(&s.rx, &mut start);
            if let Some(head) = FrameHead::parse(&start[..got], self.limits.frame_bytes)? {
                s.rx_head = Some(head);
                if !self.charge(i, &head) {
                    return Ok(n);
                }
            }
        }
        let s = &self.sessions[i as usize].0;
        if let Some(h) = s.rx_head.filter(|h| s.rx.len() == h.head_bytes + h.body_bytes) {
            self.take_collected(i, h)?;
        }
        Ok(n)
    }

    /// Uses the whole frame in `rx`, or leaves it there if the log has no room for it now.
    fn take_collected(&mut self, i: u32, head: FrameHead) -> Result<(), Code> {
        let mut frame = core::mem::replace(&mut self.frame, crate::mem::Lent::Borrowed(&mut []));
        let len = self.arena.peek(&self.sessions[i as usize].0.rx, &mut frame);
        let body = frame.get(head.head_bytes..len).unwrap_or_default();
        let outcome = self.take_frame(i, &head, body);
        self.frame = frame;
        match outcome {
            Err(Refused::NoRoom) if has(Bug::StalledBatchForgotten) => {}
            Err(Refused::Bad(code)) => return Err(code),
            Err(wait) => {
                self.s(i).stalled = true;
                self.wait_for(i, &wait);
                return Ok(());
            }
            Ok(()) => {}
        }
        let s = &mut self.sessions[i as usize].0;
        (s.rx_head, s.stalled) = (None, false);
        self.arena.clear(&mut s.rx);
        self.wake_starved();
        Ok(())
    }

    /// Puts a session with a whole frame that cannot be used yet in line for what it waits for.
    fn wait_for(&mut self, i: u32, wait: &Refused) {
        match wait {
            Refused::NoRoom => self.waiting.push(&mut self.sessions, i, |s| &mut s.0.waiting),
            Refused::NoParcel => self.wait_for_parcel(i),
            Refused::Reading | Refused::Bad(_) => {}
        }
    }

    /// Blocks of the arena were given back: sessions that waited for one may read again.
    pub(super) fn wake_starved(&mut self) {
        let mut stalled = crate::fifo::Fifo::EMPTY;
        while let Some(i) = self.waiting.pop(&mut self.sessions, |s| &mut s.0.waiting) {
            if self.s(i).stalled {
                stalled.push(&mut self.sessions, i, |s| &mut s.0.waiting);
            } else {
                self.resume(i);
            }
        }
        self.waiting = stalled;
    }

    /// Session `i` can take bytes: if it was told to pause, it is told so.
    fn resume(&mut self, i: u32) {
        if core::mem::take(&mut self.s(i).paused) && !has(Bug::PausedNeverResumed) {
            mark!("receive.resumed");
            self.resumed.push(&mut self.sessions, i, |s| &mut s.0.resumed);
        }
    }

    /// The log or the arena has room again: takes frames that waited, wakes those who were paused.
    pub(super) fn retry_waiting(&mut self) {
        let last = self.sessions.len();
        for _ in 0..last {
            let Some(i) = self.waiting.pop(&mut self.sessions, |s| &mut s.0.waiting) else { return };
            if let Some(head) = self.s(i).rx_head.filter(|_| self.sessions[i as usize].0.stalled) {
                if let Err(code) = self.take_collected(i, head) {
                    self.end(i, code, EndedBy::Us);
                    continue;
                }
                if self.s(i).lacking.is_some() {
                    continue;
                }
                if self.s(i).stalled {
                    // Still no room; it stands at the end of the queue, and so would the rest.
                    mark!("receive.still_no_room");
                    return;
                }
            }
            self.resume(i);
        }
    }

    /// What the batch of session `i` waited for has been read: it is taken, or waits for something else.
    pub(super) fn retry(&mut self, i: u32) {
        let Some(head) = self.s(i).rx_head.filter(|_| self.sessions[i as usize].0.stalled) else { return };
        match self.take_collected(i, head) {
            Err(code) => self.end(i, code, EndedBy::Us),
            Ok(()) if self.s(i).stalled => {}
            Ok(()) => self.resume(i),
        }
    }

    /// Counts a batch against the credit that its sender was given (docs/PROTOCOL.md#credit-2).
    fn charge(&mut self, i: u32, head: &FrameHead) -> bool {
        if !uses_credit(head) {
            return true;
        }
        let len = head.head_bytes + head.body_bytes;
        let s = self.s(i);
        match s.rx_credit.checked_sub(len) {
            Some(left) => {
                s.rx_credit = left;
                true
            }
            None if has(Bug::CreditUnchecked) => true,
            None => {
                mark!("hostile.beyond_credit");
                self.end(i, Code::Credit, EndedBy::Us);
                false
            }
        }
    }

    fn take_frame(&mut self, i: u32, head: &FrameHead, body: &[u8]) -> Result<(), Refused> {
        let Some(kind) = head.kind else { return Ok(()) };
        let greeted = self.s(i).hello.is_some();
        match kind {
            FrameType::Hello if greeted => Err(Code::State.into()),
            FrameType::Hello => Ok(self.take_hello(i, body)?),
            FrameType::Error => {
                let error = crate::wire::control::ErrorBody::parse(body)?;
                let code = Code::from_u16(error.code).unwrap_or(Code::State);
                self.s(i).stats.retry_after_s = error.retry_after_s;
                mark!("session.error_came");
                self.end(i, code, EndedBy::Peer);
                Ok(())
            }
            _ if !greeted => Err(Code::State.into()),
            FrameType::Vector => Ok(self.take_vector(i, head.flag, body)?),
            FrameType::Digest => Ok(self.take_digest(i, body)?),
            FrameType::Buckets => Ok(self.take_buckets(i, body)?),
            FrameType::Batch => self.take_batch(i, head, body),
            FrameType::Part => self.take_part(i, head, body),
            FrameType::Have => Ok(self.take_have(i, body)?),
            FrameType::Floor => self.take_floor(i, body),
            FrameType::Withheld => self.take_withheld(i, head, body),
            FrameType::Lacks => Ok(self.take_lacks(i, body)?),
            FrameType::NoHistory => Ok(self.take_no_history(i, body)?),
            FrameType::Ack => Ok(self.take_acks(i, body)?),
            FrameType::Credit => Ok(self.take_credit(i, body)?),
            FrameType::Blocked => Ok(self.take_blocked(i, body)?),
            FrameType::Ping => Ok(self.take_ping(i, body)?),
            FrameType::Pong => Ok(()),
            FrameType::Goodbye => {
                self.goodbye(i, head.early);
                Ok(())
            }
            FrameType::Receipt | FrameType::Head => Err(Code::Version.into()),
        }
    }
}

/// Whether the frame is one that credit is for.
fn uses_credit(head: &FrameHead) -> bool {
    matches!(head.kind, Some(FrameType::Batch | FrameType::Part))
}

/// Why a frame was not used.
pub(super) enum Refused {
    /// No room in the log now; the frame is fine.
    NoRoom,
    /// No room to collect the parts of another batch now; the frame is fine.
    NoParcel,
    /// Its history is to be read first; the frame is fine.
    Reading,
    /// The peer misbehaved, or the node cannot go on with it.
    Bad(Code),
}

impl From<Code> for Refused {
    fn from(code: Code) -> Self {
        Refused::Bad(code)
    }
}

//! Parts from a peer become batches (docs/PROTOCOL.md#part-1). What has come stays in memory when the session is
//! cut, and the next one begins with saying so.

use super::Node;
use super::receive::Refused;
use crate::code::Code;
use crate::fifo::NONE;
use crate::id::NodeName;
use crate::parcels::{NoParcel, Parcel};
use crate::planted::{Bug, has, mark};
use crate::time::Instant;
use crate::varint::{Reader, Writer};
use crate::wire::frame::{FrameHead, FrameType, OPTIONAL, emit};
use crate::wire::part::{Have, Part, tag_of};
use crate::wire::vector::Entry;

impl Node<'_> {
    pub(super) fn take_part(&mut self, i: u32, head: &FrameHead, body: &[u8]) -> Result<(), Refused> {
        if self.limits.parcels == 0 {
            return Err(Code::State.into());
        }
        self.may_send_events(i)?;
        let (part, bytes) = Part::parse(body, self.limits.frame_bytes)?;
        let l = self.link_of(i, part.handle)?;
        let stream = self.streams.at(self.links[l as usize].0.stream).ok_or(Code::State)?;
        let (key, next) = (stream.key, stream.now.have.seq + 1);
        // Its beginning may be here because it is taken by parts.
        if part.seq != next && self.sessions[i as usize].0.taken == 0 {
            return self.take_part_of_other(i, l, head, (part.seq, next));
        }
        let peer = self.peer(i)?.name;
        let held = self.parcels.find(&peer, key.lane);
        let lost = |n: usize| self.parcels.get(n).is_some_and(|p| p.lost && p.tag == part.tag && p.session == i);
        let n = match held {
            Some(n) if part.offset > 0 && lost(n) => {
                mark!("part.comes_for_nothing");
                return self.drop_batch(i, l, head);
            }
            Some(n) if part.offset > 0 && self.continues(n, i, &key, &part) => n,
            Some(n) if part.offset == 0 && has(Bug::PartKeptOfOtherBody) => n,
            _ if part.offset > 0 => {
                mark!("hostile.part");
                self.free_parcel(held);
                return Err(Code::State.into());
            }
            _ => {
                if held.is_some() {
                    mark!("part.replaced");
                }
                self.free_parcel(held);
                let fresh = Parcel::new(peer, key, (part.seq, part.tag, part.total), (i, self.now.at));
                self.begin_parcel(i, fresh)?
            }
        };
        self.touch_parcels(i);
        if part.offset + bytes.len() < part.total {
            self.parcels.push(n, bytes);
            self.owe_have(i, head.flag);
            self.return_credit(i, head);
            return Ok(());
        }
        let outcome = self.take_parcel(i, head, (n, &part), bytes);
        // If it waits for the log, so does what has come of it.
        if matches!(outcome, Ok(()) | Err(Refused::Bad(_))) {
            self.free_parcel(Some(n));
        }
        outcome
    }

    /// Sets room aside for a parcel. A session that lacks room gives up what it has of others: while it waited for
    /// room, they could not go on either.
    fn begin_parcel(&mut self, i: u32, fresh: Parcel) -> Result<usize, Refused> {
        loop {
            match self.parcels.begin(fresh) {
                Ok(n) => return Ok(n),
                Err(NoParcel) if self.parcels.give_up_one_of(i) => {
                    mark!("part.given_up");
                    self.owe_have(i, true);
                }
                Err(NoParcel) => {
                    mark!("part.waits_for_room");
                    return Err(Refused::NoParcel);
                }
            }
        }
    }

    /// Whether a part goes on where parcel `n` ends.
    fn continues(&self, n: usize, i: u32, key: &crate::id::StreamKey, part: &Part) -> bool {
        self.parcels.get(n).is_some_and(|p| {
            let at = part.offset == p.len() || has(Bug::PartOffsetIgnored);
            let same = p.key == *key && p.seq == part.seq && p.tag == part.tag && p.total == part.total;
            p.session == i && !p.lost && same && at
        })
    }

    /// A part of a batch that is here already, or that comes again from further back (docs/PROTOCOL.md#history-5).
    fn take_part_of_other(&mut self, i: u32, l: u32, head: &FrameHead, (seq, next): (u64, u64)) -> Result<(), Refused> {
        let link = &mut self.links[l as usize].0;
        if seq > next && !link.dropping {
            mark!("hostile.part_beyond");
            return Err(Code::Gap.into());
        }
        if seq > next {
            return self.drop_batch(i, l, head);
        }
        mark!("part.duplicate");
        link.acked = link.acked.min(seq - 1);
        link.peer_holds(seq, seq);
        self.s(i).ack_soon |= head.flag;
        self.queue_ack(l);
        self.return_credit(i, head);
        Ok(())
    }

    /// The last part of parcel `n` has come: all of it is taken as a BATCH.
    fn take_parcel(&mut self, i: u32, head: &FrameHead, (n, part): (usize, &Part), last: &[u8]) -> Result<(), Refused> {
        let mut parcel = core::mem::replace(&mut self.parcel, crate::mem::Lent::Borrowed(&mut []));
        let mut w = Writer::new(&mut parcel);
        let put = w.varint(u64::from(part.handle));
        let start = w.len();
        let held = self.parcels.peek(n, parcel.get_mut(start..).unwrap_or_default());
        let outcome = match parcel.get_mut(start + held..start + held + last.len()) {
            Some(room) if put.is_ok() => {
                room.copy_from_slice(last);
                let body = &parcel[..start + held + last.len()];
                if tag_of(&body[start..]) != part.tag {
                    mark!("hostile.parcel");
                    Err(Code::BadBatch.into())
                } else if Reader::new(&body[start..]).varint() != Ok(part.seq) {
                    Err(Code::Malformed.into())
                } else {
                    mark!("part.whole");
                    self.take_batch(i, head, body)
                }
            }
            _ => Err(Code::BadBatch.into()),
        };
        self.parcel = parcel;
        outcome
    }

    /// The peer is to hear how far its parts have come: with the next acknowledgements, or at once if it waits.
    fn owe_have(&mut self, i: u32, at_once: bool) {
        let at = self.now.at.after_ms(if at_once { 0 } else { self.config.timing.ack_delay_ms });
        let s = self.s(i);
        s.owes_have = true;
        s.ack_soon |= at_once;
        s.ack_at = s.ack_at.min(at);
        self.set_timer(i);
        self.mark_ready(i);
    }

    pub(super) fn haves_are_due(&self, i: u32) -> bool {
        let s = &self.sessions[i as usize].0;
        let waits = s.vector_done && s.ack_at > self.now.at && s.ack_at != Instant::FAR;
        s.owes_have && !waits
    }

    /// One HAVE, if one is owed.
    pub(super) fn put_have(&mut self, i: u32, out: &mut [u8]) -> Option<usize> {
        let (me, peer) = (self.config.name, self.peer(i).ok()?.name);
        let Some((n, p)) = self.parcels.of_session(i).find(|(_, p)| p.is_news()) else {
            let s = self.s(i);
            s.owes_have = false;
            if s.acks.is_empty() {
                s.ack_at = Instant::FAR;
            }
            self.set_timer(i);
            return None;
        };
        let have = Have { parcel: Entry { key: p.key, seq: p.seq, tag: p.tag }, bytes: p.len() as u64 };
        let bytes = emit(out, FrameType::Have, false, |body| have.emit(body, &me, &peer))?;
        out[0] |= OPTIONAL;
        if let Some(p) = self.parcels.get_mut(n) {
            p.told = p.len();
        }
        Some(bytes)
    }

    /// A session with a peer begins: it will hear what is left of the one before.
    pub(super) fn adopt_parcels(&mut self, i: u32, peer: &NodeName) {
        let now = self.now.at;
        while let Some(n) = self.parcels.left_by(peer) {
            let Some(p) = self.parcels.get_mut(n) else { return };
            let (key, seq) = (p.key, p.seq);
            let have = self.streams.find(&key).and_then(|n| self.streams.at(n)).map_or(0, |s| s.now.have.seq);
            if have + 1 != seq {
                self.free_parcel(Some(n));
                continue;
            }
            mark!("part.kept");
            (p.session, p.told, p.used) = (i, 0, now);
            self.s(i).owes_have = true;
        }
    }

    /// A session is over: what has come in it stays, until others need the room.
    pub(super) fn leave_parcels(&mut self, i: u32) {
        self.parcel_waiters.remove(&mut self.sessions, i, |s| &mut s.0.parcel_waiter);
        for n in 0..self.parcels.top() {
            if let Some(p) = self.parcels.get_mut(n).filter(|p| p.session == i) {
                let lost = p.lost;
                p.session = NONE;
                self.parcel_freed = true;
                if lost {
                    self.parcels.free(n);
                }
            }
        }
    }

    /// What has come of events that are all here, from whomever, is of no use.
    pub(super) fn settle_parcels(&mut self, n: u32) {
        let Some((key, have)) = self.streams.at(n).map(|s| (s.key, s.now.have.seq)) else { return };
        while let Some(n) = self.parcels.settled(&key, have) {
            self.free_parcel(Some(n));
        }
    }

    fn free_parcel(&mut self, n: Option<usize>) {
        if let Some(n) = n {
            self.parcels.free(n);
            self.parcel_freed = true;
        }
    }

    /// A peer's parcel finds no room: it is taken when another is whole or left alone.
    pub(super) fn wait_for_parcel(&mut self, i: u32) {
        self.parcel_waiters.push(&mut self.sessions, i, |s| &mut s.0.parcel_waiter);
        // From now on those who have room must use it.
        for n in 0..self.parcels.top() {
            if let Some(holder) = self.parcels.get(n).map(|p| p.session).filter(|&holder| holder != NONE) {
                self.set_timer(holder);
            }
        }
    }

    /// There may be room: takes the parts that waited for it.
    pub(super) fn retry_parcels(&mut self) {
        if !core::mem::take(&mut self.parcel_freed) {
            return;
        }
        while let Some(i) = self.parcel_waiters.pop(&mut self.sessions, |s| &mut s.0.parcel_waiter) {
            self.retry(i);
            if self.s(i).parcel_waiter.is_queued() {
                return;
            }
        }
    }

    /// When the peer must have sent the next part, because others wait for the room.
    pub(super) fn parcel_due(&self, i: u32) -> Option<Instant> {
        if self.parcel_waiters.is_empty() {
            return None;
        }
        let oldest = self.parcels.of_session(i).filter(|(_, p)| !p.lost).map(|(_, p)| p.used).min()?;
        Some(oldest.after_ms(self.config.timing.silence_timeout_ms))
    }

    /// Whether it is this node that does not read from session `i`, for another reason than want of room for a parcel.
    pub(super) fn waits_for_us(&self, i: u32) -> bool {
        let s = &self.sessions[i as usize].0;
        (s.paused || s.stalled) && !s.parcel_waiter.is_queued()
    }

    /// The peer is at work on its parcels.
    pub(super) fn touch_parcels(&mut self, i: u32) {
        let now = self.now.at;
        for n in 0..self.parcels.top() {
            if let Some(p) = self.parcels.get_mut(n).filter(|p| p.session == i) {
                p.used = now;
            }
        }
    }
}

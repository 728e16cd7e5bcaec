//! Frames from a peer that are not events.

use super::Node;
use crate::code::Code;
use crate::codec::CodecId;
use crate::fifo::NONE;
use crate::planted::{Bug, has, mark};
use crate::policy::{PeerIdentity, Principal, Role, authorize};
use crate::session::EndedBy;
use crate::varint::Reader;
use crate::wire::control::{Hello, parse_acks, parse_number};
use crate::wire::vector::Entry;

impl Node<'_> {
    pub(super) fn take_hello(&mut self, i: u32, body: &[u8]) -> Result<(), Code> {
        let mut hello = Hello::parse(body)?;
        if hello.deployment != Hello::deployment(self.config.deployment) && !has(Bug::DeploymentUnchecked) {
            mark!("hostile.deployment");
            return Err(Code::Deployment);
        }
        hello.codecs |= CodecId::STORED.bit();
        let ours = self.sample.filter(|_| hello.codecs & CodecId::SAMPLED.bit() != 0);
        if ours != Some(hello.sample) && !has(Bug::SampleUnchecked) {
            // Not the same: it is of no use in this session.
            hello.codecs &= !CodecId::SAMPLED.bit();
            if ours.is_some() {
                mark!("sample.differs");
                self.s(i).stats.sample_differs = true;
            }
        }
        let credit = self.early_credit(i, &hello);
        let s = self.s(i);
        s.credit = credit;
        s.hello = Some(hello);
        self.codecs.peer_takes(hello.codecs, self.number(i));
        self.mark_ready(i);
        Ok(())
    }

    pub(super) fn take_vector(&mut self, i: u32, last: bool, body: &[u8]) -> Result<(), Code> {
        let (me, peer) = (self.config.name, self.peer(i)?);
        let mut r = Reader::new(body);
        while !r.is_empty() {
            let entry = Entry::parse(&mut r, &peer.name, &me)?;
            self.take_entry(i, &peer, &entry)?;
        }
        self.land_flights(i);
        if last && self.s(i).peer_vector_done {
            self.end_rest(i)?;
        } else if last {
            self.end_early(i);
            self.s(i).peer_vector_done = true;
            self.rest_of_opening(i)?;
            self.set_timer(i);
            let mut l = self.s(i).links;
            while l != NONE {
                self.queue_link(l);
                l = self.links[l as usize].0.next;
            }
        }
        self.mark_ready(i);
        Ok(())
    }

    /// One stream that the peer has told of (docs/PROTOCOL.md#vector-4). Whether a stream that the
    /// peer has no business with exists here makes no difference to what it gets to see.
    fn take_entry(&mut self, i: u32, peer: &PeerIdentity, entry: &Entry) -> Result<(), Code> {
        let s = self.s(i);
        let handle = s.peer_handles;
        s.peer_handles += 1;
        if handle as usize >= self.limits.links {
            return Err(Code::Limit);
        }
        let grants = authorize(self.config.policy, Principal::Peer(peer), &entry.key);
        let known = self.streams.find(&entry.key);
        let stream = match (known, grants.write) {
            (Some(n), _) if grants.read.is_some() || grants.write.is_some() => n,
            (None, Some(_)) => {
                if self.streams.of_node(entry.key.node).count() >= self.limits.streams_per_node {
                    mark!("hostile.too_many_streams");
                    return Err(Code::Quota);
                }
                self.streams.add(entry.key)?
            }
            _ => return Ok(()),
        };
        let linked = self.links_of(i).find(|&l| self.links[l as usize].0.stream == stream);
        let l = match linked {
            Some(l) if self.links[l as usize].0.peer_handle != NONE => return Err(Code::State),
            Some(l) => l,
            None => self.add_link(i, stream, grants)?,
        };
        let goes_on = self.settle_early(i, l, entry.seq);
        let opening = !self.s(i).peer_vector_done;
        let link = &mut self.links[l as usize].0;
        let believed = link.peer_tag.take().filter(|_| goes_on && entry.seq == link.peer_have);
        link.peer_handle = handle;
        link.peer_have = entry.seq;
        if !has(Bug::ResumeFromZero) {
            link.sent = link.sent.max(entry.seq);
        }
        link.peer_tag = (entry.seq > 0).then_some(entry.tag);
        let (places, lacks) = self.streams.at(stream).map_or((None, None), |s| (s.withheld, s.lacks));
        if opening && linked.is_some() && link.read.is_some() && peer.role == Role::Hub {
            link.settles_to = entry.seq;
        }
        let upto = |range: Option<(u64, u64)>| range.map_or(0, |(_, to)| to.saturating_add(1));
        link.refers_min = link.refers_min.max(upto(places)).max(upto(lacks));
        // It may have been waited for (docs/PROTOCOL.md#digest-6).
        self.queue_link(l);
        self.notice_lost_tail(stream, entry.seq);
        let Some(stream) = self.streams.at(stream) else { return Ok(()) };
        if stream.own {
            if (1..stream.durable.top.seq).contains(&entry.seq) {
                mark!("vector.resumed_below_top");
            }
            let stats = &mut self.sessions[i as usize].0.stats;
            stats.resumed_at = stats.resumed_at.saturating_add(entry.seq.min(stream.durable.top.seq));
        }
        let durable = stream.durable.have;
        let ours = if entry.seq == durable.seq { Some(durable.chain.tag()) } else { believed };
        if entry.seq > 0 && ours.is_some_and(|tag| tag != entry.tag) && !has(Bug::ForkUnnoticed) {
            mark!("fork.at_vector");
            if believed.is_some() {
                // Nobody will acknowledge the first flight.
                self.links[l as usize].0.sent = entry.seq;
                self.lose_flights(i, l);
            }
            self.fork_of_link(l);
            return Ok(());
        }
        if believed.is_some() {
            self.links[l as usize].0.peer_tag = None;
        }
        // Of a hub that holds less it is not known yet whether it is the same history.
        if entry.seq > 0 && ours.is_some() {
            self.note_receipt(i, l, entry.seq);
            self.settle_lack(l);
        }
        Ok(())
    }

    /// The link of session `i` whose stream the peer was told of under this handle.
    pub(super) fn told_link(&self, i: u32, handle: u32) -> Result<u32, Code> {
        let told = |&l: &u32| handle != NONE && self.links[l as usize].0.handle == handle;
        self.links_of(i).find(told).ok_or(Code::State)
    }

    pub(super) fn take_acks(&mut self, i: u32, body: &[u8]) -> Result<(), Code> {
        for pair in parse_acks(body) {
            let (handle, seq) = pair?;
            let l = self.told_link(i, handle)?;
            let link = &self.links[l as usize].0;
            let top = self.streams.at(link.stream).map_or(0, |s| s.durable.top.seq);
            if seq > top {
                // It cannot have what does not exist here.
                return Err(Code::State);
            }
            let link = &mut self.links[l as usize].0;
            let new = seq.saturating_sub(link.peer_have);
            // It has the new ones from here, so it knows that they are here; and what lies before them, if it
            // was told so. Not what it is filling a gap with.
            if link.acked >= link.peer_have || has(Bug::GapFillUnacked) {
                link.acked = link.acked.max(seq);
            }
            // All of it up to there.
            link.peer_holds(0, seq);
            if new > 0 {
                // The first batch was checked against the chain; from here on it is ours.
                link.peer_tag = None;
            }
            // What the peer holds behind a first flight that was in vain has yet to be compared with ours.
            let compared = link.peer_tag.is_none();
            self.s(i).stats.acknowledged += new;
            if compared {
                self.note_receipt(i, l, seq);
                self.settle_lack(l);
            }
            self.queue_link(l);
        }
        self.land_flights(i);
        self.mark_ready(i);
        self.check_caught_up(i);
        Ok(())
    }

    /// What the peer of session `i` has shown to hold is under way no more.
    fn land_flights(&mut self, i: u32) {
        let now = self.now.at;
        let (sessions, links) = (&mut self.sessions, &self.links);
        sessions[i as usize].0.take_flights(Some(now), |f| links[f.link as usize].0.peer_have >= f.last_seq);
    }

    /// If the peer is a hub, it holds the stream durably up to `seq`, with the same history: remembered in
    /// the log with the next group. A clinic wants to know it of all that it holds, a hub of its own.
    pub(super) fn note_receipt(&mut self, i: u32, l: u32, seq: u64) {
        self.note_held(i, self.links[l as usize].0.stream, seq);
    }

    pub(super) fn note_held(&mut self, i: u32, stream: u32, seq: u64) {
        let peer = self.sessions[i as usize].0.peer.filter(|p| p.role == Role::Hub);
        let all = self.config.role == Role::Clinic;
        let Some((s, peer)) = self.streams.at_mut(stream).zip(peer) else { return };
        if (s.own || all) && seq > s.acked {
            s.acked = seq;
            s.acked_by = Some(peer.name);
            if !has(Bug::ReceiptUnwritten) {
                self.receipts.push(&mut self.streams.slots, stream, |s| &mut s.receipt);
            }
        }
    }

    pub(super) fn take_credit(&mut self, i: u32, body: &[u8]) -> Result<(), Code> {
        let more = usize::try_from(parse_number(body)?).map_err(|_| Code::Malformed)?;
        let s = self.s(i);
        s.credit = s.credit.checked_add(more).ok_or(Code::Malformed)?;
        if s.credit >= s.needs_credit {
            s.needs_credit = 0;
        }
        self.mark_ready(i);
        Ok(())
    }

    /// The peer has a batch that is larger than its credit (docs/PROTOCOL.md#credit-4). One session
    /// at a time gets what it needs on top.
    pub(super) fn take_blocked(&mut self, i: u32, body: &[u8]) -> Result<(), Code> {
        let need = parse_number(body)?;
        if need > (self.limits.frame_bytes + crate::wire::frame::FRAME_HEAD_MAX_BYTES) as u64 {
            return Err(Code::TooLarge);
        }
        let s = self.s(i);
        (s.wants_extra, s.credit_soon) = (need as usize, true);
        self.mark_ready(i);
        self.grant_extra();
        Ok(())
    }

    pub(super) fn grant_extra(&mut self) {
        let now = self.now.at;
        let holder = self.extra_holder;
        for i in 0..self.sessions.len() as u32 {
            let s = self.s(i);
            if s.wants_extra == 0 || s.state != crate::session::State::Live {
                continue;
            }
            let extra = s.wants_extra.saturating_sub(s.rx_credit + s.credit_owed);
            if extra > 0 && holder.is_some_and(|h| h != i) {
                mark!("credit.loan_waits");
                continue;
            }
            s.wants_extra = 0;
            s.rx_extra += extra;
            s.loan_used = now;
            s.credit_owed += extra;
            s.credit_soon = true;
            self.mark_ready(i);
            if extra > 0 {
                mark!("credit.loan_granted");
                self.extra_holder = Some(i);
                self.set_timer(i);
                return;
            }
        }
    }

    /// Session `i` no longer needs more than its share.
    pub(super) fn return_extra(&mut self, i: u32) {
        if self.extra_holder == Some(i) && !has(Bug::LoanNeverReturned) {
            mark!("credit.loan_returned");
            self.extra_holder = None;
            self.s(i).rx_extra = 0;
            self.grant_extra();
        }
    }

    pub(super) fn take_ping(&mut self, i: u32, body: &[u8]) -> Result<(), Code> {
        let n = parse_number(body)?;
        self.s(i).pong_due = Some(n);
        self.mark_ready(i);
        Ok(())
    }

    pub(super) fn peer(&self, i: u32) -> Result<PeerIdentity, Code> {
        self.sessions[i as usize].0.peer.ok_or(Code::State)
    }

    /// Tells `CaughtUp` when there is nothing left to do in either direction, and says GOODBYE if
    /// the runtime has asked for a clean end.
    pub(super) fn check_caught_up(&mut self, i: u32) {
        let done = self.is_caught_up(i);
        if done && !core::mem::replace(&mut self.s(i).caught_up_told, done) {
            self.settle_doubts(i);
            self.s(i).caught_up_due = true;
            self.mark_event(i);
        }
        self.s(i).caught_up_told = done;
        if done && self.s(i).finishing && !self.s(i).goodbye_sent {
            self.mark_ready(i);
        }
    }

    pub(super) fn is_caught_up(&self, i: u32) -> bool {
        let s = &self.sessions[i as usize].0;
        let told = s.peer_vector_done && s.vector_done && s.rest.told && s.rest.peer_told;
        if s.state != crate::session::State::Live || !told || !s.acks.is_empty() {
            return false;
        }
        self.links_of(i).all(|l| {
            let link = &self.links[l as usize].0;
            let Some(stream) = self.streams.at(link.stream) else { return true };
            // What is damaged here cannot be sent; the session must end all the same.
            let readable = stream.readable_upto(link.sent + 1) > link.sent;
            // What came after our last word waits for the next session.
            let owes = self.owes_floor(link, stream) || self.owes_gap(link, stream);
            let more = !s.goodbye_sent && !link.blocked && (readable || owes);
            let acked = link.peer_have >= link.sent || has(Bug::CaughtUpUnacked);
            let sent = !self.sends(link, stream) || acked && !more;
            let nothing_pending = s.goodbye_sent || stream.now.top.seq == stream.durable.top.seq;
            let got = link.write.is_none() || link.forked || stream.durable.have.seq >= link.peer_have;
            sent && nothing_pending && got
        })
    }

    /// Ends the session because the peer stayed silent.
    pub(super) fn give_up(&mut self, i: u32) {
        self.end(i, Code::Timeout, EndedBy::Us);
    }
}

//! Events that do not come: one over the peer's limits, one that damage has taken here, one that the peer does not
//! take. What is known of it goes in its place, is noted in the log, and what follows goes on
//! (docs/PROTOCOL.md#withheld-1).

use super::commit::NoRoom;
use super::receive::Refused;
use super::{Event, Node, Transmit};
use crate::code::Code;
use crate::event::{Event as LogEvent, flags};
use crate::hlc::{Hlc, Observed};
use crate::log::{RUN_HEAD_MAX_BYTES, event_bytes_max};
use crate::planted::{Bug, has, mark};
use crate::policy::Role;
use crate::session::{LackDue, Link};
use crate::streams::{Stream, widen};
use crate::wire::control::WITHHOLDS;
use crate::wire::frame::{FLAG, FrameHead, FrameType, OPTIONAL, emit};
use crate::wire::withheld::{Lacks, WITHHELD_MAX_EVENTS, WithheldFrame};
use crate::withheld::{Known, WITHHELD_MAX_BYTES, Withheld};

impl Node<'_> {
    /// Whether the peer of session `i` knows what a withheld event is, and may hear of one now.
    pub(super) fn may_withhold(&self, i: u32) -> bool {
        let s = &self.sessions[i as usize].0;
        s.peer_vector_done && s.hello.is_some_and(|hello| hello.features & WITHHOLDS != 0)
    }

    /// Event `seq` of link `l` is not sent, and the peer is told what stands in its place. A peer that does not
    /// know what that means gets nothing more of the stream in this session.
    pub(super) fn withhold(&mut self, i: u32, l: u32, seq: u64, event: &LogEvent<'_>, out: &mut [u8]) -> Transmit {
        let handle = self.links[l as usize].0.handle;
        let bytes = event.payload.len() as u64;
        let known = event.withheld();
        let over = Withheld { known: Known::Hash(event.hash()), bytes, code: Code::TooLarge.as_u16() };
        let (here, place) = (known.is_none(), known.unwrap_or(over));
        let LogEvent { hlc, kind, flags, .. } = *event;
        let frame = WithheldFrame { handle, first_seq: seq, count: 1, hlc, kind, flags, place };
        let sent = if self.may_withhold(i) { self.put_withheld(i, l, &frame, here, out) } else { None };
        match sent {
            Some(n) => {
                self.mark_ready(i);
                self.count(i, n)
            }
            None => {
                mark!("batch.blocked_by_size");
                self.links[l as usize].0.blocked = true;
                self.s(i).stats.blocked += 1;
                self.mark_ready(i);
                Transmit::Idle
            }
        }
    }

    /// `here`: the events are in this log, and the peer is to have them one day.
    fn put_withheld(&mut self, i: u32, l: u32, frame: &WithheldFrame, here: bool, out: &mut [u8]) -> Option<usize> {
        let n = emit(out, FrameType::Withheld, false, |body| frame.emit(body))?;
        out[0] |= OPTIONAL;
        if here {
            mark!("withheld.over_peers_limits");
        } else {
            mark!("withheld.passed_on");
        }
        self.drop_cut(i, l);
        let link = &mut self.links[l as usize].0;
        let stream = link.stream;
        link.sent = frame.last_seq();
        // Neither end has it to compress against.
        (link.refers_from, link.refers_min) = (0, frame.last_seq() + 1);
        link.peer_tag = None;
        if here {
            self.note_lack(i, stream, (frame.first_seq, frame.last_seq()));
        }
        self.s(i).stats.withheld += frame.count;
        self.tell_withheld(i, stream, (frame.first_seq, frame.last_seq(), frame.count), &frame.place, false);
        self.queue_link(l);
        if self.s(i).lanes.iter().all(crate::fifo::Fifo::is_empty) {
            out[0] |= FLAG;
        }
        Some(n)
    }

    /// Whether damage has taken the next events for the peer from a stream of this node's own: nobody else has
    /// them. Others' come again from who wrote them.
    pub(super) fn owes_gap(&self, link: &Link, stream: &Stream) -> bool {
        let d = &stream.durable;
        let within = |seq: u64| d.have.seq <= seq && d.gap_end.is_some_and(|end| seq < end.seq);
        let next = stream.own && !stream.asked && within(link.sent) && !link.blocked;
        let Some(s) = self.sessions.get(link.session as usize).map(|s| &s.0) else { return false };
        next && !s.goodbye_sent && self.may_withhold(link.session) && self.sends(link, stream)
    }

    /// A WITHHELD frame for what damage has taken here, if there is one to be sent.
    pub(super) fn put_gap(&mut self, i: u32, out: &mut [u8]) -> Option<usize> {
        if !self.s(i).vector_done {
            return None;
        }
        let owed = self.links_of(i).find_map(|l| {
            let link = &self.links[l as usize].0;
            let stream = self.streams.at(link.stream)?;
            let end = stream.durable.gap_end.filter(|_| self.owes_gap(link, stream))?;
            Some((l, link.handle, link.sent, end))
        });
        let Some((l, handle, sent, end)) = owed else {
            self.s(i).owes_gaps = false;
            return None;
        };
        let (first_seq, count) = (sent + 1, (end.seq - sent).min(WITHHELD_MAX_EVENTS));
        let known = if sent + count == end.seq { Known::Chain(end.chain) } else { Known::Nothing };
        let place = Withheld { known, bytes: 0, code: Code::Corrupt.as_u16() };
        let frame = WithheldFrame { handle, first_seq, count, hlc: Hlc::ZERO, kind: 0, flags: 0, place };
        mark!("withheld.damaged_here");
        self.put_withheld(i, l, &frame, false, out)
    }

    /// The peer does not send some events: what is known of them is noted in their places, and what follows is
    /// expected next.
    pub(super) fn take_withheld(&mut self, i: u32, head: &FrameHead, body: &[u8]) -> Result<(), Refused> {
        self.may_send_events(i)?;
        let frame = WithheldFrame::parse(body)?;
        let l = self.link_of(i, frame.handle)?;
        let n = self.links[l as usize].0.stream;
        let (now, newest) = self.streams.at(n).map(|s| (s.now, s.last_hlc)).ok_or(Code::State)?;
        let (first, last) = (frame.first_seq.max(now.have.seq + 1), frame.last_seq());
        if frame.first_seq > now.have.seq + 1 {
            // What was sent before it may have been dropped; then it comes again.
            let link = &mut self.links[l as usize].0;
            link.dropped |= link.dropping;
            return if link.dropping { Ok(()) } else { Err(Code::Gap.into()) };
        }
        self.s(i).ack_soon |= head.flag;
        if last <= now.have.seq {
            mark!("withheld.duplicate");
            let link = &mut self.links[l as usize].0;
            link.acked = link.acked.min(frame.first_seq - 1);
            link.peer_holds(frame.first_seq, last);
            self.queue_ack(l);
            return Ok(());
        }
        // Behind a gap the events are here.
        let end = now.gap_end.map_or(last, |gap| last.min(gap.seq));
        let known = match now.gap_end {
            Some(gap) if gap.seq < last => Known::Chain(gap.chain),
            _ => frame.place.known,
        };
        let mut marks = [[0; WITHHELD_MAX_BYTES]; 2];
        let [nothing, place] = &mut marks;
        let nothing = Withheld { known: Known::Nothing, ..frame.place }.put(nothing);
        let place = Withheld { known, ..frame.place }.put(place);
        let newest = if now.gap_end.is_none() { newest } else { Hlc::ZERO };
        let hlc = |nth: u64| match frame.hlc {
            Hlc::ZERO => Hlc::from_u64(newest.as_u64().saturating_add(nth)).ok_or(Code::HlcRange),
            known if known > newest => Ok(known),
            _ => Err(Code::HlcRange),
        };
        let event = |seq: u64| -> Result<LogEvent<'_>, Code> {
            let payload = if seq == end { place } else { nothing };
            let flags = frame.flags & flags::HASHED | flags::WITHHELD;
            Ok(LogEvent { hlc: hlc(seq - first + 1)?, kind: frame.kind, flags, payload })
        };
        let mut chain = now.have.chain;
        for seq in first..=end {
            chain = chain.then(&event(seq)?);
        }
        let meets = now.gap_end.is_none_or(|gap| end != gap.seq || chain == gap.chain);
        if !meets {
            mark!("fork.at_withheld");
            return Err(self.fork_at(n).into());
        }
        let each = event_bytes_max(nothing.len()) - RUN_HEAD_MAX_BYTES;
        match self.reserve((end - first) as usize * each + 2 * event_bytes_max(place.len())) {
            Ok(()) => {}
            Err(NoRoom::Busy) => return Err(Refused::NoRoom),
            Err(NoRoom::DiskFull) => return Err(Code::DiskFull.into()),
            Err(NoRoom::Failed(code)) => return Err(code.into()),
        }
        let mut chain = now.have.chain;
        for seq in first..=end {
            let mut e = event(seq)?;
            if self.clock.observe(e.hlc, self.now.wall_ms) == Observed::Future {
                e.flags |= flags::FUTURE;
            }
            self.put_event(n, seq, &chain, &e).map_err(|_| Refused::Bad(Code::Storage))?;
            chain = chain.then(&e);
        }
        mark!("withheld.taken");
        let link = &mut self.links[l as usize].0;
        link.peer_holds(frame.first_seq, end);
        // What it said of an earlier place cannot be compared any more.
        (link.peer_tag, link.dropped) = (None, false);
        if self.histories.range(n).is_some() {
            self.histories.begin(n, end + 1);
        }
        self.settle_parcels(n);
        self.s(i).stats.placed += end - first + 1;
        self.tell_withheld(i, n, (first, end, end - first + 1), &frame.place, true);
        self.mark_ready(i);
        if end < last {
            // It reaches beyond what is here behind the gap.
            return self.take_withheld(i, head, body);
        }
        Ok(())
    }

    /// The peer of session `i` wrote streams of which this node holds places: it hears of them before the vector.
    pub(super) fn owe_lacks(&mut self, i: u32) {
        let Some(peer) = self.s(i).peer else { return };
        let mut l = self.s(i).links;
        while let Some(link) = self.links.get_mut(l as usize) {
            let places = self.streams.at(link.0.stream).filter(|s| s.key.node == peer.name && s.withheld.is_some());
            let places = places.filter(|_| !has(Bug::RefusalUntold));
            link.0.owes_lacks = places.is_some();
            self.sessions[i as usize].0.owes_lacks |= places.is_some();
            l = link.0.next;
        }
    }

    /// One LACKS frame, if there is one to be sent.
    pub(super) fn put_lacks(&mut self, i: u32, out: &mut [u8]) -> Option<usize> {
        let (me, peer) = (self.config.name, self.peer(i).ok()?);
        let summary = self.links_of(i).find(|&l| self.links[l as usize].0.owes_lacks);
        let due = match summary {
            Some(link) => {
                let stream = self.streams.at(self.links[link as usize].0.stream)?;
                let (from, to) = stream.withheld.unwrap_or_default();
                Some(LackDue { link, from, to, count: 0, code: Code::Withheld.as_u16() })
            }
            None => self.s(i).lacks.front().copied(),
        };
        let key = due.and_then(|d| Some(self.streams.at(self.links[d.link as usize].0.stream)?.key));
        let Some((due, key)) = due.zip(key) else {
            self.s(i).owes_lacks = false;
            return None;
        };
        let LackDue { from, to, count, code, .. } = due;
        let frame = Lacks { key, from, to, count, code };
        let n =
            if from == 0 { Some(0) } else { emit(out, FrameType::Lacks, false, |b| frame.emit(b, &me, &peer.name)) }?;
        match summary {
            Some(l) => self.links[l as usize].0.owes_lacks = false,
            None => drop(self.s(i).lacks.pop_front()),
        }
        if n == 0 {
            return self.put_lacks(i, out);
        }
        out[0] |= OPTIONAL;
        Some(n)
    }

    /// The peer lacks events of a stream, and acknowledges what follows them.
    pub(super) fn take_lacks(&mut self, i: u32, body: &[u8]) -> Result<(), Code> {
        let (me, peer) = (self.config.name, self.peer(i)?);
        let Lacks { key, from, to, count, code } = Lacks::parse(body, &peer.name, &me)?;
        let Some(n) = self.streams.find(&key) else { return Ok(()) };
        let named = |l: &u32| self.links[*l as usize].0.stream == n && self.links[*l as usize].0.read.is_some();
        let Some(l) = self.links_of(i).find(named) else { return Ok(()) };
        let Some(top) = self.streams.at(n).map(|s| s.durable.top.seq).filter(|top| from <= *top) else { return Ok(()) };
        let to = to.min(top);
        mark!("withheld.lacked_by_peer");
        let news = self.note_lack(i, n, (from, to));
        let opening = !self.s(i).peer_vector_done;
        let link = &mut self.links[l as usize].0;
        link.refers_min = link.refers_min.max(to + 1);
        if opening {
            widen(&mut link.lacks_told, from, to);
        }
        let s = self.s(i);
        // A peer may say any number.
        s.stats.withheld = s.stats.withheld.saturating_add(count);
        // A summary of what was told before is no news.
        if count > 0 || news {
            let place = Withheld { known: Known::Nothing, bytes: 0, code };
            self.tell_withheld(i, n, (from, to, count), &place, false);
        }
        Ok(())
    }

    /// The peer of session `i` does not get these events, which are here: if it is a hub, they must not be removed
    /// because of what it acknowledges. True if that is news.
    fn note_lack(&mut self, i: u32, n: u32, (from, to): (u64, u64)) -> bool {
        let hub = self.sessions[i as usize].0.peer.is_some_and(|peer| peer.role == Role::Hub);
        let Some(s) = self.streams.at_mut(n).filter(|s| s.own && hub) else { return false };
        let news = s.lack(from, to);
        if news {
            s.lack_changed = true;
            self.receipts.push(&mut self.streams.slots, n, |s| &mut s.receipt);
        }
        news
    }

    /// The hub at the other end of link `l` holds the same history as we do up to where its vector reached: what it did
    /// not tell before that it lacks, it has (docs/PROTOCOL.md#withheld-9). Acknowledgements say nothing of that.
    pub(super) fn settle_lack(&mut self, l: u32) {
        let link = &mut self.links[l as usize].0;
        let (n, upto, told) = (link.stream, core::mem::take(&mut link.settles_to), link.lacks_told);
        let Some(s) = self.streams.at_mut(n).filter(|s| s.own && upto > 0) else { return };
        if s.settle_lack(upto, told) {
            mark!("withheld.came_after_all");
            s.lack_changed = true;
            self.receipts.push(&mut self.streams.slots, n, |s| &mut s.receipt);
        }
    }

    pub(super) fn tell_withheld(
        &mut self,
        i: u32,
        n: u32,
        (from, to, count): (u64, u64, u64),
        place: &Withheld,
        missing: bool,
    ) {
        let Some(stream) = self.streams.at(n).map(|s| s.key) else { return };
        let (session, bytes, code) = (self.id(i), place.bytes, place.reason());
        let told = WithheldEvents { session, stream, from, to, count, bytes, code, missing };
        let full = self.withheld.is_full();
        // What a rule refuses may come in thousands. And where nobody listens the last word grows, rather than the
        // memory.
        let goes_on =
            |w: &WithheldEvents| (w.session, w.code, w.to + 1) == (session, Code::Refused, from) && code == w.code;
        let same = |w: &&mut WithheldEvents| w.stream == stream && w.missing == missing && (full || goes_on(w));
        if let Some(last) = self.withheld.back_mut().filter(same) {
            (last.from, last.to) = (last.from.min(from), last.to.max(to));
            last.count = last.count.saturating_add(count);
            last.bytes = if last.bytes == 0 || bytes == 0 { 0 } else { last.bytes.saturating_add(bytes) };
            last.code = if last.code == code { code } else { Code::Withheld };
            return;
        }
        let _ = self.withheld.push_back(told);
    }

    pub(super) fn next_withheld(&mut self) -> Option<Event> {
        self.withheld.pop_front().map(Event::Withheld)
    }
}

impl core::fmt::Display for WithheldEvents {
    /// `R311 too large clinic_a/...: event 7 (100000 bytes) stays here: the peer does not take it; what follows goes on`.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} {}: ", self.code, self.stream)?;
        match (self.from == self.to, self.count) {
            (true, _) => write!(f, "event {}", self.from)?,
            (_, 0) => write!(f, "some of events {} to {}", self.from, self.to)?,
            (_, n) if n <= self.to - self.from => write!(f, "{n} of events {} to {}", self.from, self.to)?,
            _ => write!(f, "events {} to {}", self.from, self.to)?,
        }
        if self.bytes > 0 {
            write!(f, " ({} bytes)", self.bytes)?;
        }
        let what = if self.missing { "not taken here" } else { "not at the peer" };
        write!(f, ": {what}; what follows goes on")
    }
}

/// Events that one end of a session holds and the other does not, while it holds what follows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WithheldEvents {
    /// In which session.
    pub session: super::SessionId,
    /// Of which stream.
    pub stream: crate::id::StreamKey,
    /// The first of them.
    pub from: u64,
    /// The last of them.
    pub to: u64,
    /// How many; less than there are from first to last if others lie between them, 0 if it is not known.
    pub count: u64,
    /// Bytes of their payloads, 0 if that is not known.
    pub bytes: u64,
    /// Why: [`Code::TooLarge`] if it is over the limit of whoever lacks it, [`Code::Refused`] if a rule there does not
    /// take it, [`Code::Corrupt`] if damage took it at its source, [`Code::Withheld`] for a reason that this version
    /// does not know, that was told before, or that is not one for all of them.
    pub code: Code,
    /// They are missing here. Otherwise the peer lacks them.
    pub missing: bool,
}

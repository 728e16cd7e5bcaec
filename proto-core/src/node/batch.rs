//! Which events go to a peer next, and packing them.

use super::{Node, ReadFault, ReadRequest, Transmit};
use crate::code::Code;
use crate::codec::CodecId;
use crate::event::{Records, flags};
use crate::fifo::NONE;
use crate::limits::{BATCH_MIN_BYTES, BATCH_SLACK_BYTES, CREDIT_MIN_BYTES, EVENT_SLACK_BYTES};
use crate::planted::{Bug, has, mark};
use crate::policy::Role;
use crate::session::{EndedBy, Flight, Link, State};
use crate::streams::Stream;
use crate::time::Now;
use crate::wire::batch;
use crate::wire::control::Hello;
use crate::wire::frame::{FLAG, FRAME_HEAD_MAX_BYTES, FrameType, OPTIONAL, emit};

/// Smallest amount of batch bytes that may be unacknowledged: about two bandwidth-delay products
/// of a 2G link.
const WINDOW_MIN_BYTES: usize = 8 << 10;
/// Credit for which a batch of a first flight is worth its head.
const BATCH_WORTH_BYTES: usize = 256;
/// Every so many batches a less urgent lane goes first, so that none starves.
const TURNS: u32 = 8;

impl Node<'_> {
    /// Whether events of this stream are ours to send to that peer: it may read them, and it takes
    /// them from us, which it does if they are ours or we are a hub.
    pub(super) fn sends(&self, link: &Link, stream: &Stream) -> bool {
        link.read.is_some() && (stream.key.node == self.config.name || self.config.role == Role::Hub)
    }

    /// Puts a link in line if there is something of its stream to send.
    pub(super) fn queue_link(&mut self, l: u32) {
        let link = &self.links[l as usize].0;
        let i = link.session;
        let Some(stream) = self.streams.at(link.stream) else { return };
        let (sends, early) = (self.sends(link, stream), self.goes_early(link));
        let (owes_floor, owes_gap) = (self.owes_floor(link, stream), self.owes_gap(link, stream));
        let Some(s) = self.sessions.get_mut(i as usize).map(|s| &mut s.0) else { return };
        if owes_floor && s.state == State::Live && s.peer_vector_done {
            s.owes_floors = true;
            return self.mark_ready(i);
        }
        if owes_gap && s.state == State::Live {
            s.owes_gaps = true;
            return self.mark_ready(i);
        }
        if s.state != State::Live
            || !(s.peer_vector_done || early)
            || s.awaits_entry(&self.links[l as usize].0, (&stream.key, &self.config.name))
            || !sends
            || link.blocked
            || stream.readable_upto(link.sent + 1) <= link.sent
        {
            return;
        }
        let lane = stream.key.lane as usize;
        s.lanes[lane].push(&mut self.links, l, |l| &mut l.0.turn);
        self.mark_ready(i);
    }

    /// Compressed bytes that the next batch of session `i` should have.
    fn batch_target(&self, i: u32, hello: &Hello) -> usize {
        let pace = &self.sessions[i as usize].0.pace;
        pace.frame_bytes(self.config.timing.frame_time_ms, BATCH_MIN_BYTES, hello.frame_bytes())
    }

    /// Whether the window of session `i` takes the next batch, or part of one.
    fn has_room(&self, i: u32, hello: &Hello) -> bool {
        let s = &self.sessions[i as usize].0;
        let next_bytes = self.part_bytes(i).unwrap_or_else(|| self.batch_target(i, hello));
        let bounds = (WINDOW_MIN_BYTES, self.limits.credit_bytes.max(hello.credit_bytes()));
        s.pace.has_room(s.in_flight, next_bytes, bounds)
    }

    /// The next part for session `i`, or a read for its next batch, if it may send now.
    pub(super) fn next_events(&mut self, i: u32, out: &mut [u8]) -> Option<Transmit> {
        let hello = self.terms(i).filter(|_| !self.sessions[i as usize].0.unproven)?;
        let (compressed, has_room) = (self.batch_target(i, &hello), self.has_room(i, &hello));
        let s = &mut self.sessions[i as usize].0;
        // A first flight is small: it is used up.
        let least = if s.peer_vector_done { CREDIT_MIN_BYTES } else { BATCH_WORTH_BYTES };
        if s.credit < least {
            mark!("batch.out_of_credit");
        }
        if s.flights.is_full() || !has_room {
            mark!("batch.window_full");
        }
        if s.read.is_some() || s.needs_credit > 0 || s.credit < least || s.flights.is_full() || !has_room {
            return None;
        }
        let l = self.next_link(i)?;
        if let Some(part) = self.next_part(i, l, out) {
            return Some(part);
        }
        if let Some(request) = self.history_read(i, l) {
            return Some(Transmit::Read(request));
        }
        let codec = self.codec_for(i);
        let s = &mut self.sessions[i as usize].0;
        let raw = compressed as u64 * s.pace.ratio_256 / 256;
        // What is not compressed must fit as it is; the rest most likely will.
        let stored = out.len().min(s.credit).min(hello.frame_bytes()).min(self.limits.frame_bytes);
        let most = self.limits.batch_bytes.min(hello.batch_bytes());
        let most = if codec == CodecId::STORED { most.min(stored.saturating_sub(BATCH_SLACK_BYTES)) } else { most };
        let bytes = (raw as usize).min(most);
        let (token, session) = self.begin_read(i, l, false);
        let link = &self.links[l as usize].0;
        let (grant, stream, from_seq) = (link.read?, link.stream, link.sent + 1);
        let upto_seq = self.streams.at(stream)?.readable_upto(from_seq);
        Some(Transmit::Read(ReadRequest { token, session, grant, stream, from_seq, upto_seq, bytes }))
    }

    /// The link whose turn it is, taken out of its lane.
    fn next_link(&mut self, i: u32) -> Option<u32> {
        let s = &mut self.sessions[i as usize].0;
        let sendable = |link: &Link, streams: &crate::streams::StreamTable<'_>| {
            let upto = streams.at(link.stream).map_or(0, |s| s.readable_upto(link.sent + 1));
            upto > link.sent && !link.blocked
        };
        // What was read to compress against may not stay in memory for long: that link goes first.
        if let Some(l) = s.primed.filter(|&l| self.links[l as usize].0.turn.is_queued()) {
            let link = &self.links[l as usize].0;
            let lane = self.streams.at(link.stream).map_or(0, |stream| stream.key.lane as usize);
            if sendable(link, &self.streams) {
                s.lanes[lane].remove(&mut self.links, l, |l| &mut l.0.turn);
                return Some(l);
            }
        }
        s.turns = s.turns.wrapping_add(1);
        loop {
            let s = &self.sessions[i as usize].0;
            let order: [usize; 3] = match s.turns.is_multiple_of(TURNS) {
                _ if has(Bug::UrgentWaits) => [2, 1, 0],
                true => [1, 2, 0],
                false => [0, 1, 2],
            };
            let lane = order.into_iter().find(|&lane| !s.lanes[lane].is_empty())?;
            // Nothing less urgent between two parts: the peer might have room for one such batch only.
            let cut = |&lane: &usize| !s.lanes[lane].is_empty() && self.cut_in(i, lane).is_some();
            let lane = (0..lane).find(cut).unwrap_or(lane);
            if lane == 0 && !s.lanes[2].is_empty() {
                mark!("batch.urgent_overtook_bulk");
            }
            if lane > 0 && !s.lanes[0].is_empty() {
                mark!("batch.urgent_gave_way");
            }
            // What has begun to go in parts goes on before the rest of its lane.
            if let Some(l) = self.cut_in(i, lane) {
                let s = &mut self.sessions[i as usize].0;
                s.lanes[lane].remove(&mut self.links, l, |l| &mut l.0.turn);
                if sendable(&self.links[l as usize].0, &self.streams) {
                    return Some(l);
                }
                self.drop_cut(i, l);
                continue;
            }
            let s = &mut self.sessions[i as usize].0;
            let l = s.lanes[lane].pop(&mut self.links, |l| &mut l.0.turn)?;
            if sendable(&self.links[l as usize].0, &self.streams) {
                return Some(l);
            }
        }
    }

    /// Answers a [`ReadRequest`], of [`Transmit::Read`] or of
    /// [`Effect::Read`](super::Effect::Read): packs the events into `out`. An answer to a session that has
    /// ended meanwhile is ignored. `records` may hold fewer events than were asked for.
    pub fn complete_read(
        &mut self,
        now: Now,
        request: &ReadRequest,
        records: Result<Records<'_>, ReadFault>,
        out: &mut [u8],
    ) -> Transmit {
        self.at(now);
        let Ok(i) = self.session(request.session) else {
            mark!("batch.read_too_late");
            return Transmit::Idle;
        };
        if self.s(i).lacking.is_some_and(|x| x.token == Some(request.token)) {
            self.take_lacking(i, request, records);
            return Transmit::Idle;
        }
        let Some(reading) = self.s(i).read.filter(|reading| reading.token == request.token) else {
            return Transmit::Idle;
        };
        let l = reading.link;
        self.s(i).read = None;
        if reading.history {
            self.take_history(i, l, request, records);
            return Transmit::Idle;
        }
        let records = match records {
            Ok(r) if r.first_seq == request.from_seq => r,
            _ if self.streams.at(request.stream).is_some_and(|s| request.from_seq <= s.floor.seq) => {
                mark!("batch.expired");
                self.queue_link(l);
                return Transmit::Idle;
            }
            _ => {
                mark!("batch.unreadable");
                self.links[l as usize].0.blocked = true;
                self.s(i).stats.blocked += 1;
                self.mark_ready(i);
                return Transmit::Idle;
            }
        };
        // Before the first event goes out, the peer's history up to there is compared with ours
        // (docs/PROTOCOL.md#fork-1).
        let early = !self.s(i).peer_vector_done;
        let link = &mut self.links[l as usize].0;
        if early && records.first_seq == link.peer_have + 1 {
            link.peer_tag = Some(records.prev_chain.tag());
        } else if records.first_seq == link.peer_have + 1
            && let Some(tag) = link.peer_tag.take()
        {
            if tag != records.prev_chain.tag() && !has(Bug::ForkUnnoticed) {
                mark!("fork.at_batch");
                self.fork_of_link(l);
                return Transmit::Idle;
            }
            let peer_have = link.peer_have;
            self.note_receipt(i, l, peer_have);
            self.settle_lack(l);
        }
        if let Some(e) = records.iter().next().filter(|e| e.flags & flags::WITHHELD != 0) {
            if early {
                return self.end_first_flight(i);
            }
            return self.withhold(i, l, request.from_seq, &e, out);
        }
        self.pack(i, l, request, &records.before_withheld(), out)
    }

    fn pack(&mut self, i: u32, l: u32, request: &ReadRequest, records: &Records<'_>, out: &mut [u8]) -> Transmit {
        let Some(hello) = self.terms(i) else { return Transmit::Idle };
        let early = !self.s(i).peer_vector_done;
        let Some(event) = records.iter().next() else { return Transmit::Idle };
        let first = event.payload.len();
        let need = first + EVENT_SLACK_BYTES + BATCH_SLACK_BYTES + FRAME_HEAD_MAX_BYTES;
        let parts = self.makes_parts(i);
        if need > out.len() && !parts || need > hello.frame_bytes() || first + EVENT_SLACK_BYTES > hello.batch_bytes() {
            if early {
                // Perhaps it does: it has not said yet.
                return self.end_first_flight(i);
            }
            // The peer does not take events of this size.
            return self.withhold(i, l, request.from_seq, &event, out);
        }
        if self.goes_in_parts(i, l, request.from_seq, need, out.len()) {
            return self.pack_parts(i, l, request, records, out);
        }
        if need > self.s(i).credit && early {
            return self.end_first_flight(i);
        }
        if need > self.s(i).credit {
            mark!("credit.blocked");
            let s = self.s(i);
            s.needs_credit = need;
            s.blocked_due = Some(need);
            self.queue_link(l);
            return Transmit::Idle;
        }
        let s = self.s(i);
        s.pace.packs(s.in_flight);
        let handle = self.links[l as usize].0.handle;
        let (codec, share) = (self.codec_for(i), self.history_share(i));
        let (stream, first_seq) = (request.stream, request.from_seq);
        let room = out.len().min(self.s(i).credit).min(hello.frame_bytes() + FRAME_HEAD_MAX_BYTES);
        let mut made = None;
        let mut put = |target: usize| {
            // A codec with a state has lost it if the try before was in vain.
            let past = self.refer_to(i, l, codec, first_seq);
            let past = self.histories.fill(past);
            let (codecs, scratch) = (&mut self.codecs, &mut self.scratch);
            emit(&mut out[..room], FrameType::Batch, false, |body| {
                made = batch::emit(handle, records, target, (codecs, codec), &past, scratch, body);
                made.as_ref().map(|m| m.body_bytes)
            })
        };
        // As much as compression has made fit so far; if it does not this time, what fits in any case.
        let stored = room.saturating_sub(BATCH_SLACK_BYTES + FRAME_HEAD_MAX_BYTES).max(1);
        let bytes = put(request.bytes.max(1)).or_else(|| put(request.bytes.clamp(1, stored)));
        let Some((bytes, made)) = bytes.zip(made).filter(|_| handle != NONE) else {
            self.end(i, Code::Limit, EndedBy::Us);
            return Transmit::Idle;
        };
        if early {
            out[0] |= OPTIONAL;
            self.note_early(i, made.codec, made.raw_bytes);
        }
        self.remember(stream, first_seq, records.iter().take(made.count as usize), share);
        self.ratio(i, &made);
        self.sent(i, l, (made.last_seq, made.count, 0), (bytes, true), out)
    }

    /// A batch for link `l` is in `out`, or a part of one that ends at `upto`; `whole`: with it, all of the batch
    /// is sent.
    pub(super) fn sent(
        &mut self,
        i: u32,
        l: u32,
        (last_seq, count, upto): (u64, u64, usize),
        (bytes, whole): (usize, bool),
        out: &mut [u8],
    ) -> Transmit {
        let Some(hello) = self.terms(i) else { return Transmit::Idle };
        let link = &mut self.links[l as usize].0;
        if whole {
            link.sent = last_seq;
            if link.read.is_some_and(|grant| grant.stream().node != self.config.name) {
                mark!("batch.passed_on");
            }
            if has(Bug::ReceiptAtSending) {
                self.note_receipt(i, l, last_seq);
            }
        }
        let at = self.now.at;
        let s = self.s(i);
        let flight = Flight { link: l, last_seq, upto, bytes, at, delivered: s.pace.delivered };
        let _ = s.flights.push_back(flight);
        s.in_flight += bytes;
        s.credit -= bytes;
        s.stats.sent += if whole { count } else { 0 };
        let window_full = s.flights.is_full() || !self.has_room(i, &hello);
        self.queue_link(l);
        let s = self.s(i);
        // The last one for now: the sender waits, so the acknowledgement should not.
        s.pace.more = s.lanes.iter().any(|lane| !lane.is_empty());
        if window_full || !s.pace.more {
            out[0] |= FLAG;
        }
        self.mark_ready(i);
        self.count(i, bytes)
    }
}

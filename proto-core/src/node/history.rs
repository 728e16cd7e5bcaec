//! Earlier events to compress against, at both ends of a session (docs/PROTOCOL.md#history-1).
//!
//! The sender reads them before its first batch of a stream, and its batches say how many they refer to. The
//! receiver has them in memory from the batches before, or reads the same ones from its log; if it lacks
//! them, it says so, and the stream comes again without.

use super::receive::Refused;
use super::{Node, ReadFault, ReadRequest};
use crate::code::Code;
use crate::codec::CodecId;
use crate::event::Records;
use crate::history::Past;
use crate::planted::{Bug, has, mark};
use crate::policy::{Principal, authorize};
use crate::session::{Lacking, Reading, State};
use crate::wire::batch::BatchHead;
use crate::wire::control::{emit_number, parse_number};
use crate::wire::frame::{FrameType, emit};

/// Events that are read for a history if nothing is known of their size.
const EVENTS_FIRST: u64 = 1024;
/// Such a read begins at a multiple of so many.
const EVENTS_STEP: u64 = EVENTS_FIRST / 4;
/// Reads for the history of one batch: others may have taken its place in memory meanwhile.
const READS_MAX: u32 = 8;
/// Of these are worth reading for a codec that learns them slowly: some 30 ms of a fast core, and 200 ms of a Pi's,
/// which is what the bytes that more of them would save take at 2G.
const LEARN_BYTES: usize = 64 << 10;

/// For so long after an acknowledgement the peer has the state that made it: a lost packet brings the acknowledgements of
/// all that was under way at once.
const FRESH_MS: u64 = 1_000;

impl Node<'_> {
    /// The codec for batches of session `i`.
    pub(super) fn codec_for(&mut self, i: u32) -> CodecId {
        self.codec_among(i, u32::MAX)
    }

    /// The codec for batches that go in parts: what is packed for several peers, or again after a cut, must not depend on
    /// what went before it in a session.
    pub(super) fn codec_for_parts(&mut self, i: u32) -> CodecId {
        self.codec_among(i, !CodecId::all_that_keep_state())
    }

    /// The best of these codecs that the peer takes.
    fn codec_among(&mut self, i: u32, these: u32) -> CodecId {
        let peer = self.terms(i).map_or(0, |h| h.codecs) & these;
        let (rate, now) = (self.s(i).pace.link_rate(), self.now.at);
        self.codecs.choose(peer, rate, now)
    }

    /// What stands in a past for session `i` beside the events themselves.
    pub(super) fn past_of(&self, i: u32, stream: u32, from_seq: u64, before_seq: u64) -> Past<'static> {
        let session = self.number(i);
        let link_rate = self.sessions[i as usize].0.pace.link_rate();
        Past { session, stream, from_seq, before_seq, link_rate, ..Past::default() }
    }

    /// Number of session `i` that no other one has.
    pub(super) fn number(&self, i: u32) -> u64 {
        let id = self.id(i);
        u64::from(id.generation) << 32 | u64::from(id.index)
    }

    /// Which events the next batch of link `l` refers to, without their bytes.
    pub(super) fn refer_to(&mut self, i: u32, l: u32, codec: CodecId, first_seq: u64) -> Past<'static> {
        let share = self.history_share(i);
        let link = &self.links[l as usize].0;
        let (n, went_from, min) = (link.stream, link.refers_from, link.refers_min);
        let none = self.past_of(i, n, first_seq, first_seq);
        if share == 0 || link.no_history {
            return none;
        }
        let begin = if codec.keeps_state() {
            self.histories.begin_within(n, first_seq, share.min(LEARN_BYTES))
        } else {
            let held = self.histories.range(n).and_then(|(from, _)| self.histories.past(n, from, first_seq));
            held.filter(|past| past.bytes.len() <= share).map(|past| past.from_seq)
        };
        let begin = begin.unwrap_or(first_seq).max(min).min(first_seq);
        // While batches are under way, or just were, one goes on from the other: the peer's state is as fresh as this one.
        let onward = Past { from_seq: went_from, ..none };
        let link = &mut self.links[l as usize].0;
        let s = &self.sessions[i as usize].0;
        let is_fresh = s.in_flight > 0 || self.now.at.ms_since(s.pace.acked_at) <= FRESH_MS;
        let runs = went_from > 0 && went_from < begin && !link.bounded && is_fresh;
        if codec.keeps_state() && runs && self.codecs.has_state(codec, &onward, true) {
            mark!("history.goes_on");
            link.went_on = true;
            return onward;
        }
        link.refers_from = if codec.keeps_state() { begin } else { 0 };
        Past { from_seq: begin, ..none }
    }

    /// Bytes of history that both ends of session `i` can hold; 0 if the codec uses none.
    pub(super) fn history_share(&mut self, i: u32) -> usize {
        let peer = self.terms(i).map_or(0, |h| h.history_kib as usize) << 10;
        if self.codec_for(i).uses_history() { peer.min(self.histories.share()) } else { 0 }
    }

    /// A read of what the next batch of link `l` may refer to, if that is not in memory.
    pub(super) fn history_read(&mut self, i: u32, l: u32) -> Option<ReadRequest> {
        let share = self.history_share(i);
        let primed = core::mem::take(&mut self.s(i).primed) == Some(l);
        let link = &self.links[l as usize].0;
        if share == 0 || link.no_history {
            return None;
        }
        let (grant, n, sent) = (link.read?, link.stream, link.sent);
        let stream = self.streams.at(n)?;
        // What lies before a floor or a gap cannot be read.
        let gap = stream.durable.gap_end.map_or(0, |gap| gap.seq);
        let first = if gap <= sent { stream.floor.seq.max(gap) + 1 } else { stream.floor.seq + 1 };
        // Nor what is not at both ends.
        let first = first.max(link.refers_min.min(sent + 1));
        let held = self.histories.range(n);
        if held.is_some_and(|(from, next)| from <= sent + 1 && sent < next) {
            return None;
        }
        let ahead = |next: u64| (sent + 1).saturating_sub(next);
        let from = match held {
            Some((from, next)) if next <= sent && next >= first => {
                let bytes = self.histories.past(n, from, next).map_or(0, |p| p.bytes.len()) as u64;
                let fit = (share as u64).saturating_mul(next - from).checked_div(bytes).unwrap_or(EVENTS_FIRST);
                // Onward from what is there, or nearer if that is more than will be kept.
                if ahead(next) <= 2 * fit.max(1) { next } else { sent + 1 - fit.clamp(1, sent) }
            }
            // Somebody else has taken its place at once: this batch goes without.
            _ if primed => return None,
            // From the same event on for some time: who keeps a state of these needs no other next time.
            _ => (sent + 1).saturating_sub(EVENTS_FIRST) / EVENTS_STEP * EVENTS_STEP,
        };
        let from = from.max(first);
        if held.is_none_or(|(_, next)| next != from) {
            self.histories.begin(n, from);
        }
        if from > sent {
            return None;
        }
        mark!("history.read_to_send");
        let (token, session) = self.begin_read(i, l, true);
        Some(ReadRequest { token, session, grant, stream: n, from_seq: from, upto_seq: sent, bytes: share })
    }

    /// Notes a read on the way out of session `i`.
    pub(super) fn begin_read(&mut self, i: u32, link: u32, history: bool) -> (u64, super::SessionId) {
        self.tokens += 1;
        let token = self.tokens;
        self.s(i).read = Some(Reading { token, link, history });
        (token, self.id(i))
    }

    /// What was read for the next batch of link `l`.
    pub(super) fn take_history(
        &mut self,
        i: u32,
        l: u32,
        request: &ReadRequest,
        records: Result<Records<'_>, ReadFault>,
    ) {
        let (n, share) = (request.stream, self.history_share(i));
        match records {
            Ok(r) if r.first_seq == request.from_seq => self.remember(n, r.first_seq, r.iter(), share),
            // Without it, then: what is to be sent may be read all the same.
            _ => self.histories.begin(n, self.links[l as usize].0.sent + 1),
        }
        self.s(i).primed = Some(l);
        self.queue_link(l);
        self.mark_ready(i);
    }

    /// Adds events that have just passed to the history of their stream.
    pub(super) fn remember<'a>(
        &mut self,
        n: u32,
        first_seq: u64,
        events: impl Iterator<Item = crate::event::Event<'a>>,
        share: usize,
    ) {
        if share == 0 {
            return;
        }
        if self.histories.range(n).is_none() {
            self.histories.begin(n, first_seq);
        }
        for (seq, e) in (first_seq..).zip(events) {
            self.histories.push(n, seq, &e, share);
        }
    }

    /// Whether a batch for link `l` was sent before the peer heard that the history is lacking here: it comes
    /// again.
    pub(super) fn drops(&mut self, l: u32, batch: &BatchHead) -> bool {
        let link = &mut self.links[l as usize].0;
        let next = self.streams.at(link.stream).map_or(0, |s| s.now.have.seq) + 1;
        // It may be said of more than is read from a log, and once more of what is.
        let again = batch.codec.keeps_state() && link.told_lacking < 2;
        link.dropping &= (batch.history > 0 && !again) || batch.first_seq > next;
        if link.dropping {
            mark!("history.dropped");
        }
        link.dropping
    }

    /// Whether the history of a batch for link `l` is in memory. If not, it is read, or the peer is told
    /// that it is not here; `false` then: the batch is dropped.
    pub(super) fn has_history(&mut self, i: u32, l: u32, batch: &BatchHead) -> Result<bool, Refused> {
        let n = self.links[l as usize].0.stream;
        let (from, last) = (batch.first_seq - batch.history, batch.first_seq - 1);
        let stream = self.streams.at(n).ok_or(Code::State)?;
        let past = self.past_of(i, n, from, batch.first_seq);
        let known = batch.history == 0 || self.codecs.has_state(batch.codec, &past, false);
        let time = !batch.codec.keeps_state() || self.codecs.has_time(batch.codec, self.now.at);
        if known || time && self.histories.holds(n, from, batch.first_seq) {
            self.s(i).lacking = None;
            return Ok(true);
        }
        let (held, durable) = (stream.now.have.seq >= last, stream.readable_upto(from) >= last);
        let pending = held && !durable && stream.floor.seq < from && stream.durable.gap_end.is_none();
        let reads = self.s(i).lacking.map_or(0, |x| x.reads);
        if pending && time {
            mark!("history.waits_for_sync");
            return Err(Refused::NoRoom);
        }
        let readable = held && durable && time;
        let onward = match self.histories.range(n) {
            // More than there is room for.
            Some((first, next)) if reads > 0 && first > from && next > from => None,
            Some((first, next)) if first <= from && from < next => Some(next),
            _ => {
                self.histories.begin(n, from);
                Some(from)
            }
        };
        if let Some(from_seq) = onward.filter(|_| readable && reads < READS_MAX && self.histories.share() > 0) {
            mark!("history.read_to_receive");
            let lacking = Lacking { stream: n, from_seq, upto_seq: last, token: None, reads: reads + 1 };
            self.s(i).lacking = Some(lacking);
            self.readers.push(&mut self.sessions, i, |s| &mut s.0.reader);
            return Err(Refused::Reading);
        }
        mark!("history.lacking");
        self.s(i).lacking = None;
        self.owe_no_history(i, l);
        Ok(false)
    }

    /// The peer is to send the stream of link `l` again, without history; what comes until it knows is dropped.
    pub(super) fn owe_no_history(&mut self, i: u32, l: u32) {
        let link = &mut self.links[l as usize].0;
        (link.dropping, link.owes_no_history) = (true, true);
        link.told_lacking = link.told_lacking.saturating_add(1);
        self.s(i).owes_no_history = true;
        self.mark_ready(i);
    }

    /// The next read that a batch waits for.
    pub(super) fn next_history_read(&mut self) -> Option<ReadRequest> {
        loop {
            let i = self.readers.pop(&mut self.sessions, |s| &mut s.0.reader)?;
            let s = &self.sessions[i as usize].0;
            let Some(lacking) = s.lacking.filter(|_| s.state == State::Live) else { continue };
            let Some(key) = self.streams.at(lacking.stream).map(|s| s.key) else { continue };
            let Some(grant) = authorize(self.config.policy, Principal::Owner, &key).read else { continue };
            self.tokens += 1;
            let token = self.tokens;
            self.s(i).lacking = Some(Lacking { token: Some(token), ..lacking });
            let Lacking { stream, from_seq, upto_seq, .. } = lacking;
            let bytes = self.histories.share();
            return Some(ReadRequest { token, session: self.id(i), grant, stream, from_seq, upto_seq, bytes });
        }
    }

    /// What was read for a batch that waits: it is taken now, or more is read.
    pub(super) fn take_lacking(&mut self, i: u32, request: &ReadRequest, records: Result<Records<'_>, ReadFault>) {
        let share = self.histories.share();
        match records {
            Ok(r) if r.first_seq == request.from_seq => self.remember(request.stream, r.first_seq, r.iter(), share),
            _ => {
                if let Some(lacking) = &mut self.s(i).lacking {
                    lacking.reads = READS_MAX;
                }
            }
        }
        self.retry(i);
    }

    /// NOHISTORY for the links that owe it.
    pub(super) fn put_no_history(&mut self, i: u32, out: &mut [u8]) -> Option<usize> {
        let owed = self.links_of(i).find(|&l| self.links[l as usize].0.owes_no_history);
        let Some(l) = owed else {
            self.s(i).owes_no_history = false;
            return None;
        };
        let handle = u64::from(self.links[l as usize].0.peer_handle);
        let n = emit(out, FrameType::NoHistory, false, |body| emit_number(body, handle))?;
        self.links[l as usize].0.owes_no_history = false;
        Some(n)
    }

    /// The peer lacks the history of a stream: what it has not acknowledged goes again, without.
    pub(super) fn take_no_history(&mut self, i: u32, body: &[u8]) -> Result<(), Code> {
        let handle = u32::try_from(parse_number(body)?).map_err(|_| Code::Malformed)?;
        let l = self.told_link(i, handle)?;
        let link = &mut self.links[l as usize].0;
        if link.no_history {
            return Err(Code::State);
        }
        mark!("history.refused");
        // The peer will not take it for the end: it lacks what was dropped.
        self.s(i).goodbye_sent = false;
        let link = &mut self.links[l as usize].0;
        if link.went_on && !link.bounded {
            mark!("history.bounded");
            link.bounded = true;
        } else {
            link.no_history = true;
        }
        link.refers_from = 0;
        if !has(Bug::HistoryNotRewound) {
            link.sent = link.peer_have;
        }
        self.drop_cut(i, l);
        self.lose_flights(i, l);
        self.queue_again(l);
        self.mark_ready(i);
        Ok(())
    }
}

//! A batch from a peer is checked whole, and goes into the log: all of it, or by parts if it fits no group.

use super::Node;
use super::append::LEFT_AFTER_FORK;
use super::commit::NoRoom;
use super::receive::Refused;
use super::refuse::Cost;
use crate::code::Code;
use crate::event::{Event, flags};
use crate::fifo::NONE;
use crate::history::Past;
use crate::hlc::{Hlc, Observed};
use crate::planted::{Bug, has, mark};
use crate::session::Link;
use crate::streams::Mark;
use crate::varint::Reader;
use crate::wire::batch::{BatchHead, Columns};
use crate::wire::frame::FrameHead;
use crate::withheld::WITHHELD_MAX_BYTES;

impl Node<'_> {
    pub(super) fn take_batch(&mut self, i: u32, head: &FrameHead, body: &[u8]) -> Result<(), Refused> {
        self.may_send_events(i)?;
        let mut r = Reader::new(body);
        // A first flight that is too large is dropped below: its sender did not know.
        let most = if head.early { u32::MAX as usize } else { self.limits.batch_bytes };
        let batch = BatchHead::parse(&mut r, most)?;
        let l = self.link_of(i, batch.handle)?;
        let n = self.links[l as usize].0.stream;
        let next = self.streams.at(n).ok_or(Code::State)?.now.have.seq + 1;
        if self.drops(l, &batch) || !self.suits(i, head, &batch, next) {
            return self.drop_batch(i, l, head);
        }
        if batch.first_seq > next && !has(Bug::GapAccepted) {
            mark!("hostile.gap");
            return Err(Code::Gap.into());
        }
        if !self.has_history(i, l, &batch)? {
            return self.drop_batch(i, l, head);
        }
        if batch.codec.keeps_state() && batch.last_seq() >= next {
            // A state goes on with each batch once, so this must be all that may have to be waited for, unless the
            // batch fits no group.
            let worst = self.worst_cost(n, &batch);
            self.room_for(worst)?;
        }
        let mut scratch = core::mem::replace(&mut self.scratch, crate::mem::Lent::Borrowed(&mut []));
        let outcome = match scratch.get_mut(..batch.raw_bytes) {
            Some(raw) => self.unpack(i, l, &batch, r.rest(), raw),
            None => Err(Code::BadBatch.into()),
        };
        self.scratch = scratch;
        match outcome {
            Err(Refused::Bad(code)) if self.refuse_early(i, l, head, code) => return self.drop_batch(i, l, head),
            other => other?,
        }
        self.links[l as usize].0.dropped = false;
        self.settle_parcels(n);
        self.s(i).ack_soon |= head.flag;
        self.return_credit(i, head);
        Ok(())
    }

    /// Whether it is the peer's turn to send events.
    pub(super) fn may_send_events(&mut self, i: u32) -> Result<(), Code> {
        let s = self.s(i);
        if s.peer_goodbye && s.goodbye_open {
            // It has learned that something of its first flight did not arrive.
            mark!("goodbye.withdrawn");
            (s.peer_goodbye, s.finishing) = (false, false);
        }
        if !s.peer_vector_done || s.peer_goodbye {
            return Err(Code::State);
        }
        self.commit.failed().map_or(Ok(()), Err)
    }

    /// A batch cannot be used, through nobody's fault: it comes again.
    pub(super) fn drop_batch(&mut self, i: u32, l: u32, head: &FrameHead) -> Result<(), Refused> {
        self.links[l as usize].0.dropped = true;
        self.s(i).taken = 0;
        self.return_credit(i, head);
        Ok(())
    }

    pub(super) fn room_for(&mut self, cost: usize) -> Result<(), Refused> {
        match self.reserve(cost) {
            Ok(()) => Ok(()),
            Err(NoRoom::Busy) => {
                mark!("batch.waits_for_room");
                Err(Refused::NoRoom)
            }
            Err(NoRoom::DiskFull) => Err(Code::DiskFull.into()),
            Err(NoRoom::Failed(code)) => Err(code.into()),
        }
    }

    /// A batch was dealt with: its bytes may come again.
    pub(super) fn return_credit(&mut self, i: u32, head: &FrameHead) {
        let s = self.s(i);
        // What was lent beyond the session's share is paid back first.
        let len = head.head_bytes + head.body_bytes;
        let back = len.min(s.rx_extra);
        s.rx_extra -= back;
        s.credit_owed += if has(Bug::CreditNeverReturned) { 0 } else { len - back };
        if s.rx_extra == 0 {
            self.return_extra(i);
        }
        self.mark_ready(i);
    }

    /// The link that the peer's handle names, if the peer may write there. The answer for a stream
    /// that exists and one that does not is the same (docs/PROTOCOL.md#policy-2).
    pub(super) fn link_of(&mut self, i: u32, handle: u32) -> Result<u32, Code> {
        let s = &self.sessions[i as usize].0;
        if handle >= s.peer_handles {
            return Err(Code::State);
        }
        let named =
            |l: &u32| self.links.get(*l as usize).is_some_and(|k| k.0.session == i && k.0.peer_handle == handle);
        let l = Some(s.rx_link).filter(named).or_else(|| self.links_of(i).find(named)).ok_or(Code::Origin)?;
        if self.links[l as usize].0.write.is_none() {
            mark!("hostile.origin");
            return Err(Code::Origin);
        }
        self.s(i).rx_link = l;
        Ok(l)
    }

    fn unpack(&mut self, i: u32, l: u32, batch: &BatchHead, data: &[u8], raw: &mut [u8]) -> Result<(), Refused> {
        let n = self.links[l as usize].0.stream;
        let past = self.past_of(i, n, batch.first_seq - batch.history, batch.first_seq);
        let past = self.histories.fill(Past { batch_count: batch.count, first_hlc: batch.first_hlc, ..past });
        self.codecs.decompress(batch.codec, &past, data, raw)?;
        // `event_bytes` bounds what this node writes itself. A peer's event may be as large as the
        // batch that HELLO allows: the sender cannot know a smaller limit.
        let columns = Columns::parse(raw, batch, self.limits.batch_bytes)?;
        let stream = self.streams.at(n).ok_or(Code::State)?;
        let (now, last_hlc) = (stream.now, stream.last_hlc);
        let have = now.have;
        let known = (have.seq + 1).saturating_sub(batch.first_seq).min(batch.count);
        let fresh = || columns.iter().zip(batch.first_seq..).skip(known as usize);
        if known == batch.count {
            mark!("batch.all_duplicates");
            if batch.last_seq() == have.seq && batch.tag != have.chain.tag() {
                mark!("fork.at_duplicates");
                return Err(self.fork_at(n).into());
            }
            let s = self.s(i);
            s.stats.duplicates += known - core::mem::take(&mut s.taken).min(known);
            // It was sent, so it was not known to be here: it is told again.
            let link = &mut self.links[l as usize].0;
            link.acked = link.acked.min(batch.first_seq - 1);
            link.peer_holds(batch.first_seq, batch.last_seq());
            if !has(Bug::DuplicateUnacked) {
                self.queue_ack(l);
            }
            return Ok(());
        }
        if known > 0 {
            mark!("batch.some_duplicates");
        }
        if now.gap_end.is_some() {
            mark!("batch.repairs_gap");
        }
        match check_events(&now, last_hlc, fresh(), batch) {
            Err(Code::Fork) => {
                mark!("fork.in_gap");
                return Err(self.fork_at(n).into());
            }
            other => other?,
        }
        // What is known is of this very batch, or nothing is.
        if known == self.s(i).taken {
            self.codecs.confirm(batch.codec);
        }
        // Between a gap and the end our log has the events already.
        let here = |seq: u64| now.gap_end.is_some_and(|gap| gap.seq < seq && seq <= now.top.seq);
        let wanted = || fresh().filter(|(_, seq)| !here(*seq));
        let verdicts = self.judge(n, batch.first_seq, wanted());
        let (mut cost, mut first) = (Cost::NONE, 0);
        for (e, seq) in wanted() {
            let all = cost.add(&e, self.refuses(n, (seq, &e), &verdicts).is_some());
            first = if first == 0 { all } else { first };
        }
        let room = self.room_for_some(cost.bytes, first)?;
        let (mut chain, mut stored, mut cost, mut upto) = (have.chain, 0, Cost::NONE, batch.last_seq());
        let dropped = usize::from(known > 0 && has(Bug::DuplicateDropsNext));
        for (mut e, seq) in fresh().skip(dropped) {
            if !here(seq) {
                let refused = self.refuses(n, (seq, &e), &verdicts);
                if cost.add(&e, refused.is_some()) > room {
                    upto = seq - 1;
                    break;
                }
                if self.clock.observe(e.hlc, self.now.wall_ms) == Observed::Future {
                    e.flags |= flags::FUTURE;
                }
                let mut buf = [0; WITHHELD_MAX_BYTES];
                let place = refused.map(|code| Self::place_of(&e, code));
                let put = match &place {
                    Some(place) => Event { payload: place.put(&mut buf), flags: e.flags | flags::WITHHELD, ..e },
                    None => e,
                };
                self.put_event(n, seq, &chain, &put).map_err(|_| Refused::Bad(Code::Storage))?;
                if let Some(place) = place {
                    self.refused(i, l, seq, &place);
                }
                stored += 1;
            }
            chain = chain.then(&e);
        }
        let s = self.s(i);
        s.stats.received += stored;
        s.taken += stored;
        let link = &mut self.links[l as usize].0;
        link.peer_holds(batch.first_seq, upto);
        let peer_have = link.peer_have;
        // The chain has come out right: what the peer said of an earlier place is of no use now.
        link.peer_tag = None;
        // It was durable at the peer before it was sent, and the chain is the same.
        self.note_receipt(i, l, peer_have.min(upto));
        if upto < batch.last_seq() && !has(Bug::BatchRestForgotten) {
            // The rest comes when the group is written: what is in it is known then.
            mark!("batch.taken_by_parts");
            if batch.codec.keeps_state() {
                mark!("batch.parts_cost_a_state");
            }
            return Err(Refused::NoRoom);
        }
        let s = self.s(i);
        s.stats.duplicates += batch.count - core::mem::take(&mut s.taken).min(batch.count);
        if self.codecs.use_history() {
            self.remember(n, batch.first_seq, columns.iter(), self.histories.share());
        }
        if has(Bug::AckBeforeDurable) {
            self.queue_ack(l);
        }
        Ok(())
    }

    /// Something of the link's stream became durable, or came again: the peer is to hear of it.
    pub(super) fn queue_ack(&mut self, l: u32) {
        let link = &self.links[l as usize].0;
        let i = link.session;
        // Only about what the peer holds itself, and not what it knows to be here already: it must
        // not hear of events that came from elsewhere, and an own event was not its to send.
        let news = self.ackable(link) > link.acked;
        let told = link.write.is_some() && link.peer_handle != NONE;
        let Some(s) = self.sessions.get_mut(i as usize).map(|s| &mut s.0) else { return };
        if !told || !news || s.state != crate::session::State::Live {
            return;
        }
        if !s.acks.is_empty() {
            mark!("ack.joined_another");
            if has(Bug::AckDropped) {
                return;
            }
        }
        s.acks.push(&mut self.links, l, |l| &mut l.0.ack);
        let wait = if s.ack_soon { 0 } else { self.config.timing.ack_delay_ms };
        s.ack_at = s.ack_at.min(self.now.at.after_ms(wait));
        if core::mem::take(&mut s.ack_soon) {
            s.ack_at = self.now.at;
        }
        if !has(Bug::AckTimerForgotten) {
            self.set_timer(i);
        }
        self.mark_ready(i);
    }

    /// How far a link's stream is durable here as far as the peer holds it.
    pub(super) fn ackable(&self, link: &Link) -> u64 {
        self.streams.at(link.stream).map_or(0, crate::streams::Stream::ackable).min(link.peer_top())
    }

    /// Two histories of a stream: noted; the code to end the session with. If it is one that this
    /// node writes, it goes on in a new incarnation, which the peer can take.
    pub(super) fn fork_at(&mut self, n: u32) -> Code {
        if let Some(s) = self.streams.at(n) {
            let (key, have) = (s.key, s.now.have.seq);
            self.fork = Some(key);
            if self.leave_incarnation(key, have, LEFT_AFTER_FORK) {
                mark!("node.left_after_fork");
            }
        }
        Code::Fork
    }

    /// The histories of link `l`'s stream differ: it is left alone, the rest of the session goes on,
    /// and when there is nothing else left the peer is told.
    pub(super) fn fork_of_link(&mut self, l: u32) {
        let link = &mut self.links[l as usize].0;
        (link.blocked, link.forked) = (true, true);
        let (i, n) = (link.session, link.stream);
        let s = self.s(i);
        s.stats.blocked += 1;
        s.forked = true;
        self.fork_at(n);
        self.mark_ready(i);
    }
}

/// Stamps must grow along the stream, and the chain must come out where the sender says. Where a
/// gap is filled, it must also meet what our own log holds behind it. Nothing has been stored yet.
fn check_events<'a>(
    now: &Mark,
    last_hlc: Hlc,
    events: impl Iterator<Item = (Event<'a>, u64)>,
    batch: &BatchHead,
) -> Result<(), Code> {
    let mut chain = now.have.chain;
    let mut newest = if now.gap_end.is_none() { last_hlc } else { Hlc::ZERO };
    for (e, seq) in events {
        if e.hlc <= newest {
            return Err(Code::HlcRange);
        }
        newest = e.hlc;
        chain = chain.then(&e);
        let meets = now
            .gap_end
            .is_none_or(|gap| (seq != gap.seq || chain == gap.chain) && (seq != now.top.seq || chain == now.top.chain));
        if !meets {
            return Err(Code::Fork);
        }
    }
    let unchecked = has(Bug::ChainUnchecked) || has(Bug::GapAccepted);
    if chain.tag() == batch.tag || unchecked { Ok(()) } else { Err(Code::BadBatch) }
}

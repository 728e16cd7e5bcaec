//! The first flight: batches that go right behind our vector, before the peer has said anything
//! (docs/PROTOCOL.md#early-1).
//!
//! A clinic knows from its log up to where a hub has acknowledged its streams, so it need not wait for the hub's
//! vector to go on from there. Where that was wrong, the vector says so, and the hub has dropped what it could not
//! use. After a session that broke off with events under way nobody knows whether they have arrived: then the
//! vector is waited for, since bytes are dearer than a round trip.

use super::{Node, Transmit};
use crate::code::Code;
use crate::codec::CodecId;
use crate::fifo::NONE;
use crate::limits::{CREDIT_MIN_BYTES, FRAME_MIN_BYTES};
use crate::planted::{Bug, has, mark};
use crate::policy::Role;
use crate::session::{Early, Link};
use crate::streams::Stream;
use crate::wire::batch::BatchHead;
use crate::wire::control::Hello;
use crate::wire::frame::FrameHead;

/// BATCH frames of a first flight, in bytes: every node takes as much (docs/PROTOCOL.md#early-2).
const EARLY_BYTES: usize = CREDIT_MIN_BYTES * 2;

impl Node<'_> {
    /// The opening vector of session `i` is out: what the peer most likely lacks may follow at once.
    pub(super) fn begin_early(&mut self, i: u32) {
        let hub = self.s(i).peer.filter(|peer| peer.role == Role::Hub && self.config.role == Role::Clinic);
        if hub.is_none() || self.s(i).peer_vector_done || has(Bug::ResumeFromZero) {
            return;
        }
        let s = self.s(i);
        s.early = Some(Early { codecs: 0, raw_bytes: 0 });
        if s.hello.is_none() {
            s.credit = EARLY_BYTES;
        }
        let mut l = s.links;
        while l != NONE {
            let link = &self.links[l as usize].0;
            let acked = self.streams.at(link.stream).map_or(0, |stream| stream.acked);
            if self.goes_early(link) {
                let link = &mut self.links[l as usize].0;
                (link.peer_have, link.sent) = (acked, acked);
                self.queue_link(l);
            }
            l = self.links[l as usize].0.next;
        }
    }

    /// Whether batches of this link may go although its session's peer has not told its whole vector.
    pub(super) fn goes_early(&self, link: &Link) -> bool {
        let Some(stream) = self.streams.at(link.stream) else { return false };
        let s = &self.sessions[link.session as usize].0;
        let by_peer = |stream: &Stream| stream.acked_by.is_none_or(|by| s.peer.is_some_and(|peer| peer.name == by));
        let whole = stream.floor.seq <= stream.acked && stream.durable.gap_end.is_none();
        // A node that has left an incarnation is a copy of what the hub has heard more of.
        let present = stream.own && stream.key.incarnation == self.incarnation;
        let known = present && by_peer(stream) && !stream.in_doubt;
        s.early.is_some() && link.peer_handle == NONE && whole && known
    }

    /// What the peer takes: as it said, or what every peer does. `None` while no batch may go.
    pub(super) fn terms(&mut self, i: u32) -> Option<Hello> {
        let s = &self.sessions[i as usize].0;
        let may = s.vector_done && (s.peer_vector_done || s.early.is_some()) && !s.goodbye_sent;
        if !may {
            return None;
        }
        let guess = |own: Hello| Hello { frame_kib: (FRAME_MIN_BYTES >> 10) as u32, ..own };
        Some(s.hello.unwrap_or_else(|| guess(self.hello(s.offers))))
    }

    /// What has been sent of a first flight counts as used of what the peer grants now.
    pub(super) fn early_credit(&mut self, i: u32, hello: &Hello) -> usize {
        let s = self.s(i);
        let used = s.early.map_or(0, |_| EARLY_BYTES.saturating_sub(s.credit));
        hello.credit_bytes().saturating_sub(used)
    }

    /// A batch of the first flight of session `i` is out.
    pub(super) fn note_early(&mut self, i: u32, codec: crate::codec::CodecId, raw_bytes: usize) {
        if let Some(early) = &mut self.s(i).early {
            early.codecs |= codec.bit();
            early.raw_bytes = early.raw_bytes.max(raw_bytes);
        }
    }

    /// The peer has told how far it holds link `l`'s stream: whether it has taken the first flight. If not, it is sent
    /// again from where the peer is.
    pub(super) fn settle_early(&mut self, i: u32, l: u32, seq: u64) -> bool {
        let s = &self.sessions[i as usize].0;
        let link = &self.links[l as usize].0;
        if let Some(stream) = self.streams.at_mut(link.stream) {
            stream.in_doubt = false;
        }
        let Some(early) = s.early.filter(|_| link.peer_handle == NONE) else { return false };
        // A peer that holds more has taken it too: what it held already, it passed over.
        let (flown, met) = (link.sent > link.peer_have, seq >= link.peer_have);
        let understood = s.hello.is_some_and(|h| early.codecs & !h.codecs == 0 && early.raw_bytes <= h.batch_bytes());
        if flown && met && understood {
            return true;
        }
        if flown {
            mark!("early.sent_in_vain");
        }
        if flown || !met {
            // There is something to send after all: a last word is void (docs/PROTOCOL.md#goodbye-4).
            self.s(i).goodbye_sent = false;
        }
        if !(flown && has(Bug::EarlyNotRewound)) {
            self.links[l as usize].0.sent = seq;
            self.lose_flights(i, l);
        }
        false
    }

    /// The peer has told its whole vector: what it did not tell of, it holds nothing of.
    pub(super) fn end_early(&mut self, i: u32) {
        let mut l = self.s(i).links;
        while l != NONE {
            if self.links[l as usize].0.peer_handle == NONE {
                self.settle_early(i, l, 0);
                let link = &mut self.links[l as usize].0;
                (link.peer_have, link.peer_tag) = (0, None);
            }
            l = self.links[l as usize].0.next;
        }
        let s = self.s(i);
        if s.early.take().is_some() {
            s.needs_credit = 0;
        }
    }

    /// Nothing of link `l` is under way any more: the peer has dropped it, or is past it.
    pub(super) fn lose_flights(&mut self, i: u32, l: u32) {
        let s = &mut self.sessions[i as usize].0;
        s.read = s.read.filter(|read| read.link != l);
        s.take_flights(None, |f| f.link == l);
    }

    /// Whether everything that is here for the hub of session `i` has been sent: then a clinic may say GOODBYE
    /// although it has not been acknowledged yet (docs/PROTOCOL.md#goodbye-4).
    pub(super) fn has_sent_all(&self, i: u32) -> bool {
        let s = &self.sessions[i as usize].0;
        let to_hub = self.config.role == Role::Clinic && s.peer.is_some_and(|peer| peer.role == Role::Hub);
        let told = s.vector_done && (s.peer_vector_done || s.early.is_some());
        let none_in_line = s.read.is_none() && s.lanes.iter().all(crate::fifo::Fifo::is_empty) && !s.owes_no_history;
        to_hub
            && told
            && s.announce == NONE
            && none_in_line
            && !s.owes_floors
            && !s.owes_gaps
            && self.links_of(i).all(|l| {
                let link = &self.links[l as usize].0;
                let Some(stream) = self.streams.at(link.stream).filter(|stream| self.sends(link, stream)) else {
                    return true;
                };
                let owes = self.owes_floor(link, stream) || self.owes_gap(link, stream);
                let more = stream.readable_upto(link.sent + 1) > link.sent || owes;
                let pending = stream.now.top.seq > stream.durable.top.seq;
                !pending && (link.blocked || !more)
            })
    }

    /// The next event does not fit a first flight: it waits for what the peer says.
    pub(super) fn end_first_flight(&mut self, i: u32) -> Transmit {
        mark!("early.too_large");
        self.s(i).needs_credit = usize::MAX;
        Transmit::Idle
    }

    /// Whether a batch of a first flight can be used: it goes on from what is here, and is of a kind that was
    /// offered. If not it is dropped: its sender hears of that from our HELLO and vector.
    pub(super) fn suits(&mut self, i: u32, frame: &FrameHead, batch: &BatchHead, next: u64) -> bool {
        let s = self.s(i);
        // Its sender did not know which sample is here; now it is known whether it is the same.
        let theirs = s.hello.map_or(0, |hello| hello.codecs);
        let sampled = batch.codec != CodecId::SAMPLED || theirs & CodecId::SAMPLED.bit() != 0;
        let offered = s.offers & batch.codec.bit() != 0 && batch.raw_bytes <= self.limits.batch_bytes && sampled;
        let suits = !frame.early || offered && batch.first_seq <= next;
        if !suits {
            mark!("early.dropped");
        }
        suits
    }

    /// A batch of a first flight whose events do not go on from the history here: its sender could not know.
    /// It is told to send them again, and then hears what is wrong.
    pub(super) fn refuse_early(&mut self, i: u32, l: u32, frame: &FrameHead, code: Code) -> bool {
        let foreign = matches!(code, Code::BadBatch | Code::HlcRange);
        if !frame.early || !foreign || self.links[l as usize].0.dropping {
            return false;
        }
        mark!("early.refused");
        self.owe_no_history(i, l);
        true
    }
}

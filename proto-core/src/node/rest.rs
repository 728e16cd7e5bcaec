//! The streams of third nodes, of which there may be ten thousand: told by one digest where both ends hold the same
//! of them, and otherwise only where they differ (docs/PROTOCOL.md#digest-1).
//!
//! Nothing is remembered between sessions, and of a session little: the two digests. A stream of the rest has no
//! link until it is told by an entry, so ten thousand that are the same take no memory either.

use super::Node;
use crate::code::Code;
use crate::fifo::NONE;
use crate::id::{NodeName, StreamKey};
use crate::planted::{Bug, has, mark};
use crate::policy::{PeerIdentity, Principal, authorize};
use crate::session::{Link, Session};
use crate::streams::{Stream, StreamTable};
use crate::wire::digest::{BUCKETS_MAX_BYTES, Digest, Sorting};
use crate::wire::frame::{FrameType, emit};

/// What a session knows of the rest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rest {
    /// What we told, if it was worth it, and what the peer did.
    pub(crate) ours: Option<Digest>,
    pub(crate) theirs: Option<Digest>,
    digest_due: bool,
    buckets_due: bool,
    buckets_came: bool,
    /// Entries are out or about to be; behind the last one it is to be said that it was the last.
    last_due: bool,
    /// Everything that differs was told, by us and by the peer.
    pub(crate) told: bool,
    pub(crate) peer_told: bool,
}

impl Rest {
    /// All streams are told by entries.
    pub(crate) const NONE: Rest = Rest {
        ours: None,
        theirs: None,
        digest_due: false,
        buckets_due: false,
        buckets_came: false,
        last_due: false,
        told: true,
        peer_told: true,
    };
}

impl Session {
    /// Whether a link waits for the peer's entry: its stream is not in the opening vector although the peer may hold it.
    pub(crate) fn awaits_entry(&self, link: &Link, (stream, me): (&StreamKey, &NodeName)) -> bool {
        let digests = self.rest.ours.is_some() || self.rest.theirs.is_some();
        digests && link.peer_handle == NONE && self.peer.is_some_and(|peer| is_third(stream, me, &peer.name))
    }
}

/// Whether a stream is of neither end.
pub(super) fn is_third(stream: &StreamKey, me: &NodeName, peer: &NodeName) -> bool {
    stream.node != *me && stream.node != *peer
}

/// The streams of third nodes of which there is something to tell.
fn held<'s>(
    streams: &'s StreamTable<'_>,
    (me, peer): (NodeName, NodeName),
) -> impl Iterator<Item = (u32, &'s Stream)> + use<'s> {
    streams.all().filter(move |(_, s)| s.durable.have.seq > 0 && is_third(&s.key, &me, &peer))
}

impl Node<'_> {
    /// A session begins with a peer that may read everything: whether the rest goes by digest.
    pub(super) fn digest_rest(&mut self, i: u32, peer: &PeerIdentity) -> bool {
        let mut digest = Digest::default();
        held(&self.streams, (self.config.name, peer.name)).for_each(|(_, s)| digest.add(&s.durable.have.chain));
        if (digest.count as usize) < self.config.digest_from {
            return false;
        }
        self.s(i).rest = Rest { ours: Some(digest), digest_due: true, told: false, ..Rest::NONE };
        true
    }

    /// DIGEST or BUCKETS, if one is due.
    pub(super) fn put_rest(&mut self, i: u32, out: &mut [u8]) -> Option<usize> {
        let (me, s) = (self.config.name, &mut self.sessions[i as usize].0);
        let (ours, peer) = (s.rest.ours?, s.peer?);
        if s.rest.digest_due {
            let n = emit(out, FrameType::Digest, false, |body| ours.emit(body))?;
            mark!("digest.sent");
            s.rest.digest_due = false;
            return Some(n);
        }
        let sorting = s.rest.theirs.filter(|_| s.rest.buckets_due).map(|theirs| Sorting::new(&ours, &theirs))?;
        let n = emit(out, FrameType::Buckets, false, |body| {
            sort(&self.streams, (me, peer.name), &sorting, body.get_mut(..sorting.bytes())?)
        })?;
        s.rest.buckets_due = false;
        Some(n)
    }

    /// Whether [`Node::put_rest`] has something to say.
    pub(super) fn rest_is_due(&self, i: u32) -> bool {
        let rest = &self.sessions[i as usize].0.rest;
        rest.digest_due || rest.buckets_due
    }

    /// Whether a VECTOR is to say that nothing more of the rest differs.
    pub(super) fn last_of_rest_is_due(&self, i: u32) -> bool {
        self.sessions[i as usize].0.rest.last_due
    }

    /// It has said so.
    pub(super) fn told_rest(&mut self, i: u32) {
        let rest = &mut self.s(i).rest;
        (rest.last_due, rest.told) = (false, true);
    }

    pub(super) fn take_digest(&mut self, i: u32, body: &[u8]) -> Result<(), Code> {
        let theirs = Digest::parse(body)?;
        let s = self.s(i);
        if s.peer_vector_done || s.rest.theirs.is_some() {
            return Err(Code::State);
        }
        s.rest.theirs = Some(theirs);
        let same = s.rest.ours == Some(theirs) || has(Bug::DigestUnchecked);
        s.rest.told |= same;
        s.rest.peer_told = same;
        s.rest.buckets_due = s.rest.ours.is_some() && !same;
        if same {
            mark!("digest.same");
            self.note_rest(i, |_| true);
        }
        self.mark_ready(i);
        Ok(())
    }

    /// The peer's opening vector is complete: without a DIGEST in it, it wants to hear of our rest one by one.
    pub(super) fn rest_of_opening(&mut self, i: u32) -> Result<(), Code> {
        let rest = &self.sessions[i as usize].0.rest;
        if rest.ours.is_some() && rest.theirs.is_none() {
            mark!("digest.unanswered");
            self.tell_rest(i, |_| true)?;
        }
        Ok(())
    }

    /// How the peer's streams add up, bucket by bucket: those that differ are told by entries.
    pub(super) fn take_buckets(&mut self, i: u32, body: &[u8]) -> Result<(), Code> {
        let (me, peer) = (self.config.name, self.peer(i)?.name);
        let rest = &mut self.sessions[i as usize].0.rest;
        let (Some(ours), Some(theirs)) = (rest.ours, rest.theirs) else { return Err(Code::State) };
        if ours == theirs || core::mem::replace(&mut rest.buckets_came, true) {
            return Err(Code::State);
        }
        let sorting = Sorting::new(&ours, &theirs);
        if body.len() != sorting.bytes() {
            return Err(Code::Malformed);
        }
        mark!("digest.differs");
        let mut sums = [0; BUCKETS_MAX_BYTES];
        sort(&self.streams, (me, peer), &sorting, &mut sums[..body.len()]);
        let same = |key: &StreamKey| {
            let place = sorting.place(key);
            body.get(place.clone()) == sums.get(place) || has(Bug::BucketsUnchecked)
        };
        self.note_rest(i, same);
        self.tell_rest(i, |key| !same(key))
    }

    /// The peer has told the last of its rest. Once, and only after a DIGEST.
    pub(super) fn end_rest(&mut self, i: u32) -> Result<(), Code> {
        let s = self.s(i);
        if core::mem::replace(&mut s.rest.peer_told, true) {
            return Err(Code::State);
        }
        Ok(())
    }

    /// Entries of these are due, and then the word that they were the last.
    fn tell_rest(&mut self, i: u32, which: impl Fn(&StreamKey) -> bool) -> Result<(), Code> {
        let peer = self.peer(i)?;
        for n in 0..self.streams.slots.len() as u32 {
            if self.is_untold(i, n).is_some_and(|key| which(&key)) {
                self.link_third(i, n, &peer)?;
            }
        }
        self.s(i).rest.last_due = true;
        self.mark_ready(i);
        Ok(())
    }

    /// The peer has told that it lacks something of stream `n`: if it is one of the rest, an entry tells of it at once.
    pub(super) fn tell_one(&mut self, i: u32, n: u32) -> Result<(), Code> {
        if self.sessions[i as usize].0.rest.ours.is_none() || self.is_untold(i, n).is_none() {
            return Ok(());
        }
        mark!("digest.lacking_part");
        let peer = self.peer(i)?;
        self.mark_ready(i);
        self.link_third(i, n, &peer)
    }

    /// The key of stream `n` if it belongs to the rest of session `i` and was told by no entry.
    fn is_untold(&self, i: u32, n: u32) -> Option<StreamKey> {
        self.third_without_link(i, n).filter(|_| self.streams.at(n).is_some_and(|s| s.durable.have.seq > 0))
    }

    /// Whether the peer of session `i`, which may give out stream `n`, has heard of it by a digest at most.
    pub(super) fn may_give_untold(&self, i: u32, n: u32) -> bool {
        let s = &self.sessions[i as usize].0;
        let key = s.rest.ours.and_then(|_| self.third_without_link(i, n));
        s.peer
            .zip(key)
            .is_some_and(|(peer, key)| authorize(self.config.policy, Principal::Peer(&peer), &key).write.is_some())
    }

    /// The key of stream `n` if it is one of a third node that session `i` has no link for.
    fn third_without_link(&self, i: u32, n: u32) -> Option<StreamKey> {
        let (peer, stream) = (self.sessions[i as usize].0.peer?, self.streams.at(n)?);
        if !is_third(&stream.key, &self.config.name, &peer.name) {
            return None;
        }
        let mut l = stream.links;
        while let Some(link) = self.links.get(l as usize) {
            if link.0.session == i {
                return None;
            }
            l = link.0.next_of_stream;
        }
        Some(stream.key)
    }

    fn link_third(&mut self, i: u32, n: u32, peer: &PeerIdentity) -> Result<(), Code> {
        let Some(key) = self.streams.at(n).map(|s| s.key) else { return Ok(()) };
        let grants = authorize(self.config.policy, Principal::Peer(peer), &key);
        if grants.read.is_some() {
            self.add_link(i, n, grants)?;
        }
        Ok(())
    }

    /// A hub holds as much of these as we do.
    fn note_rest(&mut self, i: u32, which: impl Fn(&StreamKey) -> bool) {
        for n in 0..self.streams.slots.len() as u32 {
            if self.is_untold(i, n).is_some_and(|key| which(&key)) {
                let seq = self.streams.at(n).map_or(0, |s| s.durable.have.seq);
                self.note_held(i, n, seq);
            }
        }
    }

    /// Whether the peer of some session has heard of streams by a digest.
    pub(super) fn has_digests(&self) -> bool {
        self.sessions.iter().any(|s| s.0.state == crate::session::State::Live && s.0.rest.ours.is_some())
    }

    /// A stream has grown: sessions whose peer heard of it by a digest hear of it by an entry.
    pub(super) fn announce_growth(&mut self, n: u32) {
        for i in 0..self.sessions.len() as u32 {
            let s = &self.sessions[i as usize].0;
            let Some(peer) = s.peer.filter(|_| s.rest.ours.is_some() && s.state == crate::session::State::Live) else {
                continue;
            };
            if s.goodbye_sent || has(Bug::BirthUnannounced) || self.is_untold(i, n).is_none() {
                continue;
            }
            mark!("digest.grew");
            match self.link_third(i, n, &peer) {
                Ok(()) => self.mark_ready(i),
                Err(code) => self.end(i, code, crate::session::EndedBy::Us),
            }
        }
    }
}

/// Sums up what is held of third nodes' streams. How many bytes that are.
fn sort(streams: &StreamTable<'_>, ends: (NodeName, NodeName), sorting: &Sorting, sums: &mut [u8]) -> Option<usize> {
    sums.fill(0);
    for (_, s) in held(streams, ends) {
        sorting.add(sums.get_mut(sorting.place(&s.key))?, &s.durable.have.chain);
    }
    Some(sums.len())
}

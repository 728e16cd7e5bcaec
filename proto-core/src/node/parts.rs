//! Large batches go in parts (docs/PROTOCOL.md#part-1): a cut then costs a part, and what is urgent goes between
//! two of them.
//!
//! A batch is packed once, into the outbox; from there its parts are sent, to this peer and to others, and on
//! from where the peer has it after a cut. If it has made room for another meanwhile, it is packed again: that
//! mostly gives the same bytes, and if not, the parts begin anew.

use super::{Node, ReadRequest, Transmit};
use crate::code::Code;
use crate::event::Records;
use crate::history::Past;
use crate::limits::BATCH_MIN_BYTES;
use crate::outbox::Packed;
use crate::planted::{Bug, has, mark};
use crate::session::{Cut, EndedBy, Flight, Pace};
use crate::varint::{Writer, varint_len};
use crate::wire::batch::{self, Emitted};
use crate::wire::control::PARTS;
use crate::wire::frame::{FRAME_HEAD_MAX_BYTES, FrameType, emit};
use crate::wire::part::{Have, PART_HEAD_MAX_BYTES, ParcelTag, Part, tag_of};

/// A part is not made smaller than this: with what TLS and TCP put around it, it fills a packet.
const PART_MIN_BYTES: usize = 1280;

impl Node<'_> {
    /// Whether the peer of session `i` takes large batches in parts, and this node makes them.
    pub(super) fn makes_parts(&self, i: u32) -> bool {
        let s = &self.sessions[i as usize].0;
        !self.outbox.is_empty() && s.peer_vector_done && s.hello.is_some_and(|hello| hello.features & PARTS != 0)
    }

    /// Bytes of the largest frame that goes to the peer of session `i` whole.
    fn whole_bytes(&self, i: u32, out_bytes: usize) -> usize {
        let s = &self.sessions[i as usize].0;
        let most = s.hello.map_or(0, |hello| hello.frame_bytes());
        let frame = s.pace.frame_bytes(self.config.timing.frame_time_ms, BATCH_MIN_BYTES, most);
        // A little more than one is not worth two.
        (frame + frame / 2).min(s.credit).min(out_bytes)
    }

    /// Whether the batch that begins at `seq` is to go in parts: it may need `need` bytes, or the peer has a part
    /// of it.
    pub(super) fn goes_in_parts(&self, i: u32, l: u32, seq: u64, need: usize, out_bytes: usize) -> bool {
        self.makes_parts(i) && (need > self.whole_bytes(i, out_bytes) || self.cut_of(i, l, seq).is_some())
    }

    fn lane_of(&self, l: u32) -> usize {
        self.streams.at(self.links[l as usize].0.stream).map_or(0, |stream| stream.key.lane as usize)
    }

    fn cut_of(&self, i: u32, l: u32, seq: u64) -> Option<Cut> {
        self.sessions[i as usize].0.cuts[self.lane_of(l)].filter(|cut| cut.link == l && cut.seq == seq)
    }

    /// About how long the next frame of session `i` is, if it is a part.
    pub(super) fn part_bytes(&self, i: u32) -> Option<usize> {
        let s = &self.sessions[i as usize].0;
        let goes_on = |lane: usize| s.cuts[lane].is_some_and(|cut| cut.begun) && self.cut_in(i, lane).is_some();
        (0..s.cuts.len()).any(goes_on).then_some(PART_MIN_BYTES)
    }

    /// The link of a lane whose next batch goes in parts: it goes on before the others do, or two that take
    /// turns would each make the peer forget the other's.
    pub(super) fn cut_in(&self, i: u32, lane: usize) -> Option<u32> {
        let cut = self.sessions[i as usize].0.cuts[lane]?;
        (cut.seq == self.links[cut.link as usize].0.sent + 1).then_some(cut.link)
    }

    /// Nothing more of the parts of link `l` is sent, and nothing is known of those under way.
    pub(super) fn drop_cut(&mut self, i: u32, l: u32) {
        let lane = self.lane_of(l);
        let cut = &mut self.s(i).cuts[lane];
        *cut = cut.filter(|cut| cut.link != l);
        self.drop_part_flights(i, l);
    }

    fn drop_part_flights(&mut self, i: u32, l: u32) {
        self.s(i).take_flights(None, |f| f.link == l && f.upto > 0);
    }

    /// The next part for link `l`, if its batch is packed already.
    pub(super) fn next_part(&mut self, i: u32, l: u32, out: &mut [u8]) -> Option<Transmit> {
        let link = &self.links[l as usize].0;
        // Before the first event goes out, histories are compared: that takes a read.
        if link.peer_tag.is_some() || !self.makes_parts(i) {
            return None;
        }
        let (n, seq) = (link.stream, link.sent + 1);
        let cut = self.cut_of(i, l, seq)?;
        let (slot, packed) = self.outbox.find(|p| p.stream == n && p.seq == seq && p.tag == cut.tag)?;
        if cut.offset >= packed.len() {
            return None;
        }
        Some(self.put_part(i, l, cut, (slot, packed), out))
    }

    /// Packs what was read for link `l` and sends the first part of it, or the part that the peer lacks; if it
    /// has become small enough, all of it.
    pub(super) fn pack_parts(
        &mut self,
        i: u32,
        l: u32,
        request: &ReadRequest,
        records: &Records<'_>,
        out: &mut [u8],
    ) -> Transmit {
        let (n, seq) = (request.stream, request.from_seq);
        let known = self.cut_of(i, l, seq);
        let tag = known.map(|cut| cut.tag);
        let (codecs, share) = (self.s(i).hello.map_or(0, |h| h.codecs), self.history_share(i));
        let share = if self.links[l as usize].0.no_history { 0 } else { share };
        let fits = |p: &Packed| p.stream == n && p.seq == seq && codecs & p.codec.bit() != 0 && p.past_bytes <= share;
        let found = self.outbox.find(|p| fits(p) && Some(p.tag) == tag).or_else(|| self.outbox.find(fits));
        let found = match found {
            Some(found) => found,
            None => match self.pack_into_outbox(i, l, request, records, (tag, out.len())) {
                Some((slot, made, None)) => {
                    mark!("part.whole_after_all");
                    let packed = &self.outbox.room(slot)[..made.body_bytes];
                    let frame = emit(out, FrameType::Batch, false, |body| {
                        body.get_mut(..packed.len())?.copy_from_slice(packed);
                        Some(packed.len())
                    });
                    return match frame {
                        Some(bytes) => {
                            self.remember(n, seq, records.iter().take(made.count as usize), share);
                            self.sent(i, l, (made.last_seq, made.count, 0), (bytes, true), out)
                        }
                        None => self.cannot_pack(i),
                    };
                }
                Some((slot, _, Some(packed))) => (slot, packed),
                None => return self.cannot_pack(i),
            },
        };
        self.remember(n, seq, records.iter().take(1), share);
        let packed = found.1;
        let cut = known.filter(|cut| cut.tag == packed.tag && cut.offset < packed.len());
        if cut.is_none() && known.is_some_and(|cut| cut.begun) {
            mark!("part.begun_anew");
            self.drop_part_flights(i, l);
        }
        let fresh = Cut { link: l, seq, tag: packed.tag, offset: 0, held: 0, begun: false };
        self.put_part(i, l, cut.unwrap_or(fresh), found, out)
    }

    fn cannot_pack(&mut self, i: u32) -> Transmit {
        self.end(i, Code::Limit, EndedBy::Us);
        Transmit::Idle
    }

    /// Packs as many events as fit one frame into a slot of the outbox. If not even the first does, that alone,
    /// and says what it is.
    fn pack_into_outbox(
        &mut self,
        i: u32,
        l: u32,
        request: &ReadRequest,
        records: &Records<'_>,
        (wanted, out_bytes): (Option<ParcelTag>, usize),
    ) -> Option<(usize, Emitted, Option<Packed>)> {
        let whole = self.whole_bytes(i, out_bytes).saturating_sub(FRAME_HEAD_MAX_BYTES);
        let (n, seq, handle) = (request.stream, request.from_seq, self.links[l as usize].0.handle);
        let most = self.s(i).hello.map_or(0, |h| h.frame_bytes()).min(self.limits.frame_bytes);
        let codec = self.codec_for_parts(i);
        let slot = self.outbox.claim()?;
        // A state does not go on over what is packed once for all: this codec has none.
        let (past, none) = (self.refer_to(i, l, codec, seq), self.past_of(i, n, seq, seq));
        let past = self.histories.fill(past);
        let past_bytes = past.bytes.len();
        let (codecs, scratch) = (&mut self.codecs, &mut self.scratch);
        let room = &mut self.outbox.room(slot)[..most];
        let mut put = |target: usize, past: &Past<'_>, room: &mut [u8]| {
            batch::emit(handle, records, target, (codecs, codec), past, scratch, room)
        };
        let mut made = put(request.bytes.max(1), &past, room).or_else(|| put(1, &past, room))?;
        if made.count > 1 && made.body_bytes > whole {
            made = put(1, &past, room)?;
        }
        if made.body_bytes <= whole {
            self.ratio(i, &made);
            return Some((slot, made, None));
        }
        mark!("part.packed");
        let start = varint_len(u64::from(handle));
        let mut packed = Packed { stream: n, seq, tag: [0; 8], codec, past_bytes, start, end: made.body_bytes };
        packed.tag = tag_of(&room[start..made.body_bytes]);
        // What refers to nothing is packed the same way after a restart, and for other peers: it may cost a little.
        if past_bytes > 0 && wanted != Some(packed.tag) {
            let alone = put(1, &none, &mut self.parcel[..most]);
            let tag = |made: &Emitted| tag_of(&self.parcel[start..made.body_bytes]);
            let worth = |alone: &Emitted| alone.body_bytes - alone.body_bytes / 8 <= made.body_bytes;
            if let Some(alone) = alone.filter(|alone| worth(alone) || wanted == Some(tag(alone))) {
                packed = Packed { tag: tag(&alone), past_bytes: 0, end: alone.body_bytes, ..packed };
                room[..alone.body_bytes].copy_from_slice(&self.parcel[..alone.body_bytes]);
                made = alone;
            }
        }
        self.outbox.keep(slot, packed);
        self.ratio(i, &made);
        Some((slot, made, Some(packed)))
    }

    /// Sends the next part of a packed batch.
    fn put_part(&mut self, i: u32, l: u32, mut cut: Cut, (slot, packed): (usize, Packed), out: &mut [u8]) -> Transmit {
        let frame_time_ms = self.config.timing.frame_time_ms;
        let (handle, lane) = (self.links[l as usize].0.handle, self.lane_of(l));
        let s = &mut self.sessions[i as usize].0;
        let most = s.hello.map_or(0, |h| h.frame_bytes());
        let head_bytes = FRAME_HEAD_MAX_BYTES + PART_HEAD_MAX_BYTES;
        let room = out.len().min(s.credit).min(most).saturating_sub(head_bytes);
        if !cut.begun && cut.offset > 0 {
            mark!("part.resumed");
            if has(Bug::PartsBeginAgain) {
                (cut.offset, cut.held) = (0, 0);
            }
        }
        let parcel = self.outbox.parcel(slot);
        let left = &parcel[cut.offset.min(parcel.len())..];
        let part = s.pace.frame_bytes(frame_time_ms, PART_MIN_BYTES, most);
        let part = if left.len() <= part + part / 2 { left.len() } else { part };
        let bytes = &left[..part.min(room)];
        let part = Part { handle, seq: cut.seq, total: parcel.len(), tag: cut.tag, offset: cut.offset };
        let frame = emit(out, FrameType::Part, false, |body| {
            let mut w = Writer::new(body);
            part.emit(&mut w).ok()?;
            w.put(bytes).ok()?;
            Some(w.len())
        });
        let sent = bytes.len();
        let Some(frame) = frame.filter(|_| sent > 0) else { return self.cannot_pack(i) };
        (cut.offset, cut.begun) = (cut.offset + sent, true);
        s.cuts[lane] = Some(cut);
        self.sent(i, l, (cut.seq, 1, cut.offset), (frame, cut.offset == packed.len()), out)
    }

    /// The peer says how far it has what is sent in parts: before this node begins, or on the way.
    pub(super) fn take_have(&mut self, i: u32, body: &[u8]) -> Result<(), Code> {
        let (me, peer) = (self.config.name, self.peer(i)?);
        let Have { parcel, bytes } = Have::parse(body, &peer.name, &me)?;
        let Some(n) = self.streams.find(&parcel.key) else { return Ok(()) };
        // A stream that goes by digest is told now, and its parts go on where they were cut.
        self.tell_one(i, n)?;
        let named = |l: &u32| self.links[*l as usize].0.stream == n && self.links[*l as usize].0.read.is_some();
        let Some(l) = self.links_of(i).find(named) else { return Ok(()) };
        let bytes = usize::try_from(bytes).map_err(|_| Code::Malformed)?;
        let (now, lane) = (self.now.at, parcel.key.lane as usize);
        let s = &mut self.sessions[i as usize].0;
        let known = s.cuts[lane].as_mut().filter(|c| c.link == l && c.seq == parcel.seq && c.tag == parcel.tag);
        if bytes == 0 {
            mark!("part.lost_by_peer");
            if let Some(cut) = known {
                (cut.offset, cut.held) = (0, 0);
                // There is something to send after all: a last word is void.
                s.goodbye_sent = false;
                self.drop_part_flights(i, l);
                let link = &mut self.links[l as usize].0;
                link.sent = link.sent.min(link.peer_have.max(parcel.seq - 1));
                self.queue_again(l);
                self.mark_ready(i);
            }
            return Ok(());
        }
        match known.filter(|cut| cut.begun) {
            Some(cut) if bytes > cut.offset => return Err(Code::State),
            Some(cut) => cut.held = cut.held.max(bytes),
            // Of something that is over, or not sent by this node.
            None if s.peer_vector_done => return Ok(()),
            None => {
                let cut = Cut { link: l, seq: parcel.seq, tag: parcel.tag, offset: bytes, held: bytes, begun: false };
                s.cuts[lane] = Some(cut);
                return Ok(());
            }
        }
        let come = |f: &Flight| f.link == l && f.last_seq == parcel.seq && (1..=bytes).contains(&f.upto);
        s.take_flights(Some(now), come);
        self.mark_ready(i);
        Ok(())
    }

    /// Notes how well a batch was compressed, for the size of the next.
    pub(super) fn ratio(&mut self, i: u32, made: &Emitted) {
        let ratio = (made.raw_bytes as u64 * 256 / made.body_bytes.max(1) as u64).clamp(128, 256 * 64);
        let pace: &mut Pace = &mut self.s(i).pace;
        pace.ratio_256 = (pace.ratio_256 * 3 + ratio) / 4;
    }
}

//! A node and a peer that says anything, in any portions, at any time.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use super::Tape;
use crate::accept::{AcceptanceRef, Verdict};
use crate::code::Code;
use crate::codec::{CodecId, Codecs};
use crate::event::{Chain, Event as LogEvent, RECORD_HEAD_BYTES, Records, put_record};
use crate::history::Past;
use crate::hlc::Hlc;
use crate::id::{Incarnation, Lane, NodeName, StreamKey};
use crate::limits::{Config, Limits, Timing};
use crate::log::DataKey;
use crate::medium::{Medium, RamMedium, drive};
use crate::node::{Event, Flow, Memory, Node, SessionId, Setup, Transmit, WriteFault};
use crate::policy::{PeerIdentity, Policy, Role};
use crate::recovery::{Recovered, StreamMemory};
use crate::time::Now;
use crate::varint::Writer;
use crate::wire::batch;
use crate::wire::control::Hello;
use crate::wire::frame::{FrameType, OPTIONAL, emit};
use crate::wire::part::{Have, PART_HEAD_MAX_BYTES, Part, tag_of};
use crate::wire::vector::Entry;

const LIMITS: Limits = Limits {
    sessions: 2,
    streams: 8,
    streams_per_node: 4,
    links: 16,
    event_bytes: 256,
    frame_bytes: 4096,
    batch_bytes: 2048,
    credit_bytes: 4096,
    group_bytes: 4096,
    segment_bytes: 32 << 10,
    histories: 2,
    history_bytes: 1024,
    parcels: 2,
    parcel_bytes: 4096,
    outbox: 1,
};
/// Events that the peer has of its own.
const PEER_EVENTS: u64 = 60;
const DEPLOYMENT: u64 = 1;

/// The bytes choose the roles, then what the peer, the disk, the clocks and the application do.
/// Promised: no panic, one `Closed` for each `open`, no more bytes taken than offered, the node
/// comes to rest, its next deadline lies ahead, and an honest peer is served afterwards.
pub fn session(data: &[u8]) {
    let mut tape = Tape(data);
    let mut w = World::new(tape.byte());
    w.open(0);
    for _ in 0..400 {
        if tape.is_over() {
            break;
        }
        w.step(&mut tape);
    }
    for id in w.open.clone() {
        w.node.close(w.now, id);
    }
    w.settle();
    assert!(w.open.is_empty(), "a session was closed and never told");
    if w.node.storage_failed().is_none() {
        w.honest_peer();
    }
}

struct World {
    node: Node<'static>,
    disk: RamMedium,
    disk_works: bool,
    now: Now,
    peer: PeerIdentity,
    open: Vec<SessionId>,
    /// Bytes that a paused session has yet to take.
    pending: Vec<(SessionId, Vec<u8>)>,
    chains: Vec<Chain>,
    sent: u64,
    /// How far the peer has sent a batch in parts.
    part_at: usize,
    out: Vec<u8>,
}

impl World {
    fn new(choice: u8) -> Self {
        let role = |bit: u8| if choice & bit == 0 { Role::Hub } else { Role::Clinic };
        let name = |n| NodeName::new(n).expect("a name");
        let config = Config {
            name: name("self"),
            role: role(1),
            digest_from: 1,
            deployment: DEPLOYMENT,
            policy: if choice & 4 == 0 { Policy::Own } else { Policy::All },
            fingerprint: 1,
            hlc_bound_ms: 600_000,
            hlc_tick_ms: 1,
            wall_floor_ms: 0,
            accept_bytes: 0,
            timing: Timing::default(),
        };
        let (now, key) = (Now::new(1000, 2000), || (1, DataKey::new([7; 32])));
        let (limits, codecs) = (LIMITS, Codecs::default());
        let setup = Setup { config, limits, memory: Memory::owned(&limits), codecs, key: key(), seed: [3; 32] };
        let recovered = Recovered::new(config.name, StreamMemory::owned(limits.streams));
        let mut node = Node::new(setup, recovered, now).expect("limits that fit");
        if choice & 8 != 0 {
            let odd = |_: &StreamKey, e: &LogEvent<'_>| match e.hlc.ms() % 2 {
                0 => Verdict::Take,
                _ => Verdict::Refuse,
            };
            node.accept_by(AcceptanceRef::Owned(Box::new(odd)));
        }
        let peer = PeerIdentity { name: name("peer"), role: role(2) };
        let mut chains = vec![Chain::start(&stream(peer.name))];
        for seq in 1..=PEER_EVENTS {
            let payload = payload(seq);
            chains.push(chains[seq as usize - 1].then(&event(seq, &payload)));
        }
        let disk = RamMedium::new(key(), limits.segment_bytes, limits.group_bytes);
        let (open, pending, out) = (Vec::new(), Vec::new(), vec![0; limits.frame_bytes + 64]);
        let mut w = World { node, disk, disk_works: true, now, peer, open, pending, chains, sent: 0, part_at: 0, out };
        w.settle();
        for n in 0..choice >> 4 {
            w.append(n);
        }
        w
    }

    fn step(&mut self, tape: &mut Tape<'_>) {
        let (op, arg) = (tape.byte(), tape.byte());
        let id = self.open.get(usize::from(op >> 4) % self.open.len().max(1)).copied();
        match (op % 16, id) {
            (0, Some(id)) => {
                let n = usize::from(arg);
                let chunk = 1 + usize::from(tape.byte());
                tape.take(n).chunks(chunk).for_each(|c| self.receive(id, c));
            }
            (1, Some(id)) => {
                let n = usize::from(arg & 63);
                let (kind, body) = (1 + tape.byte() % 21, tape.take(n));
                self.frame(id, kind | arg & 0x40, body);
            }
            (2, Some(id)) => self.greet(id, arg),
            (3, Some(id)) => self.batch(id, 1 + u64::from(arg % 32), tape.byte()),
            (4, Some(id)) => {
                let numbers = [4, 5, 6, 7, 8];
                let mut body = [0; 32];
                let mut w = Writer::new(&mut body);
                let (a, b) = (u64::from(tape.byte() % 4), u64::from(tape.u16()) >> (arg % 16));
                if arg % 5 == 0 {
                    w.varint(a).expect("room");
                }
                w.varint(b).expect("room");
                let n = w.len();
                self.frame(id, numbers[usize::from(arg) % 5], &body[..n]);
            }
            (13, Some(id)) => self.part(id, arg, tape.byte()),
            (14, Some(id)) => self.have(id, arg, tape.u16()),
            (5, _) => {
                self.now.at = self.now.at.after_ms(1 << (arg % 24));
                self.node.timeout(self.now);
            }
            (6, _) => self.now.wall_ms = u64::from(tape.u16()) << (arg % 48),
            (7, _) => self.disk_works = arg % 4 != 0,
            (8, _) => self.append(arg),
            (9, _) => self.open(arg),
            (10, Some(id)) => match arg % 4 {
                0 => self.node.close(self.now, id),
                1 => self.node.abort(self.now, id, Code::Stopping),
                _ => self.node.finish(self.now, id),
            },
            (11, _) if arg == 0x5a => {
                (self.disk.fault, self.disk_works) = (Some(WriteFault::Failed), true);
            }
            (11, _) => self.disk.fault = (arg % 3 == 0).then_some(WriteFault::Full),
            (12, _) => {
                // Calls out of turn.
                self.node.timeout(self.now);
                let _ = (self.node.poll_ready(), self.node.poll_resumed());
                self.node.complete(self.now, crate::node::Completion::Durable { upto: u64::from(arg % 4) });
            }
            _ => self.settle(),
        }
        if arg & 0x80 != 0 {
            self.settle();
        }
    }

    fn open(&mut self, arg: u8) {
        let mut peer = self.peer;
        if arg & 1 != 0 {
            peer.name = NodeName::new("other").expect("a name");
        }
        if let Ok(id) = self.node.open(self.now, peer) {
            assert!(!self.open.contains(&id), "a session's name is given twice");
            self.open.push(id);
        }
    }

    fn append(&mut self, arg: u8) {
        let payload = [arg; 200];
        let lane = Lane::ALL[usize::from(arg) % 3];
        let _ = self.node.append(self.now, lane, u16::from(arg), &payload[..usize::from(arg) % 200]);
    }

    fn receive(&mut self, id: SessionId, bytes: &[u8]) {
        let held = self.pending.iter().position(|p| p.0 == id).map(|i| self.pending.swap_remove(i).1);
        let mut all = held.unwrap_or_default();
        all.extend_from_slice(bytes);
        let Ok(got) = self.node.receive(self.now, id, &all) else { return };
        assert!(got.consumed <= all.len(), "more was taken than offered");
        match got.flow {
            Flow::Open => assert_eq!(got.consumed, all.len(), "an open session takes everything"),
            Flow::Paused => self.pending.push((id, all.split_off(got.consumed))),
            Flow::Closed => {}
        }
    }

    fn frame(&mut self, id: SessionId, first: u8, body: &[u8]) {
        let mut out = vec![0; body.len() + 8];
        let fill = |b: &mut [u8]| {
            b[..body.len()].copy_from_slice(body);
            Some(body.len())
        };
        let n = emit(&mut out, FrameType::Ping, false, fill).expect("room");
        out[0] = first;
        self.receive(id, &out[..n]);
    }

    /// HELLO and a vector, true or nearly so.
    fn greet(&mut self, id: SessionId, arg: u8) {
        let hello = Hello {
            features: u32::from(arg >> 6),
            codecs: 1,
            frame_kib: [2, 0, 1, u32::MAX][usize::from(arg >> 5) % 4],
            batch_kib: 2,
            credit_kib: [4, 0][usize::from(arg >> 4) % 2],
            deployment: Hello::deployment(DEPLOYMENT),
            history_kib: 1,
            wall_s: self.now.wall_ms / 1000,
            sample: 0,
        };
        let mut body = [0; 256];
        let n = hello.emit(&mut body).expect("room");
        self.frame(id, FrameType::Hello as u8, &body[..n]);
        let have = self.node.frontier().find(|e| e.key == stream(self.peer.name)).map_or(0, |e| e.have);
        self.sent = have;
        let (me, mut w) = (NodeName::new("self").expect("a name"), Writer::new(&mut body));
        if arg & 1 == 0 {
            let seq = if arg & 2 == 0 { PEER_EVENTS } else { u64::from(arg) };
            let tag = self.chains[(seq as usize).min(PEER_EVENTS as usize)].tag();
            let key = stream(self.peer.name);
            Entry { key, seq, tag }.emit(&mut w, &self.peer.name, &me).expect("room");
        }
        if arg & 4 != 0 {
            // What it claims to hold of others, us among them.
            let (node, tag) = (NodeName::new(["self", "third"][usize::from(arg >> 3) % 2]).expect("a name"), [arg; 8]);
            let key = StreamKey { node, incarnation: self.node.incarnation(), lane: Lane::Normal };
            Entry { key, seq: u64::from(arg >> 4), tag }.emit(&mut w, &self.peer.name, &me).expect("room");
        }
        let n = w.len();
        self.frame(id, FrameType::Vector as u8 | 0x40, &body[..n]);
    }

    /// The peer's next events, as they should be unless `wrong` says otherwise.
    fn batch(&mut self, id: SessionId, count: u64, wrong: u8) {
        if let Some((body, last_seq)) = self.made(count, wrong) {
            self.sent = last_seq;
            self.frame(id, FrameType::Batch as u8, &body);
        }
    }

    /// The next part of the peer's next event, or of the one before if it has come to its end.
    fn part(&mut self, id: SessionId, arg: u8, wrong: u8) {
        let Some((body, last_seq)) = self.made(1, 0) else { return };
        let parcel = &body[1..];
        let offset = if wrong == 1 { usize::from(arg) } else { self.part_at };
        let piece = parcel.get(offset..).unwrap_or_default();
        let piece = &piece[..piece.len().min(1 + usize::from(arg & 0x7f))];
        let (seq, total) = (last_seq, parcel.len() + usize::from(wrong == 2));
        let tag = if wrong == 3 { [arg; 8] } else { tag_of(parcel) };
        let mut out = vec![0; PART_HEAD_MAX_BYTES + piece.len()];
        let mut w = Writer::new(&mut out);
        Part { handle: u32::from(wrong >> 6), seq, total, tag, offset }.emit(&mut w).expect("room");
        w.put(piece).expect("room");
        let n = w.len();
        self.part_at = offset + piece.len();
        if self.part_at >= parcel.len() {
            (self.part_at, self.sent) = (0, last_seq);
        }
        self.frame(id, FrameType::Part as u8 | arg & 0x40, &out[..n]);
    }

    /// The peer says that it has some of an event of this node.
    fn have(&mut self, id: SessionId, arg: u8, bytes: u16) {
        let (me, peer) = (NodeName::new("self").expect("a name"), self.peer.name);
        let lane = Lane::ALL[usize::from(arg) % 3];
        let key = StreamKey { node: me, incarnation: self.node.incarnation(), lane };
        let parcel = Entry { key, seq: 1 + u64::from(arg >> 4), tag: [arg & 3; 8] };
        let mut body = [0; 128];
        let n = Have { parcel, bytes: 1 + u64::from(bytes) }.emit(&mut body, &peer, &me).expect("room");
        self.frame(id, FrameType::Have as u8 | OPTIONAL, &body[..n]);
    }

    /// The body of a batch with the peer's next events, and the last of them.
    fn made(&self, count: u64, wrong: u8) -> Option<(Vec<u8>, u64)> {
        let first_seq = if wrong == 1 { self.sent + 2 } else { self.sent + 1 };
        let last = (first_seq + count - 1).min(PEER_EVENTS);
        if last < first_seq {
            return None;
        }
        let mut records = vec![0; count as usize * (RECORD_HEAD_BYTES + 256)];
        let mut w = Writer::new(&mut records);
        for seq in first_seq..=last {
            put_record(&mut w, &event(seq, &payload(seq))).expect("room");
        }
        let n = w.len();
        let prev_chain = if wrong == 2 { Chain([9; 32]) } else { self.chains[first_seq as usize - 1] };
        let records = Records { first_seq, prev_chain, bytes: &records[..n] };
        let (mut scratch, mut body) = (vec![0; 4096], vec![0; 4200]);
        let handle = u32::from(wrong >> 6);
        let stored = (&mut Codecs::default(), CodecId::STORED);
        let made = batch::emit(handle, &records, 1900, stored, &Past::default(), &mut scratch, &mut body);
        let made = made.expect("room");
        if wrong == 3 {
            let at = usize::from(wrong) % made.body_bytes;
            body[at] ^= 1;
        }
        body.truncate(made.body_bytes);
        Some((body, made.last_seq))
    }

    /// Serves the node until nothing moves.
    fn settle(&mut self) {
        for _ in 0..2000 {
            let mut moved = false;
            if self.disk_works {
                let now = self.now;
                drive(&mut self.node, &mut self.disk, || now);
            }
            while let Some(id) = self.node.poll_ready() {
                moved |= self.transmit(id);
            }
            while let Some(e) = self.node.poll_event() {
                moved = true;
                if let Event::Closed { session, .. } = e {
                    let at = self.open.iter().position(|o| *o == session).expect("closed once, after it was opened");
                    self.open.swap_remove(at);
                    self.pending.retain(|p| p.0 != session);
                    self.transmit(session);
                    self.node.close(self.now, session);
                    assert_eq!(self.node.stats(session), None, "a closed session is gone");
                }
            }
            while let Some(id) = self.node.poll_resumed() {
                moved = true;
                self.receive(id, &[]);
            }
            self.node.timeout(self.now);
            moved |= self.node.poll_timeout().is_some_and(|(at, _)| at <= self.now.at);
            if !moved {
                for id in self.open.clone() {
                    self.transmit(id);
                }
                return;
            }
        }
        panic!("the node never comes to rest");
    }

    fn transmit(&mut self, id: SessionId) -> bool {
        let mut records = [0; 4096];
        for _ in 0..2000 {
            let mut next = self.node.poll_transmit(self.now, id, &mut self.out);
            if let Ok(Transmit::Read(request)) = next {
                assert!(request.from_seq <= request.upto_seq);
                let read = self.disk.read(&request, &mut records);
                let (prev_chain, n) = read.expect("what is durable can be read");
                let records = Records { first_seq: request.from_seq, prev_chain, bytes: &records[..n] };
                next = Ok(self.node.complete_read(self.now, &request, Ok(records), &mut self.out));
                if next == Ok(Transmit::Idle) {
                    continue;
                }
            }
            match next {
                Ok(Transmit::Bytes(n)) => assert!(n > 0 && n <= self.out.len()),
                Ok(Transmit::Idle) => return true,
                Ok(Transmit::Close) | Err(_) => return false,
                Ok(Transmit::Read(_)) => panic!("a read is answered with a read"),
            }
        }
        panic!("the node never stops sending");
    }

    /// What a strange peer did must not be felt by the next one.
    fn honest_peer(&mut self) {
        (self.disk.fault, self.disk_works) = (None, true);
        self.settle();
        self.open(0);
        self.settle();
        let id = *self.open.first().expect("a free place for a session");
        self.greet(id, 1);
        self.settle();
        self.frame(id, FrameType::Credit as u8, &[0xff, 0xff, 3]);
        self.settle();
        assert_eq!(self.open, [id], "an honest peer is not sent away");
        let stats = self.node.stats(id).expect("a live session");
        assert!(stats.bytes_out > 0);
    }
}

fn stream(node: NodeName) -> StreamKey {
    StreamKey { node, incarnation: Incarnation::new(7), lane: Lane::Normal }
}

fn payload(seq: u64) -> Vec<u8> {
    vec![seq as u8; (seq * 37 % 250) as usize]
}

fn event(seq: u64, payload: &[u8]) -> LogEvent<'_> {
    LogEvent { hlc: Hlc::new(1000 + seq, 0), kind: seq as u16, flags: 0, payload }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_that_the_fuzzer_steers_gets_events_into_the_log_and_out_of_it() {
        let mut w = World::new(0xf0);
        w.open(0);
        w.settle();
        let id = w.open[0];
        w.greet(id, 0);
        w.batch(id, 10, 0);
        w.settle();
        let stats = w.node.stats(id).unwrap();
        assert_eq!(stats.received, 10);
        assert!(stats.sent > 0);
        assert_eq!(w.node.frontier().find(|e| e.key == stream(w.peer.name)).unwrap().have, 10);
        for _ in 0..40 {
            w.part(id, 0x5f, 0);
            w.settle();
        }
        assert!(w.node.stats(id).unwrap().received > 15, "some came in parts");
        w.have(id, 0, 7);
        assert_eq!(w.open, [id]);
    }
}

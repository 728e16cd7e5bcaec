//! A node without a runtime, and a peer made of bytes, written by hand so that the node's own
//! emitters are not trusted.

use ropeway_core::code::Code;
use ropeway_core::codec::{Codec, CodecId, CodecRef, Codecs};
use ropeway_core::event::{Chain, Event as LogEvent, Records, put_record};
use ropeway_core::history::Past;
use ropeway_core::hlc::Hlc;
use ropeway_core::id::{Incarnation, Lane, NodeName, StreamKey};
use ropeway_core::limits::{Config, Limits, Timing};
use ropeway_core::log::{DataKey, GroupBuilder, StreamDecl};
use ropeway_core::node::*;
use ropeway_core::policy::{PeerIdentity, Policy, Role};
use ropeway_core::recovery::{Recovered, StreamMemory};
use ropeway_core::streams::FrontierEntry;
use ropeway_core::time::Now;
use ropeway_core::varint::Writer;

pub(crate) const WALL: u64 = 1_770_000_000_000;

pub(crate) struct Solo {
    pub(crate) node: Node<'static>,
    pub(crate) ms: u64,
    pub(crate) closed: Vec<Ending>,
    /// What it wants to read for batches that wait.
    pub(crate) wanted: Vec<ReadRequest>,
    /// What it has told of events that do not come.
    pub(crate) withheld: Vec<WithheldEvents>,
}

pub(crate) fn name(s: &str) -> NodeName {
    NodeName::new(s).unwrap()
}

pub(crate) fn stream(node: &str) -> StreamKey {
    StreamKey { node: name(node), incarnation: Incarnation::new(7), lane: Lane::Normal }
}

impl Solo {
    pub(crate) fn hub(limits: Limits) -> Self {
        Self::with("hub", Role::Hub, limits, |_| ())
    }

    /// A node that was opened with what `fill` puts into its log.
    pub(crate) fn with(node: &str, role: Role, limits: Limits, fill: impl FnOnce(&mut Recovered<'static>)) -> Self {
        Self::with_codec(node, role, limits, Box::new(Tagged), fill)
    }

    pub(crate) fn with_codec(
        node: &str,
        role: Role,
        limits: Limits,
        codec: Box<dyn Codec + Send>,
        fill: impl FnOnce(&mut Recovered<'static>),
    ) -> Self {
        Self::accepting(node, role, limits, codec, fill, 0)
    }

    /// A node that takes no payloads from peers that are larger than `accept_bytes`.
    pub(crate) fn accepting(
        node: &str,
        role: Role,
        limits: Limits,
        codec: Box<dyn Codec + Send>,
        fill: impl FnOnce(&mut Recovered<'static>),
        accept_bytes: usize,
    ) -> Self {
        let config = Config {
            name: name(node),
            role,
            digest_from: 1,
            deployment: 7,
            policy: Policy::Own,
            fingerprint: 1,
            hlc_bound_ms: 86_400_000,
            hlc_tick_ms: 1,
            wall_floor_ms: WALL,
            accept_bytes,
            timing: Timing::default(),
        };
        let mut recovered = Recovered::new(config.name, StreamMemory::owned(limits.streams));
        fill(&mut recovered);
        let setup = Setup {
            config,
            limits,
            memory: Memory::owned(&limits),
            codecs: Codecs::default().with(CodecRef::Owned(codec)),
            key: (1, DataKey::new([1; 32])),
            seed: [9; 32],
        };
        let node = Node::new(setup, recovered, Now::new(0, WALL)).unwrap();
        Self { node, ms: 0, closed: Vec::new(), wanted: Vec::new(), withheld: Vec::new() }
    }

    pub(crate) fn now(&self) -> Now {
        Now::new(self.ms, WALL + self.ms)
    }

    /// A session with a clinic that has said HELLO and its vector: `streams` with seq 0.
    pub(crate) fn greeted(&mut self, peer: &str, streams: &[StreamKey]) -> SessionId {
        let id = self.node.open(self.now(), PeerIdentity { name: name(peer), role: Role::Clinic }).unwrap();
        self.feed(id, &frame(1, &hello(0)));
        let mut body = Vec::new();
        for key in streams {
            let own = key.node == name(peer);
            body.push(u8::from(own) | (key.lane as u8) << 2);
            if !own {
                body.push(key.node.as_bytes().len() as u8);
                body.extend_from_slice(key.node.as_bytes());
            }
            body.extend_from_slice(&key.incarnation.as_u64().to_le_bytes());
            body.push(0);
        }
        self.feed(id, &frame(2 | 0x40, &body));
        self.serve(id);
        id
    }

    pub(crate) fn feed(&mut self, id: SessionId, bytes: &[u8]) -> Flow {
        self.node.receive(self.now(), id, bytes).unwrap().flow
    }

    /// Does what the node wants of a disk, at once.
    pub(crate) fn disk(&mut self) {
        while let Some(effect) = self.node.poll_effect(self.now()) {
            let done = match effect {
                Effect::Provision { segment } => Completion::Provisioned { segment },
                Effect::Append { .. } => continue,
                Effect::Read(request) => {
                    self.wanted.push(request);
                    continue;
                }
                Effect::Sync { upto } => Completion::Durable { upto },
            };
            self.node.complete(self.now(), done);
        }
    }

    /// Everything that the node says in a session now.
    pub(crate) fn serve(&mut self, id: SessionId) -> Vec<u8> {
        self.disk();
        while let Some(e) = self.node.poll_event() {
            match e {
                Event::Closed { ending, .. } => self.closed.push(ending),
                Event::Withheld(events) => self.withheld.push(events),
                _ => {}
            }
        }
        let mut said = Vec::new();
        let mut out = vec![0; 1 << 16];
        while let Ok(Transmit::Bytes(n)) = self.node.poll_transmit(self.now(), id, &mut out) {
            said.extend_from_slice(&out[..n]);
        }
        said
    }

    /// The code with which the only session was closed by this node.
    pub(crate) fn refused_with(&mut self, id: SessionId) -> Option<Code> {
        self.serve(id);
        match self.closed.as_slice() {
            [Ending { code, by: EndedBy::Us }] => *code,
            _ => None,
        }
    }
}

pub(crate) fn varint(out: &mut Vec<u8>, v: u64) {
    let mut buf = [0; 10];
    let mut w = Writer::new(&mut buf);
    w.varint(v).unwrap();
    let n = w.len();
    out.extend_from_slice(&buf[..n]);
}

pub(crate) fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    varint(&mut out, body.len() as u64);
    out.extend_from_slice(body);
    out
}

pub(crate) fn hello(features: u64) -> Vec<u8> {
    let mut b = vec![1, 1];
    for v in [features, 1, 64, 64, 64, 7, WALL / 1000, 64] {
        varint(&mut b, v);
    }
    b
}

/// A codec that only shows which history was used: the first byte of it, and its length, before the raw bytes.
pub(crate) struct Tagged;

fn tag(past: &[u8]) -> [u8; 2] {
    [past.first().copied().unwrap_or(0xff), past.len() as u8]
}

impl Codec for Tagged {
    fn id(&self) -> CodecId {
        CodecId::ZSTD_HISTORY
    }

    fn decompress_after(&mut self, past: &Past<'_>, data: &[u8], out: &mut [u8]) -> Result<(), Code> {
        let raw = data.strip_prefix(&tag(past.bytes)).filter(|raw| raw.len() == out.len());
        out.copy_from_slice(raw.ok_or(Code::BadBatch)?);
        Ok(())
    }
}

/// A stored batch of events with the given payloads, and the chain after it.
pub(crate) fn batch(handle: u64, first: u64, chain: Chain, payloads: &[&[u8]]) -> (Vec<u8>, Chain) {
    batch_after(handle, first, chain, payloads, None)
}

/// As [`batch`]; with `past` in the codec [`Tagged`], which refers to so many events with these payloads.
pub(crate) fn batch_after(
    handle: u64,
    first: u64,
    mut chain: Chain,
    payloads: &[&[u8]],
    past: Option<&[&[u8]]>,
) -> (Vec<u8>, Chain) {
    let (mut stamps, mut kinds, mut lengths, mut bytes) = (vec![], vec![], vec![], vec![]);
    for (i, p) in payloads.iter().enumerate() {
        let hlc = Hlc::new(WALL + first + i as u64, 0);
        chain = chain.then(&LogEvent { hlc, kind: 1, flags: 0, payload: p });
        stamps.push(if i == 0 { 0 } else { 4 });
        kinds.push(1);
        varint(&mut lengths, p.len() as u64);
        bytes.extend_from_slice(p);
    }
    let columns = [stamps, kinds, lengths, bytes].concat();
    let mut body = Vec::new();
    varint(&mut body, handle);
    varint(&mut body, first);
    varint(&mut body, payloads.len() as u64);
    body.push(if past.is_some() { 2 } else { 0 });
    if let Some(past) = past {
        varint(&mut body, past.len() as u64);
    }
    varint(&mut body, columns.len() as u64);
    body.extend_from_slice(&Hlc::new(WALL + first, 0).as_u64().to_le_bytes());
    body.extend_from_slice(&chain.tag());
    if let Some(past) = past {
        let bytes: Vec<u8> = past.iter().flat_map(|p| [&[1, p.len() as u8], *p].concat()).collect();
        body.extend(tag(&bytes));
    }
    body.extend_from_slice(&columns);
    (frame(3, &body), chain)
}

pub(crate) fn event(seq: u64) -> LogEvent<'static> {
    LogEvent { hlc: Hlc::new(WALL + seq, 0), kind: 1, flags: 0, payload: b"payload" }
}

/// The chain hash of the stream at `seq`.
pub(crate) fn chain_at(key: &StreamKey, seq: u64) -> Chain {
    (1..=seq).fold(Chain::start(key), |chain, seq| chain.then(&event(seq)))
}

/// Puts `1..=upto` into a log.
pub(crate) fn fill(r: &mut Recovered<'static>, key: &StreamKey, own: bool, upto: u64) {
    put(r, key, own, 1..=upto);
}

/// Puts a group of these events into a log.
pub(crate) fn put(r: &mut Recovered<'static>, key: &StreamKey, own: bool, events: std::ops::RangeInclusive<u64>) {
    let (mut body, mut group) = (vec![0; 1 << 16], GroupBuilder::new());
    let own_machine = own.then_some(1);
    group.stream(&mut body, &StreamDecl { index: 0, key: *key, own_machine, parent: None }).unwrap();
    for seq in events {
        group.push_event(&mut body, 0, seq, &chain_at(key, seq - 1), &event(seq)).unwrap();
    }
    r.group(&body[..group.len()], |_| ()).unwrap();
}

/// A node that holds `1..=upto` of the stream, of which the first `floor` are gone.
pub(crate) fn holder(node: &str, role: Role, key: &StreamKey, upto: u64, floor: u64) -> Solo {
    let own = key.node == name(node);
    let mut solo = Solo::with(node, role, Limits::hub(4), |r| fill(r, key, own, upto));
    if floor > 0 {
        solo.node.expired(key, floor, chain_at(key, floor));
    }
    solo
}

pub(crate) fn entry(solo: &Solo) -> FrontierEntry {
    solo.node.frontier().next().unwrap()
}

/// A session with a peer that has said HELLO and that it holds the stream up to `seq` with `chain`.
pub(crate) fn meet(
    solo: &mut Solo,
    peer: (&str, Role),
    key: &StreamKey,
    seq: u64,
    chain: &Chain,
    features: u64,
) -> SessionId {
    meet_after(solo, peer, (key, seq, chain), features, &[])
}

/// The same with a peer that says something between its HELLO and its vector.
pub(crate) fn meet_after(
    solo: &mut Solo,
    peer: (&str, Role),
    (key, seq, chain): (&StreamKey, u64, &Chain),
    features: u64,
    before: &[u8],
) -> SessionId {
    let peer = PeerIdentity { name: name(peer.0), role: peer.1 };
    let id = solo.node.open(solo.now(), peer).unwrap();
    solo.feed(id, &frame(1, &hello(features)));
    solo.feed(id, before);
    let mut body = vec![(key.lane as u8) << 2, key.node.as_bytes().len() as u8];
    body.extend_from_slice(key.node.as_bytes());
    body.extend_from_slice(&key.incarnation.as_u64().to_le_bytes());
    varint(&mut body, seq);
    if seq > 0 {
        body.extend_from_slice(&chain.tag());
    }
    solo.feed(id, &frame(2 | 0x40, &body));
    id
}

/// Everything that the node says until it wants to read, and what it wants.
pub(crate) fn says(solo: &mut Solo, id: SessionId) -> (Vec<u8>, Option<ReadRequest>) {
    let (mut said, mut out) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        match solo.node.poll_transmit(solo.now(), id, &mut out).unwrap() {
            Transmit::Bytes(n) => said.extend_from_slice(&out[..n]),
            Transmit::Read(request) => return (said, Some(request)),
            _ => return (said, None),
        }
    }
}

/// The answer to a read, and what is sent then.
pub(crate) fn give(solo: &mut Solo, request: &ReadRequest) -> Vec<u8> {
    let (mut bytes, mut n) = (vec![0; 4096], 0);
    for seq in request.from_seq..=request.upto_seq {
        let mut w = Writer::new(&mut bytes[n..]);
        put_record(&mut w, &event(seq)).unwrap();
        n += w.len();
    }
    let prev_chain = chain_at(request.grant.stream(), request.from_seq - 1);
    let records = Records { first_seq: request.from_seq, prev_chain, bytes: &bytes[..n] };
    let (now, mut out) = (solo.now(), vec![0; 1 << 16]);
    match solo.node.complete_read(now, request, Ok(records), &mut out) {
        Transmit::Bytes(n) => out[..n].to_vec(),
        _ => vec![],
    }
}
